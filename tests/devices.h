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

}  // namespace halftone::test
