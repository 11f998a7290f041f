// The places in memory behind a tensor, each once: what an update in place has to visit when axes are expanded or
// overlap.
#pragma once

#include <algorithm>
#include <vector>

#include "core/tensor.h"

namespace halftone {

/// Distinct indices have distinct places: every stride passes over all that the smaller ones reach.
inline bool is_injective(IntArrayRef sizes, IntArrayRef strides) {
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] > 1) axes.emplace_back(strides[i], sizes[i]);
  }
  std::sort(axes.begin(), axes.end());
  std::int64_t reached = 0;
  for (const auto& [stride, size] : axes) {
    if (stride <= reached) return false;
    reached += stride * (size - 1);
  }
  return true;
}

/// A tensor whose elements are x's places in memory, each once: an update in place must not meet a shared one twice.
/// Undefined where no strides say that, as for overlapping windows.
inline Tensor distinct(const Tensor& x) {
  if (x.impl()->contiguous || is_injective(x.sizes(), x.strides())) return x;
  Dims sizes = dims(x.sizes());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (x.strides()[i] == 0) sizes[i] = std::min<std::int64_t>(sizes[i], 1);
  }
  if (!is_injective(sizes, x.strides())) return {};
  return alias(x, sizes, dims(x.strides()), x.storage_offset());
}

}  // namespace halftone
