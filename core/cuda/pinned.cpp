#include "core/cuda/pinned.h"

#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include "core/cuda/arena.h"
#include "core/cuda/gpu.h"

namespace halftone::cuda::pinned {
namespace {

constexpr std::size_t kSmallest = 512;

struct Idle {
  void* block;
  std::vector<cudaEvent_t> marks;  // behind what the devices had queued when the block was given back
  bool lost = false;               // queued work may use it, and nothing tells until when
};

struct Cache {
  std::mutex mutex;
  std::map<const std::byte*, std::size_t> blocks;  // all there are, by address
  std::map<std::size_t, std::vector<Idle>> idle;   // by size
};

// Never destroyed: tensors in globals are given back after main has ended.
Cache& cache() {
  static Cache& only = *new Cache;
  return only;
}

std::size_t rounded(std::size_t bytes) { return std::bit_ceil(std::max(bytes, kSmallest)); }

bool reached(const Idle& idle) {
  for (const cudaEvent_t event : idle.marks) {
    if (cudaEventQuery(event) != cudaSuccess) {
      std::ignore = cudaGetLastError();
      return false;
    }
  }
  return true;
}

bool record(const Gpu& g, std::vector<cudaEvent_t>& marks) {
  cudaEvent_t event = nullptr;
  if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming) != cudaSuccess) return false;
  marks.push_back(event);
  if (cudaEventRecord(event, g.stream) == cudaSuccess) return true;
  std::ignore = cudaEventDestroy(event);
  marks.pop_back();
  return false;
}

void mark(Gpu& g, void* idle) {
  Idle& block = *static_cast<Idle*>(idle);
  int before = 0;
  const bool can_record = !g.arena.load(std::memory_order_acquire) && cudaGetDevice(&before) == cudaSuccess &&
                          cudaSetDevice(g.device.index()) == cudaSuccess;
  if (!can_record) {
    block.lost = true;
    return;
  }
  // Without an event the host waits, and without that the block is never used again.
  if (!record(g, block.marks) && cudaStreamSynchronize(g.stream) != cudaSuccess) block.lost = true;
  std::ignore = cudaGetLastError();
  return_to(before);
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
    for (const cudaEvent_t event : idle[i].marks) std::ignore = cudaEventDestroy(event);
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
  if (Arena::keep_pinned(block, bytes)) return;
  Idle idle{block, {}};
  for_each_gpu_in_use(&mark, &idle);
  if (idle.lost) return;
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
