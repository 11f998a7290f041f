// What lies at an address that is not device memory: shared variables, which are the host thread's thread-local
// storage, and constant data of the program.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "arena.h"

namespace cudasim::detail {
// Four bytes of shared memory.
struct SharedCell {
  Cell cell;
  std::uint32_t serial = 0;   // the block that wrote it
  std::uint32_t defined = 0;  // which bytes
};

struct SharedRegion {
  std::uintptr_t start;
  std::size_t bytes;
  SharedCell* cells;
  std::string image;  // the file whose variables these are
};

// Of this host thread.
const std::vector<SharedRegion>& shared_regions();
// Forgets what is known: a library may have been loaded since.
void find_regions_again();
bool is_constant_data(std::uintptr_t address);
}  // namespace cudasim::detail
