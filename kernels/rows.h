// The kinds of reduction and of row arithmetic, as data for the backends.
#pragma once

#include <cstdint>

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

}  // namespace halftone
