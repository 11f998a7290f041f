#include "kernels/cuda/row_kernel.cuh"

namespace halftone::cuda {

RowOperand row_operand(const Tensor& t, std::int64_t dim) {
  RowOperand operand;
  operand.memory.data = static_cast<char*>(t.data_ptr());
  operand.memory.dtype = t.dtype();
  operand.memory.stride = t.dim() == 0 ? 1 : t.stride(dim);
  operand.places = without(t.strides(), dim);
  return operand;
}

RowOperand shared_row(const Tensor& t, std::size_t axes, float otherwise) {
  RowOperand operand;
  operand.memory.otherwise = otherwise;
  operand.places = Dims(axes, 0);
  if (!t.defined()) return operand;
  operand.memory.data = static_cast<char*>(t.data_ptr());
  operand.memory.dtype = t.dtype();
  operand.memory.stride = t.stride(-1);
  return operand;
}

Loop merge_places(IntArrayRef sizes, RowOperand* operands, int count) {
  const auto strides = [&](int k) -> IntArrayRef { return operands[std::min(k, count - 1)].places; };
  const Loop places = coalesce(sizes, {strides(0), strides(1), strides(2), strides(3), strides(4)});
  bool in_packs = true;  // a team's operands are dealt out alike
  for (int k = 0; k < count; ++k) {
    const RowMemory& m = operands[k].memory;
    if (m.data == nullptr) continue;
    const auto bytes = static_cast<std::int64_t>(element_size(m.dtype));
    in_packs = in_packs && m.stride == 1 && reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0;
    for (const std::int64_t stride : places.strides[static_cast<std::size_t>(k)]) {
      in_packs = in_packs && stride * bytes % 16 == 0;
    }
  }
  for (int k = 0; k < count; ++k) operands[k].memory.in_packs = in_packs;
  return places;
}

}  // namespace halftone::cuda
