// Convolution as a product with columns gathered from the image, for every floating dtype and any geometry. It needs no
// library and has the numerics of a GPU: 16-bit inputs are widened, summed in float32 and rounded once.
#pragma once

#include "kernels/cpu/convolution.h"

namespace halftone::cpu::portable {

void conv_forward(const ConvShape& shape, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y);
void conv_backward_data(const ConvShape& shape, const ConstConvData& g, const ConstConvData& w, const ConvData& dx);
void conv_backward_weight(const ConvShape& shape, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias);

}  // namespace halftone::cpu::portable
