// The places in memory behind a tensor, each once: what an update in place has to visit when axes are expanded or
// overlap, and whether a tensor may be read while another is written.
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

/// Where the last element of x lies in its storage.
inline std::int64_t last_place(const Tensor& x) {
  std::int64_t place = x.storage_offset();
  for (std::size_t i = 0; i < x.sizes().size(); ++i) place += (x.sizes()[i] - 1) * x.strides()[i];
  return place;
}

/// Whether elements of x share a place in memory. Exact: where strides alone do not tell, all places are looked at.
inline bool has_shared_places(const Tensor& x) {
  if (x.impl()->contiguous || x.numel() == 0 || is_injective(x.sizes(), x.strides())) return false;
  const std::size_t rank = x.sizes().size();
  const std::int64_t last = last_place(x) - x.storage_offset();
  if (last + 1 < x.numel()) return true;
  std::vector<bool> seen(static_cast<std::size_t>(last + 1));
  std::vector<std::int64_t> at(rank);
  for (std::int64_t n = 0, place = 0; n < x.numel(); ++n) {
    if (seen[static_cast<std::size_t>(place)]) return true;
    seen[static_cast<std::size_t>(place)] = true;
    for (std::size_t i = rank; i-- > 0;) {
      place += x.strides()[i];
      if (++at[i] < x.sizes()[i]) break;
      place -= at[i] * x.strides()[i];
      at[i] = 0;
    }
  }
  return false;
}

/// Whether writing y element by element may change an element of x that another step of the loop reads: they share
/// memory, and x's elements are not y's own. May be true of elements that lie between each other.
inline bool overlaps(const Tensor& x, const Tensor& y) {
  if (!x.is_alias_of(y) || x.numel() == 0 || y.numel() == 0) return false;
  const bool same = x.sizes().equals(y.sizes()) && x.strides().equals(y.strides()) && x.dtype() == y.dtype();
  if (same && x.storage_offset() == y.storage_offset()) return false;
  return x.storage_offset() <= last_place(y) && y.storage_offset() <= last_place(x);
}

}  // namespace halftone
