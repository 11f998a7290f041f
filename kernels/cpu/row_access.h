// How row algorithms reach tensors of any dtype and layout: rows are read into float, double or int64 and written back
// rounded, in place where memory already has that form. The algorithms are compiled for these types alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "core/shape.h"
#include "core/tensor.h"
#include "kernels/cpu/elements.h"

namespace halftone::cpu {

/// Elements whose arithmetic is worth waking another thread for.
inline constexpr std::int64_t kGrain = 16384;

/// How many rows of `width` elements make a grain.
inline std::int64_t rows_per_grain(std::int64_t width) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(width, 1));
}

/// Calls `f` with the type in which the arithmetic on floating tensors is done: double if one of them is.
template <class F> decltype(auto) visit_real(std::initializer_list<Dtype> dtypes, F f) {
  return std::find(dtypes.begin(), dtypes.end(), kFloat64) != dtypes.end() ? f(Type<double>{}) : f(Type<float>{});
}

/// A tensor's elements, to be read as X.
template <class X> class Source {
 public:
  explicit Source(const Tensor& x)
      : base_(x.const_data_ptr()),
        same_(x.dtype() == dtype_of<X>),
        read_(visit_all(x.dtype(), []<class T>(Type<T>) { return &Source::read_as<T>; })) {}

  /// `n` elements from `offset` on, `stride` apart: where they are, if they are so already, or in the buffer.
  const X* row(std::int64_t offset, std::int64_t stride, std::int64_t n, X* buffer) const {
    if (same_ && (stride == 1 || n == 1)) return static_cast<const X*>(base_) + offset;
    read_(base_, offset, stride, n, buffer);
    return buffer;
  }
  void copy(std::int64_t offset, std::int64_t stride, std::int64_t n, X* to) const {
    read_(base_, offset, stride, n, to);
  }
  X at(std::int64_t offset) const {
    X value;
    read_(base_, offset, 1, 1, &value);
    return value;
  }

 private:
  template <class T>
  static void read_as(const void* base, std::int64_t offset, std::int64_t stride, std::int64_t n, X* to) {
    load_run(static_cast<const T*>(base) + offset, stride, n, to);
  }

  const void* base_;
  bool same_;
  void (*read_)(const void*, std::int64_t, std::int64_t, std::int64_t, X*);
};

/// A tensor's elements, to be written from X.
template <class X> class Sink {
 public:
  explicit Sink(const Tensor& y)
      : base_(y.data_ptr()),
        same_(y.dtype() == dtype_of<X>),
        write_(visit_all(y.dtype(), []<class T>(Type<T>) { return &Sink::write_as<T>; })) {}

  /// Memory of X itself.
  explicit Sink(X* data) : base_(data), same_(true), write_(&Sink::write_as<X>) {}

  /// Where a row may be composed before it is given to `put`: in the tensor, if it has room for X there, or the buffer.
  X* row(std::int64_t offset, std::int64_t stride, X* buffer) const {
    return same_ && stride == 1 ? static_cast<X*>(base_) + offset : buffer;
  }
  void put(std::int64_t offset, std::int64_t stride, std::int64_t n, const X* values) const {
    if (same_ && values == static_cast<X*>(base_) + offset) return;
    write_(base_, offset, stride, n, values);
  }
  void put(std::int64_t offset, X value) const { write_(base_, offset, 1, 1, &value); }

 private:
  template <class T>
  static void write_as(void* base, std::int64_t offset, std::int64_t stride, std::int64_t n, const X* from) {
    store_run(from, stride, n, static_cast<T*>(base) + offset);
  }

  void* base_;
  bool same_;
  void (*write_)(void*, std::int64_t, std::int64_t, std::int64_t, const X*);
};

/// Uninitialised memory for the length of a scope: on the stack when it is little.
template <class T, std::size_t Near = 1024> class Buffer {
 public:
  explicit Buffer(std::int64_t n) {
    if (n > static_cast<std::int64_t>(Near)) far_ = std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(n));
  }
  T* data() { return far_ ? far_.get() : near_.data(); }

 private:
  std::array<T, Near> near_;  // NOLINT: not initialised on purpose
  std::unique_ptr<T[]> far_;
};

/// Walks over the positions of a loop in row-major order, from any of them, with the offset of every operand.
class Walk {
 public:
  Walk(const Loop& loop, std::int64_t start) : loop_(loop), index_(loop.sizes.size(), 0) {
    for (std::size_t axis = loop.sizes.size(); axis-- > 0;) {
      index_[axis] = start % loop.sizes[axis];
      start /= loop.sizes[axis];
      move(axis, index_[axis]);
    }
  }
  std::int64_t operator[](std::size_t operand) const { return offsets_[operand]; }
  /// The place along an axis.
  std::int64_t index(std::size_t axis) const { return index_[axis]; }

  void next() {
    for (std::size_t axis = index_.size(); axis-- > 0;) {
      move(axis, 1);
      if (++index_[axis] < loop_.sizes[axis]) return;
      move(axis, -index_[axis]);
      index_[axis] = 0;
    }
  }

 private:
  void move(std::size_t axis, std::int64_t steps) {
    for (int k = 0; k < loop_.operands; ++k) {
      const auto operand = static_cast<std::size_t>(k);
      offsets_[operand] += steps * loop_.strides[operand][axis];
    }
  }

  const Loop& loop_;
  Dims index_;
  std::array<std::int64_t, 4> offsets_{};
};

/// Every element of a tensor in row-major order, as X.
template <class X> void read_all(const Tensor& x, X* to) {
  if (x.numel() == 0) return;
  const Source<X> from(x);
  if (x.is_contiguous()) return from.copy(0, 1, x.numel(), to);
  const Loop loop{dims(x.sizes()), {dims(x.strides())}, 1};
  Walk place(loop, 0);
  for (std::int64_t i = 0; i < x.numel(); ++i, place.next()) to[i] = from.at(place[0]);
}
/// The same of a weight, or `otherwise` n times if there is none.
template <class X> std::vector<X> weight_or(const Tensor& weight, std::int64_t n, X otherwise) {
  std::vector<X> values(static_cast<std::size_t>(n), otherwise);
  if (weight.defined()) read_all(weight, values.data());
  return values;
}

/// `values` without the entry of one axis.
inline Dims without(IntArrayRef values, std::int64_t axis) {
  Dims rest;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (static_cast<std::int64_t>(i) != axis) rest.push_back(values[i]);
  }
  return rest;
}

/// Size and stride of an axis; a tensor without axes is a row of one.
inline std::int64_t length_along(const Tensor& x, std::int64_t axis) { return x.dim() == 0 ? 1 : x.size(axis); }
inline std::int64_t stride_along(const Tensor& x, std::int64_t axis) { return x.dim() == 0 ? 1 : x.stride(axis); }

}  // namespace halftone::cpu
