// Page-locked host memory, kept for reuse: locking pages takes the driver far longer than copying through them.
#pragma once

#include <cstddef>

namespace halftone::cuda::pinned {

/// A block of at least `bytes`.
void* take(std::size_t bytes);
/// Takes a block back. It is handed out again only when the devices have done what is queued on them now.
void give(void* block, std::size_t bytes) noexcept;
/// Whether an address lies in a block.
bool contains(const void* address);

}  // namespace halftone::cuda::pinned
