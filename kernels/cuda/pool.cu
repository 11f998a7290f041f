#include "kernels/cuda/pool.cuh"

namespace halftone::cuda::pools {

MemoryFormat order_of(const Tensor& x) { return x.suggest_memory_format(); }

Tensor in_order(CudaBackend& backend, MemoryFormat order, const Tensor& x) {
  if (x.is_contiguous(order)) return x;
  Tensor copy = empty(x.sizes(), x.options().memory_format(order));
  backend.copy(x, copy);
  return copy;
}

namespace {

Axis axis_of(int in, int out, int kernel, int stride, int padding, int dilation) {
  const auto divider = [](int n) { return Divider(static_cast<std::uint32_t>(std::max(n, 1))); };
  return {in, out, kernel, stride, padding, dilation, divider(in), divider(out), divider(stride), divider(dilation)};
}

}  // namespace

PoolAndPlanes pool_of(const PoolShape& s, MemoryFormat order) {
  const bool channels_last = order == MemoryFormat::ChannelsLast;
  PoolAndPlanes p{{}, channels_last ? s.batch : s.batch * s.channels};
  p.pool.inner = channels_last ? s.channels : 1;
  p.pool.count_padding = s.count_padding;
  p.pool.divisor_override = static_cast<int>(s.divisor_override);
  Axis* const axes[] = {&p.pool.depth, &p.pool.height, &p.pool.width};
  const Window& w = s.window;
  for (int i = 0; i < w.rank; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const auto number = [](std::int64_t n) {
      check<ValueError>(n <= std::numeric_limits<std::int32_t>::max(), "a pool cannot have ", n,
                        " cells along an axis");
      return static_cast<int>(n);
    };
    *axes[3 - w.rank + i] = axis_of(number(w.in[k]), number(w.out[k]), number(w.kernel[k]), number(w.stride[k]),
                                    number(w.padding[k]), number(w.dilation[k]));
  }
  return p;
}

}  // namespace halftone::cuda::pools
