// Memory that must not be touched: the signal handler that turns such an access in a kernel into CUDA's error.
#pragma once
#include <cstdint>
#include <string>

namespace cudasim::detail {
void watch_faults();
// A host thread that runs kernels needs its own stack for the handler.
void watch_faults_of_this_thread();

// What lies at an address, for people: "12 bytes behind the 400 bytes at 0x... of device 1".
std::string describe_address(std::uintptr_t address);
std::string hexadecimal(std::uintptr_t address);
}  // namespace cudasim::detail
