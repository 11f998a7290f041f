// Linked instead of core/cuda in a build without CUDA.
#include "core/runtime.h"

namespace halftone {

std::unique_ptr<Runtime> make_cuda_runtime() { return nullptr; }

}  // namespace halftone
