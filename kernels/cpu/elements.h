// The elementwise loop: formulas see contiguous blocks of float, double or int64, whatever the operands' dtypes and
// strides. A block is about a thousand elements, so that it stays in the first-level cache: widen, compute, round. An
// operand that is already a dense run of the arithmetic type is used in place.
#pragma once

#include <array>
#include <cstring>
#include <span>

#include "core/parallel.h"
#include "core/shape.h"
#include "core/tensor.h"
#include "kernels/cpu/convert.h"

namespace halftone::cpu {

inline constexpr std::int64_t kBlock = 1024;
inline constexpr std::int64_t kParallelGrain = 32 * 1024;  // elements; below twice that the calling thread does it all
inline constexpr int kMaxOperands = 5;                     // inputs and the output

/// The type in which a dtype's arithmetic is done here: float, double, or int64 for integers and bool.
template <class F> decltype(auto) visit_arithmetic(Dtype d, F&& f) {
  if (d == kFloat64) return f(Type<double>{});
  if (is_floating_point(d)) return f(Type<float>{});
  return f(Type<std::int64_t>{});
}

/// One value from storage to arithmetic, and back with the one rounding.
template <class C, class T> C widen_one(T value) {
  if constexpr (is_half_type<T>) {
    return static_cast<C>(static_cast<float>(value));
  } else {
    return static_cast<C>(value);
  }
}
template <class T, class C> T narrow_one(C value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value != C(0);
  } else if constexpr (is_half_type<T>) {
    return T(static_cast<float>(value));
  } else if constexpr (std::is_integral_v<T> && std::is_floating_point_v<C>) {
    return static_cast<T>(static_cast<std::int64_t>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <class C, class T> void load_run(const T* from, std::int64_t stride, std::int64_t n, C* to) {
  if (stride == 1) {
    if constexpr (is_half_type<T> && std::is_same_v<C, float>) {
      widen(from, to, n);
    } else {
      for (std::int64_t i = 0; i < n; ++i) to[i] = widen_one<C>(from[i]);
    }
  } else if (stride == 0) {
    std::fill(to, to + n, widen_one<C>(*from));
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = widen_one<C>(from[i * stride]);
  }
}

template <class C, class T> void store_run(const C* from, std::int64_t stride, std::int64_t n, T* to) {
  if (stride == 1) {
    if constexpr (is_half_type<T> && std::is_same_v<C, float>) {
      narrow(from, to, n);
    } else {
      for (std::int64_t i = 0; i < n; ++i) to[i] = narrow_one<T>(from[i]);
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * stride] = narrow_one<T>(from[i]);
  }
}

/// An operand of the loop: its first element and how to convert runs of it.
template <class C> struct LoopOperand {
  char* data = nullptr;
  std::int64_t element = 0;  // bytes
  bool direct = false;       // its dtype is the arithmetic type
  Dims strides;              // in elements, by the loop's axes
  void (*load)(const void*, std::int64_t stride, std::int64_t n, C*) = nullptr;
  void (*store)(const C*, std::int64_t stride, std::int64_t n, void*) = nullptr;

  explicit LoopOperand(const Tensor& t) : data(static_cast<char*>(t.data_ptr())), element(t.element_size()) {
    direct = t.dtype() == dtype_of<C>;
    visit_all(t.dtype(), [&]<class T>(Type<T>) {
      load = [](const void* from, std::int64_t stride, std::int64_t n, C* to) {
        load_run(static_cast<const T*>(from), stride, n, to);
      };
      store = [](const C* from, std::int64_t stride, std::int64_t n, void* to) {
        store_run(from, stride, n, static_cast<T*>(to));
      };
    });
  }
  LoopOperand() = default;
};

/// `f` is the functor's address, `in` one block per input.
template <class C> using BlockKernel = void (*)(const void* f, std::int64_t n, const C* const* in, C* out);

/// The loop over all operands; the last one is the output.
template <class C> struct ElementLoop {
  Dims sizes;
  std::array<LoopOperand<C>, kMaxOperands> operands;
  int inputs = 0;
  BlockKernel<C> kernel = nullptr;
  const void* functor = nullptr;

  void run_range(std::int64_t first, std::int64_t last) const;
  void run() const {
    std::int64_t n = 1;
    for (const std::int64_t s : sizes) n *= s;
    if (n == 0) return;
    parallel_for(0, n, kParallelGrain, [this](std::int64_t first, std::int64_t last) { run_range(first, last); });
  }

 private:
  void run_block(std::span<const std::int64_t> offsets, std::int64_t n) const;
  void run_gathered(std::int64_t first, std::int64_t n) const;
};

extern template struct ElementLoop<float>;
extern template struct ElementLoop<double>;
extern template struct ElementLoop<std::int64_t>;

/// Calls the kernel over y's elements; inputs broadcast to y's shape. An output may be one of the inputs.
template <class C>
void run_elements(std::span<const Tensor* const> inputs, const Tensor& y, BlockKernel<C> kernel, const void* functor);

extern template void run_elements<float>(std::span<const Tensor* const>, const Tensor&, BlockKernel<float>,
                                         const void*);
extern template void run_elements<double>(std::span<const Tensor* const>, const Tensor&, BlockKernel<double>,
                                          const void*);
extern template void run_elements<std::int64_t>(std::span<const Tensor* const>, const Tensor&,
                                                BlockKernel<std::int64_t>, const void*);

}  // namespace halftone::cpu
