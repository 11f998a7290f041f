// The statuses of CUDA's functions as errors: `check(cudaMalloc(&p, n))`.
#pragma once

#include <cuda_runtime.h>

#include <source_location>

#include "core/error.h"

namespace halftone {

[[noreturn]] void fail_cuda(cudaError_t status, std::source_location where);

/// Throws Error with CUDA's name and words for what went wrong, and the place of the call.
inline void check(cudaError_t status, std::source_location where = std::source_location::current()) {
  if (status != cudaSuccess) [[unlikely]]
    fail_cuda(status, where);
}

}  // namespace halftone
