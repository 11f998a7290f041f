// Host memory kept for reuse. Fresh pages cost more than the arithmetic of a small net: the system clears them one by
// one when they are first touched, so blocks that were given back are handed out again.
//
// Small blocks come from lists that belong to the calling thread; these exchange batches with a shared pool, which
// serves the large blocks directly. Blocks may be given back by another thread than the one that took them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace halftone::block_cache {

/// Alignment of every block: a cache line, and the widest vector register.
inline constexpr std::size_t kAlignment = 64;

/// Blocks have 64, 128, 192 or 256 bytes, and from there four sizes to each power of two: a block is at most a quarter
/// larger than what was asked for.
constexpr int size_class(std::size_t bytes) {
  if (bytes <= 4 * kAlignment) return bytes == 0 ? 0 : static_cast<int>((bytes - 1) / kAlignment);
  const int exponent = static_cast<int>(std::bit_width(bytes - 1)) - 1;
  const auto quarter = static_cast<int>((bytes - 1) >> (exponent - 2));  // 4 to 7
  return 4 * (exponent - 8) + quarter;
}

/// Bytes of the blocks of a class.
constexpr std::size_t block_bytes(int size_class) {
  const auto i = static_cast<std::size_t>(size_class);
  if (i < 4) return (i + 1) * kAlignment;
  return (i % 4 + 5) << (i / 4 + 5);
}
static_assert(block_bytes(size_class(257)) == 320 && block_bytes(size_class(512)) == 512);

/// The largest request that is passed on to the system.
inline constexpr std::size_t kLargestRequest = std::size_t{1} << 47;
inline constexpr int kClasses = size_class(kLargestRequest) + 1;

/// A block of at least `bytes`, uninitialised; null when the system or the limit does not grant it.
void* take(std::size_t bytes);
/// Takes back what take(bytes) gave.
void give(void* block, std::size_t bytes) noexcept;

/// Gives idle blocks back to the system: the shared pool's and the calling thread's. Those in the lists of other
/// threads, at most 256 KiB a size, stay until these threads end.
void release_idle();

/// Bytes that the system has granted and not got back.
std::int64_t bytes_held();

/// Bytes that the system may be asked for in all; at first, the machine's memory.
void set_limit(std::int64_t bytes);
std::int64_t limit();

}  // namespace halftone::block_cache
