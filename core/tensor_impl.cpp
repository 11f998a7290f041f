#include "core/tensor_impl.h"

#include "core/shape.h"

namespace halftone {
namespace {

std::atomic<std::int64_t> tensors_alive{0};

}  // namespace

TensorImpl::TensorImpl() { tensors_alive.fetch_add(1, std::memory_order_relaxed); }
TensorImpl::~TensorImpl() { tensors_alive.fetch_sub(1, std::memory_order_relaxed); }

std::int64_t live_tensors() { return tensors_alive.load(std::memory_order_relaxed); }

void TensorImpl::set_geometry(const Dims& new_sizes, const Dims& new_strides, std::int64_t new_offset) {
  sizes = new_sizes;
  strides = new_strides;
  offset = new_offset;
  numel = count_elements(sizes);
  contiguous = is_contiguous(sizes, strides);
}

std::int64_t count_elements(IntArrayRef sizes) {
  std::int64_t n = 1;
  for (const std::int64_t s : sizes) n *= s;
  return n;
}

Dims contiguous_strides(IntArrayRef sizes) {
  Dims strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<std::int64_t>(sizes[i], 1);
  return strides;
}

Dims channels_last_strides(IntArrayRef sizes) {
  check(sizes.size() == 4 || sizes.size() == 5, "channels_last: needs [N, C, H, W] or [N, C, D, H, W], not ", sizes);
  Dims strides(sizes.size(), 1);
  std::int64_t step = std::max<std::int64_t>(sizes[1], 1);
  for (std::size_t i = sizes.size(); i-- > 2;) {
    strides[i] = step;
    step *= std::max<std::int64_t>(sizes[i], 1);
  }
  strides[0] = step;
  return strides;
}

}  // namespace halftone
