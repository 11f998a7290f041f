// What work may touch, and what is said when it touches something else.
#pragma once
#include <cstddef>
#include <cstdint>

#include "state.h"

namespace cudasim::detail {
const Pinned* find_pinned(std::uintptr_t address);

// For copies and library calls, which name their memory: bytes of a device that the running work may use. Otherwise a
// report is made, the device fails, and the answer is false. Host memory passes.
bool may_read(const char* what, const void* pointer, std::size_t bytes, bool must_be_defined);
bool may_write(const char* what, const void* pointer, std::size_t bytes);
}  // namespace cudasim::detail
