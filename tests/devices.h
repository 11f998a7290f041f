// Where tests run. Factories follow the default device, so a test that names no device runs on any kind of them:
// main.cpp takes it from HALFTONE_TEST_DEVICE (cpu unless set).
#pragma once

#include <vector>

#include "core/runtime.h"

namespace halftone::test {

/// `count` different devices of the kind under test, from the first on.
inline std::vector<Device> devices(int count) {
  const DeviceType type = get_default_device().type();
  std::vector<Device> all;
  for (int i = 0; i < count; ++i) all.push_back(canonical(Device(type, static_cast<DeviceIndex>(i))));
  return all;
}

/// The default device while it lives. Under kCPU, draws are those of the CPU's generator, which are PyTorch's.
class DefaultDevice {
 public:
  explicit DefaultDevice(Device device) : before_(get_default_device()) { set_default_device(device); }
  ~DefaultDevice() { set_default_device(before_); }
  DefaultDevice(const DefaultDevice&) = delete;
  DefaultDevice& operator=(const DefaultDevice&) = delete;

 private:
  Device before_;
};

}  // namespace halftone::test
