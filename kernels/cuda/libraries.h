// What NVIDIA's libraries have in common: statuses as errors, C handles as values, and what a thread keeps of a
// library.
#pragma once

#include <cublasLt.h>
#include <cudnn.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/cuda/gpu.h"
#include "core/tensor.h"

namespace halftone {

[[noreturn]] void fail_cublas(cublasStatus_t status, std::source_location where);
[[noreturn]] void fail_cudnn(cudnnStatus_t status, std::source_location where);

/// Throws Error with the library's name for what went wrong, and the place of the call.
inline void check(cublasStatus_t status, std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) [[unlikely]]
    fail_cublas(status, where);
}
inline void check(cudnnStatus_t status, std::source_location where = std::source_location::current()) {
  if (status != CUDNN_STATUS_SUCCESS) [[unlikely]]
    fail_cudnn(status, where);
}

/// Whether a library said that it does not do such a thing: not an error, but a reason to go another way.
constexpr bool is_unsupported(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH;
}
constexpr bool is_unsupported(cudnnStatus_t status) { return status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000; }

namespace cuda {

/// A C handle with a destructor.
template <auto Create, auto Destroy> class Handle;
template <class H, class S, class... Args, S (*Create)(H*, Args...), S (*Destroy)(H)> class Handle<Create, Destroy> {
 public:
  explicit Handle(Args... args) {
    H raw{};
    check(Create(&raw, args...));
    owned_.reset(raw);
  }
  operator H() const { return owned_.get(); }  // NOLINT: stands for it in every call

 private:
  struct Deleter {
    void operator()(H h) const noexcept { (void)Destroy(h); }
  };
  std::unique_ptr<std::remove_pointer_t<H>, Deleter> owned_;
};

/// The memory that f allocates, or an undefined tensor where there is too little: for what can be done without.
template <class F> Tensor if_there_is_room(F f) {
  try {
    return f();
  } catch (const Error&) {
    return {};
  }
}

/// Memory that the calls of one thread on one device share: they run one after another in the device's stream. Kept
/// from call to call, unless it is large.
class Workspace {
 public:
  /// At least `bytes`, to be held until the call has been queued.
  Tensor of(Gpu& g, std::size_t bytes);

 private:
  Tensor kept_;
};

/// The calling thread's Context of a library on a device; its constructor takes the Gpu. A thread that ends leaves its
/// contexts, with what they have learnt, to the next one: making a library's handle takes milliseconds.
template <class Context> Context& context_of(Gpu& g) {
  check_capture(g);
  using Place = std::pair<Gpu*, std::unique_ptr<Context>>;
  struct Left {
    std::mutex mutex;
    std::vector<Place> places;
  };
  // Never destroyed: threads may end after main has, and libraries cannot be closed then.
  static Left& left = *new Left;
  struct Kept {
    std::vector<Place> places;
    ~Kept() {
      const std::lock_guard lock(left.mutex);
      for (Place& place : places) left.places.push_back(std::move(place));
    }
  };
  thread_local Kept kept;
  for (const Place& place : kept.places) {
    if (place.first == &g) return *place.second;
  }
  {
    const std::lock_guard lock(left.mutex);
    const auto fits = [&](const Place& place) { return place.first == &g; };
    if (const auto place = std::ranges::find_if(left.places, fits); place != left.places.end()) {
      kept.places.push_back(std::move(*place));
      left.places.erase(place);
      return *kept.places.back().second;
    }
  }
  use(g.device);
  kept.places.emplace_back(&g, std::make_unique<Context>(g));
  return *kept.places.back().second;
}

/// Alignment of an address in bytes, as a power of two of at most 256.
std::uint32_t alignment_of(const void* address);

/// The arithmetic type's 1 or 0, as the libraries want it: a float, or a double for double.
struct Factor {
  float single;
  double twice;
  explicit Factor(double value) : single(static_cast<float>(value)), twice(value) {}
  const void* in(Dtype dtype) const {
    return dtype == kFloat64 ? static_cast<const void*>(&twice) : static_cast<const void*>(&single);
  }
};

}  // namespace cuda
}  // namespace halftone
