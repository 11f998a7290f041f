// Order of accesses within a launch: who read or wrote four bytes last, and whether the present access comes after it.
#pragma once
#include <cstdint>

#include "tests/cudasim/arena.h"
#include "tests/cudasim/block.h"

namespace cudasim::detail {
// One access in 64 bits: which block (by serial number), at which of its ticks, which thread, which of the four bytes.
struct Access {
  std::uint64_t bits;
  std::uint32_t serial() const { return static_cast<std::uint32_t>(bits >> 32); }
  std::uint32_t tick() const { return static_cast<std::uint32_t>(bits >> 15) & 0x1ffff; }
  bool is_atomic() const { return (bits >> 14 & 1) != 0; }
  unsigned thread() const { return static_cast<unsigned>(bits >> 4) & 0x3ff; }
  unsigned mask() const { return static_cast<unsigned>(bits) & 0xf; }
};
constexpr std::uint32_t kLastTick = 0x1ffff;

// A store is one that may meet others, by an atomic or through a volatile pointer.
enum class Mode { read, write, atomic, store };
inline bool overwrites(Mode mode) { return mode == Mode::write || mode == Mode::store; }

// The running thread's access, but for its mask.
inline std::uint64_t present_access(Mode mode) {
  return std::uint64_t{block.serial} << 32 | std::uint64_t{block.tick} << 15 |
         std::uint64_t{mode == Mode::atomic || mode == Mode::store} << 14 | std::uint64_t{block.current} << 4;
}

// Notes an access to some of a cell's bytes; returns an earlier one that conflicts with it and is not ordered before
// it, or 0.
std::uint64_t note_access(Cell& cell, unsigned mask, Mode mode, std::uint64_t present);

void begin_launch_order();
void begin_block_order(std::uint64_t number);
// The running thread calls __threadfence, or an atomic function: that publishes what its last fence covers.
void note_fence();
void note_atomic();
}  // namespace cudasim::detail
