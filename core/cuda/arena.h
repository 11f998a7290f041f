// The memory of one captured graph. A replay writes to the addresses that the capture saw, so they stay the graph's own
// until it is gone; blocks given back during the capture serve its later allocations.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "core/cuda/gpu.h"

namespace halftone::cuda {

class Arena {
 public:
  explicit Arena(Gpu& g) : gpu_(g) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Null when the device's memory is used up.
  void* take(std::size_t bytes);
  /// Takes a block back if an arena has given it out; false if it is none of theirs.
  static bool give(void* block) noexcept;
  /// While a graph is captured on g, keeps a block that is not from its arena as long as the graph: its earlier steps
  /// may use the block, and giving it back would be a step as well. False if none is captured, or it is from there.
  static bool keep(Gpu& g, void* block) noexcept;
  /// Keeps pinned memory, from which replays may copy, as long as the graphs that are being captured. False if none is.
  static bool keep_pinned(void* block, std::size_t bytes) noexcept;
  /// The graph is gone. The memory goes with the last tensor that lies in it.
  void abandon();
  /// Counts a capture that is about to begin, when nobody is waiting for a device to free memory.
  static void announce_capture() noexcept;
  /// Frees the memory of arenas that went while a graph was captured, for which that would have been a wait.
  static void free_postponed() noexcept;

 private:
  ~Arena();
  static bool give_locked(void* block) noexcept;

  static inline std::atomic<std::size_t> handed_out_{0};  // blocks of all arenas that are in use

  Gpu& gpu_;
  std::map<void*, std::size_t> blocks_;
  std::multimap<std::size_t, void*> idle_;
  std::vector<void*> kept_;  // of the stream's own pool, or of other arenas
  std::vector<std::shared_ptr<void>> pinned_;
  std::size_t in_use_ = 0;
  bool abandoned_ = false;
};

}  // namespace halftone::cuda
