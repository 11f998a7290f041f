// The two 16-bit floating types. They are storage types: arithmetic is done in float and rounded once, so both
// construct explicitly and every rounding is visible in the code.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "core/host_device.h"

namespace halftone {

/// IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits): largest 65504, smallest normal 2^-14, subnormals to 2^-24.
struct Half {
  std::uint16_t bits = 0;

  Half() = default;
#ifdef __CUDA_ARCH__  // a GPU has an instruction for it
  __device__ explicit Half(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
  __device__ explicit operator float() const {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
#else
  HD explicit Half(float value) : bits(round(value)) {}
  HD explicit operator float() const { return widen(bits); }
#endif

  HD static constexpr Half from_bits(std::uint16_t pattern) {
    Half h;
    h.bits = pattern;
    return h;
  }

  /// Rounds to nearest, ties to even; overflow gives infinity; NaN stays NaN (quiet, payload's top bits kept).
  HD static constexpr std::uint16_t round(float value) {
    const auto f = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((f >> 16) & 0x8000u);
    const std::uint32_t magnitude = f & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return static_cast<std::uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
    if (magnitude >= 0x477FF000u) return sign | 0x7C00u;  // 65520 and above
    if (magnitude >= 0x38800000u) {  // normal: rebias the exponent by 127 - 15 and round the fraction
      const std::uint32_t rounded = magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u);
      return static_cast<std::uint16_t>(sign | (rounded >> 13));
    }
    if (magnitude <= 0x33000000u) return sign;  // up to 2^-25, a tie with zero
    const std::uint32_t shift = 126u - (magnitude >> 23);
    const std::uint32_t fraction = (magnitude & 0x7FFFFFu) | 0x800000u;
    const std::uint32_t kept = fraction >> shift;
    const std::uint32_t rest = fraction & ((1u << shift) - 1u);
    const std::uint32_t half = 1u << (shift - 1u);
    const std::uint32_t up = (rest > half || (rest == half && (kept & 1u))) ? 1u : 0u;
    return static_cast<std::uint16_t>(sign | (kept + up));
  }

  HD static constexpr float widen(std::uint16_t pattern) {
    const std::uint32_t sign = static_cast<std::uint32_t>(pattern & 0x8000u) << 16;
    const std::uint32_t exponent = (pattern >> 10) & 0x1Fu;
    const std::uint32_t fraction = pattern & 0x3FFu;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (fraction << 13));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // subnormal or zero: exact
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }

  /// Compares values, so -0 equals 0 and NaN differs from itself.
  HD friend bool operator==(Half a, Half b) { return float(a) == float(b); }
};

/// The upper half of a float (1 sign, 8 exponent, 7 fraction bits): the range of float32 with three digits.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  __device__ explicit BFloat16(float value) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
#else
  HD explicit BFloat16(float value) : bits(round(value)) {}
#endif
  HD explicit operator float() const { return widen(bits); }

  HD static constexpr BFloat16 from_bits(std::uint16_t pattern) {
    BFloat16 b;
    b.bits = pattern;
    return b;
  }

  /// Rounds to nearest, ties to even; NaN stays NaN (quiet).
  HD static constexpr std::uint16_t round(float value) {
    const auto f = std::bit_cast<std::uint32_t>(value);
    if ((f & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((f >> 16) | 0x40u);
    return static_cast<std::uint16_t>((f + 0x7FFFu + ((f >> 16) & 1u)) >> 16);
  }

  HD static constexpr float widen(std::uint16_t pattern) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(pattern) << 16);
  }

  HD friend bool operator==(BFloat16 a, BFloat16 b) { return float(a) == float(b); }
};

using Float16 = Half;

}  // namespace halftone

template <> struct std::numeric_limits<halftone::Half> {
  static constexpr bool is_specialized = true;
  static constexpr int digits = 11;
  static constexpr bool has_infinity = true;
  static constexpr halftone::Half max() { return halftone::Half::from_bits(0x7BFF); }
  static constexpr halftone::Half lowest() { return halftone::Half::from_bits(0xFBFF); }
  static constexpr halftone::Half min() { return halftone::Half::from_bits(0x0400); }
  static constexpr halftone::Half epsilon() { return halftone::Half::from_bits(0x1400); }
  static constexpr halftone::Half infinity() { return halftone::Half::from_bits(0x7C00); }
  static constexpr halftone::Half quiet_NaN() { return halftone::Half::from_bits(0x7E00); }
};

template <> struct std::numeric_limits<halftone::BFloat16> {
  static constexpr bool is_specialized = true;
  static constexpr int digits = 8;
  static constexpr bool has_infinity = true;
  static constexpr halftone::BFloat16 max() { return halftone::BFloat16::from_bits(0x7F7F); }
  static constexpr halftone::BFloat16 lowest() { return halftone::BFloat16::from_bits(0xFF7F); }
  static constexpr halftone::BFloat16 min() { return halftone::BFloat16::from_bits(0x0080); }
  static constexpr halftone::BFloat16 epsilon() { return halftone::BFloat16::from_bits(0x3C00); }
  static constexpr halftone::BFloat16 infinity() { return halftone::BFloat16::from_bits(0x7F80); }
  static constexpr halftone::BFloat16 quiet_NaN() { return halftone::BFloat16::from_bits(0x7FC0); }
};
