// Where tests run. Factories follow the default device, so a test that names no device runs on any kind of them:
// main.cpp takes it from HALFTONE_TEST_DEVICE (cpu unless set).
#pragma once

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/runtime.h"
#include "tests/catch.h"

namespace halftone::test {

/// How many devices of the kind under test there are.
inline int device_count() { return runtime(get_default_device().type()).device_count(); }

/// `count` different devices of the kind under test; the first is the one on which factories make tensors. A machine
/// with fewer, say a single GPU, skips the test case.
inline std::vector<Device> devices(int count) {
  const DeviceType type = get_default_device().type();
  const int first = std::max<int>(get_default_device().index(), 0), there = device_count();
  if (there < count) skip(str("it takes ", count, ' ', type, " devices, and there are ", there));
  std::vector<Device> all;
  for (int i = 0; i < count; ++i) all.push_back(canonical(Device(type, static_cast<DeviceIndex>((first + i) % there))));
  return all;
}

/// The kind of device under test.
inline DeviceType kind() { return get_default_device().type(); }

/// A device beside the one under test: of its kind, or the CPU where there is but one.
inline Device another_device() {
  const Device here = canonical(get_default_device());
  const int count = here.is_cuda() ? cuda::device_count() : kCpuDevices;
  return count < 2 ? Device(kCPU) : Device(here.type(), here.index() <= 0 ? 1 : 0);
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
