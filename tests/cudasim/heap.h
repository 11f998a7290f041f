// Which addresses of a device are allocated, in the order in which the host calls are made.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace cudasim::detail {
// A block that cudaFreeAsync gave back: its stream may reuse it at once, others after the free has executed.
struct PendingFree {
  std::size_t span;
  std::uint64_t serial;
};

struct Allocation {
  std::size_t bytes;  // as asked for
  std::size_t span;   // as taken: rounded up, with a gap behind that no allocation owns; 0 if a graph took it
  bool pooled;
};

class Heap {
 public:
  explicit Heap(int device = 0) : device_(device) {}
  // 0 when the device's memory is used up.
  std::uintptr_t allocate(std::size_t bytes, bool pooled, std::map<std::uintptr_t, PendingFree>* reusable = nullptr);
  const Allocation* find(std::uintptr_t start) const;
  // The allocation an address lies in, or null.
  const std::pair<const std::uintptr_t, Allocation>* around(std::uintptr_t address) const;
  // The nearest allocation that starts at or before an address, or null.
  const std::pair<const std::uintptr_t, Allocation>* before(std::uintptr_t address) const;
  // Ends the allocation; its addresses stay taken until give_back.
  Allocation remove(std::uintptr_t start);
  // Leaves an allocation's addresses to someone else, who will give them back.
  std::size_t detach(std::uintptr_t start) { return std::exchange(live_.at(start).span, 0); }
  void give_back(std::uintptr_t start, std::size_t span);

  template <class F> void for_each(F f) const {
    for (const auto& [start, allocation] : live_) f(start, allocation);
  }

  void trim(std::size_t keep);
  std::size_t in_use() const { return pooled_ + direct_; }
  std::size_t count() const { return live_.size(); }
  std::size_t available() const { return total - direct_ - reserved_; }

  std::size_t total = std::size_t{8} << 30;
  std::uint64_t release_threshold = 0;
  std::size_t pooled() const { return pooled_; }
  std::size_t reserved() const { return reserved_; }
  std::size_t pooled_high = 0, reserved_high = 0;

 private:
  std::uintptr_t take(std::size_t span);

  int device_;
  std::map<std::uintptr_t, Allocation> live_;
  std::map<std::uintptr_t, std::size_t> gaps_;
  std::set<std::pair<std::size_t, std::uintptr_t>> gaps_by_size_;
  std::size_t end_ = 0;  // how much of the arena was ever taken
  std::size_t pooled_ = 0, direct_ = 0, reserved_ = 0;
};
}  // namespace cudasim::detail
