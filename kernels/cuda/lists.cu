#include "kernels/cuda/lists.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/distinct.h"
#include "kernels/indexing.h"

namespace halftone::cuda {
namespace {

/// covered[place] = 1 for the places of a tensor that may have some of them many times.
__global__ void __launch_bounds__(kThreads) mark_places(Places<1> places, int* covered, std::int64_t n) {
  const std::int64_t i = thread_in_grid();
  if (i >= n) return;
  std::int64_t at[1];
  places.find(i, at);
  atomicExch(covered + at[0], 1);
}

bool fills_its_memory(const Tensor& t) { return t.impl()->contiguous || is_dense(t.sizes(), t.strides()); }

}  // namespace

std::int32_t elements_of_piece(const Gpu& g, std::int64_t elements) {
  constexpr std::int32_t kSmallest = 1024, kLargest = 8192;
  std::int32_t piece = kSmallest;
  while (piece < kLargest && elements / piece > 8 * g.multiprocessors) piece *= 2;
  return piece;
}

Memory Stage::beside(const Tensor& lead, const Tensor& t, bool written, Dtype dtype) {
  const bool same_order = (lead.impl()->contiguous && t.impl()->contiguous) || t.strides().equals(lead.strides());
  if (dtype == Dtype::Undefined) dtype = t.dtype();
  if (same_order && dtype == t.dtype()) return memory_of(t);
  Tensor copy = empty_strided(lead.sizes(), lead.strides(), lead.options().dtype(dtype));
  backend_.copy(t, copy);
  if (written) {
    written_.push_back({t, copy, {}});
  } else {
    kept_.push_back(copy);
  }
  return memory_of(copy);
}

Tensor Stage::dense(const Tensor& t, bool written) {
  if (fills_its_memory(t)) return t;
  Tensor copy = empty(t.sizes(), t.options());
  backend_.copy(t, copy);
  if (written) {
    written_.push_back({t, copy, {}});
  } else {
    kept_.push_back(copy);
  }
  return copy;
}

Tensor Stage::distinct_places(const Tensor& t) {
  if (fills_its_memory(t)) return t;
  const Tensor once = distinct(t);
  return once.defined() ? dense(once, true) : covered_line(t);
}

// Overlapping windows: all memory from the first element to the last, with zeros where t has none.
Tensor Stage::covered_line(const Tensor& t) {
  std::int64_t length = 1;
  for (std::size_t i = 0; i < t.sizes().size(); ++i) length += (t.sizes()[i] - 1) * t.strides()[i];
  const Tensor line = alias(t, {length}, {1}, t.storage_offset());
  Tensor covered = empty({length}, t.options().dtype(kInt32)), zero = empty({}, t.options());
  backend_.fill(covered, 0);
  backend_.fill(zero, 0.0);
  launch(gpu(t), &mark_places, grid(ceil_div(t.numel(), kThreads)), kThreads, places(t.sizes(), t.strides()),
         covered.data_ptr<std::int32_t>(), t.numel());
  Tensor copy = empty({length}, t.options());
  backend_.ternary(fn::Where{}, covered, line, zero, copy, t.dtype());
  written_.push_back({line, copy, covered});
  return copy;
}

void Stage::write_back() {
  for (Copy& c : written_) {
    if (c.covered.defined()) {
      backend_.ternary(fn::Where{}, c.covered, c.dense, c.original, c.original, c.original.dtype());
    } else {
      backend_.copy(c.dense, c.original);
    }
  }
  written_.clear();
  kept_.clear();
}

}  // namespace halftone::cuda
