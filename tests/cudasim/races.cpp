#include "tests/cudasim/races.h"

#include <sys/mman.h>

#include <algorithm>
#include <vector>

namespace cudasim::detail {
namespace {
std::uint32_t next_serial = 1;
// The fences that a block's threads followed by an atomic.
struct Publication {
  struct Of {
    unsigned thread;
    Fence fence;
  };
  std::uint32_t barrier = 0;  // the latest of all
  std::vector<Of> threads;

  void add(unsigned thread, const Fence& fence) {
    barrier = std::max(barrier, fence.barrier);
    const auto same = std::find_if(threads.begin(), threads.end(), [&](const Of& of) { return of.thread == thread; });
    if (same == threads.end()) {
      threads.push_back({thread, fence});
    } else {
      same->fence = fence;
    }
  }
};
std::vector<Publication>& published = *new std::vector<Publication>;  // by block of this launch

bool covers(const Publication& publication, Access access) {
  if (access.tick() < publication.barrier) return true;
  for (const Publication::Of& of : publication.threads) {
    if (access.thread() == of.thread && access.tick() < of.fence.own) return true;
    if (access.thread() / kWarp == of.thread / kWarp && access.tick() < of.fence.warp) return true;
  }
  return false;
}

// The running thread comes after an atomic by which it or its block saw what others published.
bool has_seen() {
  const Thread& me = block.threads[block.current];
  if (me.has_seen || block.seen_by == kNobody) return me.has_seen;
  const bool same_warp = block.seen_by / kWarp == block.current / kWarp;
  return block.seen_tick < block.barrier_tick || (same_warp && block.seen_tick < me.warp_tick);
}

// A block that published its writes (a fence, then an atomic) comes before one that did the same later: the way a last
// block collects what the others left.
bool is_published(Access earlier) {
  return has_seen() && covers(published[earlier.serial() - block.first_serial], earlier);
}

bool is_unordered(Access earlier) {
  if (earlier.serial() < block.first_serial) return false;  // of an earlier launch
  if (earlier.serial() != block.serial) return !is_published(earlier);
  if (earlier.thread() == block.current || earlier.tick() < block.barrier_tick) return false;
  if (earlier.thread() / kWarp != block.current / kWarp) return true;
  const Thread& me = block.threads[block.current];
  if (earlier.tick() < me.warp_tick) return false;
  return (me.met >> earlier.thread() % kWarp & 1) == 0 || earlier.tick() >= me.mask_tick;
}

bool conflicts(std::uint64_t earlier, unsigned mask) {
  const Access access{earlier};
  return (access.mask() & mask) != 0 && is_unordered(access);
}

bool same_thread(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kThread = 0xffffffff00003ff0U;
  return ((a ^ b) & kThread) == 0;
}

// Keeps two readers that are not ordered before the present one, so that a later writer meets at least one other
// thread.
void note_reader(Cell& cell, std::uint64_t present) {
  for (std::uint64_t& reader : cell.reader) {
    if (same_thread(reader, present)) {
      reader = present | (reader & 0xf);
      return;
    }
    if (!is_unordered({reader})) {
      reader = present;
      return;
    }
  }
}
}  // namespace

std::uint64_t note_access(Cell& cell, unsigned mask, Mode mode, std::uint64_t present) {
  if (block.tick > kLastTick) return 0;  // out of time stamps: the rest of this block goes unchecked
  present |= mask;
  std::uint64_t found = 0;
  for (unsigned half = 0; half < 2; ++half) {
    const unsigned part = mask & 3U << 2 * half;
    if (part == 0) continue;
    std::uint64_t& writer = cell.writer[half];
    // Reading what others change by atomics is how compare-and-swap loops begin.
    const bool excused = Access{writer}.is_atomic() && mode != Mode::write;
    if (!excused && conflicts(writer, part)) found = writer;
    if (mode != Mode::read) writer = same_thread(writer, present) ? present | (writer & 0xf) : present;
  }
  if (mode == Mode::read) {
    note_reader(cell, present);
  } else if (mode == Mode::write && found == 0) {
    for (const std::uint64_t reader : cell.reader) {
      if (conflicts(reader, mask)) found = reader;
    }
  }
  return found;
}

void begin_launch_order() {
  published.clear();
  if (grid.count > 0xffffffffU - next_serial) {
    // Out of serial numbers: begin again, with cells that know nothing.
    madvise(arenas.cells, kMaxDevices * kArenaBytes / 4 * sizeof(Cell), MADV_DONTNEED);
    next_serial = 1;
  }
  block.first_serial = next_serial;
  next_serial += static_cast<std::uint32_t>(grid.count);
}

void begin_block_order(std::uint64_t number) {
  block.serial = block.first_serial + static_cast<std::uint32_t>(number);
  published.resize(grid.count);  // blocks come in any order
}

void note_fence() {
  Thread& me = block.threads[block.current];
  me.fence = {++block.tick, me.warp_tick, block.barrier_tick};
}

void note_atomic() {
  Thread& me = block.threads[block.current];
  if (me.fence.own == 0) return;
  me.has_seen = true;
  if (block.seen_by == kNobody) {
    block.seen_by = block.current;
    block.seen_tick = block.tick;
  }
  published[block.serial - block.first_serial].add(block.current, me.fence);
}
}  // namespace cudasim::detail
