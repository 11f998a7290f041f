// Pools. The gradient of a maximum is a scatter to the places it was found at, whose own derivative is the gather from
// them; averages are linear, so two rules each are all their derivatives.
#include "autograd/ops/windows.h"

namespace halftone {
namespace {

using plain::at;

Dims sizes_of(const PoolShape& s, const std::array<std::int64_t, 3>& spatial) {
  Dims sizes{s.batch, s.channels};
  for (int i = 0; i < s.window.rank; ++i) sizes.push_back(spatial[at(i)]);
  return sizes;
}
Tensor make_output(const PoolShape& s, const Tensor& x) {
  return empty(sizes_of(s, s.window.out), x.options().memory_format(x.suggest_memory_format()));
}
Tensor make_input(const PoolShape& s, const Tensor& g) {
  return empty(sizes_of(s, s.window.in), g.options().memory_format(g.suggest_memory_format()));
}
Tensor in_own_format(const Tensor& x) { return plain::dense(x, x.suggest_memory_format()); }

// ------------------------------------------------------------------------------------------------ maxima

// Indices stay in the row-major order they had in the forward, and are brought to a gradient's.
Tensor indices_like(const Tensor& indices, const Tensor& t) { return plain::dense(indices, t.suggest_memory_format()); }

Tensor max_pool_take(const PoolShape& s, const Tensor& x, const Tensor& indices);

struct MaxPoolGradRule {
  PoolShape s;
  Saved indices;
  auto saved() { return std::tie(indices); }

  Tensor forward(const Tensor& g) const {
    Tensor dx = make_input(s, g);
    const Tensor from = in_own_format(g);
    if (g.numel() == 0) {
      backend(dx).fill(dx, 0);
    } else {
      backend(dx).max_pool_grad(s, from, indices_like(*indices, from), dx);
    }
    return dx;
  }
  std::array<Tensor, 1> backward(const Tensor& h, Wants) const { return {max_pool_take(s, h, *indices)}; }
};

Tensor max_pool_grad(const PoolShape& s, const Tensor& g, const Tensor& indices) {
  MaxPoolGradRule rule{s, {}};
  rule.indices = indices;
  return apply(op("pool_grad"), std::move(rule), std::array{g});
}

struct MaxPoolTakeRule {
  PoolShape s;
  Saved indices;
  auto saved() { return std::tie(indices); }

  Tensor forward(const Tensor& x) const {
    Tensor y = make_output(s, x);
    const Tensor from = in_own_format(x);
    if (y.numel() > 0) backend(y).max_pool_take(s, from, indices_like(*indices, from), y);
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {max_pool_grad(s, g, *indices)}; }
};

Tensor max_pool_take(const PoolShape& s, const Tensor& x, const Tensor& indices) {
  MaxPoolTakeRule rule{s, {}};
  rule.indices = indices;
  return apply(op("pool_grad"), std::move(rule), std::array{x});
}

// `indices` are made by the caller, who may want to keep them, and filled in the forward.
struct MaxPoolRule {
  PoolShape s;
  Saved indices;
  auto saved() { return std::tie(indices); }

  Tensor forward(const Tensor& x) const {
    Tensor y = make_output(s, x), places = *indices;
    if (y.numel() > 0) backend(y).max_pool(s, in_own_format(x), y, places);
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {max_pool_grad(s, g, *indices)}; }
};

// ------------------------------------------------------------------------------------------------ averages

enum class Average : std::int8_t { window, adaptive };

Tensor average(const OpInfo& info, const PoolShape& s, Average kind, const Tensor& x);

struct AveragePoolGradRule {
  PoolShape s;
  Average kind;
  const OpInfo* info;  // of the pool

  Tensor forward(const Tensor& g) const {
    Tensor dx = make_input(s, g);
    if (g.numel() == 0) {
      backend(dx).fill(dx, 0);
    } else if (kind == Average::adaptive) {
      backend(dx).adaptive_avg_pool_grad(s, in_own_format(g), dx);
    } else {
      backend(dx).avg_pool_grad(s, in_own_format(g), dx);
    }
    return dx;
  }
  std::array<Tensor, 1> backward(const Tensor& h, Wants) const { return {average(*info, s, kind, h)}; }
};

struct AveragePoolRule {
  PoolShape s;
  Average kind;
  const OpInfo* info;

  Tensor forward(const Tensor& x) const {
    check_floating(*info, x);
    Tensor y = make_output(s, x);
    if (y.numel() == 0) return y;
    if (kind == Average::adaptive) {
      backend(y).adaptive_avg_pool(s, in_own_format(x), y);
    } else {
      backend(y).avg_pool(s, in_own_format(x), y);
    }
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {apply(op("pool_grad"), AveragePoolGradRule{s, kind, info}, std::array{g})};
  }
};

Tensor average(const OpInfo& info, const PoolShape& s, Average kind, const Tensor& x) {
  return apply(info, AveragePoolRule{s, kind, &info}, std::array{x});
}

// ------------------------------------------------------------------------------------------------ shapes

struct Placement {
  IntArrayRef kernel, stride, padding, dilation;
  bool ceil_mode;
};

PoolShape input_shape(const OpInfo& info, int rank, const Tensor& x) {
  check<ValueError>(x.dim() == rank + 2, info.name, ": expected x of ", rank + 2, " dimensions (or ", rank + 1,
                    " without the batch), got ", describe(x));
  PoolShape s;
  s.window.rank = rank;
  s.batch = x.size(0);
  s.channels = x.size(1);
  for (int i = 0; i < rank; ++i) s.window.in[at(i)] = x.size(i + 2);
  return s;
}

PoolShape pool_shape(const OpInfo& info, int rank, const Tensor& x, const Placement& p) {
  PoolShape s = input_shape(info, rank, x);
  Window& v = s.window;
  v.kernel = number_per_axis(info, "kernel_size", p.kernel, rank, 1);
  v.stride = p.stride.empty() ? v.kernel : number_per_axis(info, "stride", p.stride, rank, 1);
  v.padding = number_per_axis(info, "padding", p.padding, rank, 0);
  v.dilation = number_per_axis(info, "dilation", p.dilation, rank, 1);
  for (std::size_t i = 0; i < at(rank); ++i) {
    check<ValueError>(2 * v.padding[i] <= v.kernel[i], info.name, ": padding ", p.padding,
                      " must be at most half of the kernel ", p.kernel);
    v.out[i] = window_count(v.in[i], v.kernel[i], v.stride[i], v.padding[i], v.dilation[i], p.ceil_mode);
    check<ValueError>(v.out[i] > 0, info.name, ": the kernel ", p.kernel, " does not fit into x ", x.sizes(),
                      " with padding ", p.padding);
  }
  return s;
}

struct Maxima {
  Tensor values, indices;
  Maxima squeeze(std::int64_t dim) const { return {values.squeeze(dim), indices.squeeze(dim)}; }
};

Maxima max_pool(const OpInfo& info, int rank, const Tensor& x, const Placement& p) {
  return batched(rank, x, [&](const Tensor& input) -> Maxima {
    const PoolShape s = pool_shape(info, rank, input, p);
    const Tensor indices =
        empty(sizes_of(s, s.window.out), input.options().dtype(kInt64).memory_format(input.suggest_memory_format()));
    MaxPoolRule rule{s, {}};
    rule.indices = indices;
    return {apply(info, std::move(rule), std::array{input}), indices};
  });
}

Tensor avg_pool(const OpInfo& info, int rank, const Tensor& x, const Placement& p, bool count_padding,
                optional<std::int64_t> divisor) {
  check<ValueError>(!divisor || *divisor != 0, info.name, ": divisor_override must not be zero");
  return batched(rank, x, [&](const Tensor& input) {
    PoolShape s = pool_shape(info, rank, input, p);
    s.count_padding = count_padding;
    s.divisor_override = divisor.value_or(0);
    return average(info, s, Average::window, input);
  });
}

}  // namespace

Tensor max_pool1d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                  bool ceil_mode) {
  return max_pool(op("max_pool1d"), 1, x, {kernel, stride, padding, dilation, ceil_mode}).values;
}
Tensor max_pool2d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                  bool ceil_mode) {
  return max_pool(op("max_pool2d"), 2, x, {kernel, stride, padding, dilation, ceil_mode}).values;
}
Tensor max_pool3d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                  bool ceil_mode) {
  return max_pool(op("max_pool3d"), 3, x, {kernel, stride, padding, dilation, ceil_mode}).values;
}
std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& x, IntArrayRef kernel, IntArrayRef stride,
                                                   IntArrayRef padding, IntArrayRef dilation, bool ceil_mode) {
  const Maxima m = max_pool(op("max_pool2d"), 2, x, {kernel, stride, padding, dilation, ceil_mode});
  return {m.values, m.indices};
}

Tensor avg_pool1d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, bool ceil_mode,
                  bool count_include_pad) {
  return avg_pool(op("avg_pool1d"), 1, x, {kernel, stride, padding, 1, ceil_mode}, count_include_pad, nullopt);
}
Tensor avg_pool2d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, bool ceil_mode,
                  bool count_include_pad, optional<std::int64_t> divisor_override) {
  return avg_pool(op("avg_pool2d"), 2, x, {kernel, stride, padding, 1, ceil_mode}, count_include_pad, divisor_override);
}
Tensor avg_pool3d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, bool ceil_mode,
                  bool count_include_pad, optional<std::int64_t> divisor_override) {
  return avg_pool(op("avg_pool3d"), 3, x, {kernel, stride, padding, 1, ceil_mode}, count_include_pad, divisor_override);
}

Tensor adaptive_avg_pool2d(const Tensor& x, IntArrayRef output_size) {
  const OpInfo& info = op("adaptive_avg_pool2d");
  return batched(2, x, [&](const Tensor& input) {
    PoolShape s = input_shape(info, 2, input);
    s.window.out = number_per_axis(info, "output_size", output_size, 2, 0);
    s.window.out[2] = 1;
    return average(info, s, Average::adaptive, input);
  });
}

}  // namespace halftone
