// How kernels are started, and what every kernel may use. Kernels are launched through launch() alone: it selects the
// device, queues on its stream and checks the launch. Shared memory is static, so that the simulated GPU can give each
// block its own.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "core/cuda/gpu.h"
#include "core/tensor.h"

namespace halftone::cuda {

inline constexpr int kWarp = 32;
/// Threads of a block, unless a kernel has reasons for another number: eight warps hide latency well, and leave each
/// thread enough registers.
inline constexpr int kThreads = 256;
inline constexpr std::int64_t kMaxBlocks = std::numeric_limits<int>::max();

constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

/// Queues a kernel on the device's stream; an empty grid is no launch.
template <class... Params, class... Args>
void launch(Gpu& g, void (*kernel)(Params...), dim3 blocks, dim3 threads, const Args&... args) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  check_capture(g);
  use(g.device);
  // By address: an argument that has its parameter's type is copied by the launch alone. Lists take 32 KB.
  const auto start = [&](const Params&... params) {
    void* addresses[] = {const_cast<void*>(static_cast<const void*>(&params))...};
    return cudaLaunchKernel(kernel, blocks, threads, addresses, 0, g.stream);
  };
  check(start(static_cast<const Params&>(args)...));
}

/// As many blocks as `n` pieces of work take at one piece a block.
inline dim3 grid(std::int64_t n) {
  check(n <= kMaxBlocks, "a CUDA kernel cannot have ", n, " blocks, only ", kMaxBlocks);
  return dim3(static_cast<unsigned>(n));
}

/// Blocks for a loop in which a thread takes every (blocks * threads)-th piece of `n`: as many as the device runs at
/// once, so that what a block sets up or reduces is done no more often than needed.
inline dim3 resident_grid(const Gpu& g, std::int64_t n, int threads = kThreads) {
  return grid(
      std::min<std::int64_t>(ceil_div(n, threads), static_cast<std::int64_t>(g.multiprocessors) * (2048 / threads)));
}

/// This thread's place among all of a one-dimensional grid.
__device__ inline std::int64_t thread_in_grid() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t threads_in_grid() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

/// Tells the host of an index out of range: the next call that waits for the device throws IndexError. The kernel goes
/// on without the element, so that no memory is touched that is not its own and the device stays usable.
__device__ inline void report(BadIndex* bad, const char* op, std::int64_t index, std::int64_t size) {
  if (atomicCAS(&bad->state, unsigned{BadIndex::none}, unsigned{BadIndex::claimed}) != BadIndex::none) return;
  bad->op = op;
  bad->index = index;
  bad->size = size;
  __threadfence_system();  // the host may look at any time, and believes what is told alone
  *static_cast<volatile unsigned*>(&bad->state) = BadIndex::told;
}

}  // namespace halftone::cuda
