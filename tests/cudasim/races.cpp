#include "races.h"

#include <sys/mman.h>

#include <vector>

namespace cudasim::detail {
namespace {
std::uint32_t next_serial = 1;
std::vector<bool> published;  // by block of this launch

// A block that published its writes (a fence, then an atomic) comes before one that did the same later: the way a last
// block collects what the others left.
bool is_published(std::uint32_t serial) { return block.has_published && published[serial - grid.first_serial]; }

bool is_unordered(Access earlier) {
  if (earlier.serial() < grid.first_serial) return false;  // of an earlier launch
  if (earlier.serial() != block.serial) return !is_published(earlier.serial());
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
  grid.first_serial = next_serial;
  next_serial += static_cast<std::uint32_t>(grid.count);
}

void begin_block_order(std::uint64_t number) {
  block.serial = grid.first_serial + static_cast<std::uint32_t>(number);
  published.resize(grid.count);  // blocks come in any order
}

void end_block_order() { published[block.serial - grid.first_serial] = block.has_published; }

void note_atomic() {
  if (block.threads[block.current].fenced) block.has_published = true;
}
}  // namespace cudasim::detail
