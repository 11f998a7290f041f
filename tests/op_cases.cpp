#include "tests/op_cases.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "core/random.h"

namespace halftone::test {
namespace {

using indexing::Ellipsis;
using indexing::None;
using indexing::Slice;

Tensor indices(std::initializer_list<std::int64_t> values) {
  std::vector<std::int64_t> list(values);
  return from_blob(list.data(), static_cast<std::int64_t>(list.size()), kInt64).clone();
}

// The same mask whenever it is drawn.
Tensor drop(const Tensor& x, double p, Tensor (*f)(const Tensor&, double, bool)) {
  manual_seed(7);
  return f(x, p, true);
}

Tensor with_statistics(In x, bool training) {
  const Tensor mean = full({x[0].size(1)}, 0.25, x[0].options()), var = full({x[0].size(1)}, 1.5, x[0].options());
  return batch_norm(x[0], x[1], x[2], mean, var, training, 0.1, 1e-5);
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// clang-format off
const OpCase kCases[] = {
  // products
  {"matmul", "matrices", "3x4 4x2", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "vectors", "4 4", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "matrix and vector", "3x4 4", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "vector and matrix", "4 4x3", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "batch and matrix", "2x3x4 4x5", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "batch and vector", "2x3x4 4", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "matrix and batch", "3x4 2x4x2", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "vector and batch", "4 2x4x2", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "batches", "2x3x4 2x4x2", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "broadcast batches", "2x1x3x2 3x2x2", [](In x) { return matmul(x[0], x[1]); }},
  {"matmul", "transposed batch", "2x4x3 2x4x2", [](In x) { return matmul(x[0].transpose(1, 2), x[1]); }},
  {"matmul", "nothing to sum", "2x0 0x3", [](In x) { return matmul(x[0], x[1]); }},
  {"mm", "", "3x4 4x2", [](In x) { return mm(x[0], x[1]); }},
  {"mm", "both transposed", "4x3 2x4", [](In x) { return mm(x[0].t(), x[1].t()); }},
  {"bmm", "", "2x3x4 2x4x2", [](In x) { return bmm(x[0], x[1]); }},
  {"mv", "", "3x4 4", [](In x) { return mv(x[0], x[1]); }},
  {"dot", "", "5 5", [](In x) { return dot(x[0], x[1]); }},
  {"addmm", "", "3x2 3x4 4x2", [](In x) { return addmm(x[0], x[1], x[2]); }},
  {"addmm", "row", "2 3x4 4x2", [](In x) { return addmm(x[0], x[1], x[2]); }},
  {"addmm", "scaled", "3x1 3x4 4x2", [](In x) { return addmm(x[0], x[1], x[2], 0.5, 2); }},
  {"outer", "", "3 4", [](In x) { return outer(x[0], x[1]); }},
  {"linear", "", "3x4 2x4 2", [](In x) { return linear(x[0], x[1], x[2]); }},
  {"linear", "no bias", "2x3x4 2x4", [](In x) { return linear(x[0], x[1]); }},
  {"linear", "vector", "4 2x4 2", [](In x) { return linear(x[0], x[1], x[2]); }},
  {"einsum", "product", "3x4 4x2", [](In x) { return einsum("ij,jk->ik", {x[0], x[1]}); }},
  {"einsum", "implied", "2x3x4 4x5", [](In x) { return einsum("bij,jk", {x[0], x[1]}); }},
  {"einsum", "trace", "3x3", [](In x) { return einsum("ii->", {x[0]}); }},
  {"einsum", "diagonal", "3x3", [](In x) { return einsum("ii->i", {x[0]}); }},
  {"einsum", "ellipsis", "2x3x4 4x5", [](In x) { return einsum("...ij,jk->...ki", {x[0], x[1]}); }},
  {"einsum", "attention", "2x3x2x4 2x3x2x4", [](In x) { return einsum("bqhd,bkhd->bhqk", {x[0], x[1]}); }},
  {"einsum", "three", "2x3 3x4 4x2", [](In x) { return einsum("ij,jk,kl->il", {x[0], x[1], x[2]}); }},
  {"einsum", "elementwise and sum", "2x3 2x3 3", [](In x) { return einsum("ab,ab,b->a", {x[0], x[1], x[2]}); }},
  {"einsum", "transpose", "2x3", [](In x) { return einsum("ij->ji", {x[0]}); }},
  {"scaled_dot_product_attention", "", "2x3x4 2x5x4 2x5x2", [](In x) { return scaled_dot_product_attention(x[0], x[1], x[2]); }},
  {"scaled_dot_product_attention", "causal", "2x3x4 2x3x4 2x3x2", [](In x) { return scaled_dot_product_attention(x[0], x[1], x[2], {}, 0, true); }},
  {"scaled_dot_product_attention", "added mask", "2x3x4 2x5x4 2x5x2 3x5", [](In x) { return scaled_dot_product_attention(x[0], x[1], x[2], x[3]); }},

  // convolutions
  {"conv1d", "", "2x3x7 4x3x3 4", [](In x) { return conv1d(x[0], x[1], x[2], 2, 1); }},
  {"conv1d", "unbatched", "3x7 4x3x3 4", [](In x) { return conv1d(x[0], x[1], x[2]); }},
  {"conv2d", "", "2x3x5x6 4x3x3x2 4", [](In x) { return conv2d(x[0], x[1], x[2]); }},
  {"conv2d", "stride and padding", "2x2x5x6 3x2x3x3 3", [](In x) { return conv2d(x[0], x[1], x[2], {2, 1}, {1, 2}); }},
  {"conv2d", "groups and dilation", "2x4x6x5 6x2x2x3 6", [](In x) { return conv2d(x[0], x[1], x[2], {2, 1}, {1, 0}, {1, 2}, 2); }},
  {"conv2d", "depthwise", "1x3x5x5 3x1x3x3", [](In x) { return conv2d(x[0], x[1], {}, 1, 1, 1, 3); }},
  {"conv2d", "channels last", "2x3x5x4 4x3x3x3 4", [](In x) { return conv2d(x[0].contiguous(MemoryFormat::ChannelsLast), x[1], x[2], 1, 1); }},
  {"conv3d", "", "1x2x4x3x3 3x2x2x2x2 3", [](In x) { return conv3d(x[0], x[1], x[2], 1, {1, 0, 1}); }},
  {"conv_transpose1d", "", "2x3x4 3x2x3 2", [](In x) { return conv_transpose1d(x[0], x[1], x[2], 2, 1, 1); }},
  {"conv_transpose2d", "", "2x3x3x4 3x2x3x2 2", [](In x) { return conv_transpose2d(x[0], x[1], x[2], 2, 1, {1, 0}); }},
  {"conv_transpose2d", "groups and dilation", "1x4x3x3 4x1x2x2 2", [](In x) { return conv_transpose2d(x[0], x[1], x[2], 1, 0, 0, 2, {2, 1}); }},
  {"conv_transpose2d", "unbatched", "3x3x4 3x2x2x2", [](In x) { return conv_transpose2d(x[0], x[1]); }},
  {"conv_transpose3d", "", "1x2x2x3x2 2x2x2x2x2 2", [](In x) { return conv_transpose3d(x[0], x[1], x[2], {1, 2, 1}); }},

  // arithmetic
  {"add", "broadcast", "2x3 3", [](In x) { return add(x[0], x[1], 2.5); }},
  {"add", "number", "2x3", [](In x) { return x[0] + 1.5; }},
  {"sub", "broadcast", "2x1 2x3", [](In x) { return sub(x[0], x[1], 0.5); }},
  {"sub", "from number", "4", [](In x) { return 3 - x[0]; }},
  {"mul", "broadcast", "2x3 -", [](In x) { return x[0] * x[1]; }},
  {"mul", "number", "2x3", [](In x) { return x[0] * -0.5; }},
  {"div", "broadcast", "2x3 pos:3", [](In x) { return x[0] / x[1]; }},
  {"div", "number by", "pos:4", [](In x) { return 2 / x[0]; }},
  {"remainder", "", "2x3 pos:3", [](In x) { return remainder(x[0], x[1]); }},
  {"remainder", "number", "6", [](In x) { return x[0] % 0.75; }},
  {"pow", "number", "pos:5", [](In x) { return pow(x[0], 2.5); }},
  {"pow", "square", "5", [](In x) { return pow(x[0], 2); }},
  {"pow", "tensors", "pos:2x3 3", [](In x) { return pow(x[0], x[1]); }},
  {"pow", "of number", "5", [](In x) { return pow(Scalar(1.5), x[0]); }},
  {"atan2", "", "4 4", [](In x) { return atan2(x[0], x[1]); }},
  {"maximum", "", "2x3 3", [](In x) { return maximum(x[0], x[1]); }},
  {"minimum", "", "2x3 3", [](In x) { return minimum(x[0], x[1]); }},
  {"lerp", "number", "4 4", [](In x) { return lerp(x[0], x[1], 0.3); }},
  {"lerp", "tensor", "4 4 unit:4", [](In x) { return lerp(x[0], x[1], x[2]); }},
  {"addcmul", "", "2x3 3 2x1", [](In x) { return addcmul(x[0], x[1], x[2], 0.5); }},
  {"addcdiv", "", "2x3 3 pos:2x1", [](In x) { return addcdiv(x[0], x[1], x[2], 0.5); }},
  {"where", "", "mask:2x3 2x3 3", [](In x) { return where(x[0], x[1], x[2]); }},
  {"where", "number", "mask:2x3 2x3", [](In x) { return where(x[0], x[1], 0.5); }},
  {"eq", "", "whole:6 whole:6", [](In x) { return eq(x[0], x[1]); }, 0},
  {"ne", "", "whole:6 whole:6", [](In x) { return ne(x[0], x[1]); }, 0},
  {"lt", "", "6 6", [](In x) { return x[0] < x[1]; }, 0},
  {"le", "", "whole:6 whole:6", [](In x) { return x[0] <= x[1]; }, 0},
  {"gt", "", "6", [](In x) { return x[0] > 0.25; }, 0},
  {"ge", "", "whole:6 whole:6", [](In x) { return x[0] >= x[1]; }, 0},
  {"logical_and", "", "whole:6 whole:6", [](In x) { return logical_and(x[0], x[1]); }, 0},
  {"logical_or", "", "whole:6 whole:6", [](In x) { return logical_or(x[0], x[1]); }, 0},
  {"logical_xor", "", "whole:6 whole:6", [](In x) { return logical_xor(x[0], x[1]); }, 0},
  {"logical_not", "", "whole:6", [](In x) { return logical_not(x[0]); }, 0},
  {"bitwise_and", "", "whole:6 whole:6", [](In x) { return x[0] & x[1]; }, 0},
  {"bitwise_or", "", "whole:6 whole:6", [](In x) { return x[0] | x[1]; }, 0},
  {"bitwise_xor", "", "whole:6 whole:6", [](In x) { return x[0] ^ x[1]; }, 0},
  {"bitwise_not", "", "whole:6", [](In x) { return ~x[0]; }, 0},
  {"isnan", "", "4", [](In x) { return isnan(log(x[0])); }, 0},
  {"isinf", "", "whole:8", [](In x) { return isinf(1 / x[0]); }, 0},
  {"isfinite", "", "whole:8", [](In x) { return isfinite(1 / x[0]); }, 0},

  // functions
  {"abs", "", "6", [](In x) { return abs(x[0]); }},
  {"neg", "", "4", [](In x) { return -x[0]; }},
  {"sign", "", "6", [](In x) { return sign(x[0]); }, 0},
  {"square", "", "4", [](In x) { return square(x[0]); }},
  {"exp", "", "4", [](In x) { return exp(x[0]); }},
  {"expm1", "", "4", [](In x) { return expm1(x[0]); }},
  {"log", "", "pos:4", [](In x) { return log(x[0]); }},
  {"log1p", "", "pos:4", [](In x) { return log1p(x[0]); }},
  {"log2", "", "pos:4", [](In x) { return log2(x[0]); }},
  {"log10", "", "pos:4", [](In x) { return log10(x[0]); }},
  {"sqrt", "", "pos:4", [](In x) { return sqrt(x[0]); }},
  {"rsqrt", "", "pos:4", [](In x) { return rsqrt(x[0]); }},
  {"reciprocal", "", "pos:4", [](In x) { return reciprocal(x[0]); }},
  {"sin", "", "4", [](In x) { return sin(x[0]); }},
  {"cos", "", "4", [](In x) { return cos(x[0]); }},
  {"tan", "", "unit:4", [](In x) { return tan(x[0]); }},
  {"sinh", "", "4", [](In x) { return sinh(x[0]); }},
  {"cosh", "", "4", [](In x) { return cosh(x[0]); }},
  {"tanh", "", "4", [](In x) { return tanh(x[0]); }},
  {"sigmoid", "", "4", [](In x) { return sigmoid(x[0]); }},
  {"erf", "", "4", [](In x) { return erf(x[0]); }},
  {"floor", "", "6", [](In x) { return floor(x[0]); }, 0},
  {"ceil", "", "6", [](In x) { return ceil(x[0]); }, 0},
  {"round", "", "6", [](In x) { return round(x[0]); }, 0},
  {"trunc", "", "6", [](In x) { return trunc(x[0]); }, 0},
  {"clamp", "both", "8", [](In x) { return clamp(x[0], -1, 0.5); }},
  {"clamp", "below", "8", [](In x) { return clamp_min(x[0], 0.25); }},
  {"clamp", "above", "8", [](In x) { return clamp_max(x[0], 0.25); }},
  {"relu", "", "6", [](In x) { return relu(x[0]); }},
  {"leaky_relu", "", "6", [](In x) { return leaky_relu(x[0], 0.2); }},
  {"elu", "", "6", [](In x) { return elu(x[0], 1.5); }},
  {"gelu", "", "6", [](In x) { return gelu(x[0]); }},
  {"gelu", "tanh", "6", [](In x) { return gelu(x[0], "tanh"); }},
  {"silu", "", "6", [](In x) { return silu(x[0]); }},
  {"softplus", "", "6", [](In x) { return softplus(x[0], 2, 3); }},
  {"dropout", "", "4x5", [](In x) { return drop(x[0], 0.4, dropout); }, 2, false},
  {"dropout", "channels", "2x3x2x2", [](In x) { return drop(x[0], 0.5, feature_dropout); }, 2, false},

  // reductions
  {"sum", "all", "2x3", [](In x) { return sum(x[0]); }},
  {"sum", "axes", "2x3x4", [](In x) { return sum(x[0], {0, -1}); }},
  {"sum", "keepdim", "2x3x4", [](In x) { return sum(x[0], 1, true); }},
  {"sum", "0-dim", "-", [](In x) { return sum(x[0]); }},
  {"sum", "nothing", "2x0", [](In x) { return sum(x[0], 1); }},
  {"sum", "bools", "mask:6", [](In x) { return sum(x[0]); }, 0},
  {"mean", "all", "2x3", [](In x) { return mean(x[0]); }},
  {"mean", "axes", "2x3x4", [](In x) { return mean(x[0], {1, 2}, true); }},
  {"prod", "all", "2x3", [](In x) { return prod(x[0]); }},
  {"prod", "axis", "2x3", [](In x) { return prod(x[0], 1); }},
  {"prod", "zeros", "holed:5x3", [](In x) { return prod(x[0], 1); }},
  {"prod", "a zero", "holed:5", [](In x) { return prod(x[0]); }},
  {"amax", "", "3x4", [](In x) { return amax(x[0], 1); }},
  {"amax", "ties", "whole:3x4", [](In x) { return amax(x[0], {0, 1}); }, 0},
  {"amin", "", "3x4", [](In x) { return amin(x[0], 0, true); }},
  {"max", "all", "3x4", [](In x) { return max(x[0]); }},
  {"max", "axis", "3x4", [](In x) { return std::get<0>(max(x[0], 1)); }},
  {"max", "indices", "3x4", [](In x) { return std::get<1>(max(x[0], 0)); }, 0},
  {"min", "all", "3x4", [](In x) { return min(x[0]); }},
  {"min", "axis", "3x4", [](In x) { return std::get<0>(min(x[0], 0, true)); }},
  {"argmax", "axis", "3x4", [](In x) { return argmax(x[0], 1); }, 0},
  {"argmax", "all", "3x4", [](In x) { return argmax(x[0]); }, 0},
  {"argmin", "axis", "3x4", [](In x) { return argmin(x[0], 0, true); }, 0},
  {"all", "", "whole:3x4", [](In x) { return all(x[0], 1); }, 0},
  {"any", "", "whole:3x4", [](In x) { return any(x[0], 0); }, 0},
  {"var", "all", "2x3", [](In x) { return var(x[0]); }},
  {"var", "biased", "2x3x4", [](In x) { return var(x[0], {0, 2}, false); }},
  {"std", "all", "2x3", [](In x) { return halftone::std(x[0]); }},
  {"std", "axis", "2x3x4", [](In x) { return halftone::std(x[0], 1, true, true); }},
  {"norm", "2", "3x4", [](In x) { return norm(x[0]); }},
  {"norm", "axis", "3x4", [](In x) { return norm(x[0], 2, 1); }},
  {"norm", "1", "3x4", [](In x) { return norm(x[0], 1, 0, true); }},
  {"norm", "3", "3x4", [](In x) { return norm(x[0], 3, 1); }},
  {"norm", "1.5", "3x4", [](In x) { return norm(x[0], 1.5); }},
  {"norm", "0", "3x4", [](In x) { return norm(x[0], 0, 1); }, 0},
  {"norm", "infinity", "3x4", [](In x) { return norm(x[0], kInfinity, 1); }},
  {"norm", "minus infinity", "3x4", [](In x) { return norm(x[0], -kInfinity, 1); }},
  {"logsumexp", "axis", "3x4", [](In x) { return logsumexp(x[0], 1); }},
  {"logsumexp", "axes", "2x3x4", [](In x) { return logsumexp(x[0], {0, 2}, true); }},
  {"cumsum", "", "3x4", [](In x) { return cumsum(x[0], 1); }},
  {"cumsum", "first axis", "3x4", [](In x) { return cumsum(x[0], 0); }},
  {"cumprod", "", "3x4", [](In x) { return cumprod(x[0], 1); }},
  {"cumprod", "zeros", "holed:3x4", [](In x) { return cumprod(x[0], 1); }},
  {"softmax", "", "3x4", [](In x) { return softmax(x[0], 1); }},
  {"softmax", "first axis", "3x4x2", [](In x) { return softmax(x[0], 0); }},
  {"softmax", "0-dim", "-", [](In x) { return softmax(x[0], 0); }},
  {"log_softmax", "", "3x4", [](In x) { return log_softmax(x[0], -1); }},
  {"log_softmax", "middle axis", "2x3x2", [](In x) { return log_softmax(x[0], 1); }},
  {"cosine_similarity", "", "3x4 3x4", [](In x) { return cosine_similarity(x[0], x[1]); }},

  // normalization
  {"batch_norm", "training", "4x3 3 3", [](In x) { return with_statistics(x, true); }},
  {"batch_norm", "images", "2x3x2x3 3 3", [](In x) { return with_statistics(x, true); }},
  {"batch_norm", "evaluation", "2x3x4 3 3", [](In x) { return with_statistics(x, false); }},
  {"batch_norm", "channels last", "2x3x2x3 3 3", [](In x) { return with_statistics({x[0].contiguous(MemoryFormat::ChannelsLast), x[1], x[2]}, true); }},
  {"batch_norm", "no weight", "4x3", [](In x) { return batch_norm(x[0], {}, {}, {}, {}, true, 0.1, 1e-5); }},
  {"layer_norm", "", "3x4 4 4", [](In x) { return layer_norm(x[0], 4, x[1], x[2]); }},
  {"layer_norm", "two axes", "2x3x4 3x4 3x4", [](In x) { return layer_norm(x[0], {3, 4}, x[1], x[2]); }},
  {"layer_norm", "no weight", "3x4", [](In x) { return layer_norm(x[0], 4); }},
  {"layer_norm", "all axes", "3x4 3x4", [](In x) { return layer_norm(x[0], {3, 4}, x[1]); }},
  {"group_norm", "", "2x4x3 4 4", [](In x) { return group_norm(x[0], 2, x[1], x[2]); }},

  // losses
  {"cross_entropy_loss", "mean", "4x5 label5:4", [](In x) { return cross_entropy_loss(x[0], x[1]); }},
  {"cross_entropy_loss", "sum", "4x5 label5:4", [](In x) { return cross_entropy_loss(x[0], x[1], {}, Reduction::Sum); }},
  {"cross_entropy_loss", "none", "4x5 label5:4", [](In x) { return cross_entropy_loss(x[0], x[1], {}, Reduction::None); }},
  {"cross_entropy_loss", "weight, ignored label and smoothing", "6x3 label3:6", [](In x) { return cross_entropy_loss(x[0], x[1], arange(1, 4).to(x[0].dtype()), Reduction::Mean, 1, 0.2); }},
  {"cross_entropy_loss", "smoothing", "4x3 label3:4", [](In x) { return cross_entropy_loss(x[0], x[1], {}, Reduction::Mean, -100, 0.3); }},
  {"cross_entropy_loss", "images", "2x3x2x2 label3:2x2x2", [](In x) { return cross_entropy_loss(x[0], x[1]); }},
  {"cross_entropy_loss", "images, none", "2x3x2x2 label3:2x2x2", [](In x) { return cross_entropy_loss(x[0], x[1], {}, Reduction::None, 0); }},
  {"cross_entropy_loss", "one", "3 label3:-", [](In x) { return cross_entropy_loss(x[0], x[1]); }},
  {"cross_entropy_loss", "probabilities", "4x3 unit:4x3", [](In x) { return cross_entropy_loss(x[0], x[1]); }},
  {"cross_entropy_loss", "probabilities, weight and smoothing", "2x3x2 unit:2x3x2", [](In x) { return cross_entropy_loss(x[0], x[1], arange(1, 4).to(x[0].dtype()), Reduction::Mean, -100, 0.2); }},
  {"nll_loss", "mean", "4x5 label5:4", [](In x) { return nll_loss(x[0], x[1]); }},
  {"nll_loss", "weight and ignored label", "6x3 label3:6", [](In x) { return nll_loss(x[0], x[1], arange(1, 4).to(x[0].dtype()), Reduction::Mean, 1); }},
  {"nll_loss", "images", "2x3x2x2 label3:2x2x2", [](In x) { return nll_loss(x[0], x[1], {}, Reduction::None); }},
  {"mse_loss", "", "3x4 3x4", [](In x) { return mse_loss(x[0], x[1]); }},
  {"mse_loss", "none", "3x4 3x4", [](In x) { return mse_loss(x[0], x[1], Reduction::None); }},
  {"l1_loss", "", "3x4 3x4", [](In x) { return l1_loss(x[0], x[1], Reduction::Sum); }},
  {"smooth_l1_loss", "", "3x4 3x4", [](In x) { return smooth_l1_loss(x[0], x[1], Reduction::Mean, 0.7); }},
  {"huber_loss", "", "3x4 3x4", [](In x) { return huber_loss(x[0], x[1], Reduction::Mean, 0.7); }},
  {"kl_div", "", "3x4 unit:3x4", [](In x) { return kl_div(x[0], x[1]); }},
  {"kl_div", "log target", "3x4 3x4", [](In x) { return kl_div(x[0], x[1], Reduction::Sum, true); }},
  {"binary_cross_entropy", "", "unit:3x2 unit:3x2", [](In x) { return binary_cross_entropy(x[0], x[1]); }},
  {"binary_cross_entropy", "weight", "unit:3x2 unit:3x2 pos:2", [](In x) { return binary_cross_entropy(x[0], x[1], x[2], Reduction::None); }},
  {"binary_cross_entropy_with_logits", "", "3x2 unit:3x2", [](In x) { return binary_cross_entropy_with_logits(x[0], x[1]); }},
  {"binary_cross_entropy_with_logits", "weights", "3x2 unit:3x2 pos:2 pos:2", [](In x) { return binary_cross_entropy_with_logits(x[0], x[1], x[2], x[3], Reduction::Sum); }},

  // windows
  {"max_pool1d", "", "2x3x7", [](In x) { return max_pool1d(x[0], 3, 2, 1); }},
  {"max_pool2d", "", "2x2x4x6", [](In x) { return max_pool2d(x[0], 2); }},
  {"max_pool2d", "dilation and ceil", "1x2x7x6", [](In x) { return max_pool2d(x[0], {3, 2}, {2, 2}, {1, 0}, {1, 2}, true); }},
  {"max_pool2d", "channels last", "2x3x4x4", [](In x) { return max_pool2d(x[0].contiguous(MemoryFormat::ChannelsLast), 3, 1, 1); }},
  {"max_pool2d", "unbatched", "2x4x4", [](In x) { return max_pool2d(x[0], 2); }},
  {"max_pool2d", "indices", "2x2x4x6", [](In x) { return std::get<1>(max_pool2d_with_indices(x[0], 2)); }, 0},
  {"max_pool3d", "", "1x2x4x4x4", [](In x) { return max_pool3d(x[0], 2); }},
  {"avg_pool1d", "", "2x3x7", [](In x) { return avg_pool1d(x[0], 3, 2, 1); }},
  {"avg_pool2d", "", "2x2x4x6", [](In x) { return avg_pool2d(x[0], 2); }},
  {"avg_pool2d", "no padding counted", "1x2x5x6", [](In x) { return avg_pool2d(x[0], 3, 2, 1, true, false); }},
  {"avg_pool2d", "divisor", "1x2x5x6", [](In x) { return avg_pool2d(x[0], 3, 2, 1, true, true, 5); }},
  {"avg_pool3d", "", "1x2x4x4x4", [](In x) { return avg_pool3d(x[0], 2, 2); }},
  {"adaptive_avg_pool2d", "", "2x2x5x7", [](In x) { return adaptive_avg_pool2d(x[0], {3, 2}); }},
  {"adaptive_avg_pool2d", "global", "2x3x4x4", [](In x) { return adaptive_avg_pool2d(x[0], 1); }},
  {"pad", "constant", "2x3", [](In x) { return pad(x[0], {1, 2, 0, 1}, "constant", 0.5); }},
  {"pad", "cropping", "3x4", [](In x) { return pad(x[0], {-1, 2, 1, -1}); }},
  {"pad", "reflect", "1x2x4", [](In x) { return pad(x[0], {2, 1}, "reflect"); }},
  {"pad", "replicate", "1x2x3x3", [](In x) { return pad(x[0], {2, 1, 0, 2}, "replicate"); }},
  {"pad", "circular", "1x2x4", [](In x) { return pad(x[0], {1, 3}, "circular"); }},

  // shapes and indices
  {"view", "", "2x3x4", [](In x) { return x[0].view({4, -1}); }},
  {"expand", "", "2x1x3", [](In x) { return x[0].expand({2, 2, 4, 3}); }},
  {"permute", "", "2x3x4", [](In x) { return x[0].permute({2, 0, 1}); }},
  {"slice", "", "6x3", [](In x) { return x[0].slice(0, 1, 6, 2); }},
  {"select", "", "3x4", [](In x) { return x[0].select(1, -2); }},
  {"as_strided", "overlapping", "6", [](In x) { return x[0].as_strided({3, 2}, {1, 2}, 1); }},
  {"clone", "", "2x3", [](In x) { return x[0].clone(); }},
  {"to", "a copy", "2x3", [](In x) { return x[0].to(x[0].dtype(), false, true); }},
  {"copy", "into a view", "3x4 4", [](In x) { const Tensor y = x[0] * 1; y.select(0, 1).copy_(x[1]); return y; }},
  {"fill", "a view", "3x4", [](In x) { const Tensor y = x[0] * 1; y.select(1, 2).fill_(0.5); return y; }},
  {"cat", "", "2x3 2x1 2x2", [](In x) { return cat({x[0], x[1], x[2]}, 1); }},
  {"cat", "empty", "0 2x3", [](In x) { return cat({x[0], x[1]}, 1); }},
  {"stack", "", "2x3 2x3", [](In x) { return stack({x[0], x[1]}, 1); }},
  {"gather", "", "4x3 label4:2x3", [](In x) { return gather(x[0], 0, x[1]); }},
  {"scatter", "", "4x3 label4:1x3 1x3", [](In x) { return scatter(x[0], 0, x[1], x[2]); }},
  {"scatter", "number", "4x3 label4:2x3", [](In x) { return scatter(x[0], 0, x[1], Scalar(0.5)); }},
  {"scatter_add", "", "4x3 label4:2x3 2x3", [](In x) { return scatter_add(x[0], 0, x[1], x[2]); }},
  {"index", "vector", "4x3 label4:5", [](In x) { return x[0].index({x[1]}); }},
  {"index", "adjacent", "2x4x3x2 label4:2x2 label3:2", [](In x) { return x[0].index({Slice(), x[1], x[2]}); }},
  {"index", "apart", "4x3x2 label4:5 label2:5", [](In x) { return x[0].index({x[1], Slice(), x[2]}); }},
  {"index", "mixed", "4x3x2 label3:2", [](In x) { return x[0].index({Slice(1, None, 2), None, x[1], Ellipsis}); }},
  {"index", "mask", "4x3 mask:4x3", [](In x) { return x[0].index({x[1]}); }},
  {"index", "mask of rows", "4x3 mask:4", [](In x) { return x[0].index({x[1], Slice(0, 2)}); }},
  {"index", "nothing", "4x3 label4:0", [](In x) { return x[0].index({x[1]}); }},
  {"index", "index_select", "4x3 label3:5", [](In x) { return index_select(x[0], 1, x[1]); }},
  {"index", "masked_select", "4x3 mask:3", [](In x) { return masked_select(x[0], x[1]); }},
  {"index_put", "set", "5x3 2x3", [](In x) { return index_put(x[0], {indices({3, 1})}, x[1]); }},
  {"index_put", "add", "5x3 label5:4 4x3", [](In x) { return index_put(x[0], {x[1]}, x[2], true); }},
  {"index_put", "into a view", "5x4x2 2x2", [](In x) { const Tensor y = x[0] * 1; y.index_put_({Slice(1, 4), indices({0, 2}), 1}, x[1].index({0})); return y; }},
  {"index_put", "broadcast value", "3x4x2 -", [](In x) { return index_put(x[0], {Slice(), indices({0, 3}), indices({1, 0})}, x[1]); }},
  {"index_put", "index_add", "3x4 label4:5 3x5", [](In x) { return index_add(x[0], 1, x[1], x[2]); }},
  {"embedding", "", "5x3 label5:2x4", [](In x) { return embedding(x[0], x[1]); }},
  {"embedding", "padding", "5x3 label5:8", [](In x) { return embedding(x[0], x[1], 2); }, kByDecree},
  {"embedding", "by frequency", "5x3 label5:8", [](In x) { return embedding(x[0], x[1], -1, true); }, kByDecree},
  {"masked_fill", "", "3x4 mask:4", [](In x) { return masked_fill(x[0], x[1], 0.5); }},
};
// clang-format on

std::uint32_t hash(std::uint32_t i, std::uint32_t k) {
  std::uint32_t h = (i + 1 + 1000 * k) * 2654435761u;
  h ^= h >> 15;
  h *= 2246822519u;
  return h ^ (h >> 13);
}
double fraction(std::uint32_t h) { return static_cast<double>(h >> 8) / 0x1p24; }

Dims parse_sizes(std::string_view text) {
  Dims sizes;
  if (text == "-") return sizes;
  for (const char* p = text.data(); p < text.data() + text.size(); ++p) {
    std::int64_t size = 0;
    p = std::from_chars(p, text.data() + text.size(), size).ptr;
    sizes.push_back(size);
  }
  return sizes;
}

double value_of(std::string_view kind, std::uint32_t h) {
  if (kind == "any") return 4 * fraction(h) - 2;
  if (kind == "holed") return h % 4 == 0 ? 0 : 4 * fraction(h) - 2;
  if (kind == "pos") return 2 * fraction(h) + 0.3;
  if (kind == "unit") return 0.9 * fraction(h) + 0.05;
  if (kind == "whole") return static_cast<double>((h >> 8) % 7) - 3;
  if (kind == "mask") return (h >> 8) % 2;
  check(kind.starts_with("label"), "op_cases: no such kind of input: ", kind);
  return (h >> 8) % static_cast<std::uint32_t>(kind.back() - '0');
}

Dtype dtype_of_kind(std::string_view kind, Dtype floating) {
  if (kind == "mask") return kBool;
  return kind == "whole" || kind.starts_with("label") ? kInt64 : floating;
}

}  // namespace

std::span<const OpCase> op_cases() { return kCases; }

Tensor make_input(std::string_view word, std::size_t k, Dtype dtype) {
  const std::size_t colon = word.find(':');
  const std::string_view kind = colon == std::string_view::npos ? "any" : word.substr(0, colon);
  const Dims sizes = parse_sizes(colon == std::string_view::npos ? word : word.substr(colon + 1));
  const Tensor values = empty(sizes, TensorOptions(kFloat64).device(kCPU));
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    values.data_ptr<double>()[i] = value_of(kind, hash(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(k)));
  }
  return values.to(get_default_device(), dtype_of_kind(kind, dtype));
}

std::vector<Tensor> make_inputs(const OpCase& c, Dtype dtype) {
  std::vector<Tensor> inputs;
  std::string_view rest = c.inputs;
  while (!rest.empty()) {
    const std::size_t space = std::min(rest.find(' '), rest.size());
    inputs.push_back(make_input(rest.substr(0, space), inputs.size(), dtype));
    rest.remove_prefix(std::min(space + 1, rest.size()));
  }
  return inputs;
}

double tolerance(Dtype dtype, std::int64_t length) {
  const double step = dtype == kBFloat16 ? 0x1p-8 : dtype == kFloat16 ? 0x1p-11 : dtype == kFloat32 ? 0x1p-24 : 0x1p-53;
  return 2 * step * (1 + std::sqrt(static_cast<double>(length)));
}

}  // namespace halftone::test
