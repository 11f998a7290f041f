// Index arithmetic shared by the backends: where the elements of tensors of one shape lie, and what an index means.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/array_ref.h"
#include "core/host_device.h"

namespace halftone {

/// Maps a row-major position to offsets into several tensors of one shape. Axes of size 1 are gone and axes that lie
/// evenly in all of the tensors are merged, but none is reordered. Plain arrays: a kernel takes it by value.
template <int Operands> struct Places {
  int rank = 0;
  std::int64_t sizes[kMaxDims] = {};
  std::int64_t strides[Operands][kMaxDims] = {};

  HD void find(std::int64_t position, std::int64_t (&offsets)[Operands]) const {
    for (std::int64_t& offset : offsets) offset = 0;
    for (int axis = rank - 1; axis >= 0; --axis) {
      const std::int64_t rest = position / sizes[axis];
      const std::int64_t at = position - rest * sizes[axis];
      for (int k = 0; k < Operands; ++k) offsets[k] += at * strides[k][axis];
      position = rest;
    }
  }
  /// Between neighbours of the last axis.
  HD std::int64_t step(int operand) const { return strides[operand][rank - 1]; }
  /// One run of memory without gaps.
  HD bool in_line(int operand) const { return rank == 1 && (strides[operand][0] == 1 || sizes[0] == 1); }
};

/// One list of strides per tensor, each as long as `sizes`.
template <class... Strides>
Places<static_cast<int>(sizeof...(Strides))> places(IntArrayRef sizes, const Strides&... strides) {
  constexpr int kOperands = static_cast<int>(sizeof...(Strides));
  const IntArrayRef given[] = {IntArrayRef(strides)...};
  Places<kOperands> p;
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    if (sizes[axis] == 1) continue;
    const auto merges = [&](int k) { return p.strides[k][p.rank - 1] == given[k][axis] * sizes[axis]; };
    bool all_merge = p.rank > 0;
    for (int k = 0; k < kOperands && all_merge; ++k) all_merge = merges(k);
    if (!all_merge) p.sizes[p.rank++] = 1;
    p.sizes[p.rank - 1] *= sizes[axis];
    for (int k = 0; k < kOperands; ++k) p.strides[k][p.rank - 1] = given[k][axis];
  }
  if (p.rank == 0) p.sizes[p.rank++] = 1;
  return p;
}

/// Calls f(offsets, count) for the positions [first, last), one run along the last axis at a time; the elements of a
/// run are step(k) apart.
template <int Operands, class F>
void for_each_run(const Places<Operands>& p, std::int64_t first, std::int64_t last, F f) {
  if (first >= last) return;
  std::int64_t at[kMaxDims];
  std::int64_t offsets[Operands];
  if (p.rank == 1) {
    for (int k = 0; k < Operands; ++k) offsets[k] = first * p.strides[k][0];
    f(offsets, last - first);
    return;
  }
  p.find(first, offsets);
  for (std::int64_t axis = p.rank - 1, position = first; axis >= 0; --axis) {
    at[axis] = position % p.sizes[axis];
    position /= p.sizes[axis];
  }
  const int inner = p.rank - 1;
  while (true) {
    const std::int64_t count = std::min(p.sizes[inner] - at[inner], last - first);
    f(offsets, count);
    first += count;
    if (first >= last) return;
    at[inner] = p.sizes[inner];
    for (int k = 0; k < Operands; ++k) offsets[k] += count * p.strides[k][inner];
    for (int axis = inner; axis > 0 && at[axis] == p.sizes[axis]; --axis) {  // carry
      at[axis] = 0;
      ++at[axis - 1];
      for (int k = 0; k < Operands; ++k) offsets[k] += p.strides[k][axis - 1] - p.sizes[axis] * p.strides[k][axis];
    }
  }
}

/// A negative index counts from the end.
HD constexpr std::int64_t wrap_index(std::int64_t index, std::int64_t size) { return index < 0 ? index + size : index; }

HD constexpr bool in_range(std::int64_t index, std::int64_t size) {
  return static_cast<std::uint64_t>(index) < static_cast<std::uint64_t>(size);
}

}  // namespace halftone
