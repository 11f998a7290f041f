// Memory that must not be touched: the signal handler that turns such an access in a kernel into CUDA's error.
#pragma once
#include <cstdint>
#include <string>

namespace cudasim::detail {
// Called by every call, because test frameworks install handlers of their own now and then.
void watch_faults();

// What lies at an address, for people: "12 bytes behind the 400 bytes at 0x... of device 1".
std::string describe_address(std::uintptr_t address);
std::string hexadecimal(std::uintptr_t address);
}  // namespace cudasim::detail
