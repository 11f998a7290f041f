#include "nn/utils.h"

#include "autograd/ops.h"

namespace halftone::nn::utils {

Tensor parameters_to_vector(const std::vector<Tensor>& parameters) {
  check<ValueError>(!parameters.empty(), "parameters_to_vector: there are no parameters");
  std::vector<Tensor> parts;
  for (const Tensor& parameter : parameters) {
    check<ValueError>(parameter.device() == parameters[0].device(),
                      "parameters_to_vector: Found two parameters on different devices, ", parameters[0].device(),
                      " and ", parameter.device());
    parts.push_back(parameter.reshape(-1));
  }
  return cat(parts);
}

void vector_to_parameters(const Tensor& vector, const std::vector<Tensor>& parameters) {
  std::int64_t count = 0;
  for (const Tensor& parameter : parameters) count += parameter.numel();
  check<ValueError>(vector.dim() == 1 && vector.numel() == count, "vector_to_parameters: the parameters have ", count,
                    " elements, but the vector is ", describe(vector));
  std::int64_t at = 0;
  for (const Tensor& parameter : parameters) {
    parameter.detach().copy_(vector.detach().narrow(0, at, parameter.numel()).view(parameter.sizes()));
    at += parameter.numel();
  }
}

}  // namespace halftone::nn::utils
