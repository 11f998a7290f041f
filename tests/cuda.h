// What tests of CUDA share. They do nothing where there is no device; on simulated GPUs they count calls and make them
// fail as well.
#pragma once

#include "core/runtime.h"
#include "tests/catch.h"
#include "tests/devices.h"

#if __has_include(<cudasim.h>)
#include <cudasim.h>
#define HALFTONE_SIMULATED_CUDA 1
#else
#define HALFTONE_SIMULATED_CUDA 0
#endif

namespace halftone::test {

inline std::vector<Device> cuda_devices() {
  std::vector<Device> all;
  for (int i = 0; i < cuda::device_count(); ++i) all.emplace_back(kCUDA, static_cast<DeviceIndex>(i));
  return all;
}

/// Whether a convolution under test is a plain sum, so that what is exact comes out equal. On a real GPU cuDNN may go
/// by Winograd's or Fourier's transform, which rounds on the way.
inline bool convolutions_are_sums() { return get_default_device().is_cpu() || HALFTONE_SIMULATED_CUDA; }

/// Skips the test case where there are fewer GPUs.
inline void need_gpus(int count) {
  if (cuda::device_count() < count) skip(str("it takes ", count, " GPUs, and there are ", cuda::device_count()));
}

template <class F> std::string message_of_error(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace halftone::test
