// The launch of a kernel: cudaLaunchKernelEx copies the arguments, as CUDA does, and queues the rest.
#pragma once
#include <memory>
#include <tuple>
#include <utility>

#include "../cuda_runtime_api.h"

namespace cudasim {
using KernelAddress = void (*)();

// How a thread of the simulator calls a kernel whose type only cudaLaunchKernelEx knew.
struct KernelCall {
  KernelAddress kernel;
  void (*invoke)(KernelAddress kernel, const void* arguments);
  std::shared_ptr<const void> arguments;
  std::size_t argument_bytes;
};

cudaError_t launch(const cudaLaunchConfig_t& config, KernelCall call);
cudaError_t kernel_attributes(cudaFuncAttributes* attributes, KernelAddress kernel);
cudaError_t blocks_per_multiprocessor(int* blocks, KernelAddress kernel, int threads, std::size_t dynamic_shared);
}  // namespace cudasim

template <class... Expected, class... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...), Actual&&... actual) {
  using Arguments = std::tuple<Expected...>;
  static_assert(sizeof(Arguments) <= 32764, "a kernel's parameters may take 32,764 bytes");
  static_assert((std::is_trivially_copyable_v<Expected> && ...), "a kernel's arguments are copied byte by byte");
  const auto invoke = [](cudasim::KernelAddress address, const void* arguments) {
    std::apply(reinterpret_cast<void (*)(Expected...)>(address), *static_cast<const Arguments*>(arguments));
  };
  return cudasim::launch(*config,
                         {reinterpret_cast<cudasim::KernelAddress>(kernel), invoke,
                          std::make_shared<const Arguments>(std::forward<Actual>(actual)...), sizeof(Arguments)});
}

template <class... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(Parameters...)) {
  return cudasim::kernel_attributes(attributes, reinterpret_cast<cudasim::KernelAddress>(kernel));
}

template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(Parameters...), int threads,
                                                          std::size_t dynamic_shared) {
  return cudasim::blocks_per_multiprocessor(blocks, reinterpret_cast<cudasim::KernelAddress>(kernel), threads,
                                            dynamic_shared);
}
