// A view of consecutive values, and an inline vector for shapes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <vector>

#include "core/error.h"

namespace halftone {

/// A tensor has at most this many dimensions; shapes then fit a handle and a kernel's argument without the heap.
inline constexpr int kMaxDims = 8;

/// A shape or a list of strides, stored inline.
class Dims {
 public:
  using value_type = std::int64_t;
  Dims() = default;
  Dims(std::size_t count, std::int64_t value) {
    resize(count);
    std::fill(begin(), end(), value);
  }
  Dims(std::initializer_list<std::int64_t> values) : Dims(values.begin(), values.end()) {}
  template <class Iterator> Dims(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(static_cast<std::int64_t>(*first));
  }

  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  std::int64_t* data() { return values_.data(); }
  const std::int64_t* data() const { return values_.data(); }
  std::int64_t* begin() { return values_.data(); }
  std::int64_t* end() { return values_.data() + count_; }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + count_; }
  std::int64_t& operator[](std::size_t i) { return values_[i]; }
  std::int64_t operator[](std::size_t i) const { return values_[i]; }
  std::int64_t& back() { return values_[count_ - 1]; }
  std::int64_t back() const { return values_[count_ - 1]; }

  void resize(std::size_t count) {
    check<ValueError>(count <= kMaxDims, "a tensor has at most ", kMaxDims, " dimensions, not ", count);
    for (std::size_t i = count_; i < count; ++i) values_[i] = 0;
    count_ = static_cast<std::uint8_t>(count);
  }
  void push_back(std::int64_t value) {
    resize(std::size_t{count_} + 1);
    back() = value;
  }
  void insert(std::size_t at, std::int64_t value) {
    push_back(value);
    std::rotate(begin() + at, end() - 1, end());
  }
  void erase(std::size_t at) {
    std::copy(begin() + at + 1, end(), begin() + at);
    --count_;
  }
  bool operator==(const Dims& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

 private:
  std::array<std::int64_t, kMaxDims> values_{};
  std::uint8_t count_ = 0;
};

/// A view of consecutive values that it does not own: take it as a parameter, do not keep it.
template <class T> class ArrayRef {
 public:
  using value_type = T;
  constexpr ArrayRef() = default;
  constexpr ArrayRef(const T& one) : data_(&one), size_(1) {}  // NOLINT(google-explicit-constructor): zeros(3)
  constexpr ArrayRef(const T* data, std::size_t size) : data_(data), size_(size) {}
  constexpr ArrayRef(const T* first, const T* last) : data_(first), size_(static_cast<std::size_t>(last - first)) {}
  ArrayRef(const std::vector<T>& values) : data_(values.data()), size_(values.size()) {}  // NOLINT
  template <std::size_t N>
  constexpr ArrayRef(const std::array<T, N>& values) : data_(values.data()), size_(N) {}  // NOLINT
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winit-list-lifetime"
  constexpr ArrayRef(const std::initializer_list<T>& values)  // NOLINT: a parameter outlives its call
      : data_(values.size() ? values.begin() : nullptr), size_(values.size()) {}
#pragma GCC diagnostic pop
  ArrayRef(const Dims& dims)  // NOLINT
      requires std::is_same_v<T, std::int64_t> : data_(dims.data()),
                                                 size_(dims.size()) {}

  constexpr const T* data() const { return data_; }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr const T* begin() const { return data_; }
  constexpr const T* end() const { return data_ + size_; }
  constexpr const T& operator[](std::size_t i) const { return data_[i]; }
  constexpr const T& front() const { return data_[0]; }
  constexpr const T& back() const { return data_[size_ - 1]; }
  const T& at(std::size_t i) const {
    check<IndexError>(i < size_, "ArrayRef: index ", i, " is out of range for ", size_, " elements");
    return data_[i];
  }
  ArrayRef slice(std::size_t first, std::size_t count) const {
    check<IndexError>(first + count <= size_, "ArrayRef: slice of ", count, " from ", first, " of ", size_);
    return {data_ + first, count};
  }
  ArrayRef slice(std::size_t first) const { return slice(first, size_ - first); }
  bool equals(ArrayRef other) const { return std::equal(begin(), end(), other.begin(), other.end()); }
  std::vector<T> vec() const { return {begin(), end()}; }

 private:
  const T* data_ = nullptr;
  std::size_t size_ = 0;
};

template <class T> bool operator==(ArrayRef<T> a, ArrayRef<T> b) { return a.equals(b); }
template <class T> bool operator==(ArrayRef<T> a, const std::vector<T>& b) { return a.equals(b); }
inline bool operator==(ArrayRef<std::int64_t> a, const Dims& b) { return a.equals(b); }

template <class T> std::ostream& operator<<(std::ostream& out, ArrayRef<T> values) {
  out << '[';
  for (std::size_t i = 0; i < values.size(); ++i) out << (i ? ", " : "") << values[i];
  return out << ']';
}
inline std::ostream& operator<<(std::ostream& out, const Dims& dims) { return out << ArrayRef<std::int64_t>(dims); }

using IntArrayRef = ArrayRef<std::int64_t>;

inline Dims dims(IntArrayRef values) { return Dims(values.begin(), values.end()); }

}  // namespace halftone
