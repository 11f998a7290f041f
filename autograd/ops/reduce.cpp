// Sums and means over axes.
#include "autograd/ops/reduce.h"

namespace halftone {
namespace {

// Overload 0 is over all elements, 1 over axes: the numbers in PyTorch's SumBackward0 and SumBackward1.
template <int Overload> struct SumRule {
  static constexpr int overload = Overload;
  Reduced r;
  Dtype dtype;

  // Sums are wide inside, so 16-bit x need not be cast to give a float32 sum.
  Tensor forward(const Tensor& x) const { return reduce({ReduceKind::sum}, x, r, dtype); }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {r.spread(g)}; }
};

template <int Overload> struct MeanRule {
  static constexpr int overload = Overload;
  Reduced r;
  Dtype dtype;

  Tensor forward(const Tensor& x) const { return reduce({ReduceKind::mean}, x, r, dtype); }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {r.spread(g / static_cast<double>(r.count()))};
  }
};

template <int Overload> Tensor sum_over(const Tensor& x, IntArrayRef axes, bool keepdim, optional<Dtype> dtype) {
  const OpInfo& info = op("sum");
  const Dtype wanted = wanted_dtype(info, x, dtype).value_or(sum_dtype(x));
  const bool widens = is_floating_point(wanted) && x.is_floating_point() && element_size(wanted) >= x.element_size();
  const Tensor in = widens || wanted == sum_dtype(x) ? x : x.to(wanted);
  return apply(info, SumRule<Overload>{Reduced(info.name, x, axes, keepdim), wanted}, std::array{in});
}

template <int Overload> Tensor mean_over(const Tensor& x, IntArrayRef axes, bool keepdim, optional<Dtype> dtype) {
  const OpInfo& info = op("mean");
  const Dtype wanted = dtype.value_or(x.dtype());
  check(is_floating_point(wanted), info.name, ": input dtype must be floating point, got ", wanted);
  const bool widens = x.is_floating_point() && element_size(wanted) >= x.element_size();
  return apply(info, MeanRule<Overload>{Reduced(info.name, x, axes, keepdim), wanted},
               std::array{widens ? x : x.to(wanted)});
}

}  // namespace

Tensor sum(const Tensor& x, optional<Dtype> dtype) { return sum_over<0>(x, all_axes(), false, dtype); }
Tensor sum(const Tensor& x, IntArrayRef dims, bool keepdim, optional<Dtype> dtype) {
  return sum_over<1>(x, dims, keepdim, dtype);
}
Tensor mean(const Tensor& x, optional<Dtype> dtype) { return mean_over<0>(x, all_axes(), false, dtype); }
Tensor mean(const Tensor& x, IntArrayRef dims, bool keepdim, optional<Dtype> dtype) {
  return mean_over<1>(x, dims, keepdim, dtype);
}

Tensor sum_to_size(const Tensor& x, IntArrayRef sizes) {
  if (x.sizes().equals(sizes)) return x;
  const std::size_t rank = plain::at(x.dim());
  check<ValueError>(sizes.size() <= rank, "sum_to_size: ", x.sizes(), " does not come from broadcasting ", sizes);
  const std::size_t lead = rank - sizes.size();
  std::vector<std::int64_t> axes;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t wanted = i < lead ? 1 : sizes[i - lead];
    check<ValueError>(wanted == 1 || wanted == x.sizes()[i], "sum_to_size: ", x.sizes(),
                      " does not come from broadcasting ", sizes);
    if (i < lead || wanted != x.sizes()[i]) axes.push_back(static_cast<std::int64_t>(i));
  }
  const Tensor summed = axes.empty() ? x : sum(x, axes, true, x.dtype());
  return summed.reshape(sizes);
}

}  // namespace halftone
