#include "kernels/cpu/cpu_backend.h"

namespace halftone {

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<CpuBackend>(); }

}  // namespace halftone
