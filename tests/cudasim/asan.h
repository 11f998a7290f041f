// AddressSanitizer's view of the simulator: which device memory is not to be touched, and which stack a thread runs on.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

namespace cudasim::detail::asan {
constexpr bool kOn = true;
inline void poison(const void* start, std::size_t bytes) { __asan_poison_memory_region(start, bytes); }
inline void unpoison(const void* start, std::size_t bytes) { __asan_unpoison_memory_region(start, bytes); }
inline void leave_stack(void** saved, const void* bottom, std::size_t bytes) {
  __sanitizer_start_switch_fiber(saved, bottom, bytes);
}
inline void enter_stack(void* saved, const void** old_bottom, std::size_t* old_bytes) {
  __sanitizer_finish_switch_fiber(saved, old_bottom, old_bytes);
}
}  // namespace cudasim::detail::asan
#else
namespace cudasim::detail::asan {
constexpr bool kOn = false;
inline void poison(const void*, std::size_t) {}
inline void unpoison(const void*, std::size_t) {}
inline void leave_stack(void**, const void*, std::size_t) {}
inline void enter_stack(void*, const void**, std::size_t*) {}
}  // namespace cudasim::detail::asan
#endif
