// Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four
// random words are a pure function of a key and a counter. The n-th element of a tensor draws from counter n, so the
// result does not depend on the number of threads, nor on the kind of device.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace halftone {

/// Four words; a plain array, because kernels take and return it by value.
struct PhiloxWords {
  std::uint32_t word[4];
};

namespace detail {

HD constexpr PhiloxWords philox_round(PhiloxWords c, std::uint32_t key0, std::uint32_t key1) {
  const std::uint64_t a = std::uint64_t{0xD2511F53u} * c.word[0];
  const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * c.word[2];
  return {{static_cast<std::uint32_t>(b >> 32) ^ c.word[1] ^ key0, static_cast<std::uint32_t>(b),
           static_cast<std::uint32_t>(a >> 32) ^ c.word[3] ^ key1, static_cast<std::uint32_t>(a)}};
}

}  // namespace detail

/// The words of a counter under a key. `stream` is the counter's upper half: draws of one key that must not overlap,
/// such as those of two calls, take different streams.
HD constexpr PhiloxWords philox(std::uint64_t key, std::uint64_t counter, std::uint64_t stream = 0) {
  PhiloxWords c{{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
                 static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}};
  auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    c = detail::philox_round(c, key0, key1);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

/// A float in [0, 1) of a random word: its upper 24 bits, so that every value is exact.
HD constexpr float unit_float(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace halftone
