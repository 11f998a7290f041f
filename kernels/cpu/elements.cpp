#include "kernels/cpu/elements.h"

namespace halftone::cpu {
namespace {

// Rows shorter than this are gathered several to a block.
constexpr std::int64_t kShortRow = 128;

// Calls `run(offset in elements, n)` for each run along the innermost axis of `count` elements from linear index
// `first`.
template <class Run>
void for_each_run(const Dims& sizes, const Dims& strides, std::int64_t first, std::int64_t count, Run run) {
  const std::size_t rank = sizes.size();
  Dims at(rank, 0);
  std::int64_t offset = 0;
  for (std::size_t i = rank; i-- > 0;) {
    at[i] = first % sizes[i];
    first /= sizes[i];
    offset += at[i] * strides[i];
  }
  while (count > 0) {
    const std::int64_t n = std::min(count, sizes[rank - 1] - at[rank - 1]);
    run(offset, n);
    count -= n;
    offset -= at[rank - 1] * strides[rank - 1];
    at[rank - 1] = 0;
    for (std::size_t i = rank - 1; i-- > 0;) {
      offset += strides[i];
      if (++at[i] < sizes[i]) break;
      offset -= sizes[i] * strides[i];
      at[i] = 0;
    }
  }
}

}  // namespace

// Blocks of whole or partial rows: operands that need no conversion are used where they are.
template <class C> void ElementLoop<C>::run_block(std::span<const std::int64_t> offsets, std::int64_t n) const {
  alignas(64) C buffers[kMaxOperands][kBlock];
  const C* in[kMaxOperands];
  for (int k = 0; k < inputs; ++k) {
    const LoopOperand<C>& x = operands[static_cast<std::size_t>(k)];
    const char* data = x.data + offsets[static_cast<std::size_t>(k)] * x.element;
    const std::int64_t stride = x.strides.back();
    if (x.direct && stride == 1) {
      in[k] = reinterpret_cast<const C*>(data);
    } else {
      x.load(data, stride, n, buffers[k]);
      in[k] = buffers[k];
    }
  }
  const LoopOperand<C>& y = operands[static_cast<std::size_t>(inputs)];
  char* out = y.data + offsets[static_cast<std::size_t>(inputs)] * y.element;
  const std::int64_t stride = y.strides.back();
  if (y.direct && stride == 1) {
    kernel(functor, n, in, reinterpret_cast<C*>(out));
  } else {
    kernel(functor, n, in, buffers[inputs]);
    y.store(buffers[inputs], stride, n, out);
  }
}

template <class C> void ElementLoop<C>::run_gathered(std::int64_t first, std::int64_t n) const {
  alignas(64) C buffers[kMaxOperands][kBlock];
  const C* in[kMaxOperands];
  for (int k = 0; k < inputs; ++k) {
    const LoopOperand<C>& x = operands[static_cast<std::size_t>(k)];
    C* to = buffers[k];
    for_each_run(sizes, x.strides, first, n, [&](std::int64_t offset, std::int64_t length) {
      x.load(x.data + offset * x.element, x.strides.back(), length, to);
      to += length;
    });
    in[k] = buffers[k];
  }
  kernel(functor, n, in, buffers[inputs]);
  const LoopOperand<C>& y = operands[static_cast<std::size_t>(inputs)];
  const C* from = buffers[inputs];
  for_each_run(sizes, y.strides, first, n, [&](std::int64_t offset, std::int64_t length) {
    y.store(from, y.strides.back(), length, y.data + offset * y.element);
    from += length;
  });
}

template <class C> void ElementLoop<C>::run_range(std::int64_t first, std::int64_t last) const {
  const std::int64_t row = sizes.back();
  const auto count = static_cast<std::size_t>(inputs) + 1;
  std::array<std::int64_t, kMaxOperands> offsets{};
  while (first < last) {
    if (row < kShortRow && sizes.size() > 1) {
      const std::int64_t n = std::min(kBlock, last - first);
      run_gathered(first, n);
      first += n;
      continue;
    }
    std::int64_t rest = first;
    offsets.fill(0);
    std::int64_t column = 0;
    for (std::size_t i = sizes.size(); i-- > 0;) {
      const std::int64_t at = rest % sizes[i];
      rest /= sizes[i];
      if (i + 1 == sizes.size()) column = at;
      for (std::size_t k = 0; k < count; ++k) offsets[k] += at * operands[k].strides[i];
    }
    const std::int64_t n = std::min({kBlock, row - column, last - first});
    run_block({offsets.data(), count}, n);
    first += n;
  }
}

namespace {

// Nothing to convert and nothing to broadcast: the kernel runs on the operands' memory.
template <class C>
bool run_in_place(std::span<const Tensor* const> inputs, const Tensor& y, BlockKernel<C> kernel, const void* functor) {
  const std::int64_t n = y.numel();
  const auto plain = [n](const Tensor& t) { return t.dtype() == dtype_of<C> && t.is_contiguous() && t.numel() == n; };
  const C* data[kMaxOperands];
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    if (!plain(*inputs[k])) return false;
    data[k] = static_cast<const C*>(inputs[k]->data_ptr());
  }
  if (!plain(y)) return false;
  C* out = static_cast<C*>(y.data_ptr());
  const std::size_t count = inputs.size();
  parallel_for(0, n, kParallelGrain, [&](std::int64_t first, std::int64_t last) {
    const C* in[kMaxOperands];
    for (std::size_t k = 0; k < count; ++k) in[k] = data[k] + first;
    kernel(functor, last - first, in, out + first);
  });
  return true;
}

}  // namespace

template <class C>
void run_elements(std::span<const Tensor* const> inputs, const Tensor& y, BlockKernel<C> kernel, const void* functor) {
  if (run_in_place<C>(inputs, y, kernel, functor)) return;
  ElementLoop<C> loop;
  loop.inputs = static_cast<int>(inputs.size());
  loop.kernel = kernel;
  loop.functor = functor;

  // All contiguous and of one shape, or one element: a single row.
  bool flat = y.is_contiguous();
  for (const Tensor* x : inputs) flat = flat && (x->numel() == 1 || (x->is_contiguous() && x->numel() == y.numel()));
  std::array<Dims, kMaxOperands> strides;
  const auto operand = [&](std::size_t k) -> const Tensor& { return k < inputs.size() ? *inputs[k] : y; };
  if (flat) {
    loop.sizes = {y.numel()};
    for (std::size_t k = 0; k <= inputs.size(); ++k) strides[k] = {operand(k).numel() == 1 && y.numel() != 1 ? 0 : 1};
  } else {
    for (std::size_t k = 0; k <= inputs.size(); ++k) {
      strides[k] = expanded_strides(operand(k).sizes(), operand(k).strides(), y.sizes());
    }
    // The output leads: its memory is written in order. Unused places repeat an operand.
    const auto input = [&](std::size_t k) -> const Dims& {
      return strides[k < inputs.size() ? k : (inputs.empty() ? inputs.size() : 0)];
    };
    const Loop merged = coalesce(y.sizes(), {strides[inputs.size()], input(0), input(1), input(2), input(3)});
    loop.sizes = merged.sizes;
    strides[inputs.size()] = merged.strides[0];
    for (std::size_t k = 0; k < inputs.size(); ++k) strides[k] = merged.strides[k + 1];
  }
  for (std::size_t k = 0; k <= inputs.size(); ++k) {
    loop.operands[k] = LoopOperand<C>(operand(k));
    loop.operands[k].strides = strides[k];
  }
  loop.run();
}

template struct ElementLoop<float>;
template struct ElementLoop<double>;
template struct ElementLoop<std::int64_t>;
template void run_elements<float>(std::span<const Tensor* const>, const Tensor&, BlockKernel<float>, const void*);
template void run_elements<double>(std::span<const Tensor* const>, const Tensor&, BlockKernel<double>, const void*);
template void run_elements<std::int64_t>(std::span<const Tensor* const>, const Tensor&, BlockKernel<std::int64_t>,
                                         const void*);

}  // namespace halftone::cpu
