// Parameters as one vector, and back.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace halftone::nn::utils {

/// All elements behind one another, in a tensor of one dimension. The parameters must be on one device.
Tensor parameters_to_vector(const std::vector<Tensor>& parameters);

/// Fills the parameters from such a vector, in their order. The vector must have exactly as many elements.
void vector_to_parameters(const Tensor& vector, const std::vector<Tensor>& parameters);

}  // namespace halftone::nn::utils
