#include "core/cuda/arena.h"

#include <mutex>
#include <unordered_map>

#include "core/cuda/pinned.h"

namespace halftone::cuda {
namespace {

constexpr std::size_t kGranule = 512;

std::mutex mutex;  // of all arenas: they change while a graph is captured, which is rare

// Which arena gave a block out. Never destroyed: tensors in globals are given back after main has ended.
std::unordered_map<void*, Arena*>& owners() {
  static auto& only = *new std::unordered_map<void*, Arena*>;
  return only;
}

struct Block {
  Gpu* gpu;
  void* data;
};

// What waits for the end of all captures. Never destroyed either.
std::vector<Block>& postponed() {
  static auto& only = *new std::vector<Block>;
  return only;
}

// After the work that was queued so far, which may be replays.
void free_all(std::vector<Block>& blocks) noexcept {
  int before = 0;
  std::ignore = cudaGetDevice(&before);
  const Gpu* waited_for = nullptr;
  for (const auto& [gpu, data] : blocks) {
    if (gpu != waited_for) {
      std::ignore = cudaSetDevice(gpu->device.index());
      std::ignore = cudaStreamSynchronize(gpu->stream);
      waited_for = gpu;
    }
    std::ignore = cudaFree(data);
  }
  blocks.clear();
  return_to(before);
}

cudaError_t allocate(const Gpu& g, void** block, std::size_t bytes) {
  const cudaError_t status = cudaMalloc(block, bytes);
  if (status != cudaErrorMemoryAllocation) return status;
  std::ignore = cudaGetLastError();
  std::ignore = cudaMemPoolTrimTo(g.pool, 0);  // what the stream's own pool keeps idle may do
  return cudaMalloc(block, bytes);
}

}  // namespace

void* Arena::take(std::size_t bytes) {
  const std::size_t size = (bytes + kGranule - 1) / kGranule * kGranule;
  const std::lock_guard lock(mutex);
  void* block = nullptr;
  if (const auto fit = idle_.lower_bound(size); fit != idle_.end() && fit->first <= 2 * size) {
    block = fit->second;
    idle_.erase(fit);
  } else {
    use(gpu_.device);
    const cudaError_t status = allocate(gpu_, &block, size);
    if (status == cudaErrorMemoryAllocation) return nullptr;
    check(status);
    blocks_[block] = size;
  }
  owners()[block] = this;
  ++handed_out_;
  ++in_use_;
  return block;
}

bool Arena::give(void* block) noexcept {
  if (handed_out_.load(std::memory_order_relaxed) == 0) [[likely]]
    return false;  // whoever frees a block knows of it, and so of its count
  const std::lock_guard lock(mutex);
  return give_locked(block);
}

bool Arena::give_locked(void* block) noexcept {
  const auto found = owners().find(block);
  if (found == owners().end()) return false;
  Arena& arena = *found->second;
  owners().erase(found);
  --handed_out_;
  arena.idle_.emplace(arena.blocks_.at(block), block);
  if (--arena.in_use_ == 0 && arena.abandoned_) delete &arena;
  return true;
}

bool Arena::keep(Gpu& g, void* block) noexcept {
  const std::lock_guard lock(mutex);
  Arena* const arena = g.arena.load(std::memory_order_acquire);
  if (!arena) return false;
  if (const auto owner = owners().find(block); owner != owners().end() && owner->second == arena) return false;
  arena->kept_.push_back(block);
  return true;
}

bool Arena::keep_pinned(void* block, std::size_t bytes) noexcept {
  if (captures.load(std::memory_order_relaxed) == 0) return false;
  struct Keeper {
    void* block;
    std::size_t bytes;
    std::shared_ptr<void> shared;
  } keeper{block, bytes, nullptr};
  const auto keep = [](Gpu& g, void* argument) {
    Keeper& k = *static_cast<Keeper*>(argument);
    Arena* const arena = g.arena.load(std::memory_order_acquire);
    if (!arena) return;
    if (!k.shared) k.shared.reset(k.block, [size = k.bytes](void* pinned) { pinned::give(pinned, size); });
    arena->pinned_.push_back(k.shared);
  };
  const std::lock_guard lock(mutex);
  for_each_gpu_in_use(keep, &keeper);
  return keeper.shared != nullptr;
}

void Arena::abandon() {
  std::vector<std::shared_ptr<void>> pinned;  // given back behind the lock, which that may want to take
  const std::lock_guard lock(mutex);
  pinned.swap(pinned_);
  Arena* const next = gpu_.arena.load(std::memory_order_acquire);  // of a graph that is being captured now
  for (void* block : kept_) {
    if (next) {
      next->kept_.push_back(block);
    } else if (!give_locked(block)) {
      std::ignore = cudaFreeAsync(block, gpu_.stream);
    }
  }
  kept_.clear();
  abandoned_ = true;
  if (in_use_ == 0) delete this;
}

Arena::~Arena() {
  for (const auto& [block, size] : blocks_) postponed().push_back({&gpu_, block});
  if (captures.load() == 0) free_all(postponed());
}

void Arena::announce_capture() noexcept {
  const std::lock_guard lock(mutex);
  captures.fetch_add(1);
}

void Arena::free_postponed() noexcept {
  const std::lock_guard lock(mutex);
  if (captures.load() == 0) free_all(postponed());
}

}  // namespace halftone::cuda
