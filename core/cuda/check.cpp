#include "core/cuda/check.h"

#include <string_view>
#include <tuple>

namespace halftone {

void fail_cuda(cudaError_t status, std::source_location where) {
  std::ignore = cudaGetLastError();  // else a later, innocent call would report it again
  std::string_view file = where.file_name();
  for (const std::string_view layer : {"core/cuda/", "kernels/cuda/"}) {
    if (const auto at = file.rfind(layer); at != file.npos) file.remove_prefix(at);
  }
  fail("CUDA: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ") in ", where.function_name(), ", ", file,
       ":", where.line());
}

}  // namespace halftone
