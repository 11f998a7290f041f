// The entry of all tests. It alone compiles Catch2's runner, so it does without the precompiled header.
#define CATCH_CONFIG_RUNNER
#include <cstdlib>

#include "core/device.h"
#include "tests/catch.h"

int main(int argc, char** argv) {
  if (const char* device = std::getenv("HALFTONE_TEST_DEVICE")) halftone::set_default_device(device);
  return Catch::Session().run(argc, argv);
}
