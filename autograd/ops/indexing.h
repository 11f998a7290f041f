// Parts of indexing that other ops use.
#pragma once

#include "autograd/ops.h"

namespace halftone {

/// Zeros of `sizes` to which source is added at the places of an int64 index along an axis: the adjoint of gather.
Tensor scatter_to_zeros(const Dims& sizes, std::int64_t dim, const Tensor& index, const Tensor& source);

}  // namespace halftone
