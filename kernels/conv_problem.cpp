#include "kernels/conv_problem.h"

#include <algorithm>
#include <limits>

namespace halftone {
namespace {

constexpr std::int64_t kLargest = std::numeric_limits<int>::max();

std::int64_t weights(const ConvShape& s) {
  return s.out_channels * (s.in_channels / s.groups) * s.window.kernel_size();
}

/// The first `rank` numbers, behind a 1 or 0 if there is but one.
std::vector<int> per_axis(const Window& w, const std::array<std::int64_t, 3>& numbers, int filler) {
  std::vector<int> all;
  if (w.rank == 1) all.push_back(filler);
  for (int i = 0; i < w.rank; ++i) all.push_back(static_cast<int>(numbers[static_cast<std::size_t>(i)]));
  return all;
}

ConvTensor dense_tensor(std::int64_t outer, std::int64_t channels, const std::vector<int>& spatial,
                        MemoryFormat format) {
  ConvTensor t;
  t.sizes = {static_cast<int>(outer), static_cast<int>(channels)};
  t.sizes.insert(t.sizes.end(), spatial.begin(), spatial.end());
  t.strides.resize(t.sizes.size());
  int stride = 1;
  const bool last = format == MemoryFormat::ChannelsLast;
  if (last) t.strides[1] = 1, stride = t.sizes[1];
  for (std::size_t axis = t.sizes.size() - 1; axis > 1; --axis) t.strides[axis] = stride, stride *= t.sizes[axis];
  if (!last) t.strides[1] = stride, stride *= t.sizes[1];
  t.strides[0] = stride;
  return t;
}

}  // namespace

ConvDescription describe(const ConvShape& s, MemoryFormat format) {
  const Window& w = s.window;
  return {dense_tensor(s.batch, s.in_channels, per_axis(w, w.in, 1), format),
          dense_tensor(s.out_channels, s.in_channels / s.groups, per_axis(w, w.kernel, 1), format),
          dense_tensor(s.batch, s.out_channels, per_axis(w, w.out, 1), format),
          per_axis(w, w.padding, 0),
          per_axis(w, w.stride, 1),
          per_axis(w, w.dilation, 1)};
}

bool is_plain(const ConvShape& s) {
  const Window& w = s.window;
  const std::int64_t x = s.batch * s.in_channels * w.in_size(), y = s.batch * s.out_channels * w.out_size();
  if (std::min({x, y, weights(s)}) == 0 || std::max({x, y, weights(s)}) > kLargest) return false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(w.rank); ++i) {
    if (w.out[i] != window_count(w.in[i], w.kernel[i], w.stride[i], w.padding[i], w.dilation[i])) return false;
  }
  return true;
}

std::vector<MemoryFormat> formats_for(const ConvShape& s, Dtype dtype, bool is_channels_last) {
  if (s.window.rank == 1 || dtype == kFloat64) return {MemoryFormat::Contiguous};
  if (is_channels_last) return {MemoryFormat::ChannelsLast, MemoryFormat::Contiguous};
  return {MemoryFormat::Contiguous, MemoryFormat::ChannelsLast};
}

}  // namespace halftone
