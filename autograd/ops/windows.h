// What convolutions and pools share: lists with a number an axis, and inputs without a batch.
#pragma once

#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {

/// A number for each of `rank` axes; one number stands for all. Each has to be at least `least`.
inline std::array<std::int64_t, 3> number_per_axis(const OpInfo& info, std::string_view what, IntArrayRef given,
                                                   int rank, std::int64_t least) {
  const auto count = static_cast<std::size_t>(rank);
  check<ValueError>(given.size() == 1 || given.size() == count, info.name, ": expected ", what, " to be one number or ",
                    rank, ", got ", given);
  std::array<std::int64_t, 3> all{least, least, least};
  for (std::size_t i = 0; i < count; ++i) {
    all[i] = given[given.size() == 1 ? 0 : i];
    check<ValueError>(all[i] >= least, info.name, ": expected ", what, " of at least ", least, ", got ", given);
  }
  return all;
}

/// f of a batch: [C, ...] is a batch of one.
template <class F> auto batched(int rank, const Tensor& x, F f) {
  return x.dim() == rank + 1 ? f(x.unsqueeze(0)).squeeze(0) : f(x);
}

}  // namespace halftone
