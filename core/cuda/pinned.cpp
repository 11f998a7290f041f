#include "core/cuda/pinned.h"

#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include "core/cuda/gpu.h"

namespace halftone::cuda::pinned {
namespace {

constexpr std::size_t kSmallest = 512;

/// What a device had queued when a block was given back.
struct Mark {
  cudaEvent_t event;
};

struct Idle {
  void* block;
  std::vector<Mark> marks;
};

struct Cache {
  std::mutex mutex;
  std::map<const std::byte*, std::size_t> blocks;  // all there are, by address
  std::map<std::size_t, std::vector<Idle>> idle;   // by size
  std::vector<cudaEvent_t> events;                 // to be used again
};

// Never destroyed: tensors in globals are given back after main has ended.
Cache& cache() {
  static Cache& only = *new Cache;
  return only;
}

std::size_t rounded(std::size_t bytes) { return std::bit_ceil(std::max(bytes, kSmallest)); }

bool reached(const Idle& idle) {
  for (const Mark& mark : idle.marks) {
    if (cudaEventQuery(mark.event) != cudaSuccess) {
      std::ignore = cudaGetLastError();
      return false;
    }
  }
  return true;
}

void mark(Gpu& g, void* idle) {
  if (g.arena.load(std::memory_order_acquire)) return;  // a graph is captured: nothing it recorded has run yet
  cudaEvent_t event = nullptr;
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess) return;
  if (cudaSetDevice(g.device.index()) == cudaSuccess &&
      cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess &&
      cudaEventRecord(event, g.stream) == cudaSuccess) {
    static_cast<Idle*>(idle)->marks.push_back({event});
  }
  std::ignore = cudaSetDevice(before);
}

}  // namespace

void* take(std::size_t bytes) {
  const std::size_t size = rounded(bytes);
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  std::vector<Idle>& idle = c.idle[size];
  for (std::size_t i = 0; i < idle.size(); ++i) {
    if (!reached(idle[i])) continue;
    void* const block = idle[i].block;
    for (const Mark& m : idle[i].marks) std::ignore = cudaEventDestroy(m.event);
    idle.erase(idle.begin() + static_cast<std::ptrdiff_t>(i));
    return block;
  }
  void* block = nullptr;
  use(any_gpu().device);
  check(cudaHostAlloc(&block, size, cudaHostAllocPortable));
  c.blocks[static_cast<const std::byte*>(block)] = size;
  return block;
}

void give(void* block, std::size_t bytes) noexcept {
  Idle idle{block, {}};
  for_each_gpu_in_use(&mark, &idle);
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  c.idle[rounded(bytes)].push_back(std::move(idle));
}

bool contains(const void* address) {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  const auto* at = static_cast<const std::byte*>(address);
  auto next = c.blocks.upper_bound(at);
  return next != c.blocks.begin() && at < std::prev(next)->first + std::prev(next)->second;
}

}  // namespace halftone::cuda::pinned
