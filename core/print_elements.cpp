#include "core/print_elements.h"

#include <charconv>
#include <cmath>
#include <cstring>

#include "core/runtime.h"

namespace halftone::detail {

HostElements::HostElements(const Tensor& t) : dtype_(t.dtype()), first_(static_cast<const char*>(t.data_ptr())) {
  if (t.is_cpu() || t.numel() == 0) return;
  std::int64_t span = 1;
  for (std::size_t i = 0; i < t.sizes().size(); ++i) span += (t.sizes()[i] - 1) * t.strides()[i];
  copy_.resize(static_cast<std::size_t>(span * t.element_size()));
  Runtime& device = runtime(t.device().type());
  device.copy(copy_.data(), Device(kCPU), first_, t.device(), copy_.size());
  device.synchronize(t.device());
  first_ = copy_.data();
}

Scalar HostElements::at(std::int64_t offset) const {
  return visit_all(dtype_, [&]<class T>(Type<T>) -> Scalar {
    T value;
    std::memcpy(&value, first_ + offset * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    return value;
  });
}

std::string shortest(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const double magnitude = std::abs(value);
  const bool plain = magnitude == 0 || (1e-4 <= magnitude && magnitude < 1e16);
  char text[64];
  const auto end =
      std::to_chars(text, text + sizeof(text), value, plain ? std::chars_format::fixed : std::chars_format::scientific);
  return std::string(text, end.ptr);
}

}  // namespace halftone::detail
