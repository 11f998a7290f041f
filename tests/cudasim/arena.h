// Device memory as addresses: every device owns one reserved range, with a shadow byte for each of its bytes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "include/cudasim.h"

namespace cudasim::detail {
constexpr std::size_t kArenaBytes = std::size_t{32} << 30;

// The state of a byte of device memory, as the work that has run so far left it.
enum class Byte : unsigned char { unallocated, undefined, defined };

// Who touched four bytes of memory last in the running launch; see races.h.
struct alignas(32) Cell {
  std::uint64_t writer[2];  // of the lower and of the upper two bytes
  std::uint64_t reader[2];  // any two threads
};

struct Arenas {
  std::uintptr_t base = 0;
  unsigned char* shadow = nullptr;
  Cell* cells = nullptr;
};
extern Arenas arenas;  // plain data: the checks of every memory access read it

inline bool in_arenas(std::uintptr_t address) { return address - arenas.base < kMaxDevices * kArenaBytes; }
inline bool in_arenas(const void* address) { return in_arenas(reinterpret_cast<std::uintptr_t>(address)); }
inline int device_of(std::uintptr_t address) { return static_cast<int>((address - arenas.base) / kArenaBytes); }
inline int device_of(const void* address) { return device_of(reinterpret_cast<std::uintptr_t>(address)); }
inline std::uintptr_t arena_start(int device) { return arenas.base + static_cast<std::size_t>(device) * kArenaBytes; }
inline unsigned char* shadow_of(std::uintptr_t address) { return arenas.shadow + (address - arenas.base); }
inline Cell& cell_of(std::uintptr_t address) { return arenas.cells[(address - arenas.base) / 4]; }

void reserve_arenas();
// Makes addresses up to arena_start(device) + bytes usable, though they stay inaccessible until opened.
void grow_arena(int device, std::size_t bytes);
// Whether the address's shadow and cells exist: nothing was ever allocated beyond them.
bool is_usable(std::uintptr_t address);
// Makes these devices' memory accessible, and no other's. A bit a device.
void open_arenas(std::uint32_t devices);

void mark(const void* pointer, std::size_t bytes, Byte state);
void copy_marks(void* to, const void* from, std::size_t bytes);
// How many bytes at the start are all in a state that is at least this one.
std::size_t count_marked(const void* pointer, std::size_t bytes, Byte at_least);
}  // namespace cudasim::detail
