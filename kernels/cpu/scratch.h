// Memory that a thread keeps between calls: fresh pages would cost more than the arithmetic of a small net.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace halftone::cpu {

/// Who is using it. A user may hold its slot while it calls another one, but not while it calls itself.
enum class ScratchUse {
  matrix_a,
  matrix_b,
  matrix_y,
  gemm_work,
  columns,
  columns_grad,
  wide_input,
  wide_weight,
  wide_output,
  weight_sum,
  reorder_input,
  reorder_weight,
  reorder_output,
  library,
  count
};

namespace scratch_detail {

inline constexpr std::size_t kAlignment = 64;

struct Free {
  void operator()(std::byte* p) const noexcept { ::operator delete[](p, std::align_val_t{kAlignment}); }
};
struct Block {
  std::unique_ptr<std::byte[], Free> bytes;
  std::size_t size = 0;
};
inline thread_local std::array<Block, static_cast<std::size_t>(ScratchUse::count)> blocks;

}  // namespace scratch_detail

/// At least `bytes` bytes on a cache line, uninitialised, valid until this thread asks for the same use again.
inline void* scratch(ScratchUse use, std::size_t bytes) {
  using namespace scratch_detail;
  Block& block = blocks[static_cast<std::size_t>(use)];
  if (block.size < bytes) {
    block = {};  // first, so that the old and the new one need not fit together
    block.bytes.reset(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{kAlignment})));
    block.size = bytes;
  }
  return block.bytes.get();
}

template <class T> T* scratch(ScratchUse use, std::int64_t elements) {
  return static_cast<T*>(scratch(use, static_cast<std::size_t>(elements) * sizeof(T)));
}

}  // namespace halftone::cpu
