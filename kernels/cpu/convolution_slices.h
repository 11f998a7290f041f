// Pieces of activations, copied to and from dense scratch in the type that arithmetic is done in.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/convolution_columns.h"
#include "kernels/cpu/scratch.h"

namespace halftone::cpu {

struct Range {
  std::int64_t first, last;
};

template <class T> void load(const T* from, Compute<T>* to, std::int64_t n) {
  if constexpr (is_half_type<T>)
    widen(from, to, n);
  else
    std::copy_n(from, n, to);
}

template <class T> void store(const Compute<T>* from, T* to, std::int64_t n) {
  if constexpr (is_half_type<T>)
    narrow(from, to, n);
  else
    std::copy_n(from, n, to);
}

/// A group's channels of one image at the positions [p.first, p.last), as they lie in a tensor with `all` channels.
struct Slice {
  std::int64_t image, group, channels, all, positions;
  Range p;
  bool channels_last;

  std::int64_t count() const { return p.last - p.first; }
  /// Calls f(offset in the tensor, offset in a dense copy, length) for each contiguous piece.
  template <class F> void for_each_piece(F f) const {
    if (channels_last) {
      for (std::int64_t i = p.first; i < p.last; ++i)
        f((image * positions + i) * all + group * channels, (i - p.first) * channels, channels);
    } else {
      for (std::int64_t c = 0; c < channels; ++c)
        f((image * all + group * channels + c) * positions + p.first, c * count(), count());
    }
  }
};

template <class T> Compute<T>* load_slice(const ConstConvData& from, const Slice& s, ScratchUse use) {
  auto* to = scratch<Compute<T>>(use, s.channels * s.count() + kGatherSlack);
  const T* data = static_cast<const T*>(from.data);
  s.for_each_piece([&](std::int64_t at, std::int64_t dense, std::int64_t n) { load(data + at, to + dense, n); });
  return to;
}

}  // namespace halftone::cpu
