// autocast: a region of code in which each op runs in the precision its arithmetic needs (op_table.h), whatever dtypes
// come in.
//
//   amp::autocast region(kCUDA, kFloat16);
//   Tensor loss = cross_entropy(model(x), labels);    // products in float16, softmax and loss in float32
//
// The region is a filter that every op's inputs pass. Casts are ordinary ops, so gradients find their way back to the
// parameters' own dtype.
#pragma once

#include <array>
#include <memory>
#include <string_view>

#include "amp/policy.h"
#include "autograd/context.h"

namespace halftone::amp {

/// What the regions around the current code say: copy it to run code elsewhere, or later, as if it were here.
struct AutocastState {
  struct Setting {
    bool enabled = false;
    Dtype low = Dtype::Undefined;
  };
  std::array<Setting, kDeviceTypes> settings;  // by device type
  bool cache_enabled = true;

  /// Of this thread, now.
  static AutocastState current();
  Setting& of(DeviceType type) { return settings[static_cast<std::size_t>(type)]; }
  const Setting& of(DeviceType type) const { return settings[static_cast<std::size_t>(type)]; }
};

class Region;

/// Opens a region for one kind of device until the end of the scope, in this thread. Regions nest; one for the CPU and
/// one for CUDA are independent. Without a dtype it takes that of the region around it, or the default.
class autocast {
 public:
  [[nodiscard]] explicit autocast(DeviceType type, optional<Dtype> dtype = nullopt, bool enabled = true,
                                  optional<bool> cache_enabled = nullopt);
  [[nodiscard]] explicit autocast(std::string_view type, optional<Dtype> dtype = nullopt, bool enabled = true,
                                  optional<bool> cache_enabled = nullopt);
  /// A region as it was elsewhere: in another thread, or when a computation was run for the first time.
  [[nodiscard]] explicit autocast(const AutocastState& state);
  ~autocast();
  autocast(const autocast&) = delete;
  autocast& operator=(const autocast&) = delete;

 private:
  std::unique_ptr<Region> region_;
  InputFilter* outer_;
};

/// f, run in a region of its own at each call.
template <class F> auto with_autocast(DeviceType type, optional<Dtype> dtype, F f) {
  return [type, dtype, f = std::move(f)](auto&&... args) -> decltype(auto) {
    const autocast region(type, dtype);
    return f(std::forward<decltype(args)>(args)...);
  };
}

/// "cpu" or "cuda"; throws for anything else.
DeviceType device_type(std::string_view text);

bool is_autocast_enabled(DeviceType type);
/// The low dtype of the region around, or the default: float16 for CUDA, bfloat16 for the CPU.
Dtype get_autocast_dtype(DeviceType type);
/// Changes the default of regions that name no dtype, in all threads.
void set_autocast_dtype(DeviceType type, Dtype dtype);
bool is_autocast_cache_enabled();

/// The casts of weights that the outermost region keeps until it ends.
struct CacheInfo {
  std::size_t entries = 0;
  std::size_t bytes = 0;
  std::size_t hits = 0;
  std::size_t misses = 0;
};
CacheInfo autocast_cache();
void clear_autocast_cache();
/// A bit for each input of the last op that came from the cache.
std::uint64_t last_cache_hits();

}  // namespace halftone::amp
