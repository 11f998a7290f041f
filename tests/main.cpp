// The entry of all tests. It alone compiles Catch2's runner, so it does without the precompiled header.
#define CATCH_CONFIG_RUNNER
#include "tests/catch.h"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
