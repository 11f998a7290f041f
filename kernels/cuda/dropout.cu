// Dropout. Whether an element is kept is a function of its row-major position (DropoutMask::keeps), so that forward,
// backward and the CPU agree whatever the layout. In a captured graph all of a run's dropouts read the same number of
// replays, and the next run's another.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"

namespace halftone {

using namespace cuda;

namespace {

struct Drop {
  DropoutMask mask;
  double scale;
  const std::uint64_t* replays;

  /// The mask of this run.
  __device__ DropoutMask current() const {
    DropoutMask m = mask;
    if (replays) m.offset += *replays;
    return m;
  }
};

/// Whether each of four consecutive elements is kept.
__device__ void find_kept(const DropoutMask& mask, std::int64_t first, bool (&keep)[4]) {
  if (mask.group == 1) {
    const std::uint32_t limit = mask.limit();
    const PhiloxWords w = philox(mask.seed, static_cast<std::uint64_t>(first) / 4, mask.offset);
#pragma unroll
    for (int i = 0; i < 4; ++i) keep[i] = w.word[i] >= limit;
    return;
  }
  std::int64_t group_end = first;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (first + i == group_end || i == 0) {
      keep[i] = mask.keeps(first + i);
      group_end = ((first + i) / mask.group + 1) * mask.group;
    } else {
      keep[i] = keep[i - 1];
    }
  }
}

/// Contiguous tensors: a thread takes the elements of two counters, which lie a block's width apart.
template <class C>
__global__ void __launch_bounds__(kThreads) drop_dense(Drop drop, Memory x, Memory y, std::int64_t n) {
  constexpr int kPacks = 2;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kPacks * kThreads + threadIdx.x;
  const DropoutMask mask = drop.current();
  const C scale = static_cast<C>(drop.scale);
  C values[kPacks][4];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) load_elements(x, first + p * kThreads, n, values[p]);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const std::int64_t pack = first + p * kThreads;
    if (4 * pack >= n) return;
    bool keep[4];
    find_kept(mask, 4 * pack, keep);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[p][i] = keep[i] ? values[p][i] * scale : C(0);
    store_elements(y, pack, n, values[p]);
  }
}

/// Any strides: memory in y's order, and the third offset is the row-major position.
template <class C>
__global__ void __launch_bounds__(kThreads)
    drop_strided(Drop drop, Memory x, Memory y, Offsets<3> places, std::int64_t position, std::uint32_t n) {
  const std::int64_t i = thread_in_grid();
  if (i >= n) return;
  std::int64_t at[3];
  places.find(static_cast<std::uint32_t>(i), at);
  const bool kept = drop.current().keeps(position + at[2]);
  y.store(at[0], kept ? x.load<C>(at[1]) * static_cast<C>(drop.scale) : C(0));
}

Memory moved_by(const Tensor& t, std::int64_t elements) {
  return {static_cast<char*>(t.data_ptr()) + elements * t.element_size(), t.dtype()};
}

template <class C> void drop_elements(const Drop& drop, const Tensor& x, Tensor& y) {
  Gpu& g = gpu(y);
  const auto bits = reinterpret_cast<std::uintptr_t>(x.data_ptr()) | reinterpret_cast<std::uintptr_t>(y.data_ptr());
  if (x.is_contiguous() && y.is_contiguous() && bits % 16 == 0) {
    return launch(g, &drop_dense<C>, grid(ceil_div(y.numel(), 8 * kThreads)), kThreads, drop, memory_of(x),
                  memory_of(y), y.numel());
  }
  const Loop all = coalesce(y.sizes(), {y.strides(), x.strides(), contiguous_strides(y.sizes())});
  for_each_part(all, {}, [&](const Loop& loop, const std::array<std::int64_t, kMaxOperands>& moved) {
    Offsets<3> places;
    places.rank = static_cast<int>(loop.sizes.size());
    for (int axis = 0; axis < places.rank; ++axis) {
      const std::size_t from = loop.sizes.size() - 1 - static_cast<std::size_t>(axis);
      places.sizes[axis] = Divider(static_cast<std::uint32_t>(loop.sizes[from]));
      for (int k = 0; k < 3; ++k) places.strides[k][axis] = loop.strides[static_cast<std::size_t>(k)][from];
    }
    const std::int64_t n = count_elements(loop.sizes);
    launch(g, &drop_strided<C>, grid(ceil_div(n, kThreads)), kThreads, drop, moved_by(x, moved[1]),
           moved_by(y, moved[0]), places, moved[2], n);
  });
}

}  // namespace

void CudaBackend::dropout(const DropoutMask& mask, const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  if (mask.p >= 1) return fill(y, 0.0);
  const Drop drop{mask, 1 / (1 - mask.p), gpu(y).replays};
  if (x.dtype() == kFloat64) return drop_elements<double>(drop, x, y);
  drop_elements<float>(drop, x, y);
}

}  // namespace halftone
