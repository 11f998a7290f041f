// What reductions share: where they were, and the kernel.
#pragma once

#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {

/// Where a reduction was: enough to give a gradient its axes back.
struct Reduced {
  Dims sizes;  // of x
  unsigned mask = 0;
  bool keepdim = false;

  Reduced() = default;
  Reduced(std::string_view op, const Tensor& x, IntArrayRef axes, bool keep)
      : sizes(dims(x.sizes())), mask(dim_mask(op, axes, x.dim())), keepdim(keep) {}

  Dims result_sizes() const { return reduced_sizes(sizes, mask, keepdim); }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (std::size_t i = 0; i < sizes.size(); ++i) n *= (mask >> i) & 1u ? sizes[i] : 1;
    return n;
  }
  std::vector<std::int64_t> axes() const {
    std::vector<std::int64_t> list;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if ((mask >> i) & 1u) list.push_back(static_cast<std::int64_t>(i));
    }
    return list;
  }
  /// A result with its axes of size 1 in place.
  Tensor keep(const Tensor& t) const { return keepdim ? t : t.reshape(reduced_sizes(sizes, mask, true)); }
  /// A result repeated along the reduced axes, without copying.
  Tensor spread(const Tensor& t) const { return keep(t).expand(sizes); }
};

/// The kernel; a 0-dim tensor is a list of one.
inline Tensor reduce(const Reduce& kind, const Tensor& x, const Reduced& r, Dtype dtype) {
  Tensor y = empty(r.result_sizes(), x.options().dtype(dtype));
  if (x.dim() == 0) {
    backend(x).reduce(kind, plain::reshaped(x, {1}), 1, y);
    return y;
  }
  Tensor flat = r.keepdim ? plain::reshaped(y, reduced_sizes(r.sizes, r.mask, false)) : y;
  backend(x).reduce(kind, x, r.mask, flat);
  return y;
}

/// x in the dtype that the caller or autocast asks the result to have.
inline Tensor in_wanted_dtype(const OpInfo& info, const Tensor& x, optional<Dtype> dtype) {
  const optional<Dtype> wanted = wanted_dtype(info, x, dtype);
  return wanted && *wanted != x.dtype() ? x.to(*wanted) : x;
}

/// Sums and products of integers and bools are int64.
inline Dtype sum_dtype(const Tensor& x) { return x.is_floating_point() ? x.dtype() : kInt64; }

/// As a list of axes: all.
inline IntArrayRef all_axes() { return {}; }

/// Of what has no value for nothing.
inline void check_not_empty(const OpInfo& info, const Reduced& r) {
  check<IndexError>(
      r.count() > 0, info.name,
      "(): Expected reduction dim to be specified for input.numel() == 0, or of a size that is not 0: got ", r.sizes);
}

}  // namespace halftone
