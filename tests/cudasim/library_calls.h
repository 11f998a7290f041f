// Work of simulated libraries, which runs on the host's own stack.
#pragma once
#include <string>

namespace cudasim::detail {
bool in_library_call();
[[noreturn]] void abandon_library_call(const std::string& reason);
std::string describe_library_call();
}  // namespace cudasim::detail
