// The entry of all tests. It alone compiles Catch2's runner, so it does without the precompiled header.
#define CATCH_CONFIG_RUNNER
#include <cstdlib>

#include "core/device.h"
#include "tests/catch.h"

int main(int argc, char** argv) {
  // As tensors carry it: tests compare and print it.
  if (const char* device = std::getenv("HALFTONE_TEST_DEVICE"))
    halftone::set_default_device(halftone::canonical(device));
  return Catch::Session().run(argc, argv);
}
