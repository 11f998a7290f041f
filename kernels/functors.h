// Every pointwise formula, written once, with its derivative under it. T is float, double or (where `on_integers`)
// int64: loads widen and stores round, so no formula mentions a 16-bit type. The same templates serve the CPU loop, the
// CUDA kernel and, instantiated with Tensor, double backward: a derivative may therefore use only + - * /, comparisons
// by select(), numbers by lit<>(), and the functions named in the `using` lines, each of which exists for Tensor too.
//
// `needs` says what a derivative reads besides the incoming gradient g: the input x, the output y, both or nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <type_traits>
#include <variant>

#include "core/host_device.h"
#include "core/scalar.h"

namespace halftone {

enum class Needs { nothing, x, y, x_and_y };

/// A number inside a formula: T for arithmetic T, double beside a Tensor.
template <class T> using Literal = std::conditional_t<std::is_arithmetic_v<T>, T, double>;

template <class T> HD constexpr Literal<T> lit(double value) { return static_cast<Literal<T>>(value); }

/// `condition ? a : b` for numbers; ops.h has the twin for tensors, which is where().
template <class T>
requires std::is_arithmetic_v<T> HD constexpr T select(bool condition, T a, T b) { return condition ? a : b; }

/// A user's scalar, kept exactly for integer and for floating formulas.
struct Number {
  double real = 0;
  std::int64_t integer = 0;

  Number() = default;
  Number(const Scalar& s) : real(s.toDouble()), integer(s.toLong()) {}  // NOLINT: a Scalar is a number
  template <class T> HD Literal<T> as() const {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(integer);
    } else {
      return static_cast<Literal<T>>(real);
    }
  }
};

namespace fn {

/// Integer arithmetic wraps around, as two's complement does, without undefined behaviour.
template <class T> HD constexpr T plus(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  } else {
    return a + b;
  }
}
template <class T> HD constexpr T times(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  } else {
    return a * b;
  }
}

// ---------------------------------------------------------------- unary: y = f(x), with grad(g, x, y)

/// Of formulas whose derivative is zero or that have none.
struct NotDifferentiable {
  static constexpr bool differentiable = false;
  static constexpr Needs needs = Needs::nothing;
};
template <Needs N> struct Differentiable {
  static constexpr bool differentiable = true;
  static constexpr Needs needs = N;
};
struct OnIntegers {
  static constexpr bool on_integers = true;
};

struct Neg : Differentiable<Needs::nothing>, OnIntegers {
  template <class T> HD T operator()(T x) const { return times(T(-1), x); }
  template <class T> HD T grad(T g, T, T) const { return -g; }
};
struct Abs : Differentiable<Needs::x>, OnIntegers {
  template <class T> HD T operator()(T x) const { return x < 0 ? times(T(-1), x) : (x == 0 ? T(0) : x); }
  template <class T> HD T grad(T g, T x, T) const { return select(x > 0, g, select(x < 0, T(-g), T(g * lit<T>(0)))); }
};
struct Sign : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const { return x > 0 ? T(1) : (x < 0 ? T(-1) : T(0)); }
};
struct Square : Differentiable<Needs::x>, OnIntegers {
  template <class T> HD T operator()(T x) const { return times(x, x); }
  template <class T> HD T grad(T g, T x, T) const { return g * x * lit<T>(2); }
};
struct Exp : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const {
    using std::exp;
    return exp(x);
  }
  template <class T> HD T grad(T g, T, T y) const { return g * y; }
};
struct Expm1 : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const {
    using std::expm1;
    return expm1(x);
  }
  template <class T> HD T grad(T g, T, T y) const { return g * (y + lit<T>(1)); }
};
struct Log : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::log;
    return log(x);
  }
  template <class T> HD T grad(T g, T x, T) const { return g / x; }
};
struct Log1p : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::log1p;
    return log1p(x);
  }
  template <class T> HD T grad(T g, T x, T) const { return g / (x + lit<T>(1)); }
};
struct Log2 : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::log2;
    return log2(x);
  }
  template <class T> HD T grad(T g, T x, T) const { return g / (x * lit<T>(std::numbers::ln2)); }
};
struct Log10 : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::log10;
    return log10(x);
  }
  template <class T> HD T grad(T g, T x, T) const { return g / (x * lit<T>(std::numbers::ln10)); }
};
struct Sqrt : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const {
    using std::sqrt;
    return sqrt(x);
  }
  template <class T> HD T grad(T g, T, T y) const { return g / (y * lit<T>(2)); }
};
struct Rsqrt : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const {
    using std::sqrt;
    return T(1) / sqrt(x);
  }
  template <class T> HD T grad(T g, T, T y) const { return g * y * y * y * lit<T>(-0.5); }
};
struct Reciprocal : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const { return T(1) / x; }
  template <class T> HD T grad(T g, T, T y) const { return -g * y * y; }
};
struct Sin : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::sin;
    return sin(x);
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::cos;
    return g * cos(x);
  }
};
struct Cos : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::cos;
    return cos(x);
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::sin;
    return -g * sin(x);
  }
};
struct Tan : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const {
    using std::tan;
    return tan(x);
  }
  template <class T> HD T grad(T g, T, T y) const { return g * (y * y + lit<T>(1)); }
};
struct Sinh : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::sinh;
    return sinh(x);
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::cosh;
    return g * cosh(x);
  }
};
struct Cosh : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::cosh;
    return cosh(x);
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::sinh;
    return g * sinh(x);
  }
};
struct Tanh : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const {
    using std::tanh;
    return tanh(x);
  }
  template <class T> HD T grad(T g, T, T y) const { return g * (lit<T>(1) - y * y); }
};
struct Sigmoid : Differentiable<Needs::y> {
  template <class T> HD T operator()(T x) const {
    using std::exp;
    return T(1) / (T(1) + exp(-x));
  }
  template <class T> HD T grad(T g, T, T y) const { return g * (lit<T>(1) - y) * y; }
};
struct Relu : Differentiable<Needs::y>, OnIntegers {
  template <class T> HD T operator()(T x) const { return x < 0 ? T(0) : x; }  // NaN stays NaN
  template <class T> HD T grad(T g, T, T y) const { return select(y > 0, g, T(g * lit<T>(0))); }
};
struct Erf : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::erf;
    return erf(x);
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::exp;
    return g * exp(-x * x) * lit<T>(2 * std::numbers::inv_sqrtpi);
  }
};
struct Floor : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const {
    if constexpr (std::is_integral_v<T>) {
      return x;
    } else {
      using std::floor;
      return floor(x);
    }
  }
};
struct Ceil : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const {
    if constexpr (std::is_integral_v<T>) {
      return x;
    } else {
      using std::ceil;
      return ceil(x);
    }
  }
};
/// Halves go to the even neighbour.
struct Round : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const {
    if constexpr (std::is_integral_v<T>) {
      return x;
    } else {
      using std::nearbyint;
      return nearbyint(x);
    }
  }
};
struct Trunc : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const {
    if constexpr (std::is_integral_v<T>) {
      return x;
    } else {
      using std::trunc;
      return trunc(x);
    }
  }
};
struct IsNan : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const { return T(x != x); }
};
struct IsInf : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const {
    if constexpr (std::is_integral_v<T>) {
      return T(0);
    } else {
      return T(x - x != x - x && x == x);
    }
  }
};
struct IsFinite : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const { return T(x - x == 0); }
};
struct LogicalNot : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const { return T(x == 0); }
};
struct BitwiseNot : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T x) const {
    if constexpr (std::is_integral_v<T>) {
      return ~x;
    } else {
      return x;
    }
  }
};
/// x * Phi(x), Phi the normal distribution (Hendrycks and Gimpel, 2016).
struct Gelu : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::erf;
    return x * T(0.5) * (T(1) + erf(x * T(std::numbers::sqrt2 / 2)));
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::erf;
    using std::exp;
    const T cdf = (erf(x * lit<T>(std::numbers::sqrt2 / 2)) + lit<T>(1)) * lit<T>(0.5);
    const T pdf = exp(x * x * lit<T>(-0.5)) * lit<T>(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
    return g * (cdf + x * pdf);
  }
};
/// The tanh approximation of Gelu.
struct GeluTanh : Differentiable<Needs::x> {
  static constexpr double kInner = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;  // sqrt(2 / pi)
  template <class T> HD T operator()(T x) const {
    using std::tanh;
    return x * T(0.5) * (T(1) + tanh((x + x * x * x * T(0.044715)) * T(kInner)));
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::tanh;
    const T t = tanh((x + x * x * x * lit<T>(0.044715)) * lit<T>(kInner));
    const T dt = (lit<T>(1) - t * t) * (x * x * lit<T>(3 * 0.044715) + lit<T>(1)) * lit<T>(kInner);
    return g * ((t + lit<T>(1)) * lit<T>(0.5) + x * dt * lit<T>(0.5));
  }
};
/// x * sigmoid(x).
struct Silu : Differentiable<Needs::x> {
  template <class T> HD T operator()(T x) const {
    using std::exp;
    return x / (T(1) + exp(-x));
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::exp;
    const T s = lit<T>(1) / (exp(-x) + lit<T>(1));
    return g * s * (x * (lit<T>(1) - s) + lit<T>(1));
  }
};
struct LeakyRelu : Differentiable<Needs::x> {
  double slope = 0.01;
  template <class T> HD T operator()(T x) const { return x > 0 ? x : x * T(slope); }
  template <class T> HD T grad(T g, T x, T) const { return select(x > 0, g, T(g * lit<T>(slope))); }
};
/// x for x > 0, alpha (e^x - 1) otherwise.
struct Elu : Differentiable<Needs::x> {
  double alpha = 1;
  template <class T> HD T operator()(T x) const {
    using std::expm1;
    return x > 0 ? x : T(alpha) * expm1(x);
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::exp;
    return select(x > 0, g, T(g * exp(x) * lit<T>(alpha)));
  }
};
/// log(1 + e^(beta x)) / beta, linear beyond the threshold.
struct Softplus : Differentiable<Needs::x> {
  double beta = 1;
  double threshold = 20;
  template <class T> HD T operator()(T x) const {
    using std::exp;
    using std::log1p;
    return x * T(beta) > T(threshold) ? x : log1p(exp(x * T(beta))) / T(beta);
  }
  template <class T> HD T grad(T g, T x, T) const {
    using std::exp;
    const T slope = lit<T>(1) / (exp(x * lit<T>(-beta)) + lit<T>(1));
    return select(x * lit<T>(beta) > lit<T>(threshold), g, T(g * slope));
  }
};
/// Limits to [low, high]; the gradient passes where low <= x <= high. NaN stays NaN.
struct Clamp : Differentiable<Needs::x>, OnIntegers {
  Number low, high;
  bool has_low = false, has_high = false;
  template <class T> HD T operator()(T x) const {
    if (has_low && x < low.as<T>()) x = low.as<T>();
    return has_high && x > high.as<T>() ? high.as<T>() : x;
  }
  template <class T> HD T grad(T g, T x, T) const {
    const T zero = g * lit<T>(0);
    const T above = has_low ? select(x < low.as<T>(), zero, g) : g;
    return has_high ? select(x > high.as<T>(), zero, above) : above;
  }
};

// ---------------------------------------------------------------- binary: y = f(a, b), with grad_a and grad_b(g, a, b,
// y) The operands' types differ when one of them is a number bound to the formula, hence four template parameters.

/// a + alpha b; a - b with alpha = -1.
struct Add : Differentiable<Needs::nothing>, OnIntegers {
  static constexpr Needs when_second_bound = Needs::nothing;
  Number alpha = Scalar(1);
  template <class T> HD T operator()(T a, T b) const { return plus(a, times(alpha.as<T>(), b)); }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A, B, Y) const { return g; }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A, B, Y) const { return g * alpha.as<T>(); }
};
struct Mul : Differentiable<Needs::x>, OnIntegers {
  static constexpr Needs when_second_bound = Needs::nothing;
  template <class T> HD T operator()(T a, T b) const { return times(a, b); }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A, B b, Y) const { return g * b; }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B, Y) const { return g * a; }
};
struct Div : Differentiable<Needs::x_and_y> {
  static constexpr Needs when_second_bound = Needs::nothing;
  template <class T> HD T operator()(T a, T b) const { return a / b; }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A, B b, Y) const { return g / b; }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A, B b, Y y) const { return -g * y / b; }
};
/// a^b. Integers are raised by repeated squaring; a negative integer power of an integer truncates.
struct Pow : Differentiable<Needs::x_and_y>, OnIntegers {
  template <class T> HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b < 0) return a == 1 ? T(1) : (a == -1 ? (b % 2 == 0 ? T(1) : T(-1)) : T(0));
      T result = 1;
      for (; b > 0; b /= 2) {
        if (b % 2) result = times(result, a);
        a = times(a, a);
      }
      return result;
    } else {
      using std::pow;
      if (b == T(2)) return a * a;
      return pow(a, b);
    }
  }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const {
    using std::pow;
    return select(b == 0, T(g * lit<T>(0)), T(g * (b * pow(a, b - 1))));
  }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y y) const {
    using std::log;
    return select((a == 0) && (b >= 0), T(g * lit<T>(0)), T(g * (y * log(a))));
  }
};
/// The larger one; NaN if one is. Equal operands share the gradient.
struct Maximum : Differentiable<Needs::x>, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return a != a ? a : (b != b ? b : (a < b ? b : a)); }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const {
    return select(a > b, g, select(a < b, T(g * lit<T>(0)), T(g * lit<T>(0.5))));
  }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y) const {
    return select(a < b, g, select(a > b, T(g * lit<T>(0)), T(g * lit<T>(0.5))));
  }
};
struct Minimum : Differentiable<Needs::x>, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return a != a ? a : (b != b ? b : (b < a ? b : a)); }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const {
    return select(a < b, g, select(a > b, T(g * lit<T>(0)), T(g * lit<T>(0.5))));
  }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y) const {
    return select(a > b, g, select(a < b, T(g * lit<T>(0)), T(g * lit<T>(0.5))));
  }
};
/// The rest of the division that rounds down, so it has the divisor's sign. An integer divisor of 0 is refused above.
struct Remainder : Differentiable<Needs::x>, OnIntegers {
  static constexpr Needs when_second_bound = Needs::nothing;
  template <class T> HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == -1) return 0;
      const T r = a % b;
      return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
    } else {
      using std::fmod;
      const T r = fmod(a, b);
      return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
    }
  }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A, B, Y) const { return g; }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y) const {
    using std::floor;
    return -g * floor(T(a / b));
  }
};
struct Atan2 : Differentiable<Needs::x> {
  template <class T> HD T operator()(T a, T b) const {
    using std::atan2;
    return atan2(a, b);
  }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const { return g * b / (a * a + b * b); }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y) const { return -g * a / (a * a + b * b); }
};
struct Eq : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T(a == b); }
};
struct Ne : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T(a != b); }
};
struct Lt : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T(a < b); }
};
struct Le : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T(a <= b); }
};
struct Gt : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T(a > b); }
};
struct Ge : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T(a >= b); }
};
struct LogicalAnd : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T((a != 0) && (b != 0)); }
};
struct LogicalOr : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T((a != 0) || (b != 0)); }
};
struct LogicalXor : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const { return T((a != 0) != (b != 0)); }
};
/// The bitwise formulas see only integers and bool: the op refuses floating tensors.
struct BitwiseAnd : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      return a & b;
    } else {
      return a;
    }
  }
};
struct BitwiseOr : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      return a | b;
    } else {
      return a;
    }
  }
};
struct BitwiseXor : NotDifferentiable, OnIntegers {
  template <class T> HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      return a ^ b;
    } else {
      return a;
    }
  }
};

// Losses per element: a is the prediction, b the target.
struct SquaredError : Differentiable<Needs::x> {
  template <class T> HD T operator()(T a, T b) const { return (a - b) * (a - b); }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const { return g * (a - b) * lit<T>(2); }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y) const { return g * (b - a) * lit<T>(2); }
};
struct AbsoluteError : Differentiable<Needs::x> {
  template <class T> HD T operator()(T a, T b) const { return a < b ? b - a : a - b; }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const {
    return select(a > b, g, select(a < b, T(-g), T(g * lit<T>(0))));
  }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y y) const { return -grad_a(g, a, b, y); }
};
/// Quadratic within beta of the target, linear beyond: Girshick 2015. `scale` is 1 / beta for smooth L1, 1 for Huber.
struct SmoothAbsoluteError : Differentiable<Needs::x> {
  double beta = 1;
  bool huber = false;
  template <class T> HD T operator()(T a, T b) const {
    const T d = a < b ? b - a : a - b;
    const T inner = T(0.5) * d * d, outer = T(beta) * (d - T(0.5) * T(beta));
    const T value = d < T(beta) ? inner : outer;
    return huber || beta == 0 ? (beta == 0 ? d : value) : value / T(beta);
  }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const {
    const T d = a - b;
    const double slope = huber ? beta : 1.0;
    const double inner = huber || beta == 0 ? 1.0 : 1.0 / beta;
    const T outside = select(d > 0, T(g * lit<T>(slope)), T(g * lit<T>(-slope)));
    return select((d < lit<T>(beta)) && (d > lit<T>(-beta)), T(g * d * lit<T>(inner)), outside);
  }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B b, Y y) const { return -grad_a(g, a, b, y); }
};
/// -(b log a + (1 - b) log(1 - a)), the logarithms not below -100 so that the loss stays finite.
struct BinaryCrossEntropy : Differentiable<Needs::x> {
  template <class T> HD T operator()(T a, T b) const {
    using std::log;
    using std::log1p;
    const T low = T(-100);
    const T log_a = log(a) < low ? low : log(a);
    const T log_rest = log1p(-a) < low ? low : log1p(-a);
    return (b - T(1)) * log_rest - b * log_a;
  }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const {
    const T spread = (lit<T>(1) - a) * a;
    return g * (a - b) / select(spread < lit<T>(1e-12), T(spread * lit<T>(0) + lit<T>(1e-12)), spread);
  }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B, Y) const {
    using std::log;
    using std::log1p;
    return g * (log1p(-a) - log(a));
  }
};
/// The same on logits: max(a, 0) - a b + log(1 + e^-|a|), which never overflows.
struct BinaryCrossEntropyWithLogits : Differentiable<Needs::x> {
  template <class T> HD T operator()(T a, T b) const {
    using std::exp;
    using std::log1p;
    const T magnitude = a < 0 ? -a : a;
    return (a > 0 ? a : T(0)) - a * b + log1p(exp(-magnitude));
  }
  template <class T, class A, class B, class Y> HD T grad_a(T g, A a, B b, Y) const {
    using std::exp;
    return g * (lit<T>(1) / (exp(-a) + lit<T>(1)) - b);
  }
  template <class T, class A, class B, class Y> HD T grad_b(T g, A a, B, Y) const { return -g * a; }
};

/// A binary formula with a number in place of its second operand: x + 2, x > 0, x ^ 3.
template <class F> struct BindSecond : F {
  static constexpr Needs needs = [] {
    if constexpr (requires { F::when_second_bound; }) {
      return F::when_second_bound;  // the derivative reads the number, not x
    } else {
      return F::needs;
    }
  }();
  Number b;
  BindSecond(F f, const Scalar& number) : F(f), b(number) {}
  template <class T> HD T operator()(T x) const { return F::operator()(x, b.as<T>()); }
  template <class T> HD T grad(T g, T x, T y) const { return F::grad_a(g, x, b.as<T>(), y); }
};
/// A binary formula with a number in place of its first operand: 1 - x, 2 / x, 2 ^ x.
template <class F> struct BindFirst : F {
  Number a;
  BindFirst(F f, const Scalar& number) : F(f), a(number) {}
  template <class T> HD T operator()(T x) const { return F::operator()(a.as<T>(), x); }
  template <class T> HD T grad(T g, T x, T y) const { return F::grad_b(g, a.as<T>(), x, y); }
};

// ---------------------------------------------------------------- ternary: y = f(a, b, c); derivatives are composed of
// ops

struct Where : OnIntegers {  // a is the condition
  template <class T> HD T operator()(T a, T b, T c) const { return a != 0 ? b : c; }
};
/// a + c (b - a), in the form that is exact at both ends.
struct Lerp {
  template <class T> HD T operator()(T a, T b, T c) const {
    return c < T(0.5) ? a + c * (b - a) : b - (b - a) * (T(1) - c);
  }
};
struct AddProduct : OnIntegers {  // a + value b c
  Number value = Scalar(1);
  template <class T> HD T operator()(T a, T b, T c) const { return plus(a, times(value.as<T>(), times(b, c))); }
};
struct AddQuotient {  // a + value b / c
  Number value = Scalar(1);
  template <class T> HD T operator()(T a, T b, T c) const { return a + value.as<T>() * b / c; }
};

}  // namespace fn

/// The lists, the parameters and the dispatchers, all at once.
using Unary =
    std::variant<fn::Neg, fn::Abs, fn::Sign, fn::Square, fn::Exp, fn::Expm1, fn::Log, fn::Log1p, fn::Log2, fn::Log10,
                 fn::Sqrt, fn::Rsqrt, fn::Reciprocal, fn::Sin, fn::Cos, fn::Tan, fn::Sinh, fn::Cosh, fn::Tanh,
                 fn::Sigmoid, fn::Relu, fn::Erf, fn::Floor, fn::Ceil, fn::Round, fn::Trunc, fn::IsNan, fn::IsInf,
                 fn::IsFinite, fn::LogicalNot, fn::BitwiseNot, fn::Gelu, fn::GeluTanh, fn::Silu, fn::LeakyRelu, fn::Elu,
                 fn::Softplus, fn::Clamp, fn::BindSecond<fn::Add>, fn::BindSecond<fn::Mul>, fn::BindSecond<fn::Div>,
                 fn::BindSecond<fn::Pow>, fn::BindSecond<fn::Maximum>, fn::BindSecond<fn::Minimum>,
                 fn::BindSecond<fn::Remainder>, fn::BindSecond<fn::Eq>, fn::BindSecond<fn::Ne>, fn::BindSecond<fn::Lt>,
                 fn::BindSecond<fn::Le>, fn::BindSecond<fn::Gt>, fn::BindSecond<fn::Ge>, fn::BindSecond<fn::BitwiseAnd>,
                 fn::BindSecond<fn::BitwiseOr>, fn::BindSecond<fn::BitwiseXor>, fn::BindFirst<fn::Add>,
                 fn::BindFirst<fn::Div>, fn::BindFirst<fn::Pow>, fn::BindFirst<fn::Remainder>>;

using Binary =
    std::variant<fn::Add, fn::Mul, fn::Div, fn::Pow, fn::Maximum, fn::Minimum, fn::Remainder, fn::Atan2, fn::Eq, fn::Ne,
                 fn::Lt, fn::Le, fn::Gt, fn::Ge, fn::LogicalAnd, fn::LogicalOr, fn::LogicalXor, fn::BitwiseAnd,
                 fn::BitwiseOr, fn::BitwiseXor, fn::SquaredError, fn::AbsoluteError, fn::SmoothAbsoluteError,
                 fn::BinaryCrossEntropy, fn::BinaryCrossEntropyWithLogits>;

using Ternary = std::variant<fn::Where, fn::Lerp, fn::AddProduct, fn::AddQuotient>;

template <class F> inline constexpr bool on_integers = requires { F::on_integers; };

}  // namespace halftone
