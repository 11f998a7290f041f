// Kinds of random fill, as data for the backends.
#pragma once

#include <cstdint>

#include "core/philox.h"

namespace halftone {

enum class Distribution : std::int8_t { uniform, normal, bernoulli, exponential, integer };

/// uniform: [a, b). normal: mean a, deviation b. bernoulli: 1 with probability a. exponential: rate a.
/// integer: [low, high).
struct RandomFill {
  Distribution kind = Distribution::uniform;
  double a = 0;
  double b = 1;
  std::int64_t low = 0;
  std::int64_t high = 1;
};

/// Which elements a dropout keeps: a pure function of (seed, offset, position), so that backward draws it anew
/// instead of keeping a mask.
struct DropoutMask {
  double p = 0.5;  // the probability of being zeroed; what is kept is scaled by 1 / (1 - p)
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
  std::int64_t group = 1;  // consecutive elements that share one decision: H * W for channel dropout

  /// A random word below it means zero; p = 1 zeroes whatever the word.
  HD std::uint32_t limit() const { return p < 1 ? static_cast<std::uint32_t>(p * 0x1p32) : ~0u; }
  /// Whether the element at this row-major position is kept. A counter's four words serve four decisions.
  HD bool keeps(std::int64_t position) const {
    const auto decision = static_cast<std::uint64_t>(position / group);
    return p < 1 && philox(seed, decision / 4, offset).word[decision % 4] >= limit();
  }
};

}  // namespace halftone
