// The kinds of reduction as data for the backends, and the arithmetic of whole rows as formulas over a team.
//
// A team is whoever computes one row: a thread of the CPU (SerialTeam) or a block of threads of a GPU. It offers
//   max(n, f), sum(n, f)   over f(0) .. f(n - 1); every member gets the result
//   exp_sum(n, f)          the largest and the sum of e^f in one pass, where a team would read memory in each
//   each(n, f)             calls f(i) once for every i
//   keep(n, y, f)          a function with the values of f: one that keeps them in the row y until y is written, or f
//                          itself where arithmetic costs less than memory
// Elements are read as x(i) and written as y(i, value), in float or double: Row widens and rounds.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/dtype.h"
#include "core/host_device.h"

namespace halftone {

enum class ReduceKind : std::int8_t { sum, mean, prod, max, min, all, any, norm, variance };

/// A reduction and its parameters.
struct Reduce {
  ReduceKind kind = ReduceKind::sum;
  double p =
      2;  // norm: the order; infinity and minus infinity give the largest and smallest magnitude, 0 counts non-zeros
  double correction = 1;  // variance: subtracted from the count in the divisor
};

enum class Extreme : std::int8_t { max, min };
enum class Scan : std::int8_t { sum, prod };

namespace rows {

/// Consecutive elements of memory, read widened and written rounded.
template <class T> struct Row {
  using Value = Compute<std::remove_const_t<T>>;
  T* data = nullptr;
  HD Value operator()(std::int64_t i) const { return static_cast<Value>(data[i]); }
  HD void operator()(std::int64_t i, Value value) const { data[i] = static_cast<T>(value); }
};

/// A weight that is not there.
template <class T> struct Constant {
  T value;
  HD T operator()(std::int64_t) const { return value; }
};

// ---------------------------------------------------------------- softmax

/// The sum of e^x of what was met so far, as e^top * total.
template <class T> struct ExpSum {
  T top = -std::numeric_limits<T>::infinity(), total = 0;

  /// `to` is no less than what will be added.
  HD void raise(T to) {
    using std::exp;
    if (!(to > top)) return;
    total *= exp(top - to);
    top = to;
  }
  HD void add(T x) {
    using std::exp;
    total += exp(x - (top > -std::numeric_limits<T>::infinity() ? top : T(0)));
  }
};

template <class Team, class X> HD auto exp_sum(const Team& team, std::int64_t n, X x) {
  if constexpr (requires { team.exp_sum(n, x); }) {
    return team.exp_sum(n, x);
  } else {
    const auto top = team.max(n, x);
    const auto total = team.sum(n, [=](std::int64_t i) {
      using std::exp;
      return exp(x(i) - top);
    });
    return ExpSum<std::remove_const_t<decltype(top)>>{top, total};
  }
}

/// A row of -infinity alone has no distribution and gives NaN.
template <class Team, class X, class Y> HD void softmax(const Team& team, std::int64_t n, X x, Y y) {
  if constexpr (requires { team.exp_sum(n, x); }) {
    const auto sum = team.exp_sum(n, x);
    const auto scale = 1 / sum.total;
    return team.each(n, [=](std::int64_t i) {
      using std::exp;
      y(i, exp(x(i) - sum.top) * scale);
    });
  }
  const auto top = team.max(n, x);
  const auto e = team.keep(n, y, [=](std::int64_t i) {
    using std::exp;
    return exp(x(i) - top);
  });
  const auto scale = 1 / team.sum(n, e);
  team.each(n, [=](std::int64_t i) { y(i, e(i) * scale); });
}

/// log(sum(e^x)) in two parts, which are more exact apart.
template <class T> struct LogSumExp {
  T top, rest;
  HD T value() const { return top + rest; }
};

template <class Team, class X> HD auto log_sum_exp(const Team& team, std::int64_t n, X x) {
  using std::log;
  const auto sum = exp_sum(team, n, x);
  return LogSumExp<std::remove_const_t<decltype(sum.top)>>{sum.top, log(sum.total)};
}

template <class Team, class X, class Y> HD void log_softmax(const Team& team, std::int64_t n, X x, Y y) {
  const auto lse = log_sum_exp(team, n, x);
  team.each(n, [=](std::int64_t i) { y(i, x(i) - lse.top - lse.rest); });
}

/// y is the softmax, g the gradient for it.
template <class Team, class G, class Y, class D>
HD void softmax_grad(const Team& team, std::int64_t n, G g, Y y, D dx) {
  const auto mean = team.sum(n, [=](std::int64_t i) { return g(i) * y(i); });
  team.each(n, [=](std::int64_t i) { dx(i, y(i) * (g(i) - mean)); });
}

/// y is the log-softmax, g the gradient for it.
template <class Team, class G, class Y, class D>
HD void log_softmax_grad(const Team& team, std::int64_t n, G g, Y y, D dx) {
  const auto total = team.sum(n, g);
  team.each(n, [=](std::int64_t i) {
    using std::exp;
    dx(i, g(i) - exp(y(i)) * total);
  });
}

// ---------------------------------------------------------------- cross entropy

/// The loss is (1 - smoothing) w[t] nll[t] + smoothing / n sum_c w[c] nll[c], nll[c] = lse - x[c], for the label t.
template <class T> struct CrossEntropy {
  T smoothing;
  T weight_sum;  // over all classes
};
template <class T> struct LossAndLse { T loss, lse; };

template <class Team, class T, class X, class W>
HD LossAndLse<T> cross_entropy(const Team& team, std::int64_t n, CrossEntropy<T> f, std::int64_t label, X x, W w) {
  const auto lse = log_sum_exp(team, n, x);
  const T hit = w(label) * (lse.top - x(label) + lse.rest);
  if (f.smoothing == 0) return {hit, lse.value()};
  const T all = team.sum(n, [=](std::int64_t i) { return w(i) * (lse.top - x(i) + lse.rest); });
  return {(1 - f.smoothing) * hit + f.smoothing / static_cast<T>(n) * all, lse.value()};
}

/// g is the gradient for this row's loss.
template <class Team, class T, class X, class W, class D>
HD void cross_entropy_grad(const Team& team, std::int64_t n, CrossEntropy<T> f, std::int64_t label, T g, T lse, X x,
                           W w, D dx) {
  const T each = f.smoothing / static_cast<T>(n);
  const T hit = (1 - f.smoothing) * w(label);
  const T slope = hit + each * f.weight_sum;
  team.each(n, [=](std::int64_t i) {
    using std::exp;
    dx(i, g * (exp(x(i) - lse) * slope - each * w(i) - (i == label ? hit : T(0))));
  });
}

// ---------------------------------------------------------------- normalization

template <class T> HD T reciprocal_deviation(T variance, double eps) {
  using std::sqrt;
  return 1 / sqrt(variance + static_cast<T>(eps));
}

template <class T> struct MeanAndRstd { T mean, rstd; };

template <class Team, class X, class W, class B, class Y>
HD auto layer_norm(const Team& team, std::int64_t n, double eps, X x, W w, B b, Y y) {
  using T = decltype(x(0));
  const T mean = team.sum(n, x) / static_cast<T>(n);
  const T squares = team.sum(n, [=](std::int64_t i) { return (x(i) - mean) * (x(i) - mean); });
  const T rstd = reciprocal_deviation(squares / static_cast<T>(n), eps);
  team.each(n, [=](std::int64_t i) { y(i, (x(i) - mean) * rstd * w(i) + b(i)); });
  return MeanAndRstd<T>{mean, rstd};
}

template <class Team, class T, class G, class X, class W, class D>
HD void layer_norm_grad(const Team& team, std::int64_t n, MeanAndRstd<T> s, G g, X x, W w, D dx) {
  const T along_one = team.sum(n, [=](std::int64_t i) { return g(i) * w(i); }) / static_cast<T>(n);
  const T along_x =
      team.sum(n, [=](std::int64_t i) { return g(i) * w(i) * ((x(i) - s.mean) * s.rstd); }) / static_cast<T>(n);
  team.each(n, [=](std::int64_t i) { dx(i, s.rstd * (g(i) * w(i) - along_one - (x(i) - s.mean) * s.rstd * along_x)); });
}

/// Count, mean and sum of squared deviations of a set of numbers; two sets merge without cancellation (Chan et al.,
/// 1979).
template <class T> struct Moments {
  T count = 0, mean = 0, squares = 0;

  HD void merge(const Moments& other) {
    if (other.count == 0) return;
    const T total = count + other.count;
    const T step = other.mean - mean;
    squares += other.squares + step * step * (count * other.count / total);
    mean += step * (other.count / total);
    count = total;
  }
  HD T variance() const { return count > 0 ? squares / count : T(0); }
  /// Of the population the numbers were drawn from; of a single number, zero.
  HD T unbiased_variance() const { return count > 1 ? squares / (count - 1) : T(0); }
};

/// y = (x - mean) * scale + shift of one channel.
template <class T> struct ChannelNorm {
  T mean, scale, shift;
  HD T operator()(T x) const { return (x - mean) * scale + shift; }
};

/// dx = g * scale + (x - mean) * slope + offset of one channel.
template <class T> struct ChannelNormGrad {
  T mean, scale, slope = 0, offset = 0;
  HD T operator()(T g, T x) const { return g * scale + (x - mean) * slope + offset; }

  /// `sum_g` and `sum_gx` are the sums of g and of g * (x - mean) * rstd over the `count` elements of the channel,
  /// whose statistics depend on x in training.
  HD static ChannelNormGrad of_training(T mean, T rstd, T weight, double sum_g, double sum_gx, double count) {
    const double scale = static_cast<double>(weight) * static_cast<double>(rstd);
    return {mean, static_cast<T>(scale), static_cast<T>(-scale * static_cast<double>(rstd) * sum_gx / count),
            static_cast<T>(-scale * sum_g / count)};
  }
};

}  // namespace rows

}  // namespace halftone
