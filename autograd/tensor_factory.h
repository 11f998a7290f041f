// tensor(...) of values: a number, braced lists nested as deep as the tensor has dimensions, a vector or an ArrayRef.
// Integers give int64, floating values of any width the default dtype, bools bool, the narrow integers and the 16-bit
// floats their own dtype; the options may ask for another.
#pragma once

#include <memory>
#include <vector>

#include "core/tensor.h"

namespace halftone {

/// A number, or a list of lists of ... numbers, as the braces in tensor({{1, 2}, {3, 4}}).
class NestedList {
 public:
  template <class T> static constexpr bool is_number = std::is_arithmetic_v<T> || is_half_type<T>;

  NestedList() : sizes_{0} {}
  template <class T>
  requires is_number<T> NestedList(T number)  // NOLINT: an element of a list
      : dtype_(dtype_for<T>()), values_{Scalar(number)} {}
  NestedList(std::initializer_list<NestedList> parts);  // NOLINT

  const Dims& sizes() const { return sizes_; }
  /// float64 stands for the default dtype; Undefined when there is no number.
  Dtype dtype() const { return dtype_; }
  const std::vector<Scalar>& values() const { return values_; }

  /// The dtype of a list of T, as above.
  template <class T> static constexpr Dtype dtype_for() {
    if constexpr (std::is_same_v<T, bool>) return kBool;
    if constexpr (is_half_type<T>) return dtype_of<T>;
    if constexpr (std::is_floating_point_v<T>) return kFloat64;
    if constexpr (sizeof(T) == 1) return std::is_signed_v<T> ? kInt8 : kUInt8;
    return sizeof(T) == 2 && std::is_signed_v<T> ? kInt16 : kInt64;
  }

 private:
  Dims sizes_;
  Dtype dtype_ = Dtype::Undefined;
  std::vector<Scalar> values_;
};

Tensor tensor(const NestedList& data, const TensorOptions& options = {});

namespace tensor_factory {
/// `data`, whose dtype stands for a list's, as what the options ask for: always a copy.
Tensor copy_of_list(const Tensor& data, const TensorOptions& options);
}  // namespace tensor_factory

template <class T>
requires NestedList::is_number<T> Tensor tensor(ArrayRef<T> data, const TensorOptions& options = {}) {
  using Stored = std::conditional_t<std::is_floating_point_v<T> || is_half_type<T> || std::is_same_v<T, bool>, T,
                                    std::conditional_t<NestedList::dtype_for<T>() == kInt64, std::int64_t, T>>;
  const auto copy = std::make_unique<Stored[]>(data.size());
  std::copy(data.begin(), data.end(), copy.get());
  const Dtype dtype = std::is_same_v<Stored, float> ? kFloat32 : NestedList::dtype_for<T>();
  return tensor_factory::copy_of_list(from_blob(copy.get(), static_cast<std::int64_t>(data.size()), dtype), options);
}

template <class T>
requires NestedList::is_number<T> Tensor tensor(const std::vector<T>& data, const TensorOptions& options = {}) {
  if constexpr (std::is_same_v<T, bool>) {
    const auto copy = std::make_unique<bool[]>(data.size());
    std::copy(data.begin(), data.end(), copy.get());
    return tensor(ArrayRef<bool>(copy.get(), data.size()), options);
  } else {
    return tensor(ArrayRef<T>(data), options);
  }
}

}  // namespace halftone
