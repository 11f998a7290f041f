#include "tests/cudasim/watch.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tests/cudasim/checks.h"
#include "tests/cudasim/faults.h"
#include "tests/cudasim/regions.h"
#include "tests/cudasim/state.h"
#include "tests/cudasim/symbols.h"

namespace cudasim::detail {
bool watching = false;
bool is_instrumented = false;

namespace {
constexpr std::size_t kMaxReports = 8;  // a launch

// Copied from the host thread for the launch: looked at on every access.
std::vector<SharedRegion>& shared = *new std::vector<SharedRegion>;
std::uintptr_t arguments = 0;
std::size_t argument_bytes = 0;
std::vector<std::uintptr_t>& reported = *new std::vector<std::uintptr_t>;  // places in the code, once a launch

std::string place(std::uintptr_t pc) {
  if (pc == 0) return "";
  // A return address: the access is just before it.
  return "\n  in " + symbol_at(pc - 1) + "; for the line: " + line_command(pc - 1);
}

const char* verb(Mode mode) {
  constexpr const char* kVerbs[] = {"reads", "writes", "changes by an atomic", "stores"};
  return kVerbs[static_cast<int>(mode)];
}

std::string what_happens(std::uintptr_t address, std::size_t bytes, Mode mode) {
  std::string where;
  for (const SharedRegion& region : shared) {
    const std::uintptr_t offset = address - region.start;
    if (offset < region.bytes) where = "shared memory, " + shared_variable(region.image, offset);
  }
  if (where.empty()) where = describe_address(address);
  return std::string(verb(mode)) + " " + std::to_string(bytes) + " bytes at " + where;
}

void complain(const std::string& text, std::uintptr_t pc) {
  if (reported.size() >= kMaxReports || std::find(reported.begin(), reported.end(), pc) != reported.end()) return;
  reported.push_back(pc);
  report(text + " [" + describe_running() + "]" + place(pc));
  fail_device(world().running_device, cudaErrorAssert, false);
}

[[noreturn]] void refuse(const char* reason, std::uintptr_t address, std::size_t bytes, Mode mode, std::uintptr_t pc,
                         cudaError_t error = cudaErrorIllegalAddress) {
  fail_kernel(error, [&] { return std::string(reason) + ": it " + what_happens(address, bytes, mode) + place(pc); });
}

void complain_of_race(std::uint64_t earlier, const char* memory, std::uintptr_t address, std::size_t bytes, Mode mode,
                      bool wrote, std::uintptr_t pc) {
  const Access other{earlier};
  std::string who = describe_thread(other.thread());
  if (other.serial() != block.serial) {
    const dim3 index = block_of_serial(other.serial());
    who +=
        " of block (" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
  }
  const char* did = other.is_atomic() ? " changed by an atomic" : wrote ? " wrote" : " read";
  complain(std::string("race in ") + memory + " memory: " + describe_thread(block.current) + " " +
               what_happens(address, bytes, mode) + ", which " + who + did +
               " with nothing between that orders the two",
           pc);
}

void check_order(Cell& cell, unsigned mask, const char* memory, std::uintptr_t address, std::size_t bytes, Mode mode,
                 std::uint64_t present, std::uintptr_t pc) {
  const std::uint64_t earlier = note_access(cell, mask, mode, present);
  if (earlier == 0) return;
  // note_access has replaced a writer it found by the present one; a reader is still there.
  const bool was_read = earlier == cell.reader[0] || earlier == cell.reader[1];
  complain_of_race(earlier, memory, address, bytes, mode, !was_read, pc);
}

// Calls f(first address of four bytes, mask of the bytes meant).
template <class F> void for_each_cell(std::uintptr_t address, std::size_t bytes, F f) {
  const std::uintptr_t end = address + bytes;
  for (std::uintptr_t cell = address & ~std::uintptr_t{3}; cell < end; cell += 4) {
    unsigned mask = 0xf;
    if (cell < address) mask &= 0xfU << (address - cell);
    if (end - cell < 4) mask &= 0xfU >> (4 - (end - cell));
    f(cell, mask);
  }
}

void check_device_access(std::uintptr_t address, std::size_t bytes, Mode mode, std::uintptr_t pc) {
  const int owner = device_of(address);
  const int self = world().running_device;
  if (owner != self && (device(self).peers >> owner & 1) == 0) {
    refuse("another device's memory without peer access", address, bytes, mode, pc);
  }
  if (!is_usable(address)) refuse("out of bounds", address, bytes, mode, pc);
  unsigned char* state = shadow_of(address);
  const auto defined = static_cast<unsigned char>(Byte::defined);
  bool is_defined = true;
  for (std::size_t i = 0; i < bytes; ++i) {
    if (state[i] == defined) continue;
    if (state[i] == static_cast<unsigned char>(Byte::unallocated)) {
      refuse("out of bounds or freed", address + i, bytes - i, mode, pc);
    }
    is_defined = false;
    if (overwrites(mode)) state[i] = defined;
  }
  if (!is_defined && !overwrites(mode)) {
    complain("uninitialised memory: " + describe_thread(block.current) + " " + what_happens(address, bytes, mode), pc);
    std::fill_n(state, bytes, defined);  // said once
  }
  const std::uint64_t present = present_access(mode);
  for_each_cell(address, bytes, [&](std::uintptr_t four, unsigned mask) {
    check_order(cell_of(four), mask, "global", address, bytes, mode, present, pc);
  });
}

void check_shared_access(SharedRegion& region, std::uintptr_t address, std::size_t bytes, Mode mode,
                         std::uintptr_t pc) {
  const std::uint64_t present = present_access(mode);
  for_each_cell(address, bytes, [&](std::uintptr_t four, unsigned mask) {
    SharedCell& shared_cell = region.cells[(four - (region.start & ~std::uintptr_t{3})) / 4];
    if (shared_cell.serial != block.serial) {
      shared_cell.serial = block.serial;
      shared_cell.defined = 0;
      shared_cell.cell = {};  // every block has shared memory of its own
    }
    if (!overwrites(mode) && (mask & ~shared_cell.defined) != 0) {
      complain("uninitialised memory: " + describe_thread(block.current) + " " + what_happens(address, bytes, mode),
               pc);
    }
    shared_cell.defined |= mask;
    check_order(shared_cell.cell, mask, "shared", address, bytes, mode, present, pc);
  });
}

bool try_regions(std::uintptr_t address, std::size_t bytes, Mode mode, std::uintptr_t pc) {
  for (SharedRegion& region : shared) {
    if (address - region.start >= region.bytes) continue;
    check_shared_access(region, address, bytes, mode, pc);
    return true;
  }
  if (address - arguments < argument_bytes && mode == Mode::read) return true;
  if (is_constant_data(address) && mode == Mode::read) return true;
  return find_pinned(address) != nullptr;
}
}  // namespace

void check_access(std::uintptr_t address, std::size_t bytes, Mode mode, std::uintptr_t pc, bool aligned) {
  // What the standard library shares with the kernel's file may be instrumented: its accesses here are not the
  // kernel's.
  const OutsideKernel outside;
  // GCC calls 16 bytes aligned when 8 of them are; refuse_misaligned() is for the others.
  if (aligned && address % std::min<std::size_t>(bytes, 8) != 0)
    refuse("misaligned address", address, bytes, mode, pc, cudaErrorMisalignedAddress);
  if (in_arenas(address)) {
    check_device_access(address, bytes, mode, pc);
    return;
  }
  if (try_regions(address, bytes, mode, pc)) return;
  find_regions_again();
  shared = shared_regions();
  if (!try_regions(address, bytes, mode, pc)) refuse("host memory dereferenced in a kernel", address, bytes, mode, pc);
}

void refuse_misaligned(std::uintptr_t address, std::size_t alignment, const char* file, unsigned line) {
  const OutsideKernel outside;
  fail_kernel(cudaErrorMisalignedAddress, [&] {
    return "misaligned address: " + std::string(file) + ":" + std::to_string(line) + " wants a multiple of " +
           std::to_string(alignment) + " bytes, but is given " + describe_address(address);
  });
}

void begin_watch() {
  watching = world().checks && is_instrumented;
  if (is_instrumented) device(world().running_device).is_blind |= !watching;
  if (!watching) return;
  open_eyes(world().running_device);
  const auto& regions = shared_regions();
  if (shared.size() != regions.size() || shared[0].start != regions[0].start) shared = regions;
  arguments = reinterpret_cast<std::uintptr_t>(grid.call.arguments.get());
  argument_bytes = grid.call.argument_bytes;
  reported.clear();
}

void open_eyes(int index) {
  if (!std::exchange(device(index).is_blind, false)) return;
  // A device's kernels write to its peers' memory too.
  for (int i = 0; i < world().count; ++i) {
    device(i).heap.for_each([](std::uintptr_t start, const Allocation& allocation) {
      auto* memory = reinterpret_cast<void*>(start);
      if (count_marked(memory, 1, Byte::undefined) == 1) mark(memory, allocation.bytes, Byte::defined);
    });
  }
}

void end_watch() { watching = false; }
}  // namespace cudasim::detail
