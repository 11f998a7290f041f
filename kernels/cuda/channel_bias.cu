#include "kernels/cuda/channel_bias.h"

#include "kernels/cuda/elements.cuh"

namespace halftone::cuda {
namespace {

/// In memory's order the channel changes every `inner` elements, and starts again after the last.
struct Channels {
  std::int64_t count, inner;
  std::int64_t bias_stride;
};

template <class C>
__global__ void __launch_bounds__(kThreads) fill_channels(Memory bias, Memory y, Channels channels, std::int64_t n) {
  constexpr int kCount = Memory::kPack<C>;
  const std::int64_t pack = thread_in_grid(), first = pack * kCount;
  if (first >= n) return;
  std::int64_t channel, within;
  if (n <= std::numeric_limits<std::uint32_t>::max()) {  // division of 64 bits takes many times as long
    const auto at = static_cast<std::uint32_t>(first), inner = static_cast<std::uint32_t>(channels.inner);
    within = at % inner, channel = at / inner % static_cast<std::uint32_t>(channels.count);
  } else {
    within = first % channels.inner, channel = first / channels.inner % channels.count;
  }
  C values[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = bias.load<C>(channel * channels.bias_stride);
    if (++within < channels.inner) continue;
    within = 0;
    if (++channel == channels.count) channel = 0;
  }
  store_elements(y, pack, n, values);
}

}  // namespace

void fill_with_bias(const Tensor& bias, Tensor& y) {
  const std::int64_t count = y.size(1);
  const Channels channels{count, y.is_contiguous() ? y.numel() / (y.size(0) * count) : 1, bias.stride(0)};
  with_arithmetic<false>(y.dtype(), [&]<class C>(Type<C>) {
    const std::int64_t blocks = ceil_div(y.numel(), std::int64_t{Memory::kPack<C>} * kThreads);
    launch(gpu(y), &fill_channels<C>, grid(blocks), kThreads, memory_of(bias), memory_of(y), channels, y.numel());
  });
}

}  // namespace halftone::cuda
