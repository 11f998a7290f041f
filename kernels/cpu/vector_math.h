// Loops over std::exp and its kin, vectorized. glibc has vector versions of these functions (libmvec, which comes with
// -lm) but tells the compiler so only under -ffast-math, because their results are up to 4 units in the last place off.
// That is close enough here, and infinities, NaN, signed zeros and subnormals come out as those of the scalar
// functions; so this header says it again. std::exp(float) calls the compiler's builtin, std::exp(double) the C
// function.
//
// A loop vectorizes if it is compiled with -O3 -fno-math-errno -fno-trapping-math and calls nothing else.
#pragma once

#include <cmath>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)

extern "C" {

[[gnu::simd("notinbranch")]] float __builtin_atan2f(float, float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_cosf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_coshf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_erff(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_expf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_expm1f(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_log10f(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_log1pf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_log2f(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_logf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_powf(float, float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_sinf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_sinhf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_tanf(float) noexcept;
[[gnu::simd("notinbranch")]] float __builtin_tanhf(float) noexcept;

[[gnu::simd("notinbranch")]] double atan2(double, double) noexcept;
[[gnu::simd("notinbranch")]] double cos(double) noexcept;
[[gnu::simd("notinbranch")]] double cosh(double) noexcept;
[[gnu::simd("notinbranch")]] double erf(double) noexcept;
[[gnu::simd("notinbranch")]] double exp(double) noexcept;
[[gnu::simd("notinbranch")]] double expm1(double) noexcept;
[[gnu::simd("notinbranch")]] double log(double) noexcept;
[[gnu::simd("notinbranch")]] double log10(double) noexcept;
[[gnu::simd("notinbranch")]] double log1p(double) noexcept;
[[gnu::simd("notinbranch")]] double log2(double) noexcept;
[[gnu::simd("notinbranch")]] double pow(double, double) noexcept;
[[gnu::simd("notinbranch")]] double sin(double) noexcept;
[[gnu::simd("notinbranch")]] double sinh(double) noexcept;
[[gnu::simd("notinbranch")]] double tan(double) noexcept;
[[gnu::simd("notinbranch")]] double tanh(double) noexcept;

}  // extern "C"

#endif
#endif
