// What the pools' kernels have in common. A tensor is planes of cells, and a cell is `inner` neighbouring values: one
// when the tensor is contiguous, all channels when it is channels-last. A thread computes one cell of the result, or
// 16 bytes of one; gradients are gathered, so that no two threads add to one place.
#pragma once

#include <array>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"

namespace halftone::cuda::pools {

/// A range of outputs, or of a kernel's cells.
struct Span {
  int first, last;
  __device__ int size() const { return last > first ? last - first : 0; }
};

// Of numbers that are not negative, as all dividends here are. Those of an adaptive pool may be long.
__device__ inline int divide(int n, const Divider& by) {
  return static_cast<int>(by.quotient(static_cast<std::uint32_t>(n)));
}
__device__ inline int divide(std::int64_t n, const Divider& by) {
  if (n <= std::numeric_limits<std::int32_t>::max()) return divide(static_cast<int>(n), by);
  return static_cast<int>(n / by.divisor);
}
template <class N> __device__ int divide_up(N n, const Divider& by) {
  return divide(static_cast<N>(n + static_cast<N>(by.divisor) - 1), by);
}

/// One axis of a pool.
struct Axis {
  int in = 1, out = 1, kernel = 1, stride = 1, padding = 0, dilation = 1;
  Divider by_in, by_out, by_stride, by_dilation;  // a division by a variable takes some twenty instructions

  __device__ int start(int o) const { return o * stride - padding; }
  /// The kernel's cells that lie in the input when the window stands at output o.
  __device__ Span cells(int o) const {
    const int at = start(o);
    const int first = at < 0 ? divide_up(-at, by_dilation) : 0;
    const int last = at < in ? min(kernel, divide_up(in - at, by_dilation)) : 0;
    return {min(first, last), last};
  }
  /// Outputs whose windows may hold input i; all that do are among them.
  __device__ Span windows(int i) const {
    const int lowest = i + padding - (kernel - 1) * dilation;
    return {lowest > 0 ? divide_up(lowest, by_stride) : 0, min(out, divide(i + padding, by_stride) + 1)};
  }
  /// How many cells an average at output o is over.
  __device__ int divisor(int o, bool count_padding) const {
    if (!count_padding) return cells(o).size();
    return min(kernel, divide_up(in + padding - start(o), by_dilation));
  }
  /// The input cells that output o of an adaptive pool covers.
  __device__ Span adaptive(int o) const {
    const std::int64_t begin = static_cast<std::int64_t>(o) * in;
    return {divide(begin, by_out), divide_up(begin + in, by_out)};
  }
  /// The outputs of an adaptive pool that cover input i.
  __device__ Span adaptive_windows(int i) const {
    const std::int64_t begin = static_cast<std::int64_t>(i) * out;
    return {divide(begin, by_in), divide_up(begin + out, by_in)};
  }
};

/// One- and two-dimensional windows have leading axes of size 1.
struct Pool {
  Axis depth, height, width;
  std::int64_t inner = 1;
  bool count_padding = true;
  int divisor_override = 0;

  __device__ std::int64_t in_cells() const { return std::int64_t{depth.in} * height.in * width.in; }
  __device__ std::int64_t out_cells() const { return std::int64_t{depth.out} * height.out * width.out; }
  __device__ int in_cell(int d, int h, int w) const { return (d * height.in + h) * width.in + w; }
  __device__ int out_cell(int d, int h, int w) const { return (d * height.out + h) * width.out + w; }
  __device__ int divisor(int d, int h, int w) const {
    if (divisor_override != 0) return divisor_override;
    return depth.divisor(d, count_padding) * height.divisor(h, count_padding) * width.divisor(w, count_padding);
  }
};

/// Where a thread's result lies.
struct Place {
  int plane, d, h, w, pack;  // the pack of the cell's values
};

/// Takes a thread's number apart.
struct Places {
  Divider packs, width, height, depth;
  int planes = 0;
  std::uint32_t count = 0;

  __device__ Place at(std::uint32_t n) const {
    const std::uint32_t cell = packs.quotient(n), row = width.quotient(cell), level = height.quotient(row),
                        plane = depth.quotient(level);
    return {static_cast<int>(plane), static_cast<int>(level - plane * depth.divisor),
            static_cast<int>(row - level * height.divisor), static_cast<int>(cell - row * width.divisor),
            static_cast<int>(n - cell * packs.divisor)};
  }
};

/// `Count` neighbouring values, widened.
template <int Count, class T> __device__ void load(const T* from, Compute<T> (&to)[Count]) {
  const auto p = *reinterpret_cast<const Pack<T, Count>*>(from);
#pragma unroll
  for (int i = 0; i < Count; ++i) to[i] = widen<Compute<T>>(p.value[i]);
}
template <int Count, class T> __device__ void store(const Compute<T> (&from)[Count], T* to) {
  Pack<T, Count> p;
#pragma unroll
  for (int i = 0; i < Count; ++i) p.value[i] = narrow<T>(from[i]);
  *reinterpret_cast<Pack<T, Count>*>(to) = p;
}

// ---------------------------------------------------------------- on the host

/// The order of memory that a pool works in: that of its larger tensor.
MemoryFormat order_of(const Tensor& x);
/// x, or a copy of it in the wanted order.
Tensor in_order(CudaBackend& backend, MemoryFormat order, const Tensor& x);

/// Calls f(y), or f with memory in the wanted order that is copied to y.
template <class F> void write_in_order(CudaBackend& backend, MemoryFormat order, Tensor& y, F f) {
  if (y.is_contiguous(order)) return f(y);
  Tensor copy = empty(y.sizes(), y.options().memory_format(order));
  f(copy);
  backend.copy(copy, y);
}

/// The pool in an order of memory, and how many planes there are.
struct PoolAndPlanes {
  Pool pool;
  std::int64_t planes;
};
PoolAndPlanes pool_of(const PoolShape& s, MemoryFormat order);

/// Values of a type that 16 bytes hold, if the cells are that long and the tensors lie so; else 1.
template <class T> int pack_of(const Pool& pool, std::initializer_list<const void*> tensors) {
  constexpr int kCount = 16 / sizeof(T);
  const bool aligned =
      std::ranges::all_of(tensors, [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; });
  return aligned && pool.inner % kCount == 0 ? kCount : 1;
}

enum class Side : std::int8_t { in, out };  // of which tensor a thread computes a value

/// Calls f(places, first plane) for parts of the planes with fewer than 2^31 values each, `pack` values to a thread.
template <class F> void for_each_part(const PoolAndPlanes& p, Side side, int pack, F f) {
  const auto size = [&](int Axis::*which) {
    return std::array<std::int64_t, 3>{p.pool.depth.*which, p.pool.height.*which, p.pool.width.*which};
  };
  const auto in = size(&Axis::in), out = size(&Axis::out), own = side == Side::in ? in : out;
  const std::int64_t plane =
      std::max({in[0] * in[1] * in[2], out[0] * out[1] * out[2], std::int64_t{1}}) * p.pool.inner;
  const std::int64_t most = std::numeric_limits<std::int32_t>::max() / plane;
  check<ValueError>(most > 0, "a pool of images with ", plane, " values, 2^31 or more, is too large");
  for (std::int64_t first = 0; first < p.planes; first += most) {
    Places places;
    places.packs = Divider(static_cast<std::uint32_t>(p.pool.inner / pack));
    places.width = Divider(static_cast<std::uint32_t>(own[2]));
    places.height = Divider(static_cast<std::uint32_t>(own[1]));
    places.depth = Divider(static_cast<std::uint32_t>(own[0]));
    places.planes = static_cast<int>(std::min(most, p.planes - first));
    places.count = static_cast<std::uint32_t>(places.planes * own[0] * own[1] * own[2] * (p.pool.inner / pack));
    f(places, first);
  }
}

inline dim3 blocks_for(const Places& places) { return grid(ceil_div(places.count, kThreads)); }

/// Calls f(Type<T>) with the type of a dtype that can be compared: every one but bool.
template <class F> void visit_ordered(Dtype d, F f) {
  if (is_floating_point(d)) {
    visit_floating(d, f);
  } else {
    visit_integral(d, f);
  }
}

/// Calls f with 1 or 16 bytes' worth of values as a constant.
template <class T, class F> void with_pack(int pack, F f) {
  if (pack == 1) {
    f(std::integral_constant<int, 1>{});
  } else {
    f(std::integral_constant<int, 16 / sizeof(T)>{});
  }
}

}  // namespace halftone::cuda::pools
