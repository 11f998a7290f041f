// The elementwise loop: formulas see float, double or int64, whatever the operands' dtypes and strides. Dense operands
// of one floating dtype, the hot case, have a kernel of their own. Otherwise a dtype is looked up where an element is
// loaded or stored: all threads take the same branch there, so memory stays the limit, and a formula does not need a
// kernel for each combination of dtypes.
#pragma once

#include <array>
#include <type_traits>

#include "core/shape.h"
#include "kernels/cuda/launch.cuh"

namespace halftone::cuda {

inline constexpr int kMaxOperands = 5;  // inputs and the output

/// One value from storage to arithmetic, and back with the one rounding.
template <class C, class T> __device__ C widen(T value) {
  if constexpr (is_half_type<T>) {
    return static_cast<C>(static_cast<float>(value));
  } else {
    return static_cast<C>(value);
  }
}
/// Inlined whatever the optimization: GCC does not tell the simulator's checks of a store of a call's result.
template <class T, class C> __device__ __forceinline__ T narrow(C value) {
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

/// visit_all() for kernels.
template <class F> __device__ void visit_dtype(Dtype d, F f) {
  switch (d) {
    case kFloat32: return f(Type<float>{});
    case kFloat16: return f(Type<Half>{});
    case kBFloat16: return f(Type<BFloat16>{});
    case kFloat64: return f(Type<double>{});
    case kInt64: return f(Type<std::int64_t>{});
    case kInt32: return f(Type<std::int32_t>{});
    case kInt16: return f(Type<std::int16_t>{});
    case kInt8: return f(Type<std::int8_t>{});
    case kUInt8: return f(Type<std::uint8_t>{});
    default: return f(Type<bool>{});
  }
}

/// Consecutive elements that are loaded and stored at once, 16 bytes an instruction.
template <class T, int Count> struct alignas(sizeof(T) * Count < 16 ? sizeof(T) * Count : 16) Pack { T value[Count]; };

/// Where an operand of type T lies.
template <class T> struct TypedMemory {
  template <class C> static constexpr int kPack = 16 / sizeof(T);  // elements of a load or store
  T* data;

  template <class C> __device__ C load(std::int64_t i) const { return widen<C>(data[i]); }
  template <class C> __device__ void store(std::int64_t i, C value) const { data[i] = narrow<T>(value); }
  template <int Count, class C> __device__ void load_pack(std::int64_t pack, C (&to)[Count]) const {
    const Pack<T, Count> p = reinterpret_cast<const Pack<T, Count>*>(data)[pack];
#pragma unroll
    for (int k = 0; k < Count; ++k) to[k] = widen<C>(p.value[k]);
  }
  template <int Count, class C> __device__ void store_pack(std::int64_t pack, const C (&from)[Count]) const {
    Pack<T, Count> p;
#pragma unroll
    for (int k = 0; k < Count; ++k) p.value[k] = narrow<T>(from[k]);
    reinterpret_cast<Pack<T, Count>*>(data)[pack] = p;
  }
};

/// Where an operand of any dtype lies.
struct Memory {
  template <class C> static constexpr int kPack = 16 / sizeof(C);  // of whatever dtype
  void* data;
  Dtype dtype;

  template <class T> __device__ TypedMemory<T> as() const { return {static_cast<T*>(data)}; }
  template <class C> __device__ C load(std::int64_t i) const {
    C value{};
    visit_dtype(dtype, [&]<class T>(Type<T>) { value = as<T>().template load<C>(i); });
    return value;
  }
  template <class C> __device__ void store(std::int64_t i, C value) const {
    visit_dtype(dtype, [&]<class T>(Type<T>) { as<T>().store(i, value); });
  }
  template <int Count, class C> __device__ void load_pack(std::int64_t pack, C (&to)[Count]) const {
    visit_dtype(dtype, [&]<class T>(Type<T>) { as<T>().template load_pack<Count>(pack, to); });
  }
  template <int Count, class C> __device__ void store_pack(std::int64_t pack, const C (&from)[Count]) const {
    visit_dtype(dtype, [&]<class T>(Type<T>) { as<T>().template store_pack<Count>(pack, from); });
  }
};

inline Memory memory_of(const Tensor& t) { return {t.data_ptr(), t.dtype()}; }

/// Division by a number that is known before the kernel starts: a multiplication and a shift (Granlund and Montgomery,
/// 1994). For dividends below 2^31.
struct Divider {
  std::uint32_t divisor = 1, factor = 1, shift = 0;

  Divider() = default;
  explicit Divider(std::uint32_t by) : divisor(by) {
    while ((std::uint64_t{1} << shift) < by) ++shift;
    const std::uint64_t one = 1;
    factor = static_cast<std::uint32_t>(((one << 32) * ((one << shift) - by)) / by + 1);
  }
  __device__ std::uint32_t quotient(std::uint32_t n) const {
    const auto high = static_cast<std::uint32_t>((static_cast<std::uint64_t>(n) * factor) >> 32);
    return (high + n) >> shift;
  }
};

/// Maps a position of a loop to offsets into its operands, in elements.
template <int Count> struct Offsets {
  int rank = 0;
  Divider sizes[kMaxDims];                  // the innermost axis first
  std::int64_t strides[Count][kMaxDims]{};  // 0 along axes that an operand is broadcast over

  __device__ void find(std::uint32_t position, std::int64_t (&offsets)[Count]) const {
#pragma unroll
    for (int k = 0; k < Count; ++k) offsets[k] = 0;
    for (int axis = 0; axis < rank; ++axis) {
      const std::uint32_t rest = sizes[axis].quotient(position);
      const std::uint32_t at = position - rest * sizes[axis].divisor;
#pragma unroll
      for (int k = 0; k < Count; ++k) offsets[k] += at * strides[k][axis];
      position = rest;
    }
  }
};

/// Elements that a thread of the dense loop computes.
template <class C> inline constexpr int kPerThread = 32 / sizeof(C);

template <class Mem, int Count> struct Operands { Mem memory[Count]; };

/// The elements of a pack, of which the last of all may be short.
template <int Count, class Mem, class C>
__device__ void load_elements(const Mem& x, std::int64_t pack, std::int64_t n, C (&to)[Count]) {
  const std::int64_t first = pack * Count;
  if (first + Count <= n) return x.template load_pack<Count>(pack, to);
#pragma unroll
  for (int i = 0; i < Count; ++i) to[i] = first + i < n ? x.template load<C>(first + i) : C(0);
}
template <int Count, class Mem, class C>
__device__ void store_elements(const Mem& y, std::int64_t pack, std::int64_t n, const C (&from)[Count]) {
  const std::int64_t first = pack * Count;
  if (first + Count <= n) return y.template store_pack<Count>(pack, from);
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (first + i < n) y.store(first + i, from[i]);
  }
}

/// `Op` has kInputs and computes op(in) for C in[kInputs]; the output is the last operand. `single` has a bit for each
/// input of which there is but one element. Where a thread has several packs they lie a block's width apart, so that
/// what a warp loads or stores at once is one run of memory.
template <class C, class Mem, class Op>
__global__ void __launch_bounds__(kThreads)
    dense_elements(Op op, Operands<Mem, Op::kInputs + 1> operands, std::int64_t n, unsigned single) {
  constexpr int kPack = Mem::template kPack<C>, kPacks = kPerThread<C> / kPack, kIn = Op::kInputs;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kPacks * kThreads + threadIdx.x;
  C in[kPacks][kIn > 0 ? kIn : 1][kPack];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
#pragma unroll
    for (int k = 0; k < kIn; ++k) {
      const Mem& x = operands.memory[k];
      if (single >> k & 1u) {
        const C value = x.template load<C>(0);
#pragma unroll
        for (int i = 0; i < kPack; ++i) in[p][k][i] = value;
      } else {
        load_elements(x, first + p * kThreads, n, in[p][k]);
      }
    }
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    C out[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      C one[kIn > 0 ? kIn : 1];
#pragma unroll
      for (int k = 0; k < kIn; ++k) one[k] = in[p][k][i];
      out[i] = op(one);
    }
    store_elements(operands.memory[kIn], first + p * kThreads, n, out);
  }
}

template <class C, class Op>
__global__ void __launch_bounds__(kThreads) strided_elements(Op op, Operands<Memory, Op::kInputs + 1> operands,
                                                             Offsets<Op::kInputs + 1> places, std::uint32_t n) {
  constexpr int kIn = Op::kInputs;
  const std::int64_t position = thread_in_grid();
  if (position >= n) return;
  std::int64_t offsets[kIn + 1];
  places.find(static_cast<std::uint32_t>(position), offsets);
  C in[kIn > 0 ? kIn : 1];
#pragma unroll
  for (int k = 0; k < kIn; ++k) in[k] = operands.memory[k].template load<C>(offsets[k]);
  operands.memory[kIn].store(offsets[kIn], op(in));
}

/// The loop that all operands have in common: axes merged, the innermost of the output last. `tensors` are the inputs,
/// broadcast to the output's shape, and the output.
struct ElementPlan {
  bool dense = false;   // one run of memory for all, or a single element
  unsigned single = 0;  // bits of the inputs with a single element
  Loop loop;
};
ElementPlan plan_elements(const Tensor* const* tensors, int count);

/// Cuts a loop of 2^31 elements or more along its outermost axis, and calls f(loop, offsets of the operands in
/// elements) for each part.
template <class F> void for_each_part(const Loop& loop, std::array<std::int64_t, kMaxOperands> offsets, F f) {
  if (count_elements(loop.sizes) <= std::numeric_limits<std::int32_t>::max()) return f(loop, offsets);
  std::size_t axis = 0;
  while (loop.sizes[axis] == 1) ++axis;
  Loop part = loop;
  for (std::int64_t first = 0, half = (loop.sizes[axis] + 1) / 2; first < loop.sizes[axis]; first += half) {
    part.sizes[axis] = std::min(half, loop.sizes[axis] - first);
    std::array<std::int64_t, kMaxOperands> moved = offsets;
    for (int k = 0; k < loop.operands; ++k) {
      moved[static_cast<std::size_t>(k)] += first * loop.strides[static_cast<std::size_t>(k)][axis];
    }
    for_each_part(part, moved, f);
  }
}

/// Calls `run` with the operands as TypedMemory if all are of one dtype whose arithmetic type is C.
template <class C, int Count, class Run> bool run_typed(const Operands<Memory, Count>& operands, Run run) {
  const Dtype dtype = operands.memory[0].dtype;
  for (const Memory& m : operands.memory) {
    if (m.dtype != dtype) return false;
  }
  const auto as = [&]<class T>(Type<T>) {
    Operands<TypedMemory<T>, Count> typed;
    for (int k = 0; k < Count; ++k) typed.memory[k] = {static_cast<T*>(operands.memory[k].data)};
    run(typed);
    return true;
  };
  if constexpr (std::is_same_v<C, float>) {
    if (dtype == kFloat32) return as(Type<float>{});
    if (dtype == kFloat16) return as(Type<Half>{});
    if (dtype == kBFloat16) return as(Type<BFloat16>{});
  }
  return false;
}

/// y = op(inputs), element by element; inputs broadcast to y's shape. y may be one of the inputs.
template <class C, class Op> void run_elements(const Op& op, std::array<const Tensor*, Op::kInputs> inputs, Tensor& y) {
  constexpr int kCount = Op::kInputs + 1;
  if (y.numel() == 0) return;
  const Tensor* tensors[kCount];
  *std::copy(inputs.begin(), inputs.end(), tensors) = &y;
  Operands<Memory, kCount> operands;
  for (int k = 0; k < kCount; ++k) operands.memory[k] = memory_of(*tensors[k]);

  const ElementPlan plan = plan_elements(tensors, kCount);
  if (plan.dense) {
    const std::int64_t blocks = ceil_div(y.numel(), std::int64_t{kPerThread<C>} * kThreads);
    const auto run = [&]<class Mem>(const Operands<Mem, kCount>& memory) {
      launch(gpu(y), &dense_elements<C, Mem, Op>, grid(blocks), kThreads, op, memory, y.numel(), plan.single);
    };
    if (!run_typed<C>(operands, run)) run(operands);
    return;
  }
  for_each_part(plan.loop, {}, [&](const Loop& loop, const std::array<std::int64_t, kMaxOperands>& moved) {
    Operands<Memory, kCount> part = operands;
    Offsets<kCount> places;
    places.rank = static_cast<int>(loop.sizes.size());
    for (int axis = 0; axis < places.rank; ++axis) {
      const std::size_t from = loop.sizes.size() - 1 - static_cast<std::size_t>(axis);
      places.sizes[axis] = Divider(static_cast<std::uint32_t>(loop.sizes[from]));
      for (int k = 0; k < kCount; ++k) places.strides[k][axis] = loop.strides[static_cast<std::size_t>(k)][from];
    }
    for (int k = 0; k < kCount; ++k) {
      part.memory[k].data = static_cast<char*>(part.memory[k].data) +
                            moved[static_cast<std::size_t>(k)] * element_size(part.memory[k].dtype);
    }
    const std::int64_t n = count_elements(loop.sizes);
    launch(gpu(y), &strided_elements<C, Op>, grid(ceil_div(n, kThreads)), kThreads, op, part, places,
           static_cast<std::uint32_t>(n));
  });
}

/// Calls `run(type)` with the arithmetic type of a dtype: float, double, or int64 for integers and bool where the
/// formula F takes them.
template <bool OnIntegers, class Run> void with_arithmetic(Dtype compute, Run run) {
  if (compute == kFloat64) return run(Type<double>{});
  if (is_floating_point(compute)) return run(Type<float>{});
  if constexpr (OnIntegers) {
    run(Type<std::int64_t>{});
  } else {
    fail<TypeError>("this formula needs a floating dtype, not ", compute);
  }
}

}  // namespace halftone::cuda
