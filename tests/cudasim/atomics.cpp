// Atomic operations. Mapped host memory may be read by the host meanwhile, so they are atomic for the host too.
#include <bit>
#include <cstdint>

#include "tests/cudasim/block.h"
#include "tests/cudasim/watch.h"

using namespace cudasim::detail;

namespace {
template <class T> struct Bits { using Type = T; };
template <> struct Bits<float> { using Type = std::uint32_t; };
template <> struct Bits<double> { using Type = std::uint64_t; };

// Replaces the value by next(value) in one step and returns the old one.
template <class T, class Next> __attribute__((always_inline)) inline T update(T* address, Next next) {
  note_atomic();
  watch(reinterpret_cast<std::uintptr_t>(address), sizeof(T), Mode::atomic, __builtin_return_address(0), true);
  using Raw = typename Bits<T>::Type;
  auto* raw = reinterpret_cast<Raw*>(address);
  Raw old = __atomic_load_n(raw, __ATOMIC_RELAXED);
  while (true) {
    const Raw wanted = std::bit_cast<Raw>(static_cast<T>(next(std::bit_cast<T>(old))));
    if (__atomic_compare_exchange_n(raw, &old, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
  }
  return std::bit_cast<T>(old);
}

template <class T> T wrapping_add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return a + b;
  }
}
}  // namespace

#define CUDASIM_ATOMIC(name, type, expression)                                             \
  type name(type* address, type value) {                                                   \
    return update(address, [=]([[maybe_unused]] type old) -> type { return expression; }); \
  }                                                                                        \
  static_assert(sizeof(type) > 0)
#define CUDASIM_INTEGER_ATOMICS(type)                                                \
  CUDASIM_ATOMIC(atomicAdd, type, wrapping_add(old, value));                         \
  CUDASIM_ATOMIC(atomicExch, type, value);                                           \
  type atomicCAS(type* address, type expected, type value) {                         \
    return update(address, [=](type old) { return old == expected ? value : old; }); \
  }                                                                                  \
  static_assert(sizeof(type) > 0)

CUDASIM_INTEGER_ATOMICS(int);
CUDASIM_INTEGER_ATOMICS(unsigned);
CUDASIM_INTEGER_ATOMICS(unsigned long long);
CUDASIM_ATOMIC(atomicAdd, float, old + value);
CUDASIM_ATOMIC(atomicAdd, double, old + value);
CUDASIM_ATOMIC(atomicExch, float, value);

unsigned short atomicCAS(unsigned short* address, unsigned short expected, unsigned short value) {
  return update(address, [=](unsigned short old) { return old == expected ? value : old; });
}

void __threadfence() { note_fence(); }
void __threadfence_system() { __threadfence(); }
