// Dense blocks of values for a formula, whatever the tensor's dtype and strides: its own memory where that will do,
// else a copy in the first cache that is written back. A loop over them is always the same loop over C.
#pragma once

#include <optional>

#include "core/tensor.h"
#include "kernels/cpu/convert.h"
#include "kernels/indexing.h"

namespace halftone::cpu {

/// Elements of a staged block: a few such blocks stay in the first cache.
inline constexpr std::int64_t kStagedBlock = 1024;

/// One rounding at most, through float for the 16-bit types.
template <class To, class From> To convert_value(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (is_half_type<To>) {
    return To(static_cast<float>(value));
  } else {
    return static_cast<To>(static_cast<Compute<From>>(value));
  }
}

/// to[i] = from[i * step].
template <class From, class To> void convert_values(const From* from, std::int64_t step, To* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = convert_value<To>(from[i * step]);
}

/// from[i] goes to to[i * step].
template <class From, class To> void spread_values(const From* from, To* to, std::int64_t step, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i * step] = convert_value<To>(from[i]);
}

template <class C> class Staged {
 public:
  /// `any_order` takes a dense tensor's elements as they lie in memory; else they come in row-major order.
  Staged(const Tensor& t, bool any_order) : data_(t.data_ptr()), dtype_(t.dtype()) {
    if (any_order || t.impl()->contiguous) return;
    layout_ = places(t.sizes(), t.strides());
    if (layout_->in_line(0)) layout_.reset();
  }

  /// The elements [first, first + count), at most kStagedBlock of them; valid until the next open().
  C* open(std::int64_t first, std::int64_t count) {
    first_ = first;
    count_ = count;
    if (direct()) return static_cast<C*>(data_) + first;
    visit_floating(dtype_, [&]<class T>(Type<T>) { load(static_cast<const T*>(data_)); });
    return block_;
  }
  /// As open(), for elements that will all be written.
  C* open_to_write(std::int64_t first, std::int64_t count) {
    first_ = first;
    count_ = count;
    return direct() ? static_cast<C*>(data_) + first : block_;
  }
  /// Writes what open() gave back to the tensor.
  void write() {
    if (direct()) return;
    visit_floating(dtype_, [&]<class T>(Type<T>) { store(static_cast<T*>(data_)); });
  }

 private:
  bool direct() const { return dtype_ == dtype_of<C> && !layout_; }

  template <class T> void load(const T* data) {
    if (layout_) {
      C* to = block_;
      for_each_run(*layout_, first_, first_ + count_, [&](const std::int64_t(&at)[1], std::int64_t n) {
        convert_values(data + at[0], layout_->step(0), to, n);
        to += n;
      });
    } else if constexpr (is_half_type<T> && std::is_same_v<C, float>) {
      widen(data + first_, block_, count_);
    } else {
      convert_values(data + first_, 1, block_, count_);
    }
  }

  template <class T> void store(T* data) {
    if (layout_) {
      const C* from = block_;
      for_each_run(*layout_, first_, first_ + count_, [&](const std::int64_t(&at)[1], std::int64_t n) {
        spread_values(from, data + at[0], layout_->step(0), n);
        from += n;
      });
    } else if constexpr (is_half_type<T> && std::is_same_v<C, float>) {
      narrow(block_, data + first_, count_);
    } else {
      spread_values(block_, data + first_, 1, count_);
    }
  }

  void* data_;
  Dtype dtype_;
  std::optional<Places<1>> layout_;  // none: the elements lie in line
  std::int64_t first_ = 0, count_ = 0;
  alignas(64) C block_[kStagedBlock];
};

}  // namespace halftone::cpu
