// The bias of a convolution, before the convolution: it is added to what lies in y, so that the sum is rounded once.
#pragma once

#include "core/tensor.h"

namespace halftone::cuda {

/// y[n, c, ...] = bias[c] for a contiguous or channels-last y.
void fill_with_bias(const Tensor& bias, Tensor& y);

}  // namespace halftone::cuda
