// Convolutions. Input x, weight w and output y meet in one trilinear sum, and each of the three primitives computes one
// of them from the other two: conv gives y, conv_data_grad x, conv_weight_grad w. So the derivatives of each are the
// other two, to any order, and a transposed convolution is conv_data_grad as a forward.
#include "autograd/ops/windows.h"

namespace halftone {
namespace {

using plain::at;

Tensor conv(const ConvShape& s, const Tensor& x, const Tensor& w);
Tensor conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w);
Tensor conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, MemoryFormat format);

Dims with_spatial(std::int64_t first, std::int64_t second, const std::array<std::int64_t, 3>& spatial, int rank) {
  Dims sizes{first, second};
  for (int i = 0; i < rank; ++i) sizes.push_back(spatial[at(i)]);
  return sizes;
}
Dims x_sizes(const ConvShape& s) { return with_spatial(s.batch, s.in_channels, s.window.in, s.window.rank); }
Dims y_sizes(const ConvShape& s) { return with_spatial(s.batch, s.out_channels, s.window.out, s.window.rank); }
Dims w_sizes(const ConvShape& s) {
  return with_spatial(s.out_channels, s.in_channels / s.groups, s.window.kernel, s.window.rank);
}

// Channels-last as soon as one of the two is.
MemoryFormat common_format(const Tensor& a, const Tensor& b) {
  const bool last = a.suggest_memory_format() == MemoryFormat::ChannelsLast ||
                    b.suggest_memory_format() == MemoryFormat::ChannelsLast;
  return last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

// The bias gradient: the sum over all axes but the channels.
Tensor sum_to_channels(const Tensor& g) {
  std::vector<std::int64_t> axes;
  for (std::int64_t i = 0; i < g.dim(); ++i) {
    if (i != 1) axes.push_back(i);
  }
  return g.sum(axes);
}

void check_dtypes(const OpInfo& info, const Tensor& x, const Tensor& w, const Tensor& bias) {
  check_same_dtype(info, "x and weight", x, w);
  check_same_dtype(info, "x and bias", x, bias);
  check_same_device(info, "x and weight", x, w);
  check_same_device(info, "x and bias", x, bias);
  check_floating(info, x);
}

const OpInfo& conv_row(int rank) { return rank == 1 ? op("conv1d") : rank == 2 ? op("conv2d") : op("conv3d"); }
const OpInfo& conv_transpose_row(int rank) {
  return rank == 1 ? op("conv_transpose1d") : rank == 2 ? op("conv_transpose2d") : op("conv_transpose3d");
}

// ------------------------------------------------------------------------------------------------ the primitives

struct ConvRule {
  ConvShape s;
  MemoryFormat w_format = MemoryFormat::Contiguous;
  Saved x, w;
  auto saved() { return std::tie(x, w); }

  Tensor forward(const Tensor& input, const Tensor& weight, const Tensor& bias) {
    check_dtypes(conv_row(s.window.rank), input, weight, bias);
    if (saves_for(weight)) x = input;
    if (saves_for(input)) w = weight;
    w_format = weight.suggest_memory_format();
    const MemoryFormat format = common_format(input, weight);
    Tensor y = empty(y_sizes(s), input.options().memory_format(format));
    if (y.numel() == 0) return y;
    backend(y).conv(s, plain::dense(input, format), plain::dense(weight, format), bias, y);
    return y;
  }

  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    std::array<Tensor, 3> grads;
    if (want[0]) grads[0] = conv_data_grad(s, g, *w);
    if (want[1] && want[2] && !context.record && g.numel() > 0) {
      std::tie(grads[1], grads[2]) = weight_and_bias_grad(g);
      return grads;
    }
    if (want[1]) grads[1] = conv_weight_grad(s, *x, g, w_format);
    if (want[2]) grads[2] = sum_to_channels(g);
    return grads;
  }

  // Both in one pass over g.
  std::tuple<Tensor, Tensor> weight_and_bias_grad(const Tensor& g) const {
    const Tensor input = *x;
    Tensor dbias;
    Tensor dw = apply_plain(op("conv_weight_grad"), std::array{input, g}, [&](const Tensor& a, const Tensor& b) {
      const MemoryFormat format = common_format(a, b);
      Tensor out = empty(w_sizes(s), a.options().memory_format(w_format));
      dbias = empty({s.out_channels}, a.options());
      backend(out).conv_weight_grad(s, plain::dense(a, format), plain::dense(b, format), out, dbias);
      return out;
    });
    return {dw, dbias};
  }
};

// Also the forward of a transposed convolution, which alone has a bias.
struct ConvDataGradRule {
  ConvShape s;
  const OpInfo* info;
  MemoryFormat w_format = MemoryFormat::Contiguous;
  Saved g, w;
  auto saved() { return std::tie(g, w); }

  Tensor forward(const Tensor& from, const Tensor& weight, const Tensor& bias) {
    check_dtypes(*info, from, weight, bias);
    if (saves_for(weight)) g = from;
    if (saves_for(from)) w = weight;
    w_format = weight.suggest_memory_format();
    const MemoryFormat format = common_format(from, weight);
    Tensor dx = empty(x_sizes(s), from.options().memory_format(format));
    if (dx.numel() == 0) return dx;
    if (from.numel() == 0) {
      backend(dx).fill(dx, 0);
    } else {
      backend(dx).conv_data_grad(s, plain::dense(from, format), plain::dense(weight, format), dx);
    }
    if (bias.defined()) add_bias(bias, dx);
    return dx;
  }

  static void add_bias(const Tensor& bias, Tensor& y) {
    Dims sizes(at(y.dim()), 1);
    sizes[1] = bias.size(0);
    const Tensor row = plain::expanded(plain::reshaped(bias, sizes), y.sizes());
    backend(y).binary(fn::Add{}, y, row, y, y.dtype());
  }

  std::array<Tensor, 3> backward(const Tensor& h, Wants want) const {
    return {want[0] ? conv(s, h, *w) : Tensor{}, want[1] ? conv_weight_grad(s, h, *g, w_format) : Tensor{},
            want[2] ? sum_to_channels(h) : Tensor{}};
  }
};

struct ConvWeightGradRule {
  ConvShape s;
  MemoryFormat w_format;
  Saved x, g;
  auto saved() { return std::tie(x, g); }

  Tensor forward(const Tensor& input, const Tensor& gradient) {
    if (saves_for(gradient)) x = input;
    if (saves_for(input)) g = gradient;
    const MemoryFormat format = common_format(input, gradient);
    Tensor dw = empty(w_sizes(s), input.options().memory_format(w_format));
    if (gradient.numel() == 0 || input.numel() == 0) {
      backend(dw).fill(dw, 0);
      return dw;
    }
    Tensor no_bias;
    backend(dw).conv_weight_grad(s, plain::dense(input, format), plain::dense(gradient, format), dw, no_bias);
    return dw;
  }
  std::array<Tensor, 2> backward(const Tensor& h, Wants want) const {
    return {want[0] ? conv_data_grad(s, *g, h) : Tensor{}, want[1] ? conv(s, *x, h) : Tensor{}};
  }
};

Tensor conv(const ConvShape& s, const Tensor& x, const Tensor& w) {
  return apply(conv_row(s.window.rank), ConvRule{s, MemoryFormat::Contiguous, {}, {}}, std::array{x, w, Tensor{}});
}
Tensor conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w) {
  const OpInfo& info = op("conv_data_grad");
  return apply(info, ConvDataGradRule{s, &info, MemoryFormat::Contiguous, {}, {}}, std::array{g, w, Tensor{}});
}
Tensor conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, MemoryFormat format) {
  return apply(op("conv_weight_grad"), ConvWeightGradRule{s, format, {}, {}}, std::array{x, g});
}

// ------------------------------------------------------------------------------------------------ shapes

struct Placement {
  IntArrayRef stride, padding, dilation;
  std::int64_t groups;
};

Window make_window(const OpInfo& info, int rank, const Tensor& w, const Placement& p) {
  Window window;
  window.rank = rank;
  window.stride = number_per_axis(info, "stride", p.stride, rank, 1);
  window.padding = number_per_axis(info, "padding", p.padding, rank, 0);
  window.dilation = number_per_axis(info, "dilation", p.dilation, rank, 1);
  for (int i = 0; i < rank; ++i) window.kernel[at(i)] = w.size(i + 2);
  return window;
}

void check_common(const OpInfo& info, int rank, const Tensor& x, const Tensor& w, const Tensor& bias,
                  std::int64_t out_channels, std::int64_t groups) {
  check<ValueError>(w.dim() == rank + 2, info.name, ": expected a weight of ", rank + 2, " dimensions, got ",
                    describe(w));
  check<ValueError>(x.dim() == rank + 2, info.name, ": expected x of ", rank + 2, " dimensions (or ", rank + 1,
                    " without the batch) for weight ", w.sizes(), ", got ", describe(x));
  check<ValueError>(groups > 0 && w.size(0) % groups == 0, info.name, ": weight ", w.sizes(), " has ", w.size(0),
                    " channels in front, which ", groups, " groups do not divide");
  check<ValueError>(!bias.defined() || (bias.dim() == 1 && bias.size(0) == out_channels), info.name, ": weight ",
                    w.sizes(), " wants a bias of ", out_channels, " elements, got ", describe(bias));
}

ConvShape conv_shape(const OpInfo& info, int rank, const Tensor& x, const Tensor& w, const Tensor& bias,
                     const Placement& p) {
  check_common(info, rank, x, w, bias, w.dim() > 0 ? w.size(0) : 0, p.groups);
  check<ValueError>(x.size(1) == w.size(1) * p.groups, info.name, ": weight ", w.sizes(), " expects ",
                    w.size(1) * p.groups, " input channels but x is ", x.sizes());
  ConvShape s{make_window(info, rank, w, p), x.size(0), x.size(1), w.size(0), p.groups};
  Window& v = s.window;
  for (std::size_t i = 0; i < at(rank); ++i) {
    v.in[i] = x.sizes()[i + 2];
    v.out[i] = window_count(v.in[i], v.kernel[i], v.stride[i], v.padding[i], v.dilation[i]);
    check<ValueError>(v.out[i] > 0, info.name, ": the kernel ", w.sizes().slice(2), " with dilation ", p.dilation,
                      " does not fit into x ", x.sizes(), " with padding ", p.padding);
  }
  return s;
}

// The shape of the convolution that this one is the transpose of: x is its output.
ConvShape transposed_shape(const OpInfo& info, int rank, const Tensor& x, const Tensor& w, const Tensor& bias,
                           IntArrayRef output_padding, const Placement& p) {
  const std::int64_t out_channels = w.dim() > 1 ? w.size(1) * p.groups : 0;
  check_common(info, rank, x, w, bias, out_channels, p.groups);
  check<ValueError>(x.size(1) == w.size(0), info.name, ": weight ", w.sizes(), " expects ", w.size(0),
                    " input channels but x is ", x.sizes());
  ConvShape s{make_window(info, rank, w, p), x.size(0), out_channels, w.size(0), p.groups};
  const auto extra = number_per_axis(info, "output_padding", output_padding, rank, 0);
  Window& v = s.window;
  for (std::size_t i = 0; i < at(rank); ++i) {
    check<ValueError>(extra[i] < v.stride[i] || extra[i] < v.dilation[i], info.name, ": output_padding ",
                      output_padding, " must be smaller than stride ", p.stride, " or dilation ", p.dilation);
    v.out[i] = x.sizes()[i + 2];
    v.in[i] = (v.out[i] - 1) * v.stride[i] - 2 * v.padding[i] + v.dilation[i] * (v.kernel[i] - 1) + extra[i] + 1;
    check<ValueError>(v.in[i] > 0, info.name, ": padding ", p.padding, " leaves no output for x ", x.sizes(),
                      " and weight ", w.sizes());
  }
  return s;
}

// ------------------------------------------------------------------------------------------------ the public forms

Tensor convolve(int rank, const Tensor& x, const Tensor& w, const Tensor& bias, const Placement& p) {
  const OpInfo& info = conv_row(rank);
  return batched(rank, x, [&](const Tensor& input) {
    const ConvShape s = conv_shape(info, rank, input, w, bias, p);
    return apply(info, ConvRule{s, MemoryFormat::Contiguous, {}, {}}, std::array{input, w, bias});
  });
}

Tensor convolve_transposed(int rank, const Tensor& x, const Tensor& w, const Tensor& bias, IntArrayRef output_padding,
                           const Placement& p) {
  const OpInfo& info = conv_transpose_row(rank);
  return batched(rank, x, [&](const Tensor& input) {
    const ConvShape s = transposed_shape(info, rank, input, w, bias, output_padding, p);
    return apply(info, ConvDataGradRule{s, &info, MemoryFormat::Contiguous, {}, {}}, std::array{input, w, bias});
  });
}

}  // namespace

Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, IntArrayRef stride, IntArrayRef padding,
              IntArrayRef dilation, std::int64_t groups) {
  return convolve(1, x, weight, bias, {stride, padding, dilation, groups});
}
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, IntArrayRef stride, IntArrayRef padding,
              IntArrayRef dilation, std::int64_t groups) {
  return convolve(2, x, weight, bias, {stride, padding, dilation, groups});
}
Tensor conv3d(const Tensor& x, const Tensor& weight, const Tensor& bias, IntArrayRef stride, IntArrayRef padding,
              IntArrayRef dilation, std::int64_t groups) {
  return convolve(3, x, weight, bias, {stride, padding, dilation, groups});
}
Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
                        IntArrayRef padding, IntArrayRef output_padding, std::int64_t groups, IntArrayRef dilation) {
  return convolve_transposed(1, x, weight, bias, output_padding, {stride, padding, dilation, groups});
}
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
                        IntArrayRef padding, IntArrayRef output_padding, std::int64_t groups, IntArrayRef dilation) {
  return convolve_transposed(2, x, weight, bias, output_padding, {stride, padding, dilation, groups});
}
Tensor conv_transpose3d(const Tensor& x, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
                        IntArrayRef padding, IntArrayRef output_padding, std::int64_t groups, IntArrayRef dilation) {
  return convolve_transposed(3, x, weight, bias, output_padding, {stride, padding, dilation, groups});
}

}  // namespace halftone
