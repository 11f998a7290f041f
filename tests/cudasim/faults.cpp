#include "faults.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "arena.h"
#include "asan.h"
#include "block.h"
#include "checks.h"
#include "library_calls.h"

namespace cudasim::detail {
namespace {
struct sigaction earlier;
std::string fault;  // of the kernel or library call being abandoned

// Where the handler sends a kernel's thread: it runs on the thread's own stack, as if the kernel had called it.
[[noreturn]] void end_kernel() {
  fail_kernel(cudaErrorIllegalAddress, [] { return fault; });
}
[[noreturn]] void end_library_call() { abandon_library_call(fault); }

bool was_write(const ucontext_t& context) {
#if defined(__x86_64__)
  return (context.uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
  (void)context;
  return false;
#endif
}

bool continue_at(ucontext_t& context, void (*function)(), const Stack& stack) {
#if defined(__x86_64__)
  context.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(function);
  std::uintptr_t top = static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RSP]) - 256;  // past the red zone
  if (stack.bytes != 0) top = stack.bottom + stack.bytes - 8192;  // the stack itself may have overflowed
  context.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>((top & ~std::uintptr_t{15}) - 8);
  return true;
#elif defined(__aarch64__)
  context.uc_mcontext.pc = reinterpret_cast<std::uintptr_t>(function);
  if (stack.bytes != 0) context.uc_mcontext.sp = (stack.bottom + stack.bytes - 8192) & ~std::uintptr_t{15};
  return true;
#else
  (void)context, (void)function, (void)stack;
  return false;
#endif
}

void handle(int, siginfo_t* info, void* data) {
  auto& context = *static_cast<ucontext_t*>(data);
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const std::string access = std::string(was_write(context) ? "write to " : "read of ") + describe_address(address);
  const bool overflow = address - (current_stack.bottom - 4096) < 4096;
  if (in_kernel) {
    fault = overflow ? "stack overflow in a kernel" : "illegal " + access;
    if (continue_at(context, end_kernel, current_stack)) return;
  } else if (in_library_call()) {
    fault = "illegal " + access;
    if (continue_at(context, end_library_call, {})) return;
  }
  if (in_arenas(address)) {
    std::fprintf(stderr, "cudasim: device memory dereferenced on the host: %s\n", access.c_str());
    std::abort();
  }
  // Not ours: the access repeats under whoever watched before, and if it comes back, under nobody.
  static bool is_passed_on = false;
  if (std::exchange(is_passed_on, true)) earlier.sa_handler = SIG_DFL;
  sigaction(info->si_signo, &earlier, nullptr);
}

void watch_on_own_stack() {
  stack_t present{};
  sigaltstack(nullptr, &present);
  if ((present.ss_flags & SS_DISABLE) == 0) return;  // somebody has set one
  constexpr std::size_t kBytes = std::size_t{64} << 10;
  // It lives as long as its thread may need it, which is to the end.
  static thread_local void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = kBytes;
  if (memory != MAP_FAILED) sigaltstack(&stack, nullptr);
}
}  // namespace

void watch_faults() {
  struct sigaction present {};
  sigaction(SIGSEGV, nullptr, &present);
  if ((present.sa_flags & SA_SIGINFO) == 0 || present.sa_sigaction != handle) {
    earlier = present;
    struct sigaction action {};
    action.sa_sigaction = handle;
    // Leaving the handler is the usual way out, so nothing needs to be deferred; SIGSEGV may come again.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
  }
  watch_on_own_stack();
}

std::string hexadecimal(std::uintptr_t address) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%zx", static_cast<std::size_t>(address));
  return text;
}

std::string describe_address(std::uintptr_t address) {
  const std::string where = hexadecimal(address);
  if (in_arenas(address)) {
    const int index = device_of(address);
    const std::string name = "device " + std::to_string(index);
    const Heap& heap = device(index).heap;
    if (const auto* around = heap.around(address)) {
      return where + ", byte " + std::to_string(address - around->first) + " of " +
             std::to_string(around->second.bytes) + " allocated on " + name;
    }
    if (const auto* before = heap.before(address)) {
      return where + ", " + std::to_string(address - before->first - before->second.bytes) + " bytes behind " +
             std::to_string(before->second.bytes) + " bytes allocated on " + name;
    }
    return where + ", unallocated or freed memory of " + name;
  }
  if (address < 4096) return "a null pointer (" + where + ")";
  if (find_pinned(address)) return where + ", pinned host memory";
  return where + ", host memory";
}
}  // namespace cudasim::detail
