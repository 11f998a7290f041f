// Convolutions over one, two or three axes on the CPU. A transposed convolution is the same three primitives with the
// roles of x and y exchanged: its forward is conv_backward_data, its data gradient conv_forward, its weight gradient
// conv_backward_weight with x and g exchanged.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace halftone::cpu {

/// The sizes of x [batch, in_channels, in...], w [out_channels, in_channels / groups, kernel...] and
/// y [batch, out_channels, out...]; the first `rank` entries of each array count. Padding is the same at both ends, and
/// out = (in + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1, rounded down.
struct ConvShape {
  int rank = 2;
  std::int64_t batch = 0, in_channels = 0, out_channels = 0, groups = 1;
  std::int64_t in[3] = {1, 1, 1}, kernel[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  std::int64_t stride[3] = {1, 1, 1}, padding[3] = {0, 0, 0}, dilation[3] = {1, 1, 1};
};

/// x, w, y or a gradient of theirs: contiguous, with the channels before the spatial axes or after them in memory (for
/// w the input channels of a group). The bias is a plain vector; null means none.
template <class Pointer> struct ConvView {
  Pointer data = nullptr;
  Dtype dtype = kFloat32;
  bool channels_last = false;
};
using ConvData = ConvView<void*>;
using ConstConvData = ConvView<const void*>;

/// y = x convolved with w, plus bias. All of one floating dtype; bias may be float32. 16-bit types are multiplied and
/// summed in float32 and rounded once.
void conv_forward(const ConvShape& shape, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y);

/// dx from the gradient g of y.
void conv_backward_data(const ConvShape& shape, const ConstConvData& g, const ConstConvData& w, const ConvData& dx);

/// dw from the gradient g of y, and the sum of g over all but its channels in dbias unless that is null. dw and dbias
/// may be float32 where x and g are 16-bit.
void conv_backward_weight(const ConvShape& shape, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias);

}  // namespace halftone::cpu
