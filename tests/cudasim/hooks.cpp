// The functions that GCC's instrumentation for ThreadSanitizer calls: on every memory access of a kernel, and also of
// the host code in the same file, which passes through. The sanitizer's own library defines them too, so that a build
// with it cannot have these.
#if !defined(__SANITIZE_THREAD__)
#include <cstring>
#include <mutex>

#include "tests/cudasim/watch.h"

using namespace cudasim::detail;

namespace {
void access(const volatile void* address, std::size_t bytes, Mode mode, void* pc, bool aligned = true) {
  watch(reinterpret_cast<std::uintptr_t>(address), bytes, mode, pc, aligned);
}
}  // namespace

#if CUDASIM_HAS_CHECKS
// What the check of alignment hands over, as GCC lays it out.
struct TypeMismatch {
  const char* file;
  std::uint32_t line, column;
  const void* type;
  unsigned char log_alignment, kind;
};

extern "C" void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, std::uintptr_t address) {
  const std::size_t alignment = std::size_t{1} << data->log_alignment;
  if (!in_kernel || !watching || address % alignment == 0) return;
  refuse_misaligned(address, alignment, data->file, data->line);
}
#endif

#define CUDASIM_HOOK(bytes)                                                                                          \
  void __tsan_read##bytes(void* p) { access(p, bytes, Mode::read, __builtin_return_address(0)); }                    \
  void __tsan_write##bytes(void* p) { access(p, bytes, Mode::write, __builtin_return_address(0)); }                  \
  void __tsan_unaligned_read##bytes(void* p) { access(p, bytes, Mode::read, __builtin_return_address(0), false); }   \
  void __tsan_unaligned_write##bytes(void* p) { access(p, bytes, Mode::write, __builtin_return_address(0), false); } \
  void __tsan_volatile_read##bytes(void* p) { access(p, bytes, Mode::read, __builtin_return_address(0)); }           \
  void __tsan_volatile_write##bytes(void* p) { access(p, bytes, Mode::store, __builtin_return_address(0)); }         \
  static_assert(bytes > 0)

// Atomics really happen. The order the caller asked for is never stronger than this.
#define CUDASIM_ATOMIC_FETCH(bits, type, name)                                 \
  type __tsan_atomic##bits##_fetch_##name(volatile type* p, type value, int) { \
    access(p, sizeof(type), Mode::atomic, __builtin_return_address(0));        \
    return __atomic_fetch_##name(p, value, __ATOMIC_SEQ_CST);                  \
  }                                                                            \
  static_assert(bits > 0)
#define CUDASIM_ATOMIC_HOOKS(bits, type)                                                                        \
  type __tsan_atomic##bits##_load(const volatile type* p, int) {                                                \
    access(p, sizeof(type), Mode::atomic, __builtin_return_address(0));                                         \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                \
  }                                                                                                             \
  void __tsan_atomic##bits##_store(volatile type* p, type value, int) {                                         \
    access(p, sizeof(type), Mode::store, __builtin_return_address(0));                                          \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                               \
  }                                                                                                             \
  type __tsan_atomic##bits##_exchange(volatile type* p, type value, int) {                                      \
    access(p, sizeof(type), Mode::atomic, __builtin_return_address(0));                                         \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                                     \
  }                                                                                                             \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* p, type* expected, type value, int, int) {   \
    access(p, sizeof(type), Mode::atomic, __builtin_return_address(0));                                         \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);          \
  }                                                                                                             \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* p, type* expected, type value, int a, int b) { \
    return __tsan_atomic##bits##_compare_exchange_strong(p, expected, value, a, b);                             \
  }                                                                                                             \
  type __tsan_atomic##bits##_compare_exchange_val(volatile type* p, type expected, type value, int a, int b) {  \
    __tsan_atomic##bits##_compare_exchange_strong(p, &expected, value, a, b);                                   \
    return expected;                                                                                            \
  }                                                                                                             \
  CUDASIM_ATOMIC_FETCH(bits, type, add);                                                                        \
  CUDASIM_ATOMIC_FETCH(bits, type, sub);                                                                        \
  CUDASIM_ATOMIC_FETCH(bits, type, and);                                                                        \
  CUDASIM_ATOMIC_FETCH(bits, type, or);                                                                         \
  CUDASIM_ATOMIC_FETCH(bits, type, xor);                                                                        \
  CUDASIM_ATOMIC_FETCH(bits, type, nand)

extern "C" {
void __tsan_init() { is_instrumented = true; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* p, unsigned long bytes) {
  access(p, bytes, Mode::read, __builtin_return_address(0), false);
}
void __tsan_write_range(void* p, unsigned long bytes) {
  access(p, bytes, Mode::write, __builtin_return_address(0), false);
}
CUDASIM_HOOK(1);
CUDASIM_HOOK(2);
CUDASIM_HOOK(4);
CUDASIM_HOOK(8);
CUDASIM_HOOK(16);
CUDASIM_ATOMIC_HOOKS(8, unsigned char);
CUDASIM_ATOMIC_HOOKS(16, unsigned short);
CUDASIM_ATOMIC_HOOKS(32, unsigned);
CUDASIM_ATOMIC_HOOKS(64, unsigned long);
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
}

// Processors differ in how they do 128 bits, if at all: a lock always works among instrumented files.
__extension__ typedef unsigned __int128 Wide;
namespace {
std::mutex wide_lock;

template <class Next> Wide update(volatile Wide* address, Next next) {
  const std::lock_guard<std::mutex> guard(wide_lock);
  const Wide old = *address;
  *address = next(old);
  return old;
}
}  // namespace

extern "C" {
Wide __tsan_atomic128_load(const volatile Wide* p, int) {
  return update(const_cast<volatile Wide*>(p), [](Wide old) { return old; });
}
void __tsan_atomic128_store(volatile Wide* p, Wide value, int) {
  update(p, [=](Wide) { return value; });
}
Wide __tsan_atomic128_exchange(volatile Wide* p, Wide value, int) {
  return update(p, [=](Wide) { return value; });
}
int __tsan_atomic128_compare_exchange_strong(volatile Wide* p, Wide* expected, Wide value, int, int) {
  const Wide wanted = *expected;
  *expected = update(p, [=](Wide old) { return old == wanted ? value : old; });
  return *expected == wanted ? 1 : 0;
}
int __tsan_atomic128_compare_exchange_weak(volatile Wide* p, Wide* expected, Wide value, int a, int b) {
  return __tsan_atomic128_compare_exchange_strong(p, expected, value, a, b);
}
}
#endif
