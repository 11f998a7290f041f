// A bias before what it is added to: a convolution or a product adds to what lies in y, so that the sum is rounded
// once.
#pragma once

#include "core/tensor.h"

namespace halftone::cuda {

/// y[n, c, ...] = bias[c] for a contiguous or channels-last y at an address divisible by 16.
void fill_with_bias(const Tensor& bias, Tensor& y);

}  // namespace halftone::cuda
