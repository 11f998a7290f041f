#include "kernels/cuda/libraries.h"

#include <algorithm>
#include <string_view>
#include <tuple>

#include "core/cuda_graph.h"

namespace halftone {
namespace {

std::string_view short_name(const char* path) {
  std::string_view file = path;
  if (const auto at = file.rfind("kernels/cuda/"); at != file.npos) file.remove_prefix(at);
  return file;
}

}  // namespace

void fail_cublas(cublasStatus_t status, std::source_location where) {
  std::ignore = cudaGetLastError();  // else a later, innocent call would report it again
  fail("cuBLAS: ", cublasLtGetStatusString(status), " (", cublasLtGetStatusName(status), ") in ", where.function_name(),
       ", ", short_name(where.file_name()), ":", where.line());
}

void fail_cudnn(cudnnStatus_t status, std::source_location where) {
  std::ignore = cudaGetLastError();
  fail("cuDNN: ", cudnnGetErrorString(status), " in ", where.function_name(), ", ", short_name(where.file_name()), ":",
       where.line());
}

namespace cuda {

// A graph writes to the addresses that its capture saw whenever it is replayed, so a capture takes memory of its own,
// which the graph keeps.
Tensor Workspace::of(Gpu& g, std::size_t bytes) {
  constexpr std::size_t kMostKept = std::size_t{64} << 20;
  const auto make = [&](std::size_t size) {
    return empty({static_cast<std::int64_t>(size)}, TensorOptions(kUInt8).device(g.device));
  };
  if (bytes > kMostKept || is_capturing(g.device)) return make(bytes);
  if (!kept_.defined() || kept_.nbytes() < bytes) {
    kept_.reset();
    kept_ = make(bytes);
  }
  return kept_;
}

std::uint32_t alignment_of(const void* address) {
  constexpr std::uintptr_t kMost = 256;
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | kMost;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

}  // namespace cuda
}  // namespace halftone
