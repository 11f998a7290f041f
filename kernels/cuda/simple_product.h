// The matrix product for what cuBLASLt does not multiply: integers, empty sums, and what it finds no algorithm for.
#pragma once

#include "core/cuda/gpu.h"

namespace halftone::cuda {

/// y = a b + bias, or y += a b + bias; any strides, any dtype but bool. a, b and y have one dtype, or a and b are
/// 16-bit and y float32. bias, of n elements, may be undefined.
void simple_product(const Tensor& a, const Tensor& b, const Tensor& bias, bool accumulate, Tensor& y);

}  // namespace halftone::cuda
