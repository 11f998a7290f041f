// Linked instead of core/cuda/nccl.cpp in a build without NCCL.
#include "core/cuda_nccl.h"

namespace halftone::cuda::nccl {

int version() { return 0; }
bool serves(std::span<const Device>) { return false; }
void broadcast(std::span<const Spread>, std::span<const Device>) {}
void reduce(std::span<const Sum>) {}
void all_reduce(TensorList, std::span<const Tensor>) {}
void gather(TensorList, std::span<const Tensor>, std::span<const Device>) {}

}  // namespace halftone::cuda::nccl
