// One row times a bfloat16 matrix: a net asked about one example. Reading the matrix is all the work there is, so
// bfloat16 has to be faster than float32 here, which preparations for matrix instructions would spoil. Numbers are
// widened in pairs: as one 32-bit word, the second of a pair is a float but for its low bits, and the first is one
// after a shift (on a little-endian machine, and on the other kind the two change places).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/float16.h"

namespace halftone::cpu {

namespace row_detail {

// As many registers as it takes, of the compiler's own vector types.
inline constexpr std::int64_t kPairs = 16, kBlock = 2 * kPairs;
typedef float Floats __attribute__((vector_size(kPairs * 4)));
typedef std::uint32_t Words __attribute__((vector_size(kPairs * 4)));

inline Floats as_floats(const Words& words) {
  Floats floats;
  std::memcpy(&floats, &words, sizeof floats);
  return floats;
}

/// 32 bfloat16 numbers: those at even places and those at odd ones.
struct Block {
  Floats even, odd;

  /// The rest is zeros when there are fewer.
  explicit Block(const BFloat16* from, std::int64_t count = kBlock) {
    constexpr bool kLittle = std::endian::native == std::endian::little;
    Words pairs{};
    if (count >= kBlock)
      std::memcpy(&pairs, from, sizeof pairs);
    else
      std::memcpy(&pairs, from, static_cast<std::size_t>(count) * sizeof(BFloat16));
    const Words low = pairs << 16, high = pairs & 0xFFFF0000u;
    even = as_floats(kLittle ? low : high);
    odd = as_floats(kLittle ? high : low);
  }
};

}  // namespace row_detail

/// How long x is after split_pairs.
constexpr std::int64_t split_size(std::int64_t n) { return (n + 31) / 32 * 32; }

/// Rearranges x for add_dots: of each 32 numbers those at even places come first. Fills up with zeros.
inline void split_pairs(const float* x, std::int64_t n, float* to) {
  using namespace row_detail;
  for (std::int64_t at = 0; at < n; at += kBlock)
    for (std::int64_t i = 0; i < kBlock; ++i) {
      const std::int64_t from = at + i % kPairs * 2 + i / kPairs;
      to[at + i] = from < n ? x[from] : 0.0f;
    }
}

namespace row_detail {

inline float sum_of(const Floats& values) {
  float lanes[kPairs];
  std::memcpy(lanes, &values, sizeof lanes);
  for (std::int64_t width = kPairs / 2; width > 0; width /= 2)
    for (std::int64_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

/// y[r] += the sum of x[i] * w[r * stride + i], for several r at once so that no addition waits for the one before.
template <int Rows> void dots(const float* x, const BFloat16* w, std::int64_t stride, std::int64_t n, float* y) {
  Floats even[Rows] = {}, odd[Rows] = {};
  const auto add = [&](std::int64_t i, std::int64_t count) {
    Floats x_even, x_odd;
    std::memcpy(&x_even, x + i, sizeof x_even);
    std::memcpy(&x_odd, x + i + kPairs, sizeof x_odd);
    for (int r = 0; r < Rows; ++r) {
      const Block block(w + r * stride + i, count);
      even[r] += block.even * x_even;
      odd[r] += block.odd * x_odd;
    }
  };
  std::int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) add(i, kBlock);
  if (i < n) add(i, n - i);
  for (int r = 0; r < Rows; ++r) y[r] += sum_of(even[r] + odd[r]);
}

}  // namespace row_detail

/// y[r] += sum of x[i] * w[r * stride + i] for i below n and r below `rows`; x after split_pairs.
inline void add_dots(const float* x, const BFloat16* w, std::int64_t stride, std::int64_t n, float* y,
                     std::int64_t rows) {
  constexpr int kRows = 4;
  std::int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) row_detail::dots<kRows>(x, w + r * stride, stride, n, y + r);
  for (; r < rows; ++r) row_detail::dots<1>(x, w + r * stride, stride, n, y + r);
}

/// y[j] += sum of x[i] * w[i * stride + j] for j below n.
inline void add_rows(const float* x, std::int64_t count, const BFloat16* w, std::int64_t stride, float* y,
                     std::int64_t n) {
  using namespace row_detail;
  constexpr int kBlocks = 4;
  std::int64_t j = 0;
  const auto add_blocks = [&]<int Blocks>() {
    Floats even[Blocks] = {}, odd[Blocks] = {};
    for (std::int64_t i = 0; i < count; ++i)
      for (int b = 0; b < Blocks; ++b) {
        const Block block(w + i * stride + j + b * kBlock);
        even[b] += block.even * x[i];
        odd[b] += block.odd * x[i];
      }
    for (int b = 0; b < Blocks; ++b)
      for (int lane = 0; lane < kPairs; ++lane) {
        y[j + b * kBlock + 2 * lane] += even[b][lane];
        y[j + b * kBlock + 2 * lane + 1] += odd[b][lane];
      }
    j += Blocks * kBlock;
  };
  while (j + kBlocks * kBlock <= n) add_blocks.template operator()<kBlocks>();
  while (j + kBlock <= n) add_blocks.template operator()<1>();
  for (std::int64_t i = 0; i < count && j < n; ++i)
    for (std::int64_t rest = j; rest < n; ++rest) y[rest] += x[i] * static_cast<float>(w[i * stride + rest]);
}

}  // namespace halftone::cpu
