// The op table: a row an op. Autocast, error messages, traces, the printed reference and the tests read these rows; the
// table says what an op is, amp says what to do about it. op("name") is looked up by the compiler: a missing row does
// not compile.
#pragma once

#include <cstddef>
#include <string_view>

namespace halftone {

/// What an op's arithmetic needs of its inputs' precision.
enum class Precision : unsigned char {
  lower,          // as good in 16 bits: products and convolutions
  full,           // wants float32: exponentials, losses, norms
  full_if_unset,  // wants a float32 result unless the caller asks for a dtype: sums, softmax
  promote,        // wants its inputs in one dtype, the widest of them
  any,            // takes what comes
  banned,         // overflows or underflows in 16 bits whatever one does
};

struct OpInfo {
  std::string_view name;
  Precision precision;
  std::string_view meaning;
};

inline constexpr OpInfo kOps[] = {
    // products
    {"matmul", Precision::lower, "matrix product of the last two axes, batched and broadcast over the others"},
    {"mm", Precision::lower, "product of two matrices"},
    {"bmm", Precision::lower, "product of two batches of matrices"},
    {"mv", Precision::lower, "matrix times vector"},
    {"dot", Precision::promote, "sum of the products of two vectors"},
    {"addmm", Precision::lower, "beta c + alpha (a b)"},
    {"outer", Precision::any, "all products of the elements of two vectors"},
    {"linear", Precision::lower, "x w^T + b"},
    {"scaled_dot_product_attention", Precision::lower, "softmax(q k^T / sqrt(d)) v"},
    {"conv1d", Precision::lower, "correlation with a kernel sliding over one axis"},
    {"conv2d", Precision::lower, "correlation with a kernel sliding over two axes"},
    {"conv3d", Precision::lower, "correlation with a kernel sliding over three axes"},
    {"conv_transpose1d", Precision::lower, "the transpose of conv1d: each input element spreads a kernel"},
    {"conv_transpose2d", Precision::lower, "the transpose of conv2d"},
    {"conv_transpose3d", Precision::lower, "the transpose of conv3d"},
    {"conv_data_grad", Precision::any, "the gradient of a convolution for its input"},
    {"conv_weight_grad", Precision::any, "the gradient of a convolution for its weight"},

    // arithmetic
    {"add", Precision::any, "a + alpha b"},
    {"sub", Precision::any, "a - alpha b"},
    {"mul", Precision::any, "a b"},
    {"div", Precision::any, "a / b"},
    {"remainder", Precision::any, "a - b floor(a / b)"},
    {"pow", Precision::full, "a^b"},
    {"atan2", Precision::promote, "the angle of (b, a)"},
    {"maximum", Precision::any, "the larger of two"},
    {"minimum", Precision::any, "the smaller of two"},
    {"lerp", Precision::any, "a + w (b - a)"},
    {"addcmul", Precision::promote, "a + value b c"},
    {"addcdiv", Precision::promote, "a + value b / c"},
    {"where", Precision::any, "a where the condition holds, b elsewhere"},
    {"eq", Precision::any, "a = b"},
    {"ne", Precision::any, "a differs from b"},
    {"lt", Precision::any, "a < b"},
    {"le", Precision::any, "a <= b"},
    {"gt", Precision::any, "a > b"},
    {"ge", Precision::any, "a >= b"},
    {"logical_and", Precision::any, "both are not zero"},
    {"logical_or", Precision::any, "one is not zero"},
    {"logical_xor", Precision::any, "exactly one is not zero"},
    {"logical_not", Precision::any, "it is zero"},
    {"bitwise_and", Precision::any, "bits set in both"},
    {"bitwise_or", Precision::any, "bits set in one"},
    {"bitwise_xor", Precision::any, "bits that differ"},
    {"bitwise_not", Precision::any, "bits inverted"},
    {"isnan", Precision::any, "is it NaN"},
    {"isinf", Precision::any, "is it infinite"},
    {"isfinite", Precision::any, "is it neither NaN nor infinite"},

    // functions
    {"abs", Precision::any, "|x|"},
    {"neg", Precision::any, "-x"},
    {"sign", Precision::any, "-1, 0 or 1"},
    {"square", Precision::full, "x^2"},
    {"exp", Precision::full, "e^x"},
    {"expm1", Precision::full, "e^x - 1"},
    {"log", Precision::full, "natural logarithm"},
    {"log1p", Precision::full, "log(1 + x)"},
    {"log2", Precision::full, "logarithm to base 2"},
    {"log10", Precision::full, "logarithm to base 10"},
    {"sqrt", Precision::any, "square root"},
    {"rsqrt", Precision::full, "1 / sqrt(x)"},
    {"reciprocal", Precision::full, "1 / x"},
    {"sin", Precision::any, "sine"},
    {"cos", Precision::any, "cosine"},
    {"tan", Precision::full, "tangent"},
    {"sinh", Precision::full, "hyperbolic sine"},
    {"cosh", Precision::full, "hyperbolic cosine"},
    {"tanh", Precision::any, "hyperbolic tangent"},
    {"sigmoid", Precision::any, "1 / (1 + e^-x)"},
    {"erf", Precision::any, "error function"},
    {"floor", Precision::any, "largest integer not above"},
    {"ceil", Precision::any, "smallest integer not below"},
    {"round", Precision::any, "nearest integer, halves to even"},
    {"trunc", Precision::any, "integer part"},
    {"clamp", Precision::any, "limited to a range"},
    {"relu", Precision::any, "max(x, 0)"},
    {"leaky_relu", Precision::any, "x, or slope x below 0"},
    {"elu", Precision::any, "x, or alpha (e^x - 1) below 0"},
    {"gelu", Precision::any, "x times the normal distribution function of x"},
    {"silu", Precision::any, "x sigmoid(x)"},
    {"softplus", Precision::full, "log(1 + e^(beta x)) / beta"},
    {"dropout", Precision::any, "zeroes elements at random and scales the rest by 1 / (1 - p)"},

    // reductions and rows
    {"sum", Precision::full_if_unset, "sum over axes"},
    {"mean", Precision::any, "mean over axes"},
    {"prod", Precision::full_if_unset, "product over axes"},
    {"amax", Precision::any, "largest element over axes"},
    {"amin", Precision::any, "smallest element over axes"},
    {"max", Precision::any, "largest element along an axis, and where it is"},
    {"min", Precision::any, "smallest element along an axis, and where it is"},
    {"argmax", Precision::any, "where the largest element is"},
    {"argmin", Precision::any, "where the smallest element is"},
    {"all", Precision::any, "are all elements not zero"},
    {"any", Precision::any, "is an element not zero"},
    {"var", Precision::any, "variance over axes"},
    {"std", Precision::any, "standard deviation over axes"},
    {"norm", Precision::full_if_unset, "p-norm over axes"},
    {"logsumexp", Precision::full, "log of the sum of e^x over axes"},
    {"cumsum", Precision::full_if_unset, "running sum along an axis"},
    {"cumprod", Precision::full_if_unset, "running product along an axis"},
    {"softmax", Precision::full_if_unset, "e^x over its sum along an axis"},
    {"log_softmax", Precision::full_if_unset, "log of softmax along an axis"},
    {"softmax_grad", Precision::any, "the gradient of softmax and log_softmax"},
    {"cosine_similarity", Precision::full, "a . b / (|a| |b|) along an axis"},

    // normalisation
    {"batch_norm", Precision::any, "each channel to mean 0 and variance 1 over the batch, then scaled and shifted"},
    {"batch_norm_grad", Precision::any, "the gradient of batch_norm"},
    {"layer_norm", Precision::full, "each sample to mean 0 and variance 1, then scaled and shifted"},
    {"layer_norm_grad", Precision::any, "the gradient of layer_norm"},
    {"group_norm", Precision::full, "groups of channels to mean 0 and variance 1, then scaled and shifted"},

    // losses
    {"cross_entropy_loss", Precision::full, "-log of the softmax at the label"},
    {"nll_loss", Precision::full, "-x at the label"},
    {"mse_loss", Precision::full, "squared difference"},
    {"l1_loss", Precision::full, "absolute difference"},
    {"smooth_l1_loss", Precision::full, "absolute difference, quadratic near 0"},
    {"huber_loss", Precision::full, "quadratic near 0, linear beyond delta"},
    {"kl_div", Precision::full, "target (log target - x)"},
    {"binary_cross_entropy", Precision::banned, "-(t log x + (1 - t) log(1 - x))"},
    {"binary_cross_entropy_with_logits", Precision::full, "binary cross entropy of sigmoid(x)"},

    // windows
    {"max_pool1d", Precision::any, "largest element in a window over one axis"},
    {"max_pool2d", Precision::any, "largest element in a window over two axes"},
    {"max_pool3d", Precision::full, "largest element in a window over three axes"},
    {"avg_pool1d", Precision::any, "mean of a window over one axis"},
    {"avg_pool2d", Precision::any, "mean of a window over two axes"},
    {"avg_pool3d", Precision::full, "mean of a window over three axes"},
    {"adaptive_avg_pool2d", Precision::any, "mean over as many windows as asked for"},
    {"pool_grad", Precision::any, "the gradient of a pool"},
    {"pad", Precision::any, "extended at its borders"},

    // shapes and indices
    {"view", Precision::any, "the same elements in another shape"},
    {"expand", Precision::any, "axes of size 1 repeated without copying"},
    {"permute", Precision::any, "axes in another order"},
    {"slice", Precision::any, "a range of an axis"},
    {"select", Precision::any, "one place of an axis"},
    {"as_strided", Precision::any, "the same memory with given sizes and strides"},
    {"clone", Precision::any, "a copy"},
    {"to", Precision::any, "in another dtype or on another device"},
    {"copy", Precision::any, "values written over"},
    {"fill", Precision::any, "one value written over"},
    {"cat", Precision::promote, "joined along an axis"},
    {"stack", Precision::promote, "joined along a new axis"},
    {"gather", Precision::any, "elements picked along an axis"},
    {"scatter", Precision::any, "elements written along an axis"},
    {"scatter_add", Precision::promote, "elements added along an axis"},
    {"index", Precision::any, "elements picked by tensors of indices"},
    {"index_put", Precision::promote, "elements written by tensors of indices"},
    {"embedding", Precision::any, "rows of a table"},
    {"masked_fill", Precision::any, "a value where the mask holds"},
    {"einsum", Precision::lower, "sum of products by index letters"},
};

/// The row of an op; a name without a row does not compile.
consteval const OpInfo& op(std::string_view name) {
  for (const OpInfo& row : kOps) {
    if (row.name == name) return row;
  }
  throw "this op has no row in the op table";
}

/// A row of kOps or one registered by a user; null when there is none.
const OpInfo* find_op(std::string_view name);
/// Gives an op of the user a row, or changes the precision of one that was registered before. Rows of kOps stay as they
/// are.
const OpInfo& register_op(std::string_view name, Precision precision, std::string_view meaning = "");

/// "lower", "full" and so on.
std::string_view name(Precision precision);

}  // namespace halftone
