#include "core/options.h"

namespace halftone {
namespace {

template <class T> void fill_in(optional<T>& value, const optional<T>& fallback) {
  if (!value) value = fallback;
}

}  // namespace

TensorOptions TensorOptions::or_else(const TensorOptions& fallback) const {
  TensorOptions merged = *this;
  fill_in(merged.dtype_, fallback.dtype_);
  fill_in(merged.device_, fallback.device_);
  fill_in(merged.requires_grad_, fallback.requires_grad_);
  fill_in(merged.pinned_, fallback.pinned_);
  fill_in(merged.memory_format_, fallback.memory_format_);
  return merged;
}

std::ostream& operator<<(std::ostream& out, MemoryFormat format) {
  switch (format) {
    case MemoryFormat::ChannelsLast: return out << "channels_last";
    case MemoryFormat::Preserve: return out << "preserve";
    default: return out << "contiguous";
  }
}

std::ostream& operator<<(std::ostream& out, const TensorOptions& options) {
  return out << "TensorOptions(dtype=" << options.dtype() << ", device=" << options.device()
             << ", requires_grad=" << (options.requires_grad() ? "true" : "false")
             << ", memory_format=" << options.memory_format() << ")";
}

}  // namespace halftone
