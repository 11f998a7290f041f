// Folding: many values into one by a rule for two. Rows of elements are folded into an array of accumulators, element
// by element, which the compiler vectorizes whatever the rule.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/cpu/vector_math.h"
#include "kernels/functors.h"

namespace halftone::cpu {

// ---------------------------------------------------------------- operations: an identity and a rule for two values

struct AddFold {
  template <class T> static constexpr T identity = 0;
  template <class T> static T apply(T a, T b) { return fn::plus(a, b); }
};
struct MultiplyFold {
  template <class T> static constexpr T identity = 1;
  template <class T> static T apply(T a, T b) { return fn::times(a, b); }
};
/// NaN wins.
struct MaxFold {
  template <class T>
  static constexpr T identity = std::is_integral_v<T> ? std::numeric_limits<T>::min()
                                                      : -std::numeric_limits<T>::infinity();
  template <class T> static T apply(T a, T b) {
    const T top = b > a ? b : a;  // in this form the compiler makes no branch of it
    return b != b ? b : top;
  }
};
struct MinFold {
  template <class T>
  static constexpr T identity = std::is_integral_v<T> ? std::numeric_limits<T>::max()
                                                      : std::numeric_limits<T>::infinity();
  template <class T> static T apply(T a, T b) {
    const T bottom = b < a ? b : a;
    return b != b ? b : bottom;
  }
};

// ---------------------------------------------------------------- what is folded of each element

struct Itself {
  template <class T> T operator()(T x) const { return x; }
};
/// Squares and products leave the range of float long before the result does.
struct Widened {
  template <class T> auto operator()(T x) const {
    return static_cast<std::conditional_t<std::is_same_v<T, float>, double, T>>(x);
  }
};
struct NonZero {
  template <class T> T operator()(T x) const { return x != 0 ? T(1) : T(0); }
};
struct Magnitude {
  template <class T> T operator()(T x) const { return std::abs(x); }
};
struct WideSquare {
  template <class T> double operator()(T x) const { return static_cast<double>(x) * static_cast<double>(x); }
};
struct PowerOf {
  double p;
  template <class T> T operator()(T x) const { return std::pow(std::abs(x), static_cast<T>(p)); }
};

/// Four float values are added as float, the sums of four as double: fast, and exact enough for any length.
template <class Fold, class Value>
using Accumulator = std::conditional_t<std::is_same_v<Fold, AddFold> && std::is_same_v<Value, float>, double, Value>;

/// Folds map(x) over the elements x.
template <class Fold, class Map> struct Folding {
  Map map;

  template <class A> static constexpr A kIdentity = Fold::template identity<A>;

  template <class X> using Acc = Accumulator<Fold, std::invoke_result_t<Map, X>>;

  template <class X> void one(const X* __restrict a, Acc<X>* __restrict acc, std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) acc[i] = Fold::apply(acc[i], static_cast<Acc<X>>(map(a[i])));
  }
  template <class X> void four(const std::array<const X*, 4>& rows, Acc<X>* __restrict acc, std::int64_t n) const {
    const X* __restrict a = rows[0], * __restrict b = rows[1], * __restrict c = rows[2], * __restrict d = rows[3];
    for (std::int64_t i = 0; i < n; ++i) {
      const auto both = Fold::apply(Fold::apply(map(a[i]), map(b[i])), Fold::apply(map(c[i]), map(d[i])));
      acc[i] = Fold::apply(acc[i], static_cast<Acc<X>>(both));
    }
  }

  static constexpr std::int64_t kLanes = 64;

  /// Folds a row of memory into kLanes accumulators; says how many of them it touched.
  template <class X> std::int64_t run(const X* x, Acc<X>* acc, std::int64_t n) const {
    std::int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      four<X>({x + i, x + i + kLanes, x + i + 2 * kLanes, x + i + 3 * kLanes}, acc, kLanes);
    }
    for (; i + kLanes <= n; i += kLanes) one(x + i, acc, kLanes);
    one(x + i, acc, n - i);
    return std::min(n, kLanes);
  }
  /// All of a short row.
  template <class X> Acc<X> all(const X* x, std::int64_t n) const {
    Acc<X> value = kIdentity<Acc<X>>;
    for (std::int64_t i = 0; i < n; ++i) value = Fold::apply(value, static_cast<Acc<X>>(map(x[i])));
    return value;
  }
  /// The accumulators folded by halves.
  template <class A> static A collapse(A* acc, std::int64_t used) {
    if (used == 0) return kIdentity<A>;
    while (used > 1) {
      const std::int64_t half = used / 2, rest = used - half;
      for (std::int64_t i = 0; i < half; ++i) acc[i] = Fold::apply(acc[i], acc[rest + i]);
      used = rest;
    }
    return acc[0];
  }
};

}  // namespace halftone::cpu
