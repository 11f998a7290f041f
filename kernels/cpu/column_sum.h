// Sums down the columns of a matrix whose rows are computed one after the other: what weights and biases of
// normalizations get for a gradient. Rows are dealt out in shares whose number depends on the sizes alone, so the sums
// do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/row_access.h"

namespace halftone::cpu {

/// Rows [begin(i), begin(i + 1)) are share i.
struct Shares {
  std::int64_t rows, count;

  Shares(std::int64_t row_count, std::int64_t width)
      : rows(row_count), count(std::clamp<std::int64_t>(row_count / rows_per_grain(width), 1, kMost)) {}
  std::int64_t begin(std::int64_t share) const { return rows * share / count; }

 private:
  static constexpr std::int64_t kMost = 16;
};

/// For rows g and h: the column sums of g ("plain") and of h ("weighted"). A few rows are summed in X, those sums in
/// double.
template <class X> class ColumnSums {
 public:
  ColumnSums(std::int64_t width, double* plain, double* weighted)
      : width_(width), near_(static_cast<std::size_t>(2 * width), X(0)), plain_(plain), weighted_(weighted) {}

  template <class H> void add(const X* g, H h) {
    X* const __restrict plain = near_.data(), * const __restrict weighted = plain + width_;
    for (std::int64_t i = 0; i < width_; ++i) plain[i] += g[i];
    for (std::int64_t i = 0; i < width_; ++i) weighted[i] += h(i);
    if (++rows_ == kNearRows) finish();
  }
  /// Brings the totals up to date.
  void finish() {
    for (std::int64_t i = 0; i < width_; ++i) plain_[i] += static_cast<double>(near_[static_cast<std::size_t>(i)]);
    for (std::int64_t i = 0; i < width_; ++i) {
      weighted_[i] += static_cast<double>(near_[static_cast<std::size_t>(width_ + i)]);
    }
    std::fill(near_.begin(), near_.end(), X(0));
    rows_ = 0;
  }

 private:
  static constexpr int kNearRows = 32;

  std::int64_t width_;
  std::vector<X> near_;  // [2, width]
  int rows_ = 0;
  double* plain_;
  double* weighted_;
};

/// The sums of all shares.
template <class X> class ShareSums {
 public:
  ShareSums(const Shares& shares, std::int64_t width)
      : shares_(shares.count), width_(width), totals_(static_cast<std::size_t>(shares.count * 2 * width), 0.0) {}

  ColumnSums<X> of(std::int64_t share) {
    double* own = totals_.data() + share * 2 * width_;
    return {width_, own, own + width_};
  }
  /// Adds the shares, in their order.
  void combine() {
    for (std::int64_t share = 1; share < shares_; ++share) {
      const double* next = totals_.data() + share * 2 * width_;
      for (std::int64_t i = 0; i < 2 * width_; ++i) totals_[static_cast<std::size_t>(i)] += next[i];
    }
  }
  const double* plain() const { return totals_.data(); }
  const double* weighted() const { return totals_.data() + width_; }

 private:
  std::int64_t shares_, width_;
  std::vector<double> totals_;  // [shares, 2, width]
};

}  // namespace halftone::cpu
