#include "arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "asan.h"

namespace cudasim::detail {
Arenas arenas;

namespace {
// Pages of this size, where the system has them, make opening and closing hundreds of times cheaper.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
std::array<std::size_t, kMaxDevices> usable;
std::uint32_t opened = 0;

void* reserve(std::size_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  return start;
}

void protect(void* start, std::size_t bytes, int rights) {
  if (bytes > 0 && mprotect(start, bytes, rights) != 0) throw std::bad_alloc();
}

void protect_device(int device, int rights) {
  protect(reinterpret_cast<void*>(arena_start(device)), usable[static_cast<std::size_t>(device)], rights);
}
}  // namespace

void reserve_arenas() {
  if (arenas.base != 0) return;
  const std::size_t bytes = kMaxDevices * kArenaBytes;
  arenas.shadow = static_cast<unsigned char*>(reserve(bytes));
  arenas.cells = static_cast<Cell*>(reserve(bytes / 4 * sizeof(Cell)));
  const auto start = reinterpret_cast<std::uintptr_t>(reserve(bytes + kHugePage));
  arenas.base = (start + kHugePage - 1) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(arenas.base), bytes, MADV_HUGEPAGE);  // advice: it may be refused
}

void grow_arena(int device, std::size_t bytes) {
  std::size_t& now = usable[static_cast<std::size_t>(device)];
  if (bytes <= now) return;
  // By half, so that a program's many allocations cause few system calls.
  const std::size_t more = std::max(bytes - now, now / 2);
  const std::size_t after = std::min(now + (more + kHugePage - 1) / kHugePage * kHugePage, kArenaBytes);
  const std::uintptr_t start = arena_start(device) + now;
  const bool is_open = (opened >> device & 1) != 0;
  protect(shadow_of(start), after - now, PROT_READ | PROT_WRITE);
  protect(&cell_of(start), (after - now) / 4 * sizeof(Cell), PROT_READ | PROT_WRITE);
  if (is_open) protect(reinterpret_cast<void*>(start), after - now, PROT_READ | PROT_WRITE);
  asan::poison(reinterpret_cast<void*>(start), after - now);
  now = after;
}

bool is_usable(std::uintptr_t address) {
  return (address - arenas.base) % kArenaBytes < usable[static_cast<std::size_t>(device_of(address))];
}

void open_arenas(std::uint32_t devices) {
  if (devices == opened) return;
  for (int device = 0; device < kMaxDevices; ++device) {
    const std::uint32_t bit = std::uint32_t{1} << device;
    if (((devices ^ opened) & bit) != 0) {
      protect_device(device, (devices & bit) != 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
  }
  opened = devices;
}

void mark(const void* pointer, std::size_t bytes, Byte state) {
  std::memset(shadow_of(reinterpret_cast<std::uintptr_t>(pointer)), static_cast<int>(state), bytes);
}

void copy_marks(void* to, const void* from, std::size_t bytes) {
  std::memmove(shadow_of(reinterpret_cast<std::uintptr_t>(to)), shadow_of(reinterpret_cast<std::uintptr_t>(from)),
               bytes);
}

std::size_t count_marked(const void* pointer, std::size_t bytes, Byte at_least) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (!is_usable(address)) return 0;
  const std::size_t left = usable[static_cast<std::size_t>(device_of(address))] - (address - arenas.base) % kArenaBytes;
  bytes = std::min(bytes, left);
  const unsigned char* first = shadow_of(address);
  const auto* end = std::find_if(first, first + bytes,
                                 [&](unsigned char state) { return state < static_cast<unsigned char>(at_least); });
  return static_cast<std::size_t>(end - first);
}
}  // namespace cudasim::detail
