// Names of functions, from the program's own symbol table.
#pragma once
#include <cstdint>
#include <string>

namespace cudasim::detail {
// The function an address lies in, demangled; the bare address when the program is stripped.
const std::string& symbol_at(std::uintptr_t address);
// The address as addr2line knows it, with the file it belongs to: "addr2line -e FILE 0x1234".
std::string line_command(std::uintptr_t address);
// A thread-local variable, which is a kernel's shared one, by its offset in a file's: "`kernel()::tile` + 20 bytes".
std::string shared_variable(const std::string& image, std::uintptr_t offset);
}  // namespace cudasim::detail
