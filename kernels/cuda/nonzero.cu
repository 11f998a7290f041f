// The coordinates of the elements that are not zero. Blocks count theirs, one block adds the counts up, and then every
// block knows where its own begin. How many there are decides the result's size, so the host waits for that number:
// the one kernel of this backend that it waits for, and one that no graph can capture.
#include <bit>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/indexing.h"

namespace halftone {

using namespace cuda;

namespace {

constexpr int kSteps = 16;                                  // a block's rounds, one element a thread
constexpr std::int64_t kBlockElements = kSteps * kThreads;  // of a block
constexpr unsigned kWarps = kThreads / kWarp;
constexpr int kScanThreads = 1024;

struct Elements {
  Memory memory;
  Places<1> places;
  std::int64_t count;

  /// Whether there is an element at a row-major position that is not zero.
  __device__ bool is_set(std::int64_t position) const {
    if (position >= count) return false;
    std::int64_t at[1];
    places.find(position, at);
    bool set = false;
    visit_dtype(memory.dtype, [&]<class T>(Type<T>) {
      const T value = static_cast<const T*>(memory.data)[at[0]];
      set = !(static_cast<Compute<T>>(value) == Compute<T>{});  // NaN is not zero
    });
    return set;
  }
};

__global__ void __launch_bounds__(kThreads) count_nonzero(Elements x, std::int64_t* counts) {
  __shared__ int warps[kWarps];
  int count = 0;
  for (int step = 0; step < kSteps; ++step) {
    const bool set = x.is_set(blockIdx.x * kBlockElements + step * kThreads + threadIdx.x);
    count += std::popcount(__ballot_sync(~0u, set));
  }
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = count;
  __syncthreads();
  if (threadIdx.x != 0) return;
  std::int64_t sum = 0;
  for (const int c : warps) sum += c;
  counts[blockIdx.x] = sum;
}

/// counts[i] becomes the sum of those before it, for i from 0 to n; by one block.
__global__ void __launch_bounds__(kScanThreads) sum_counts(std::int64_t* counts, std::int64_t n) {
  __shared__ std::int64_t sums[kScanThreads];
  const std::int64_t share = ceil_div(n, kScanThreads), first = threadIdx.x * share;
  const std::int64_t last = first + share < n ? first + share : n;
  std::int64_t own = 0;
  for (std::int64_t i = first; i < last; ++i) own += counts[i];
  sums[threadIdx.x] = own;
  __syncthreads();
  for (unsigned distance = 1; distance < kScanThreads; distance *= 2) {
    const std::int64_t before = threadIdx.x >= distance ? sums[threadIdx.x - distance] : 0;
    __syncthreads();
    sums[threadIdx.x] += before;
    __syncthreads();
  }
  std::int64_t before = sums[threadIdx.x] - own;
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t count = counts[i];
    counts[i] = before;
    before += count;
  }
  if (threadIdx.x == kScanThreads - 1) counts[n] = sums[threadIdx.x];
}

struct Sizes {
  int rank;
  std::int64_t size[kMaxDims];
};

__global__ void __launch_bounds__(kThreads)
    list_nonzero(Elements x, Sizes sizes, const std::int64_t* starts, std::int64_t* y) {
  __shared__ unsigned warps[kWarps];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  std::int64_t row = starts[blockIdx.x];
#pragma unroll 1
  for (int step = 0; step < kSteps; ++step) {
    std::int64_t position = blockIdx.x * kBlockElements + step * kThreads + threadIdx.x;
    const bool set = x.is_set(position);
    const unsigned all = __ballot_sync(~0u, set);
    if (lane == 0) warps[warp] = static_cast<unsigned>(std::popcount(all));
    __syncthreads();
    unsigned before = static_cast<unsigned>(std::popcount(all & ((1u << lane) - 1))), in_step = 0;
    for (unsigned w = 0; w < kWarps; ++w) {
      if (w < warp) before += warps[w];
      in_step += warps[w];
    }
    if (set) {
      std::int64_t* const coordinates = y + (row + before) * sizes.rank;
      for (int axis = sizes.rank - 1; axis >= 0; --axis) {
        const std::int64_t rest = position / sizes.size[axis];
        coordinates[axis] = position - rest * sizes.size[axis];
        position = rest;
      }
    }
    row += in_step;
    __syncthreads();  // the warps' counts are read
  }
}

}  // namespace

Tensor CudaBackend::nonzero(const Tensor& x) {
  const TensorOptions whole = x.options().dtype(kInt64);
  const std::int64_t n = x.numel(), blocks = ceil_div(n, kBlockElements);
  if (n == 0) return empty({0, x.dim()}, whole);
  const Elements elements{memory_of(x), places(x.sizes(), x.strides()), n};
  const Tensor counts = empty({blocks + 1}, whole);
  std::int64_t* const starts = counts.data_ptr<std::int64_t>();
  launch(gpu(x), &count_nonzero, grid(blocks), kThreads, elements, starts);
  launch(gpu(x), &sum_counts, 1, kScanThreads, starts, blocks);
  const auto found = alias(counts, {}, {}, blocks).item<std::int64_t>();
  Tensor y = empty({found, x.dim()}, whole);
  if (y.numel() == 0) return y;
  Sizes sizes{static_cast<int>(x.dim()), {}};
  std::copy(x.sizes().begin(), x.sizes().end(), sizes.size);
  launch(gpu(x), &list_nonzero, grid(blocks), kThreads, elements, sizes, starts, y.data_ptr<std::int64_t>());
  return y;
}

}  // namespace halftone
