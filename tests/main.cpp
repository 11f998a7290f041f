// The entry of all tests. It alone compiles Catch2's runner, so it does without the precompiled header.
#define CATCH_CONFIG_RUNNER
#include <cstdlib>
#include <iostream>

#include "core/device.h"
#include "tests/catch.h"

#if __has_include(<cudasim.h>)
#include <cudasim.h>

#include <cuda_runtime.h>

namespace {

int unclean_tests = 0;

/// Looks after the simulated GPUs: a test that leaves a report it has not taken note of fails the run. And each begins
/// with the thread's device set to another one than that under test, so that what forgets to select its device shows.
class SimulatorWatch : public Catch::EventListenerBase {
 public:
  using Catch::EventListenerBase::EventListenerBase;

  void testCaseStarting(const Catch::TestCaseInfo& test) override {
    name_ = test.name;
    const bool only_one = cudasim::counters().size() == 1;
    cudaSetDevice(only_one || halftone::get_default_device().index() == 1 ? 0 : 1);
  }

  void testCaseEnded(const Catch::TestCaseStats&) override {
    const int devices = static_cast<int>(cudasim::counters().size());
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < devices; ++i) {
      cudaSetDevice(i);
      const cudaError_t status = cudaDeviceSynchronize();
      if (error == cudaSuccess) error = status;
    }
    if (error == cudaSuccess && cudasim::reports().empty()) return;
    std::cerr << "FAILED: the test \"" << name_ << "\" leaves simulated GPUs that say: " << cudaGetErrorName(error)
              << '\n';
    for (const std::string& report : cudasim::reports()) std::cerr << "  " << report << '\n';
    cudasim::reset_errors();
    cudasim::clear_reports();
    ++unclean_tests;
  }

 private:
  std::string name_;
};
CATCH_REGISTER_LISTENER(SimulatorWatch)

}  // namespace
#else
namespace {
constexpr int unclean_tests = 0;
}
#endif

int main(int argc, char** argv) {
  // As tensors carry it: tests compare and print it.
  if (const char* device = std::getenv("HALFTONE_TEST_DEVICE"))
    halftone::set_default_device(halftone::canonical(device));
  const int failed = Catch::Session().run(argc, argv);
  return failed == 0 && unclean_tests > 0 ? 1 : failed;
}
