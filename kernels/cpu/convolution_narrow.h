// Convolutions of images with very few channels: the first layer of a net. Their columns are so short that a product of
// general matrices spends its time on preparations, and matrix instructions for bfloat16 on padding. Here the columns of a few
// outputs at a time stay in the first-level cache and are multiplied there.
#pragma once

#include "kernels/cpu/convolution.h"

namespace halftone::cpu::narrow_channels {

/// One group of at most four channels with a window of at most 100 taps and channels, and any dtype but float64.
bool serves(const ConvShape& shape, Dtype dtype);

void conv_forward(const ConvShape& shape, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y);
void conv_backward_weight(const ConvShape& shape, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias);

}  // namespace halftone::cpu::narrow_channels
