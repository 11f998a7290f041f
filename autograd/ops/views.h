// Views that other parts of autograd make.
#pragma once

#include "autograd/apply.h"

namespace halftone {

/// as_strided whether or not ops are being recorded: a view's history, made anew.
Tensor as_strided_recorded(const Tensor& x, const Dims& sizes, const Dims& strides, std::int64_t offset);

}  // namespace halftone
