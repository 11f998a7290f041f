// Convolutions by plain sums, one result after another: for the shapes that cuDNN does not take. In the order of the
// definition, so the same from run to run.
#pragma once

#include "core/tensor.h"
#include "kernels/windows.h"

namespace halftone::cuda {

/// Any strides, any floating dtypes; bias may be undefined.
void direct_conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y);
void direct_conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w, Tensor& dx);
void direct_conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, Tensor& dw);

}  // namespace halftone::cuda
