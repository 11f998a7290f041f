// The distributions of core/random.h, step by step as PyTorch's CPU code takes them: the same words in the same order
// and the same roundings, fused multiply-adds included, so that the same seed gives the same numbers to the last bit.
#include <bit>
#include <cmath>
#include <numbers>

#include "core/random.h"

namespace halftone {
namespace {

void check_host(const char* op, const Tensor& y) {
  check<TypeError>(y.is_cpu(), op, ": a tensor in host memory is needed, not ", describe(y));
}

void check_floating(const char* op, const Tensor& y) {
  check_host(op, y);
  check<TypeError>(is_floating_point(y.dtype()), op, ": a floating dtype is needed, not ", y.dtype());
}

template <std::size_t N> using Offsets = std::array<std::int64_t, N>;

template <std::size_t N, class F> void walk(const Loop& loop, std::size_t axis, Offsets<N> at, F& visit) {
  for (std::int64_t i = 0; i < loop.sizes[axis]; ++i) {
    if (axis + 1 == loop.sizes.size()) {
      visit(at);
    } else {
      walk(loop, axis + 1, at, visit);
    }
    for (std::size_t k = 0; k < N; ++k) at[k] += loop.strides[k][axis];
  }
}

/// Stores `draw()` in every element, in memory order, with the generator locked.
template <class T, class F> void fill_each(const Tensor& y, Generator& generator, F draw) {
  const std::lock_guard lock(generator.mutex());
  T* data = y.data_ptr<T>();
  const auto store = [&](Offsets<1> at) { data[at[0]] = T(draw()); };
  walk<1>(coalesce(y.sizes(), {y.strides()}), 0, {}, store);
}

/// In [0, 1): 24 bits of a word for float, 53 of two words for double.
template <class T> T unit(Generator& generator) {
  if constexpr (std::is_same_v<T, double>) {
    return static_cast<double>(generator.random64() & ((1ull << 53) - 1)) * 0x1p-53;
  } else {
    return static_cast<float>(generator.random() & ((1u << 24) - 1)) * 0x1p-24f;
  }
}

}  // namespace

void fill_uniform(const Tensor& y, double from, double to, Generator& generator) {
  check_floating("uniform_", y);
  check<ValueError>(from <= to, "uniform_: expects to return a [from, to) range, but found from=", from, " > to=", to);
  visit_floating(y.dtype(), [&]<class T>(Type<T>) {
    using C = Compute<T>;
    const C low = static_cast<C>(from), width = static_cast<C>(to) - low;
    const T first(static_cast<C>(from)), end(static_cast<C>(to));
    fill_each<T>(y, generator, [&] {
      const T value(std::fma(unit<C>(generator), width, low));
      return value == end ? first : value;  // rounding to few bits must not reach the open end
    });
  });
}

namespace {

// Logarithm, sine and cosine in float by Cephes' polynomials, as vectorised libraries compute them: up to two units in
// the last place from the C library's.

float polynomial_log(float x) {
  const auto bits = std::bit_cast<std::int32_t>(x);
  const float half_to_one = std::bit_cast<float>((bits & 0x007FFFFF) | 0x3F000000);
  const bool small = half_to_one < 0.707106781186547524f;
  const float e = static_cast<float>((bits >> 23) - (small ? 127 : 126));  // x = (1 + m) * 2^e
  const float m = small ? (half_to_one - 1.0f) + half_to_one : half_to_one - 1.0f;
  const float z = m * m;
  float y = 7.0376836292e-2f;
  y = std::fma(y, m, -1.1514610310e-1f);
  y = std::fma(y, m, 1.1676998740e-1f);
  y = std::fma(y, m, -1.2420140846e-1f);
  y = std::fma(y, m, 1.4249322787e-1f);
  y = std::fma(y, m, -1.6668057665e-1f);
  y = std::fma(y, m, 2.0000714765e-1f);
  y = std::fma(y, m, -2.4999993993e-1f);
  y = std::fma(y, m, 3.3333331174e-1f);
  y = std::fma(y * m, z, e * -2.12194440e-4f);
  y = std::fma(-z, 0.5f, y);
  return std::fma(e, 0.693359375f, m + y);
}

struct SinCos {
  float sin, cos;
};

SinCos polynomial_sin_cos(float x) {  // x >= 0
  const std::int32_t octant = (static_cast<std::int32_t>(x * 1.27323954473516f) + 1) & ~1;
  const auto y = static_cast<float>(octant);
  x = std::fma(y, -0.78515625f, x);  // minus y * pi / 4, in three pieces
  x = std::fma(y, -2.4187564849853515625e-4f, x);
  x = std::fma(y, -3.77489497744594108e-8f, x);
  const float z = x * x;
  float c = std::fma(std::fma(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f);
  c = std::fma(c * z, z, -(z * 0.5f)) + 1.0f;
  float s = std::fma(std::fma(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f);
  s = std::fma(s * z, x, x);
  const bool swap = (octant & 2) != 0;
  const auto sin = std::bit_cast<std::uint32_t>(swap ? c : s), cos = std::bit_cast<std::uint32_t>(swap ? s : c);
  const auto sin_sign = static_cast<std::uint32_t>(octant & 4) << 29;
  const auto cos_sign = static_cast<std::uint32_t>(~(octant - 2) & 4) << 29;
  return {std::bit_cast<float>(sin ^ sin_sign), std::bit_cast<float>(cos ^ cos_sign)};
}

/// Eight Box-Muller pairs: uniform numbers in, normal ones out; element i goes with element i + 8. Short loops without
/// branches, because the compiler turns each into a few vector instructions.
void box_muller(float* x, float mean, float std) {
  float radius[8], sin[8], cos[8];
  for (int i = 0; i < 8; ++i) radius[i] = std::sqrt(-2.0f * polynomial_log(1.0f - x[i]));
  for (int i = 0; i < 8; ++i) {
    const SinCos angle = polynomial_sin_cos(static_cast<float>(2 * std::numbers::pi) * x[i + 8]);
    sin[i] = angle.sin;
    cos[i] = angle.cos;
  }
  for (int i = 0; i < 8; ++i) x[i] = std::fma(radius[i] * cos[i], std, mean);
  for (int i = 0; i < 8; ++i) x[i + 8] = std::fma(radius[i] * sin[i], std, mean);
}

void box_muller(double* x, double mean, double std) {
  for (int i = 0; i < 8; ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - x[i]));
    const double angle = 2 * std::numbers::pi * x[i + 8];
    x[i] = std::fma(radius * std::cos(angle), std, mean);
    x[i + 8] = std::fma(radius * std::sin(angle), std, mean);
  }
}

/// Blocks of 16 from uniform numbers drawn in order; a last incomplete block draws its 16 anew, over those before it.
template <class T> void fill_normal_blocks(T* data, std::int64_t n, double mean, double std, Generator& generator) {
  using C = Compute<T>;
  C block[16];
  const auto fill_block = [&](T* to) {
    for (C& x : block) x = unit<C>(generator);
    box_muller(block, static_cast<C>(mean), static_cast<C>(std));
    for (int i = 0; i < 16; ++i) to[i] = T(block[i]);
  };
  const std::lock_guard lock(generator.mutex());
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) fill_block(data + i);
  if (i == n) return;
  // PyTorch draws for the whole tensor before it draws the last block anew; for 16-bit dtypes it does not.
  for (; std::is_same_v<T, C> && i < n; ++i) unit<C>(generator);
  fill_block(data + n - 16);
}

}  // namespace

void fill_normal(const Tensor& y, double mean, double std, Generator& generator) {
  check_floating("normal_", y);
  check<ValueError>(std >= 0, "normal_: expects std >= 0.0, but found std ", std);
  visit_floating(y.dtype(), [&]<class T>(Type<T>) {
    if (y.numel() >= 16 && y.is_contiguous()) {
      fill_normal_blocks(y.data_ptr<T>(), y.numel(), mean, std, generator);
    } else {
      using C = Compute<T>;
      fill_each<T>(y, generator, [&] { return static_cast<C>(std::fma(generator.normal(), std, mean)); });
    }
  });
}

namespace {

template <class T> constexpr bool kFloating = is_half_type<T> || std::is_floating_point_v<T>;
template <class T> constexpr int kDigits = std::numeric_limits<T>::digits;

/// A whole number as a T, through float for the 16-bit types.
template <class T> T whole(std::int64_t value) { return T(static_cast<Compute<T>>(value)); }

template <class T> std::int64_t as_integer(T value) {
  return static_cast<std::int64_t>(static_cast<Compute<T>>(value));
}

/// The distance of neighbours of T about a value that has more bits than T.
template <class T> std::int64_t spacing(std::int64_t value) {
  const auto magnitude = static_cast<std::uint64_t>(std::abs(value));
  return std::int64_t{1} << (static_cast<int>(std::bit_width(magnitude)) - kDigits<T>);
}

/// Moves the bounds inwards to where rounding to T cannot leave them.
template <class T> void tighten(std::int64_t& from, std::int64_t& to) {
  if (const std::int64_t first = as_integer(whole<T>(from + 1)); first < from) from = first + spacing<T>(from + 1);
  if (const std::int64_t last = as_integer(whole<T>(to - 1)); last >= to) to = last - spacing<T>(to - 1);
}

template <class T> void check_bounds(std::int64_t from, std::int64_t to) {
  check<ValueError>(from < to, "random_: expects 'from' to be less than 'to', but got from=", from, " >= to=", to);
  const auto fits = [](std::int64_t value) {
    if constexpr (kFloating<T>) {
      using L = std::numeric_limits<T>;
      return static_cast<double>(static_cast<Compute<T>>(L::lowest())) <= static_cast<double>(value) &&
             static_cast<double>(value) <= static_cast<double>(static_cast<Compute<T>>(L::max()));
    } else {
      return std::int64_t{std::numeric_limits<T>::lowest()} <= value &&
             value <= std::int64_t{std::numeric_limits<T>::max()};
    }
  };
  check<ValueError>(fits(from), "random_: from=", from, " is out of bounds for ", dtype_of<T>);
  check<ValueError>(fits(to - 1), "random_: to - 1=", to - 1, " is out of bounds for ", dtype_of<T>);
}

}  // namespace

std::pair<std::int64_t, std::int64_t> whole_numbers(Dtype dtype, std::int64_t from, std::int64_t to) {
  std::int64_t low = from, high = to;
  visit_all(dtype, [&]<class T>(Type<T>) {
    check_bounds<T>(low, high);
    if constexpr (kFloating<T>) {
      tighten<T>(low, high);
      check<ValueError>(low < high, "random_: no whole number of ", dtype, " lies in [", from, ", ", to, ")");
    }
  });
  return {low, high};
}

void fill_random(const Tensor& y, std::int64_t from, std::int64_t to, Generator& generator) {
  check_host("random_", y);
  const auto [low, high] = whole_numbers(y.dtype(), from, to);
  const auto first = static_cast<std::uint64_t>(low), range = static_cast<std::uint64_t>(high) - first;
  const bool wide = range >= 1u << 28;  // a remainder of 32 bits would be too uneven
  visit_all(y.dtype(), [&, first = first]<class T>(Type<T>) {
    fill_each<T>(y, generator, [&] {
      const std::uint64_t word = wide ? generator.random64() : generator.random();
      return whole<T>(static_cast<std::int64_t>(word % range + first));
    });
  });
}

void fill_random(const Tensor& y, Generator& generator) {
  check_host("random_", y);
  visit_all(y.dtype(), [&]<class T>(Type<T>) {
    constexpr std::uint64_t range = (std::uint64_t{1} << kDigits<T>)+(kFloating<T> ? 1 : 0);
    constexpr bool wide = kDigits < T >> 32;
    fill_each<T>(y, generator, [&] {
      const std::uint64_t word = wide ? generator.random64() : generator.random();
      return whole<T>(static_cast<std::int64_t>(word % range));
    });
  });
}

void fill_bernoulli(const Tensor& y, double p, Generator& generator) {
  check_host("bernoulli_", y);
  check<ValueError>(0 <= p && p <= 1, "bernoulli_: expects p to be in [0, 1], but got p=", p);
  visit_all(y.dtype(), [&]<class T>(Type<T>) {
    fill_each<T>(y, generator, [&] { return whole<T>(unit<double>(generator) < p); });
  });
}

namespace {

/// Draws with the precision of the probabilities: float for those of 16 bits.
template <class T, class P> void fill_bernoulli_from(const Tensor& y, const Tensor& p, Generator& generator) {
  using C = Compute<P>;
  T* data = y.data_ptr<T>();
  const P* chance = p.data_ptr<P>();
  const std::lock_guard lock(generator.mutex());
  const auto store = [&](Offsets<2> at) {
    const auto q = static_cast<C>(chance[at[1]]);
    check<ValueError>(0 <= q && q <= 1, "bernoulli_: expects p to be in [0, 1], but got p=", q);
    data[at[0]] = whole<T>(unit<C>(generator) < q);
  };
  walk<2>(coalesce(y.sizes(), {y.strides(), p.strides()}), 0, {}, store);
}

}  // namespace

void fill_bernoulli(const Tensor& y, const Tensor& p, Generator& generator) {
  check_host("bernoulli_", y);
  check_floating("bernoulli_", p);
  check<ValueError>(y.sizes() == p.sizes(), "bernoulli_: p has sizes ", p.sizes(), ", the tensor to fill ", y.sizes());
  visit_all(y.dtype(), [&]<class T>(Type<T>) {
    visit_floating(p.dtype(), [&]<class P>(Type<P>) { fill_bernoulli_from<T, P>(y, p, generator); });
  });
}

void fill_exponential(const Tensor& y, double rate, Generator& generator) {
  check_floating("exponential_", y);
  check<ValueError>(rate > 0, "exponential_: expects lambda > 0.0, but found lambda=", rate);
  visit_floating(y.dtype(), [&]<class T>(Type<T>) {
    fill_each<T>(y, generator,
                 [&] { return static_cast<Compute<T>>(-1.0 / rate * std::log1p(-unit<double>(generator))); });
  });
}

void fill_permutation(const Tensor& y, Generator& generator) {
  check_host("randperm", y);
  check<TypeError>(y.dtype() == kInt64 && y.dim() == 1, "randperm: a 1-dim int64 tensor is needed, not ", describe(y));
  const std::int64_t n = y.numel(), step = n ? y.stride(0) : 1;
  std::int64_t* data = y.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) data[i * step] = i;
  const bool wide = n >= std::numeric_limits<std::uint32_t>::max() / 20;
  const std::lock_guard lock(generator.mutex());
  for (std::int64_t i = 0; i < n - 1; ++i) {
    const std::uint64_t word = wide ? generator.random64() : generator.random();
    const auto ahead = static_cast<std::int64_t>(word % static_cast<std::uint64_t>(n - i));
    std::swap(data[i * step], data[(i + ahead) * step]);
  }
}

}  // namespace halftone
