#include "nn/functional.h"

#include "autograd/ops.h"

namespace halftone::nn::functional {

namespace {

std::string_view mode_name(const PadFuncOptions::mode_t& mode) {
  if (std::holds_alternative<enumtype::kReflect>(mode)) return "reflect";
  if (std::holds_alternative<enumtype::kReplicate>(mode)) return "replicate";
  if (std::holds_alternative<enumtype::kCircular>(mode)) return "circular";
  return "constant";
}

}  // namespace

Tensor pad(const Tensor& x, const PadFuncOptions& options) {
  return halftone::pad(x, options.pad(), mode_name(options.mode()), options.value());
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) { return halftone::linear(x, weight, bias); }

Tensor cosine_similarity(const Tensor& a, const Tensor& b, const CosineSimilarityFuncOptions& options) {
  return halftone::cosine_similarity(a, b, options.dim(), options.eps());
}

}  // namespace halftone::nn::functional
