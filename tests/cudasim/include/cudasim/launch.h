// The launch of a kernel: the arguments are copied, as CUDA does, and the rest is queued.
#pragma once
#include <memory>
#include <tuple>
#include <utility>

#include <cuda_runtime_api.h>

namespace cudasim {
using KernelAddress = void (*)();

// How a thread of the simulator calls a kernel whose type only the launch knew.
struct KernelCall {
  KernelAddress kernel;
  void (*invoke)(KernelAddress kernel, const void* arguments);
  std::shared_ptr<const void> arguments;
  std::size_t argument_bytes;
};

cudaError_t launch(const cudaLaunchConfig_t& config, KernelCall call);
}  // namespace cudasim

namespace cudasim {
template <class... Parameters>
cudaError_t launch(const cudaLaunchConfig_t& config, void (*kernel)(Parameters...),
                   std::shared_ptr<const std::tuple<Parameters...>> arguments) {
  using Arguments = std::tuple<Parameters...>;
  static_assert(sizeof(Arguments) <= 32764, "a kernel's parameters may take 32,764 bytes");
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "a kernel's arguments are copied byte by byte");
  const auto invoke = [](KernelAddress address, const void* all) {
    std::apply(reinterpret_cast<void (*)(Parameters...)>(address), *static_cast<const Arguments*>(all));
  };
  return launch(config, {reinterpret_cast<KernelAddress>(kernel), invoke, std::move(arguments), sizeof(Arguments)});
}
}  // namespace cudasim

template <class... Expected, class... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...), Actual&&... actual) {
  return cudasim::launch(*config, kernel,
                         std::make_shared<const std::tuple<Expected...>>(std::forward<Actual>(actual)...));
}

// CUDA's template of this name takes the kernel's type as well.
template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, void** arguments,
                             std::size_t dynamic_shared = 0, cudaStream_t stream = nullptr) {
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = dynamic_shared;
  config.stream = stream;
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return cudasim::launch(
        config, kernel, std::make_shared<const std::tuple<Parameters...>>(*static_cast<Parameters*>(arguments[I])...));
  }
  (std::index_sequence_for<Parameters...>{});
}
