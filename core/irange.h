// irange: the integers of a range for a loop.
#pragma once

#include <cstdint>
#include <iterator>
#include <type_traits>

namespace halftone {

template <class T> class IntegerRange {
 public:
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using pointer = const T*;
    using reference = T;

    explicit Iterator(T value) : value_(value) {}
    T operator*() const { return value_; }
    Iterator& operator++() {
      ++value_;
      return *this;
    }
    Iterator operator++(int) { return Iterator(value_++); }
    bool operator==(const Iterator&) const = default;

   private:
    T value_;
  };

  IntegerRange(T begin, T end) : begin_(begin), end_(end < begin ? begin : end) {}
  Iterator begin() const { return begin_; }
  Iterator end() const { return end_; }

 private:
  Iterator begin_;
  Iterator end_;
};

/// The integers of [0, end); none when `end` is negative.
template <class T> IntegerRange<T> irange(T end) { return {T{0}, end}; }

/// The integers of [begin, end); none when `end` is below `begin`. They have the type of `end`.
template <class Begin, class End> IntegerRange<End> irange(Begin begin, End end) {
  return {static_cast<End>(begin), end};
}

}  // namespace halftone
