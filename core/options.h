// How a tensor is to be made: dtype, device, layout, requires_grad, pinned memory, memory format. What is not said is
// taken from the default or from the tensor that is imitated.
#pragma once

#include <optional>
#include <ostream>

#include "core/device.h"
#include "core/dtype.h"

namespace halftone {

using std::nullopt;
using std::optional;

enum class Layout : std::int8_t { Strided };
inline constexpr Layout kStrided = Layout::Strided;

/// The order of a tensor's axes in memory. ChannelsLast stores [N, C, H, W] with C innermost (and [N, C, D, H, W]
/// alike).
enum class MemoryFormat : std::int8_t { Contiguous, ChannelsLast, Preserve };

class TensorOptions {
 public:
  TensorOptions() = default;
  TensorOptions(Dtype d) : dtype_(d) {}                 // NOLINT: an element type is a set of options
  TensorOptions(Device d) : device_(d) {}               // NOLINT
  TensorOptions(DeviceType d) : device_(d) {}           // NOLINT
  TensorOptions(const char* d) : device_(d) {}          // NOLINT
  TensorOptions(const std::string& d) : device_(d) {}   // NOLINT
  TensorOptions(Layout) {}                              // NOLINT: there is one
  TensorOptions(MemoryFormat f) : memory_format_(f) {}  // NOLINT

  [[nodiscard]] TensorOptions dtype(optional<Dtype> d) const { return with(&TensorOptions::dtype_, d); }
  [[nodiscard]] TensorOptions device(optional<Device> d) const { return with(&TensorOptions::device_, d); }
  [[nodiscard]] TensorOptions layout(Layout) const { return *this; }
  [[nodiscard]] TensorOptions requires_grad(optional<bool> b) const { return with(&TensorOptions::requires_grad_, b); }
  [[nodiscard]] TensorOptions pinned_memory(optional<bool> b) const { return with(&TensorOptions::pinned_, b); }
  [[nodiscard]] TensorOptions memory_format(optional<MemoryFormat> f) const {
    return with(&TensorOptions::memory_format_, f);
  }

  Dtype dtype() const { return dtype_.value_or(get_default_dtype()); }
  Device device() const { return device_ ? *device_ : get_default_device(); }
  Layout layout() const { return kStrided; }
  bool requires_grad() const { return requires_grad_.value_or(false); }
  bool pinned_memory() const { return pinned_.value_or(false); }
  MemoryFormat memory_format() const { return memory_format_.value_or(MemoryFormat::Contiguous); }

  bool has_dtype() const { return dtype_.has_value(); }
  bool has_device() const { return device_.has_value(); }
  bool has_requires_grad() const { return requires_grad_.has_value(); }
  bool has_pinned_memory() const { return pinned_.has_value(); }
  bool has_memory_format() const { return memory_format_.has_value(); }
  optional<Dtype> dtype_opt() const { return dtype_; }
  optional<Device> device_opt() const { return device_; }

  /// These options where they say something, `fallback` elsewhere.
  [[nodiscard]] TensorOptions or_else(const TensorOptions& fallback) const;
  bool operator==(const TensorOptions&) const = default;

 private:
  template <class T> TensorOptions with(optional<T> TensorOptions::*field, optional<T> value) const {
    TensorOptions copy = *this;
    copy.*field = value;
    return copy;
  }

  optional<Dtype> dtype_;
  optional<Device> device_;
  optional<bool> requires_grad_;
  optional<bool> pinned_;
  optional<MemoryFormat> memory_format_;
};

inline TensorOptions dtype(Dtype d) { return TensorOptions(d); }
inline TensorOptions device(Device d) { return TensorOptions(d); }
inline TensorOptions requires_grad(bool b = true) { return TensorOptions().requires_grad(b); }
std::ostream& operator<<(std::ostream& out, const TensorOptions& options);
std::ostream& operator<<(std::ostream& out, MemoryFormat format);

}  // namespace halftone
