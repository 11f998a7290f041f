// Bulk conversions between float and the 16-bit types. Whatever the processor, the bits are those of the scalar
// functions in core/float16.h, NaN payloads and subnormals included. That is why bfloat16 is rounded with integer
// arithmetic: the AVX512_BF16 instruction flushes subnormals to zero. Eight lanes at a time already reach the speed of
// the cache, so there is no version with sixteen.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/float16.h"

#if defined(__AVX2__) && defined(__F16C__)
#define HALFTONE_CONVERT_AVX2 1
#include <immintrin.h>
#endif

namespace halftone::cpu {

namespace convert_detail {

template <class T> inline void widen_scalar(const T* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = T::widen(from[i].bits);
}

template <class T> inline void narrow_scalar(const float* from, T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i].bits = T::round(from[i]);
}

#if defined(HALFTONE_CONVERT_AVX2)

inline constexpr std::int64_t kLanes = 8;

inline __m128i load_bits(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
inline void store_bits(void* to, __m128i bits) { _mm_storeu_si128(static_cast<__m128i*>(to), bits); }

inline void widen_bulk(const Half* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256 wide = _mm256_cvtph_ps(load_bits(from + i));
    _mm256_storeu_ps(to + i, wide);
    // The instruction quietens a signalling NaN, the scalar function keeps it. NaN is rare, so the branch costs
    // nothing.
    if (_mm256_movemask_ps(_mm256_cmp_ps(wide, wide, _CMP_UNORD_Q)) != 0) [[unlikely]]
      widen_scalar(from + i, to + i, kLanes);
  }
  widen_scalar(from + i, to + i, n - i);
}

inline void narrow_bulk(const float* from, Half* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store_bits(to + i, _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  narrow_scalar(from + i, to + i, n - i);
}

inline __m256i round_to_bfloat16(__m256 wide) {  // the result is in the low half of each 32-bit lane
  const __m256i word = _mm256_castps_si256(wide);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(word, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(word, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256i quiet = _mm256_or_si256(word, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(wide, wide, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}

inline void narrow_bulk(const float* from, BFloat16* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256i words = round_to_bfloat16(_mm256_loadu_ps(from + i));
    store_bits(to + i, _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  narrow_scalar(from + i, to + i, n - i);
}

// A shift alone, which the compiler vectorizes by itself.
inline void widen_bulk(const BFloat16* from, float* to, std::int64_t n) { widen_scalar(from, to, n); }

#else

template <class T> inline void widen_bulk(const T* from, float* to, std::int64_t n) { widen_scalar(from, to, n); }

template <class T> inline void narrow_bulk(const float* from, T* to, std::int64_t n) { narrow_scalar(from, to, n); }

#endif

}  // namespace convert_detail

/// to[i] = from[i], exactly. The ranges must not overlap.
inline void widen(const Half* from, float* to, std::int64_t n) { convert_detail::widen_bulk(from, to, n); }
inline void widen(const BFloat16* from, float* to, std::int64_t n) { convert_detail::widen_bulk(from, to, n); }
inline void widen(const float* from, float* to, std::int64_t n) { std::copy_n(from, n, to); }

/// to[i] = from[i], rounded to nearest with ties to even. The ranges must not overlap.
inline void narrow(const float* from, Half* to, std::int64_t n) { convert_detail::narrow_bulk(from, to, n); }
inline void narrow(const float* from, BFloat16* to, std::int64_t n) { convert_detail::narrow_bulk(from, to, n); }
inline void narrow(const float* from, float* to, std::int64_t n) { std::copy_n(from, n, to); }

}  // namespace halftone::cpu
