// Tensors as text: libtorch's form, which `std::cout << tensor` prints, and Python's.
#pragma once

#include <ostream>
#include <string>

#include "core/tensor.h"

namespace halftone {

/// Prints as libtorch does: values in columns of lines up to `line_width`, then `[ CPUFloatType{2,3} ]`.
std::ostream& print(std::ostream& out, const Tensor& t, std::int64_t line_width = 80);

/// The text that Python shows: `tensor([1., 2.], dtype=torch.float16)`; more than 1000 elements are summarised.
std::string repr(const Tensor& t);

}  // namespace halftone
