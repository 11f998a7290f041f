// Both 16-bit types are checked for every pattern against definitions that share nothing with the code: values from
// powers of two, rounding from the distances to the two neighbours.
#include <cmath>
#include <limits>

#include "core/float16.h"
#include "tests/catch.h"

using namespace halftone;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Format {
  int exponent_bits, fraction_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int infinity() const { return ((1 << exponent_bits) - 1) << fraction_bits; }
};
constexpr Format kHalfFormat{5, 10}, kBFloat16Format{8, 7};

template <class T> constexpr Format format_of = std::is_same_v<T, Half> ? kHalfFormat : kBFloat16Format;

/// IEEE 754's definition.
double value_of(Format f, int pattern) {
  const int fraction = pattern & ((1 << f.fraction_bits) - 1);
  const int exponent = (pattern >> f.fraction_bits) & ((1 << f.exponent_bits) - 1);
  const double sign = pattern & 0x8000 ? -1 : 1;
  const int all_ones = (1 << f.exponent_bits) - 1;
  if (exponent == all_ones) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * kInf;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - f.bias() - f.fraction_bits);
  return sign * std::ldexp(fraction + (1 << f.fraction_bits), exponent - f.bias() - f.fraction_bits);
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

/// Counts what does not hold over all patterns: 65,536 assertions would be slow.
template <class F> int failures(F holds) {
  int count = 0;
  for (int pattern = 0; pattern < 0x10000; ++pattern) count += !holds(pattern);
  return count;
}

template <class T> T from(int pattern) { return T::from_bits(static_cast<std::uint16_t>(pattern)); }

float next_up(float x) { return std::nextafterf(x, std::numeric_limits<float>::infinity()); }
float next_down(float x) { return std::nextafterf(x, -std::numeric_limits<float>::infinity()); }

/// Halfway from a pattern's number to the next one away from zero, and just beside the middle.
template <class T> bool rounds_to_nearest_even(int pattern) {
  const Format f = format_of<T>;
  const int magnitude = pattern & 0x7FFF;
  if (magnitude >= f.infinity()) return true;
  // Beyond the largest number comes one more step: from its middle on, all is infinity.
  const int below = magnitude + 1 == f.infinity() ? magnitude - 1 : magnitude;
  const double step = value_of(f, below + 1) - value_of(f, below);
  const auto middle = static_cast<float>(value_of(f, magnitude) + step / 2);  // exact: it has one bit more
  const float sign = pattern & 0x8000 ? -1.0f : 1.0f;
  const int even = magnitude & 1 ? pattern + 1 : pattern;
  return T(sign * middle).bits == even && T(sign * next_down(middle)).bits == pattern &&
         T(sign * next_up(middle)).bits == pattern + 1;
}

}  // namespace

TEMPLATE_TEST_CASE("every pattern widens to its value", "[float16]", Half, BFloat16) {
  CHECK(failures([](int p) {
          return same(static_cast<double>(float(from<TestType>(p))), value_of(format_of<TestType>, p));
        }) == 0);
}

TEMPLATE_TEST_CASE("every value comes back from float unchanged, NaN as NaN of the same sign", "[float16]", Half,
                   BFloat16) {
  CHECK(failures([](int p) {
          const TestType x = from<TestType>(p), back = TestType(float(x));
          const bool nan = std::isnan(float(x));
          return nan ? std::isnan(float(back)) && (back.bits & 0x8000) == (p & 0x8000) : back.bits == p;
        }) == 0);
}

TEMPLATE_TEST_CASE("between neighbours the nearer one is taken, in the middle the even one", "[float16]", Half,
                   BFloat16) {
  CHECK(failures(rounds_to_nearest_even<TestType>) == 0);
}

TEMPLATE_TEST_CASE("rounding keeps the order of floats", "[float16]", Half, BFloat16) {
  float last = -std::numeric_limits<float>::infinity();
  int broken = 0;
  for (std::int64_t i = -0x7F800000; i <= 0x7F800000; i += 4099) {  // every 4099th float, in order
    const auto bits = static_cast<std::uint32_t>(i < 0 ? -i : i) | (i < 0 ? 0x80000000u : 0u);
    const float rounded = float(TestType(std::bit_cast<float>(bits)));
    broken += rounded < last;
    last = rounded;
  }
  CHECK(broken == 0);
}

TEST_CASE("float16 of chosen values", "[float16]") {
  struct Row {
    float value, wanted;
  };
  const float inf = std::numeric_limits<float>::infinity();
  const Row rows[] = {
      {65504.0f, 65504.0f},
      {65519.996f, 65504.0f},
      {65520.0f, inf},
      {-65520.0f, -inf},
      {inf, inf},
      {0x1p-25f, 0.0f},
      {next_up(0x1p-25f), 0x1p-24f},
      {1e-8f, 0.0f},
      {-1e-8f, -0.0f},
      {0x1p-24f, 0x1p-24f},
      {0x3p-25f, 0x1p-23f},
      {0x1p-14f, 0x1p-14f},
      {0x1.ff8p-15f, 0x1.ff8p-15f},
      {0x1.ffcp-15f, 0x1p-14f},
      {2049.0f, 2048.0f},
      {2051.0f, 2052.0f},
      {1.0f + 0x1p-11f, 1.0f},
      {1.0f + 0x3p-11f, 1.0f + 0x1p-9f},
      {-0.0f, -0.0f},
      {0.1f, 0.0999755859375f},
      {3.4e38f, inf},
      {0x1p-149f, 0.0f},
  };
  for (const Row& row : rows) {
    INFO(row.value);
    CHECK(same(static_cast<double>(float(Half(row.value))), static_cast<double>(row.wanted)));
  }
}

TEST_CASE("bfloat16 of chosen values", "[float16]") {
  const float inf = std::numeric_limits<float>::infinity(), most = 0x1.fep127f;
  const std::pair<float, float> rows[] = {
      {3.39e38f, most},  {3.4e38f, inf},         {most, most},           {-3.4e38f, -inf},       {inf, inf},
      {0x1p-149f, 0.0f}, {0x1p-133f, 0x1p-133f}, {0x1p-134f, 0.0f},      {0x3p-134f, 0x1p-132f}, {-0.0f, -0.0f},
      {257.0f, 256.0f},  {259.0f, 260.0f},       {0.1f, 0.10009765625f}, {1.0f + 0x1p-8f, 1.0f},
  };
  for (const auto& [value, wanted] : rows) {
    INFO(value);
    CHECK(same(static_cast<double>(float(BFloat16(value))), static_cast<double>(wanted)));
  }
}

TEST_CASE("every float NaN stays NaN, also one whose upper bits alone would be infinity", "[float16]") {
  for (const std::uint32_t bits :
       {0x7FC00000u, 0x7F800001u, 0x7F801FFFu, 0x7F80FFFFu, 0xFF800001u, 0xFFFFFFFFu, 0x7FFFFFFFu}) {
    INFO(bits);
    const auto nan = std::bit_cast<float>(bits);
    CHECK(std::isnan(float(Half(nan))));
    CHECK(std::isnan(float(BFloat16(nan))));
    CHECK(std::signbit(float(Half(nan))) == (bits >> 31 != 0));
    CHECK(std::signbit(float(BFloat16(nan))) == (bits >> 31 != 0));
  }
}

TEST_CASE("equality compares values", "[float16]") {
  CHECK(Half(0.0f) == Half(-0.0f));
  CHECK_FALSE(Half::from_bits(0x7E00) == Half::from_bits(0x7E00));
  CHECK(BFloat16(0.0f) == BFloat16(-0.0f));
  CHECK_FALSE(BFloat16::from_bits(0x7FC0) == BFloat16::from_bits(0x7FC0));
  CHECK(Half(1.0f) == Half(1.0f + 0x1p-12f));
}

TEMPLATE_TEST_CASE("numeric limits", "[float16]", Half, BFloat16) {
  using L = std::numeric_limits<TestType>;
  constexpr Format f = format_of<TestType>;
  CHECK(L::digits == f.fraction_bits + 1);
  CHECK(static_cast<double>(float(L::max())) == value_of(f, f.infinity() - 1));
  CHECK(static_cast<double>(float(L::lowest())) == -value_of(f, f.infinity() - 1));
  CHECK(static_cast<double>(float(L::min())) == std::ldexp(1, 1 - f.bias()));
  CHECK(static_cast<double>(float(L::epsilon())) == std::ldexp(1, -f.fraction_bits));
  CHECK(std::isinf(float(L::infinity())));
  CHECK(std::isnan(float(L::quiet_NaN())));
}

TEST_CASE("both types are two bytes of plain data", "[float16]") {
  CHECK(sizeof(Half) == 2);
  CHECK(sizeof(BFloat16) == 2);
  CHECK(std::is_trivially_copyable_v<Half>);
  CHECK(std::is_trivially_copyable_v<BFloat16>);
  CHECK_FALSE(std::is_convertible_v<float, Half>);
  CHECK_FALSE(std::is_convertible_v<Half, float>);
  static_assert(Half::round(1.0f) == 0x3C00 && BFloat16::round(1.0f) == 0x3F80);
}
