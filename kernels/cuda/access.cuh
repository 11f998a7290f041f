// How kernels of rows reach elements: by dtype, by position in a loop of any length, along an axis, in another lane.
#pragma once

#include <cstring>

#include "kernels/cuda/elements.cuh"

namespace halftone::cuda {

/// visit_all() for the dtypes whose arithmetic is done in C.
template <class C, class F> __device__ void visit_as(Dtype d, F f) {
  if constexpr (std::is_integral_v<C>) {
    switch (d) {
      case kInt64: return f(Type<std::int64_t>{});
      case kInt32: return f(Type<std::int32_t>{});
      case kInt16: return f(Type<std::int16_t>{});
      case kInt8: return f(Type<std::int8_t>{});
      case kUInt8: return f(Type<std::uint8_t>{});
      default: return f(Type<bool>{});
    }
  } else {
    if constexpr (std::is_same_v<C, double>) {
      if (d == kFloat64) return f(Type<double>{});
    }
    switch (d) {
      case kFloat16: return f(Type<Half>{});
      case kBFloat16: return f(Type<BFloat16>{});
      default: return f(Type<float>{});
    }
  }
}

/// The value of the lane whose number differs in the bits of `lanes`. All lanes of the warp take part.
template <class A> __device__ A shuffle_xor(const A& value, int lanes) {
  static_assert(sizeof(A) % sizeof(unsigned) == 0 && std::is_trivially_copyable_v<A>);
  constexpr int kWords = sizeof(A) / sizeof(unsigned);
  unsigned words[kWords];
  memcpy(words, &value, sizeof(A));
#pragma unroll
  for (int i = 0; i < kWords; ++i) words[i] = __shfl_xor_sync(0xffffffffu, words[i], lanes);
  A other;
  memcpy(&other, words, sizeof(A));
  return other;
}

/// Elements along one axis, or `otherwise` for each if there are none.
struct Line {
  Memory memory{nullptr, kFloat32};
  std::int64_t stride = 1;
  float otherwise = 0;

  template <class C> __device__ C load(std::int64_t i) const {
    C value = static_cast<C>(otherwise);
    if (memory.data == nullptr) return value;
    visit_as<C>(memory.dtype,
                [&]<class T>(Type<T>) { value = widen<C>(static_cast<const T*>(memory.data)[i * stride]); });
    return value;
  }
  /// Nothing, if there are none.
  template <class C> __device__ void store(std::int64_t i, C value) const {
    if (memory.data == nullptr) return;
    visit_as<double>(memory.dtype,
                     [&]<class T>(Type<T>) { static_cast<T*>(memory.data)[i * stride] = narrow<T>(value); });
  }
};
inline Line line_of(const Tensor& t, float otherwise = 0) {
  if (!t.defined()) return {{nullptr, kFloat32}, 1, otherwise};
  return {memory_of(t), t.dim() == 0 ? 1 : t.stride(-1), otherwise};
}

/// Memory of a block for `Count` values whose type may have a constructor.
template <class T, int Count> struct alignas(16) Slots {
  unsigned char bytes[sizeof(T) * Count];
  __device__ T& operator[](int i) { return reinterpret_cast<T*>(bytes)[i]; }
};

/// Maps a position of a loop, of any length, to offsets into its operands.
template <int Count> struct Spots {
  int rank = 1;
  bool narrow = true;  // all positions are below 2^31
  Divider dividers[kMaxDims];
  std::int64_t sizes[kMaxDims]{};  // the innermost axis first
  std::int64_t strides[Count][kMaxDims]{};

  Spots() = default;
  Spots(const Loop& loop, const std::array<std::size_t, Count>& operands)
      : rank(static_cast<int>(loop.sizes.size())),
        narrow(count_elements(loop.sizes) <= std::numeric_limits<std::int32_t>::max()) {
    for (int axis = 0; axis < rank; ++axis) {
      const std::size_t from = loop.sizes.size() - 1 - static_cast<std::size_t>(axis);
      sizes[axis] = loop.sizes[from];
      if (narrow && sizes[axis] > 0) dividers[axis] = Divider(static_cast<std::uint32_t>(sizes[axis]));
      for (std::size_t k = 0; k < Count; ++k) strides[k][axis] = loop.strides[operands[k]][from];
    }
  }
  __device__ void find(std::int64_t position, std::int64_t (&offsets)[Count]) const {
#pragma unroll
    for (int k = 0; k < Count; ++k) offsets[k] = 0;
    for (int axis = 0; axis + 1 < rank; ++axis) {
      const std::int64_t rest = quotient(axis, position);
      const std::int64_t at = position - rest * sizes[axis];
#pragma unroll
      for (int k = 0; k < Count; ++k) offsets[k] += at * strides[k][axis];
      position = rest;
    }
#pragma unroll
    for (int k = 0; k < Count; ++k) offsets[k] += position * strides[k][rank - 1];
  }
  /// Of one operand.
  __device__ std::int64_t offset(int operand, std::int64_t position) const {
    std::int64_t offset = 0;
    for (int axis = 0; axis + 1 < rank; ++axis) {
      const std::int64_t rest = quotient(axis, position);
      offset += (position - rest * sizes[axis]) * strides[operand][axis];
      position = rest;
    }
    return offset + position * strides[operand][rank - 1];
  }

 private:
  __device__ std::int64_t quotient(int axis, std::int64_t position) const {
    return narrow ? dividers[axis].quotient(static_cast<std::uint32_t>(position)) : position / sizes[axis];
  }
};

}  // namespace halftone::cuda
