// A number that a user gives beside tensors: kept as double, int64 or bool until an op uses it.
#pragma once

#include <concepts>
#include <cstdint>
#include <ostream>

#include "core/dtype.h"

namespace halftone {

class Scalar {
 public:
  Scalar() : Scalar(std::int64_t{0}) {}
  Scalar(bool value) : kind_(kBool), integer_(value) {}  // NOLINT: 2 is a Scalar
  template <std::integral T> Scalar(T value) : kind_(kInt64), integer_(static_cast<std::int64_t>(value)) {}  // NOLINT
  template <std::floating_point T> Scalar(T value) : kind_(kFloat64), real_(static_cast<double>(value)) {}   // NOLINT
  Scalar(Half value) : Scalar(static_cast<float>(value)) {}                                                  // NOLINT
  Scalar(BFloat16 value) : Scalar(static_cast<float>(value)) {}                                              // NOLINT

  /// float64, int64 or bool.
  Dtype type() const { return kind_; }
  bool isFloatingPoint() const { return kind_ == kFloat64; }
  bool isIntegral(bool include_bool) const { return kind_ == kInt64 || (include_bool && kind_ == kBool); }
  bool isBoolean() const { return kind_ == kBool; }
  double toDouble() const { return to<double>(); }
  float toFloat() const { return to<float>(); }
  std::int64_t toLong() const { return to<std::int64_t>(); }
  int toInt() const { return to<int>(); }
  bool toBool() const { return to<bool>(); }

  template <class T> T to() const {
    if constexpr (is_half_type<T>) {
      return T(to<float>());
    } else {
      return isFloatingPoint() ? static_cast<T>(real_) : static_cast<T>(integer_);
    }
  }
  bool equal(double value) const { return toDouble() == value; }
  Scalar operator-() const { return isFloatingPoint() ? Scalar(-real_) : Scalar(-integer_); }
  friend std::ostream& operator<<(std::ostream& out, const Scalar& s) {
    if (s.isFloatingPoint()) return out << s.real_;
    if (s.isBoolean()) return out << (s.integer_ ? "true" : "false");
    return out << s.integer_;
  }

 private:
  Dtype kind_;
  union {
    double real_;
    std::int64_t integer_;
  };
};

}  // namespace halftone
