// The team of one: a thread that computes whole rows. Formulas are evaluated in blocks that stay in the first-level
// cache, so that the compiler vectorizes the formula and the sum or maximum over it apart.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/vector_math.h"
#include "kernels/rows.h"

namespace halftone::cpu {

namespace team_detail {

inline constexpr std::int64_t kBlock = 512;
inline constexpr std::size_t kLaneBytes = 32;

template <class T> struct LanesOf {
  static constexpr std::int64_t count = kLaneBytes / sizeof(T);
  using type [[gnu::vector_size(kLaneBytes)]] = T;
};

template <class T> T sum_of_lanes(const typename LanesOf<T>::type& lanes) {
  T values[LanesOf<T>::count];
  std::memcpy(values, &lanes, sizeof(values));
  for (std::int64_t half = LanesOf<T>::count / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) values[i] += values[i + half];
  }
  return values[0];
}

template <class T> T max_of_lanes(const typename LanesOf<T>::type& lanes) {
  T values[LanesOf<T>::count];
  std::memcpy(values, &lanes, sizeof(values));
  for (std::int64_t half = LanesOf<T>::count / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) values[i] = std::max(values[i], values[i + half]);
  }
  return values[0];
}

}  // namespace team_detail

/// Sum of at most some thousand elements.
template <class T> T sum_of_block(const T* x, std::int64_t n) {
  constexpr std::int64_t kLanes = team_detail::LanesOf<T>::count;
  typename team_detail::LanesOf<T>::type even{}, odd{}, next;
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    std::memcpy(&next, x + i, sizeof(next));
    even += next;
    std::memcpy(&next, x + i + kLanes, sizeof(next));
    odd += next;
  }
  if (i + kLanes <= n) {
    std::memcpy(&next, x + i, sizeof(next));
    even += next;
    i += kLanes;
  }
  even += odd;
  T total = team_detail::sum_of_lanes<T>(even);
  for (; i < n; ++i) total += x[i];
  return total;
}

/// The largest element, minus infinity for none. NaN may get lost.
template <class T> T max_of_block(const T* x, std::int64_t n) {
  constexpr std::int64_t kLanes = team_detail::LanesOf<T>::count;
  T top = -std::numeric_limits<T>::infinity();
  if (n < kLanes) {
    for (std::int64_t i = 0; i < n; ++i) top = std::max(top, x[i]);
    return top;
  }
  typename team_detail::LanesOf<T>::type even, odd, next;
  std::memcpy(&even, x, sizeof(even));
  std::memcpy(&odd, x + n - kLanes, sizeof(odd));  // the tail; elements that are seen twice do no harm
  std::int64_t i = kLanes;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    std::memcpy(&next, x + i, sizeof(next));
    even = even < next ? next : even;
    std::memcpy(&next, x + i + kLanes, sizeof(next));
    odd = odd < next ? next : odd;
  }
  if (i + kLanes <= n) {
    std::memcpy(&next, x + i, sizeof(next));
    even = even < next ? next : even;
  }
  even = even < odd ? odd : even;
  return team_detail::max_of_lanes<T>(even);
}

/// Sums of blocks are added in double, so that the error does not grow with the length.
struct SerialTeam {
  template <class F> void each(std::int64_t n, F f) const {
    for (std::int64_t i = 0; i < n; ++i) f(i);
  }

  template <class T, class F> rows::Row<T> keep(std::int64_t n, rows::Row<T> y, F f) const {
    for (std::int64_t i = 0; i < n; ++i) y(i, f(i));
    return y;
  }

  template <class F> auto sum(std::int64_t n, F f) const {
    double total = 0;
    blocks(n, f,
           [&](const auto* values, std::int64_t count) { total += static_cast<double>(sum_of_block(values, count)); });
    return static_cast<Value<F>>(total);
  }

  template <class F> auto max(std::int64_t n, F f) const {
    Value<F> top = -std::numeric_limits<Value<F>>::infinity();
    blocks(n, f, [&](const auto* values, std::int64_t count) { top = std::max(top, max_of_block(values, count)); });
    return top;
  }

 private:
  template <class F> using Value = std::remove_cvref_t<std::invoke_result_t<F, std::int64_t>>;

  template <class F, class G> static void blocks(std::int64_t n, F f, G g) {
    Value<F> values[team_detail::kBlock];
    for (std::int64_t first = 0; first < n; first += team_detail::kBlock) {
      const std::int64_t count = std::min(n - first, team_detail::kBlock);
      for (std::int64_t i = 0; i < count; ++i) values[i] = f(first + i);
      g(values, count);
    }
  }
  /// A row of memory needs no evaluation.
  template <class T, class G>
  requires std::is_same_v < std::remove_const_t<T>,
  typename rows::Row<T>::Value > static void blocks(std::int64_t n, rows::Row<T> x, G g) {
    for (std::int64_t first = 0; first < n; first += team_detail::kBlock) {
      g(x.data + first, std::min(n - first, team_detail::kBlock));
    }
  }
};

}  // namespace halftone::cpu
