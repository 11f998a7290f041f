// The functional forms of all layers: `namespace F = halftone::nn::functional; F::relu(x, F::ReLUFuncOptions(true))`.
// Those that belong to a family of layers are declared beside it.
#pragma once

#include <variant>
#include <vector>

#include "nn/activation.h"
#include "nn/conv.h"
#include "nn/dropout.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/loss.h"
#include "nn/norm.h"
#include "nn/pooling.h"

namespace halftone::nn::functional {

struct PadFuncOptions {
  using mode_t = std::variant<enumtype::kConstant, enumtype::kReflect, enumtype::kReplicate, enumtype::kCircular>;

  PadFuncOptions(std::vector<std::int64_t> pad) : pad_(std::move(pad)) {}  // NOLINT: pad(x, {1, 1})
  /// Pairs (before, behind) from the last axis on; negative ones crop.
  TORCH_ARG(std::vector<std::int64_t>, pad);
  TORCH_ARG(mode_t, mode) = kConstant;
  /// What kConstant fills in.
  TORCH_ARG(double, value) = 0;
};

Tensor pad(const Tensor& x, const PadFuncOptions& options);

/// x [..., in] times weight [out, in] transposed, plus bias [out].
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

/// sum of a b along a dimension, divided by the product of their lengths.
struct CosineSimilarityFuncOptions {
  TORCH_ARG(std::int64_t, dim) = 1;
  TORCH_ARG(double, eps) = 1e-8;
};
Tensor cosine_similarity(const Tensor& a, const Tensor& b, const CosineSimilarityFuncOptions& options = {});

}  // namespace halftone::nn::functional
