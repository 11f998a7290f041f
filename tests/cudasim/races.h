// Order of accesses within a launch: who read or wrote four bytes last, and whether the present access comes after it.
#pragma once
#include <cstdint>

#include "block.h"

namespace cudasim::detail {
void begin_checks();
void begin_block(std::uint64_t number);
void end_block();
void end_checks();

void check_atomic(std::uintptr_t address, std::size_t bytes);
}  // namespace cudasim::detail
