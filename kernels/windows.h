// Shapes of sliding windows: convolution and pooling over one, two or three spatial axes. Pure arithmetic, tested as
// such.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

#include "core/array_ref.h"

namespace halftone {

/// One kernel sliding over `rank` spatial axes of [batch, channels, axes...].
struct Window {
  int rank = 2;
  std::array<std::int64_t, 3> in{1, 1, 1};
  std::array<std::int64_t, 3> kernel{1, 1, 1};
  std::array<std::int64_t, 3> stride{1, 1, 1};
  std::array<std::int64_t, 3> padding{0, 0, 0};
  std::array<std::int64_t, 3> dilation{1, 1, 1};
  std::array<std::int64_t, 3> out{1, 1, 1};

  std::int64_t in_size() const { return in[0] * in[1] * in[2]; }
  std::int64_t out_size() const { return out[0] * out[1] * out[2]; }
  std::int64_t kernel_size() const { return kernel[0] * kernel[1] * kernel[2]; }
  auto operator<=>(const Window&) const = default;
};

/// A convolution: x is [batch, in_channels, in...], w is [out_channels, in_channels / groups, kernel...], y is
/// [batch, out_channels, out...].
struct ConvShape {
  Window window;
  std::int64_t batch = 0;
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  std::int64_t groups = 1;
  auto operator<=>(const ConvShape&) const = default;
};

/// A pool: x is [batch, channels, in...], y is [batch, channels, out...].
struct PoolShape {
  Window window;
  std::int64_t batch = 0;
  std::int64_t channels = 0;
  bool count_padding = true;          // average: do cells of the padding count in the divisor?
  std::int64_t divisor_override = 0;  // average: this divisor instead, unless 0
};

/// Places a window fits along one axis: (in + 2 padding - dilation (kernel - 1) - 1) / stride + 1, rounded down; with
/// `ceil_mode` up, yet the last window starts inside the input or the left padding.
constexpr std::int64_t window_count(std::int64_t in, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                                    std::int64_t dilation, bool ceil_mode = false) {
  const std::int64_t room = in + 2 * padding - dilation * (kernel - 1) - 1;
  std::int64_t count = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (room < 0 && !ceil_mode) return room + 1 > 0 ? 1 : 0;
  if (ceil_mode && (count - 1) * stride >= in + padding) --count;
  return count;
}
static_assert(window_count(28, 3, 1, 1, 1) == 28);
static_assert(window_count(7, 2, 2, 0, 1, true) == 4);

}  // namespace halftone
