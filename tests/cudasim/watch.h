// The checks of every memory access that an instrumented kernel makes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tests/cudasim/races.h"

namespace cudasim::detail {
extern bool watching;         // a kernel runs and checks are on
extern bool is_instrumented;  // there are files with the instrumentation: only then is it known what kernels write

// The part of a check that is not over at once. pc: where in the kernel. aligned: whether the type says so.
void check_access(std::uintptr_t address, std::size_t bytes, Mode mode, std::uintptr_t pc, bool aligned);

// threadIdx and its kin, between names that the linker gives.
extern "C" const char __start_cudasim_builtins[], __stop_cudasim_builtins[];

inline bool is_builtin(std::uintptr_t address) {
  return address >= reinterpret_cast<std::uintptr_t>(__start_cudasim_builtins) &&
         address < reinterpret_cast<std::uintptr_t>(__stop_cudasim_builtins);
}

inline void watch(std::uintptr_t address, std::size_t bytes, Mode mode, void* pc, bool aligned) {
  if (!in_kernel || !watching || address - current_stack.bottom < current_stack.bytes) return;
  if (mode == Mode::read && is_builtin(address)) return;
  check_access(address, bytes, mode, reinterpret_cast<std::uintptr_t>(pc), aligned);
}

// A kernel's access through a pointer that is not aligned as its type demands.
[[noreturn]] void refuse_misaligned(std::uintptr_t address, std::size_t alignment, const char* file, unsigned line);

void begin_watch();
void end_watch();
// After kernels ran unwatched: what is allocated now may have been written by them.
void open_eyes(int index);
}  // namespace cudasim::detail
