// ExpandingArray: D values that may be given as one, as a kernel size of 3 means [3, 3].
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <ostream>
#include <vector>

#include "core/array_ref.h"

namespace halftone {

template <std::size_t D, class T = std::int64_t> class ExpandingArray {
 public:
  ExpandingArray(std::initializer_list<T> list) : ExpandingArray(list.begin(), list.size()) {}    // NOLINT
  ExpandingArray(const std::vector<T>& values) : ExpandingArray(values.data(), values.size()) {}  // NOLINT
  ExpandingArray(ArrayRef<T> values) : ExpandingArray(values.data(), values.size()) {}            // NOLINT
  ExpandingArray(const std::array<T, D>& values) : values_(values) {}                             // NOLINT
  ExpandingArray(T value) { values_.fill(value); }  // NOLINT: 3 stands for [3, 3]

  std::array<T, D>& operator*() { return values_; }
  const std::array<T, D>& operator*() const { return values_; }
  std::array<T, D>* operator->() { return &values_; }
  const std::array<T, D>* operator->() const { return &values_; }
  operator ArrayRef<T>() const { return values_; }  // NOLINT
  static constexpr std::size_t size() { return D; }
  bool operator==(const ExpandingArray&) const = default;

 private:
  ExpandingArray(const T* values, std::size_t count) {
    check<ValueError>(count == D, "Expected ", D, " values, but instead got ", count);
    std::copy(values, values + D, values_.begin());
  }

  std::array<T, D> values_;
};

/// Each of the values may be left to be found out: AdaptiveAvgPool2d keeps such a size of its input.
template <std::size_t D, class T = std::int64_t>
class ExpandingArrayWithOptionalElem : public ExpandingArray<D, std::optional<T>> {
 public:
  using ExpandingArray<D, std::optional<T>>::ExpandingArray;
  ExpandingArrayWithOptionalElem(std::initializer_list<T> list)  // NOLINT
      : ExpandingArrayWithOptionalElem(std::vector<std::optional<T>>(list.begin(), list.end())) {}
  ExpandingArrayWithOptionalElem(T value)  // NOLINT
      : ExpandingArray<D, std::optional<T>>(std::optional<T>(value)) {}
};

/// Prints a lone value bare, several as a list.
template <std::size_t D, class T> std::ostream& operator<<(std::ostream& out, const ExpandingArray<D, T>& array) {
  if constexpr (D == 1) {
    return out << array->front();
  } else {
    return out << ArrayRef<T>(array);
  }
}

template <std::size_t D, class T>
std::ostream& operator<<(std::ostream& out, const ExpandingArrayWithOptionalElem<D, T>& array) {
  const auto put = [&](std::optional<T> value) { value ? out << *value : out << "None"; };
  if constexpr (D == 1) {
    put(array->front());
    return out;
  }
  out << '[';
  for (std::size_t i = 0; i < D; ++i) {
    out << (i ? ", " : "");
    put((*array)[i]);
  }
  return out << ']';
}

}  // namespace halftone
