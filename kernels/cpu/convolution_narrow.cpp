#include "kernels/cpu/convolution_narrow.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/convolution_columns.h"
#include "kernels/cpu/convolution_slices.h"
#include "kernels/cpu/panel_product.h"

namespace halftone::cpu::narrow_channels {

namespace {

constexpr std::int64_t kMostChannels = 4, kLongestColumn = 100;
constexpr std::int64_t kBlock = 128;  // outputs at a time: columns of 9 take 4.5 KB, results with 32 channels 16 KB

std::int64_t column_of(const ConvShape& s) {
  std::int64_t n = s.in_channels;
  for (int i = 0; i < s.rank; ++i) n *= s.kernel[i];
  return n;
}

struct Conv {
  const ConvShape& shape;
  Geometry geometry;  // always with the channels first: runs of outputs are then runs in memory
  std::int64_t column, outs, positions, width, blocks;

  explicit Conv(const ConvShape& s)
      : shape(s),
        geometry(s, false),
        column(geometry.column()),
        outs(s.out_channels),
        positions(geometry.positions()),
        width(panel_width(outs)),
        blocks((positions + kBlock - 1) / kBlock) {}

  Slice outputs(std::int64_t block, bool channels_last) const {  // `block` counts through all images
    const std::int64_t first = block % blocks * kBlock;
    return {block / blocks, 0, outs, outs, positions, {first, std::min(first + kBlock, positions)}, channels_last};
  }
};

/// One image, channels first.
template <class T>
const float* load_image(const Conv& conv, const ConstConvData& x, std::int64_t image) {
  const std::int64_t channels = conv.geometry.channels, pixels = conv.geometry.pixels();
  const T* data = static_cast<const T*>(x.data) + image * channels * pixels;
  float* to = scratch<float>(ScratchUse::wide_input, channels * pixels);
  if (!x.channels_last || channels == 1) {
    load(data, to, channels * pixels);
    return to;
  }
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t i = 0; i < pixels; ++i) to[c * pixels + i] = static_cast<float>(data[i * channels + c]);
  return to;
}

/// The columns of a slice's outputs as [column, kBlock]. What lies behind the slice's end is finite but means nothing.
const float* load_columns(const Conv& conv, const float* image, const Slice& s) {
  float* columns = scratch<float>(ScratchUse::columns, conv.column * kBlock);
  if (s.count() == kBlock) {
    gather_columns(conv.geometry, image, s.p.first, s.p.last, columns);
    return columns;
  }
  float* dense = scratch<float>(ScratchUse::columns_grad, conv.column * kBlock);
  gather_columns(conv.geometry, image, s.p.first, s.p.last, dense);
  for (std::int64_t k = 0; k < conv.column; ++k) {
    std::copy_n(dense + k * s.count(), s.count(), columns + k * kBlock);
    std::fill(columns + k * kBlock + s.count(), columns + (k + 1) * kBlock, 0.0f);
  }
  return columns;
}

/// Where element (out, k) of w lies, k counted with the channels first.
std::int64_t weight_at(const Conv& conv, bool channels_last, std::int64_t out, std::int64_t k) {
  const std::int64_t taps = conv.geometry.taps(), channels = conv.geometry.channels;
  return out * conv.column + (channels_last ? k % taps * channels + k / taps : k);
}

/// w as [out_channels, column], and behind it as [column, width].
template <class T>
const float* load_weight(const Conv& conv, const ConstConvData& w) {
  const T* data = static_cast<const T*>(w.data);
  float* to = scratch<float>(ScratchUse::wide_weight, conv.column * (conv.outs + conv.width));
  float* transposed = to + conv.outs * conv.column;
  std::fill_n(transposed, conv.column * conv.width, 0.0f);
  for (std::int64_t o = 0; o < conv.outs; ++o)
    for (std::int64_t k = 0; k < conv.column; ++k)
      transposed[k * conv.width + o] = to[o * conv.column + k] =
          static_cast<float>(data[weight_at(conv, w.channels_last, o, k)]);
  return to;
}

/// The bias, or zeros, padded to `width`.
template <class T>
const float* load_bias(const Conv& conv, const ConstConvData& bias) {
  float* to = scratch<float>(ScratchUse::weight_sum, conv.width);
  std::fill_n(to, conv.width, 0.0f);
  if (bias.data == nullptr) return to;
  if (bias.dtype == kFloat32)
    std::copy_n(static_cast<const float*>(bias.data), conv.outs, to);
  else
    load(static_cast<const T*>(bias.data), to, conv.outs);
  return to;
}

/// The outputs of a slice, [count, width] or [channels, kBlock].
const float* multiply(const Conv& conv, const Slice& s, const float* columns, const float* weight, const float* bias) {
  float* y = scratch<float>(ScratchUse::wide_output, kBlock * conv.width);
  if (s.channels_last) {
    for (std::int64_t i = 0; i < s.count(); ++i) std::copy_n(bias, conv.width, y + i * conv.width);
    panel_product({s.count(), conv.outs, conv.column, columns, 1, kBlock, weight + conv.outs * conv.column, conv.width, y,
                   conv.width});
  } else {
    for (std::int64_t o = 0; o < conv.outs; ++o) std::fill_n(y + o * kBlock, kBlock, bias[o]);
    panel_product({conv.outs, s.count(), conv.column, weight, conv.column, 1, columns, kBlock, y, kBlock});
  }
  return y;
}

/// Calls f(offset in the tensor, offset in the padded copy, length) for the pieces of a slice.
template <class F>
void for_each_row(const Conv& conv, const Slice& s, F f) {
  if (s.channels_last && conv.width == conv.outs) return f((s.image * s.positions + s.p.first) * s.all, 0, s.count() * s.all);
  const std::int64_t dense_row = s.channels_last ? s.channels : s.count(), row = s.channels_last ? conv.width : kBlock;
  s.for_each_piece([&](std::int64_t at, std::int64_t dense, std::int64_t n) { f(at, dense / dense_row * row, n); });
}

template <class T>
void forward(const Conv& conv, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias, const ConvData& y) {
  const float* weight = load_weight<T>(conv, w);
  const float* wide_bias = load_bias<T>(conv, bias);
  T* data = static_cast<T*>(y.data);
  parallel_for(0, conv.shape.batch * conv.blocks, 8, [&](std::int64_t first, std::int64_t last) {
    std::int64_t loaded = -1;
    const float* image = nullptr;
    for (std::int64_t block = first; block < last; ++block) {
      const Slice s = conv.outputs(block, y.channels_last);
      if (s.image != loaded) image = load_image<T>(conv, x, s.image);
      loaded = s.image;
      const float* result = multiply(conv, s, load_columns(conv, image, s), weight, wide_bias);
      for_each_row(conv, s, [&](std::int64_t at, std::int64_t from, std::int64_t n) { store(result + from, data + at, n); });
    }
  });
}

/// Sums of one thread: dw as [column, width] where g has its channels last, else [outs, panel_width(column)]; then dbias.
struct Sums {
  bool transposed;
  std::int64_t row, rows, bias_at, size;

  Sums(const Conv& conv, bool g_last)
      : transposed(g_last),
        row(g_last ? conv.width : panel_width(conv.column)),
        rows(g_last ? conv.column : conv.outs),
        bias_at(row * rows),
        size(bias_at + conv.width) {}
  std::int64_t at(std::int64_t out, std::int64_t k) const { return transposed ? k * row + out : out * row + k; }
};

/// Columns as [count, panel_width(column)].
const float* transpose_columns(const Conv& conv, const Slice& s, const float* columns) {
  const std::int64_t width = panel_width(conv.column);
  float* to = scratch<float>(ScratchUse::columns_grad, kBlock * width);
  for (std::int64_t i = 0; i < s.count(); ++i) {
    for (std::int64_t k = 0; k < conv.column; ++k) to[i * width + k] = columns[k * kBlock + i];
    std::fill(to + i * width + conv.column, to + (i + 1) * width, 0.0f);
  }
  return to;
}

void add_block(const Conv& conv, const Slice& s, const Sums& sums, const float* columns, const float* grad, float* sum) {
  float* bias_sum = sum + sums.bias_at;
  if (s.channels_last) {
    panel_product({conv.column, conv.outs, s.count(), columns, kBlock, 1, grad, conv.width, sum, sums.row});
    for (std::int64_t i = 0; i < s.count(); ++i)
      for (std::int64_t o = 0; o < conv.width; ++o) bias_sum[o] += grad[i * conv.width + o];
    return;
  }
  panel_product({conv.outs, conv.column, s.count(), grad, kBlock, 1, transpose_columns(conv, s, columns), sums.row, sum, sums.row});
  for (std::int64_t o = 0; o < conv.outs; ++o)
    for (std::int64_t i = 0; i < s.count(); ++i) bias_sum[o] += grad[o * kBlock + i];
}

template <class T>
void add_share(const Conv& conv, const ConstConvData& x, const ConstConvData& g, Range blocks, const Sums& sums, float* sum) {
  const T* data = static_cast<const T*>(g.data);
  float* grad = scratch<float>(ScratchUse::wide_output, kBlock * conv.width);
  std::fill_n(grad, kBlock * conv.width, 0.0f);  // the padding stays zero
  std::int64_t loaded = -1;
  const float* image = nullptr;
  for (std::int64_t block = blocks.first; block < blocks.last; ++block) {
    const Slice s = conv.outputs(block, sums.transposed);
    if (s.image != loaded) image = load_image<T>(conv, x, s.image);
    loaded = s.image;
    for_each_row(conv, s, [&](std::int64_t at, std::int64_t to, std::int64_t n) { load(data + at, grad + to, n); });
    add_block(conv, s, sums, load_columns(conv, image, s), grad, sum);
  }
}

void store_float(const ConvData& to, std::int64_t at, float value) {
  visit_floating(to.dtype, [&]<class T>(Type<T>) { static_cast<T*>(to.data)[at] = static_cast<T>(value); });
}

template <class T>
void backward_weight(const Conv& conv, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                     const ConvData& dbias) {
  const Sums sums(conv, g.channels_last);
  const std::int64_t blocks = conv.shape.batch * conv.blocks;
  const std::int64_t shares = std::clamp<std::int64_t>(blocks / 8, 1, in_parallel_region() ? 1 : get_num_threads());
  float* sum = scratch<float>(ScratchUse::weight_sum, shares * sums.size);
  parallel_for(0, shares, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      std::fill_n(sum + i * sums.size, sums.size, 0.0f);
      add_share<T>(conv, x, g, {blocks * i / shares, blocks * (i + 1) / shares}, sums, sum + i * sums.size);
    }
  });
  for (std::int64_t share = 1; share < shares; ++share)
    for (std::int64_t i = 0; i < sums.size; ++i) sum[i] += sum[share * sums.size + i];
  for (std::int64_t o = 0; o < conv.outs; ++o)
    for (std::int64_t k = 0; k < conv.column; ++k)
      store_float(dw, weight_at(conv, dw.channels_last, o, k), sum[sums.at(o, k)]);
  if (dbias.data == nullptr) return;
  for (std::int64_t o = 0; o < conv.outs; ++o) store_float(dbias, o, sum[sums.bias_at + o]);
}

/// Calls f(Type<T>{}) for the dtypes that are computed in float.
template <class F>
void visit(Dtype dtype, F f) {
  if (dtype == kFloat16) return f(Type<Half>{});
  if (dtype == kBFloat16) return f(Type<BFloat16>{});
  f(Type<float>{});
}

}  // namespace

bool serves(const ConvShape& shape, Dtype dtype) {
  return shape.groups == 1 && shape.in_channels <= kMostChannels && column_of(shape) <= kLongestColumn && dtype != kFloat64;
}

void conv_forward(const ConvShape& shape, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y) {
  visit(x.dtype, [&]<class T>(Type<T>) { forward<T>(Conv(shape), x, w, bias, y); });
}

void conv_backward_weight(const ConvShape& shape, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias) {
  visit(x.dtype, [&]<class T>(Type<T>) { backward_weight<T>(Conv(shape), x, g, dw, dbias); });
}

}  // namespace halftone::cpu::narrow_channels
