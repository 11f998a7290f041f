#include "kernels/cuda/elements.cuh"

namespace halftone::cuda {
namespace {

bool aligned(const Tensor& t) { return reinterpret_cast<std::uintptr_t>(t.data_ptr()) % 16 == 0; }

}  // namespace

ElementPlan plan_elements(const Tensor* const* tensors, int count) {
  const Tensor& y = *tensors[count - 1];
  ElementPlan plan;
  // Dense in the same order, gaps in none: positions in memory correspond, whatever the order of axes is.
  const bool y_dense = is_dense(y.sizes(), y.strides()) && aligned(y);
  plan.dense = y_dense;
  for (int k = 0; k + 1 < count; ++k) {
    const Tensor& x = *tensors[k];
    if (x.numel() == 1 && y.numel() != 1) {
      plan.single |= 1u << k;
    } else if (!x.sizes().equals(y.sizes()) || !x.strides().equals(y.strides()) || !aligned(x)) {
      // Strides of axes of size 1 say nothing; contiguous tensors correspond whatever they are.
      plan.dense = plan.dense && aligned(x) && x.numel() == y.numel() && x.is_contiguous() && y.is_contiguous();
    }
  }
  if (plan.dense) return plan;
  std::array<Dims, kMaxOperands> strides;
  for (int k = 0; k < kMaxOperands; ++k) {
    const Tensor& t = *tensors[std::min(k, count - 1)];  // unused places repeat the output
    strides[static_cast<std::size_t>(k)] = expanded_strides(t.sizes(), t.strides(), y.sizes());
  }
  // The output leads: its memory is written in order.
  const std::size_t out = static_cast<std::size_t>(count) - 1;
  const Loop merged = coalesce(y.sizes(), {strides[out], strides[0], strides[1], strides[2], strides[3]});
  plan.loop.sizes = merged.sizes;
  plan.loop.operands = count;
  for (std::size_t k = 0; k < out; ++k) plan.loop.strides[k] = merged.strides[k + 1];
  plan.loop.strides[out] = merged.strides[0];
  return plan;
}

}  // namespace halftone::cuda
