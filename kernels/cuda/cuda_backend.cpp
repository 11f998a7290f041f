#include "kernels/cuda/cuda_backend.h"

#include "core/runtime.h"

namespace halftone {

std::unique_ptr<Backend> make_cuda_backend() { return has_runtime(kCUDA) ? std::make_unique<CudaBackend>() : nullptr; }

}  // namespace halftone
