#include "core/cuda/arena.h"

#include <mutex>
#include <unordered_map>

namespace halftone::cuda {
namespace {

constexpr std::size_t kGranule = 512;

std::mutex mutex;  // of all arenas: they change while a graph is captured, which is rare

// Which arena gave a block out. Never destroyed: tensors in globals are given back after main has ended.
std::unordered_map<void*, Arena*>& owners() {
  static auto& only = *new std::unordered_map<void*, Arena*>;
  return only;
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
    check(cudaMalloc(&block, size));
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
  const auto found = owners().find(block);
  if (found == owners().end()) return false;
  Arena& arena = *found->second;
  owners().erase(found);
  --handed_out_;
  arena.idle_.emplace(arena.blocks_.at(block), block);
  if (--arena.in_use_ == 0 && arena.abandoned_) delete &arena;
  return true;
}

void Arena::keep_until_end(void* block) {
  const std::lock_guard lock(mutex);
  kept_.push_back(block);
}

void Arena::capture_has_ended() {
  const std::lock_guard lock(mutex);
  for (void* block : kept_) std::ignore = cudaFreeAsync(block, gpu_.stream);
  kept_.clear();
}

void Arena::abandon() {
  const std::lock_guard lock(mutex);
  abandoned_ = true;
  if (in_use_ == 0) delete this;
}

Arena::~Arena() {
  int before = 0;
  std::ignore = cudaGetDevice(&before);
  std::ignore = cudaSetDevice(gpu_.device.index());
  for (const auto& [block, size] : blocks_) std::ignore = cudaFree(block);  // waits for what still uses it
  std::ignore = cudaSetDevice(before);
}

}  // namespace halftone::cuda
