#include "kernels/backend.h"

#include <array>

namespace halftone {

Backend& backend(DeviceType type) {
  static const std::array<std::unique_ptr<Backend>, kDeviceTypes> backends{make_cpu_backend(), make_cuda_backend()};
  const auto& found = backends[static_cast<std::size_t>(type)];
  check(found != nullptr, "this build of halftone or this machine has no ", name(type), " device");
  return *found;
}

}  // namespace halftone
