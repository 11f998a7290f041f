// A convolution as a library is told of it. Pure functions: they know of no device, and what they give is the key under
// which an algorithm is remembered.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "kernels/windows.h"

namespace halftone {

/// Which of x, w and y is computed from the other two.
enum class ConvResult : std::int8_t { y, x, w };

/// All that the choice of an algorithm depends on.
struct ConvProblem {
  ConvShape shape;
  ConvResult result = ConvResult::y;
  Dtype dtype = kFloat32;
  MemoryFormat format = MemoryFormat::Contiguous;  // of all three
  bool tf32 = false;
  bool deterministic = false;
  std::size_t workspace_limit = 0;
  bool timed = false;  // the algorithm was or is to be found by measurement
  auto operator<=>(const ConvProblem&) const = default;
};

/// Sizes and strides of a tensor as int, which is what cuDNN counts in.
struct ConvTensor {
  std::vector<int> sizes, strides;
};

/// x, w and y, and the window's parameters, for two spatial axes at least: a sequence is an image one pixel high.
struct ConvDescription {
  ConvTensor x, w, y;
  std::vector<int> padding, stride, dilation;
};
ConvDescription describe(const ConvShape& s, MemoryFormat format);

/// Whether a library computes it at all: nothing is empty, nothing too large for an int, and the output is as large as
/// the window allows. A transposed convolution may leave cells of x that no window reaches.
bool is_plain(const ConvShape& s);

/// The formats to try, the better one first. Channels-last needs two spatial axes, and is not made for double.
std::vector<MemoryFormat> formats_for(const ConvShape& s, Dtype dtype, bool is_channels_last);

}  // namespace halftone
