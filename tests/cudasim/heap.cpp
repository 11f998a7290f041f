#include "heap.h"

#include <algorithm>
#include <iterator>

#include "arena.h"

namespace cudasim::detail {
namespace {
constexpr std::size_t kAlignment = 512;

std::size_t span_of(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment; }
}  // namespace

std::uintptr_t Heap::take(std::size_t span) {
  const auto fit = gaps_by_size_.lower_bound({span, 0});
  if (fit != gaps_by_size_.end()) {
    const auto [size, start] = *fit;
    gaps_by_size_.erase(fit);
    gaps_.erase(start);
    if (size > span) {
      gaps_.emplace(start + span, size - span);
      gaps_by_size_.emplace(size - span, start + span);
    }
    return start;
  }
  if (span > kArenaBytes - end_) return 0;
  const std::uintptr_t start = arena_start(device_) + end_;
  end_ += span;
  grow_arena(device_, end_);
  return start;
}

std::uintptr_t Heap::allocate(std::size_t bytes, bool pooled, std::map<std::uintptr_t, PendingFree>* reusable) {
  if (bytes > total || in_use() > total - bytes) return 0;
  const std::size_t span = span_of(bytes);
  std::uintptr_t start = 0;
  if (reusable) {
    const auto same =
        std::find_if(reusable->begin(), reusable->end(), [&](const auto& entry) { return entry.second.span == span; });
    if (same != reusable->end()) {
      start = same->first;
      reusable->erase(same);
    }
  }
  if (start == 0) start = take(span);
  if (start == 0) return 0;
  live_.emplace(start, Allocation{bytes, span, pooled});
  (pooled ? pooled_ : direct_) += bytes;
  pooled_high = std::max(pooled_high, pooled_);
  // Memory the pool keeps without need goes first when memory is short.
  reserved_ = std::max(std::min(reserved_, total - direct_), pooled_);
  reserved_high = std::max(reserved_high, reserved_);
  return start;
}

const Allocation* Heap::find(std::uintptr_t start) const {
  const auto found = live_.find(start);
  return found == live_.end() ? nullptr : &found->second;
}

const std::pair<const std::uintptr_t, Allocation>* Heap::before(std::uintptr_t address) const {
  auto after = live_.upper_bound(address);
  return after == live_.begin() ? nullptr : &*std::prev(after);
}

const std::pair<const std::uintptr_t, Allocation>* Heap::around(std::uintptr_t address) const {
  const auto* found = before(address);
  return found && address - found->first < std::max<std::size_t>(found->second.bytes, 1) ? found : nullptr;
}

Allocation Heap::remove(std::uintptr_t start) {
  const auto found = live_.find(start);
  const Allocation allocation = found->second;
  live_.erase(found);
  (allocation.pooled ? pooled_ : direct_) -= allocation.bytes;
  return allocation;
}

void Heap::give_back(std::uintptr_t start, std::size_t span) {
  const auto forget = [&](auto gap) {
    gaps_by_size_.erase({gap->second, gap->first});
    gaps_.erase(gap);
  };
  const auto after = gaps_.lower_bound(start);
  if (after != gaps_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == start) {
      start = before->first;
      span += before->second;
      forget(before);
    }
  }
  const auto next = gaps_.find(start + span);
  if (next != gaps_.end()) {
    span += next->second;
    forget(next);
  }
  gaps_.emplace(start, span);
  gaps_by_size_.emplace(span, start);
}

void Heap::trim(std::size_t keep) { reserved_ = std::max(pooled_, std::min(reserved_, keep)); }
}  // namespace cudasim::detail
