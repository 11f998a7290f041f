// The public functions on tensors. Every one goes through apply(): autocast, compute, record. Argument order and
// defaults are libtorch's. Shapes are in letters: N batch, C channels, H W an image. Floating ops take integer tensors
// as the default dtype. A function that takes a dimension counts negative ones from the end.
//
// Broadcasting and type promotion are PyTorch's: a 0-dim tensor or a number does not widen a dimensioned tensor of its
// category; float16 with bfloat16 gives float32.
#pragma once

#include <tuple>
#include <variant>
#include <vector>

#include "autograd/context.h"
#include "core/indexing.h"
#include "core/tensor.h"

namespace halftone {

// ------------------------------------------------------------------------------------------------ factories
Tensor zeros(IntArrayRef sizes, const TensorOptions& options = {});
Tensor ones(IntArrayRef sizes, const TensorOptions& options = {});
/// Without a dtype in the options the value decides: bool, int64 or the default dtype.
Tensor full(IntArrayRef sizes, const Scalar& value, const TensorOptions& options = {});
/// Uniform over [0, 1).
Tensor rand(IntArrayRef sizes, const TensorOptions& options = {});
/// Normal with mean 0 and variance 1.
Tensor randn(IntArrayRef sizes, const TensorOptions& options = {});
/// Integers of [low, high), int64 unless the options say otherwise.
Tensor randint(std::int64_t low, std::int64_t high, IntArrayRef sizes, const TensorOptions& options = kInt64);
Tensor randint(std::int64_t high, IntArrayRef sizes, const TensorOptions& options = kInt64);
/// A random order of 0 .. n - 1.
Tensor randperm(std::int64_t n, const TensorOptions& options = kInt64);
/// start, start + step, ... below end. All-integer arguments give int64.
Tensor arange(const Scalar& end, const TensorOptions& options = {});
Tensor arange(const Scalar& start, const Scalar& end, const TensorOptions& options = {});
Tensor arange(const Scalar& start, const Scalar& end, const Scalar& step, const TensorOptions& options = {});
Tensor linspace(const Scalar& start, const Scalar& end, std::int64_t steps, const TensorOptions& options = {});
Tensor eye(std::int64_t n, const TensorOptions& options = {});
Tensor eye(std::int64_t n, std::int64_t m, const TensorOptions& options = {});
/// A 0-dim tensor of the value's dtype (floating values: the default dtype).
Tensor scalar_tensor(const Scalar& value, const TensorOptions& options = {});
Tensor zeros_like(const Tensor& x, const TensorOptions& options = {});
Tensor ones_like(const Tensor& x, const TensorOptions& options = {});
Tensor full_like(const Tensor& x, const Scalar& value, const TensorOptions& options = {});
Tensor rand_like(const Tensor& x, const TensorOptions& options = {});
Tensor randn_like(const Tensor& x, const TensorOptions& options = {});

// ------------------------------------------------------------------------------------------------ arithmetic
/// a + alpha b.
Tensor add(const Tensor& a, const Tensor& b, const Scalar& alpha = 1);
Tensor add(const Tensor& a, const Scalar& b);
Tensor sub(const Tensor& a, const Tensor& b, const Scalar& alpha = 1);
Tensor sub(const Tensor& a, const Scalar& b);
/// b - a.
Tensor rsub(const Tensor& a, const Scalar& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Scalar& b);
/// True division: integers give the default dtype.
Tensor div(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Scalar& b);
/// The remainder with the divisor's sign.
Tensor remainder(const Tensor& a, const Tensor& b);
Tensor remainder(const Tensor& a, const Scalar& b);
Tensor pow(const Tensor& a, const Tensor& exponent);
Tensor pow(const Tensor& a, const Scalar& exponent);
Tensor pow(const Scalar& a, const Tensor& exponent);
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);
Tensor atan2(const Tensor& a, const Tensor& b);
/// a + weight (end - a).
Tensor lerp(const Tensor& a, const Tensor& end, const Scalar& weight);
Tensor lerp(const Tensor& a, const Tensor& end, const Tensor& weight);
/// x + value a b.
Tensor addcmul(const Tensor& x, const Tensor& a, const Tensor& b, const Scalar& value = 1);
/// x + value a / b.
Tensor addcdiv(const Tensor& x, const Tensor& a, const Tensor& b, const Scalar& value = 1);
/// a where the bool condition holds, b elsewhere.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor where(const Tensor& condition, const Tensor& a, const Scalar& b);
Tensor where(const Tensor& condition, const Scalar& a, const Tensor& b);
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Scalar& value);

// ------------------------------------------------------------------------------------------------ functions of an
// element
Tensor abs(const Tensor& x);
Tensor neg(const Tensor& x);
Tensor sign(const Tensor& x);
Tensor square(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor expm1(const Tensor& x);
Tensor log(const Tensor& x);
Tensor log1p(const Tensor& x);
Tensor log2(const Tensor& x);
Tensor log10(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tan(const Tensor& x);
Tensor sinh(const Tensor& x);
Tensor cosh(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor erf(const Tensor& x);
Tensor floor(const Tensor& x);
Tensor ceil(const Tensor& x);
Tensor round(const Tensor& x);
Tensor trunc(const Tensor& x);
Tensor relu(const Tensor& x);
Tensor leaky_relu(const Tensor& x, const Scalar& negative_slope = 0.01);
Tensor elu(const Tensor& x, const Scalar& alpha = 1);
/// approximate: "none" or "tanh".
Tensor gelu(const Tensor& x, std::string_view approximate = "none");
Tensor silu(const Tensor& x);
Tensor softplus(const Tensor& x, const Scalar& beta = 1, const Scalar& threshold = 20);
Tensor clamp(const Tensor& x, optional<Scalar> min = nullopt, optional<Scalar> max = nullopt);
Tensor clamp_min(const Tensor& x, const Scalar& min);
Tensor clamp_max(const Tensor& x, const Scalar& max);
Tensor isnan(const Tensor& x);
Tensor isinf(const Tensor& x);
Tensor isfinite(const Tensor& x);
Tensor logical_not(const Tensor& x);
Tensor bitwise_not(const Tensor& x);

Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);
Tensor logical_xor(const Tensor& a, const Tensor& b);
Tensor bitwise_and(const Tensor& a, const Tensor& b);
Tensor bitwise_or(const Tensor& a, const Tensor& b);
Tensor bitwise_xor(const Tensor& a, const Tensor& b);
Tensor eq(const Tensor& a, const Tensor& b);
Tensor ne(const Tensor& a, const Tensor& b);
Tensor lt(const Tensor& a, const Tensor& b);
Tensor le(const Tensor& a, const Tensor& b);
Tensor gt(const Tensor& a, const Tensor& b);
Tensor ge(const Tensor& a, const Tensor& b);
Tensor eq(const Tensor& a, const Scalar& b);
Tensor ne(const Tensor& a, const Scalar& b);
Tensor lt(const Tensor& a, const Scalar& b);
Tensor le(const Tensor& a, const Scalar& b);
Tensor gt(const Tensor& a, const Scalar& b);
Tensor ge(const Tensor& a, const Scalar& b);
/// Same shape and same values.
bool equal(const Tensor& a, const Tensor& b);
/// |a - b| <= atol + rtol |b| for every element.
bool allclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8, bool equal_nan = false);
Tensor isclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8, bool equal_nan = false);

// ------------------------------------------------------------------------------------------------ conversion and shape
/// The same tensor when dtype and device are already those asked for and no copy is; strides are kept.
Tensor to(const Tensor& x, const TensorOptions& options, bool non_blocking = false, bool copy = false,
          optional<MemoryFormat> format = nullopt);
Tensor clone(const Tensor& x, MemoryFormat format = MemoryFormat::Preserve);
Tensor contiguous(const Tensor& x, MemoryFormat format = MemoryFormat::Contiguous);
/// A view when strides allow it, a copy otherwise.
Tensor reshape(const Tensor& x, IntArrayRef sizes);
Tensor flatten(const Tensor& x, std::int64_t start_dim = 0, std::int64_t end_dim = -1);
Tensor unflatten(const Tensor& x, std::int64_t dim, IntArrayRef sizes);
Tensor squeeze(const Tensor& x);
Tensor squeeze(const Tensor& x, std::int64_t dim);
Tensor unsqueeze(const Tensor& x, std::int64_t dim);
Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1);
Tensor t(const Tensor& x);
Tensor permute(const Tensor& x, IntArrayRef order);
Tensor movedim(const Tensor& x, std::int64_t from, std::int64_t to);
/// -1 keeps a size. Axes of size 1 are repeated without copying.
Tensor expand(const Tensor& x, IntArrayRef sizes);
Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length);
Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index);
Tensor slice(const Tensor& x, std::int64_t dim = 0, optional<std::int64_t> start = nullopt,
             optional<std::int64_t> end = nullopt, std::int64_t step = 1);
Tensor as_strided(const Tensor& x, IntArrayRef sizes, IntArrayRef strides, optional<std::int64_t> offset = nullopt);
std::vector<Tensor> split(const Tensor& x, std::int64_t split_size, std::int64_t dim = 0);
std::vector<Tensor> split_with_sizes(const Tensor& x, IntArrayRef sizes, std::int64_t dim = 0);
std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, std::int64_t dim = 0);
std::vector<Tensor> unbind(const Tensor& x, std::int64_t dim = 0);
Tensor repeat(const Tensor& x, IntArrayRef repeats);
Tensor cat(TensorList tensors, std::int64_t dim = 0);
Tensor stack(TensorList tensors, std::int64_t dim = 0);
/// Pairs (before, after) from the last axis on; negative ones crop. mode: "constant", "reflect", "replicate",
/// "circular".
Tensor pad(const Tensor& x, IntArrayRef padding, std::string_view mode = "constant", double value = 0);
std::vector<Tensor> broadcast_tensors(TensorList tensors);
/// Sums x over the axes in which `sizes` was broadcast: the adjoint of expand.
Tensor sum_to_size(const Tensor& x, IntArrayRef sizes);

// ------------------------------------------------------------------------------------------------ indices
Tensor index(const Tensor& x, ArrayRef<TensorIndex> indices);
Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index);
Tensor gather(const Tensor& x, std::int64_t dim, const Tensor& index);
Tensor scatter(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source);
Tensor scatter(const Tensor& x, std::int64_t dim, const Tensor& index, const Scalar& value);
Tensor scatter_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source);
Tensor index_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source);
Tensor index_put(const Tensor& x, ArrayRef<TensorIndex> indices, const Tensor& value, bool accumulate = false);
Tensor masked_select(const Tensor& x, const Tensor& mask);
/// int64 [count, dim]; not differentiable.
Tensor nonzero(const Tensor& x);
/// Rows of weight [num, dim] at int64 indices. The row padding_idx gets no gradient (-1: none).
Tensor embedding(const Tensor& weight, const Tensor& indices, std::int64_t padding_idx = -1,
                 bool scale_grad_by_freq = false, bool sparse = false);
/// 1 at the class of each int64 label; num_classes -1 takes the largest label.
Tensor one_hot(const Tensor& labels, std::int64_t num_classes = -1);
/// Indices drawn with probabilities proportional to each row of x.
Tensor multinomial(const Tensor& x, std::int64_t num_samples, bool replacement = false);
Tensor tril(const Tensor& x, std::int64_t diagonal = 0);
Tensor triu(const Tensor& x, std::int64_t diagonal = 0);

// ------------------------------------------------------------------------------------------------ reductions
Tensor sum(const Tensor& x, optional<Dtype> dtype = nullopt);
Tensor sum(const Tensor& x, IntArrayRef dims, bool keepdim = false, optional<Dtype> dtype = nullopt);
Tensor mean(const Tensor& x, optional<Dtype> dtype = nullopt);
Tensor mean(const Tensor& x, IntArrayRef dims, bool keepdim = false, optional<Dtype> dtype = nullopt);
Tensor prod(const Tensor& x, optional<Dtype> dtype = nullopt);
Tensor prod(const Tensor& x, std::int64_t dim, bool keepdim = false, optional<Dtype> dtype = nullopt);
Tensor max(const Tensor& x);
Tensor min(const Tensor& x);
inline Tensor max(const Tensor& a, const Tensor& b) { return maximum(a, b); }
inline Tensor min(const Tensor& a, const Tensor& b) { return minimum(a, b); }
/// Values and their int64 indices along `dim`; of equal elements the first.
std::tuple<Tensor, Tensor> max(const Tensor& x, std::int64_t dim, bool keepdim = false);
std::tuple<Tensor, Tensor> min(const Tensor& x, std::int64_t dim, bool keepdim = false);
/// Equal largest elements share the gradient.
Tensor amax(const Tensor& x, IntArrayRef dims = {}, bool keepdim = false);
Tensor amin(const Tensor& x, IntArrayRef dims = {}, bool keepdim = false);
Tensor argmax(const Tensor& x, optional<std::int64_t> dim = nullopt, bool keepdim = false);
Tensor argmin(const Tensor& x, optional<std::int64_t> dim = nullopt, bool keepdim = false);
Tensor all(const Tensor& x);
Tensor all(const Tensor& x, std::int64_t dim, bool keepdim = false);
Tensor any(const Tensor& x);
Tensor any(const Tensor& x, std::int64_t dim, bool keepdim = false);
/// unbiased divides by count - 1.
Tensor var(const Tensor& x, bool unbiased = true);
Tensor var(const Tensor& x, IntArrayRef dims, bool unbiased = true, bool keepdim = false);
Tensor std(const Tensor& x, bool unbiased = true);
Tensor std(const Tensor& x, IntArrayRef dims, bool unbiased = true, bool keepdim = false);
Tensor norm(const Tensor& x, const Scalar& p = 2);
Tensor norm(const Tensor& x, const Scalar& p, IntArrayRef dims, bool keepdim = false, optional<Dtype> dtype = nullopt);
Tensor logsumexp(const Tensor& x, IntArrayRef dims, bool keepdim = false);
Tensor cumsum(const Tensor& x, std::int64_t dim, optional<Dtype> dtype = nullopt);
Tensor cumprod(const Tensor& x, std::int64_t dim, optional<Dtype> dtype = nullopt);
Tensor softmax(const Tensor& x, std::int64_t dim, optional<Dtype> dtype = nullopt);
Tensor log_softmax(const Tensor& x, std::int64_t dim, optional<Dtype> dtype = nullopt);

// ------------------------------------------------------------------------------------------------ linear algebra
/// As numpy.matmul: vectors, matrices, batches that broadcast.
Tensor matmul(const Tensor& a, const Tensor& b);
Tensor mm(const Tensor& a, const Tensor& b);
Tensor bmm(const Tensor& a, const Tensor& b);
Tensor mv(const Tensor& a, const Tensor& v);
Tensor dot(const Tensor& a, const Tensor& b);
Tensor outer(const Tensor& a, const Tensor& b);
/// beta c + alpha (a b).
Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, const Scalar& beta = 1, const Scalar& alpha = 1);
/// x [..., in] times weight [out, in] transposed, plus bias [out].
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
/// Einstein summation: "ij,jk->ik".
Tensor einsum(std::string_view equation, TensorList operands);
/// softmax(q k^T / sqrt(d)) v for q [..., n, d], k [..., m, d], v [..., m, e]. attn_mask is bool (may the query see the
/// key?) or is added to the scores; is_causal lets query i see the keys up to i.
Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& attn_mask = {}, double dropout_p = 0, bool is_causal = false,
                                    optional<double> scale = nullopt);

// ------------------------------------------------------------------------------------------------ windows
// One number stands for a list. An empty stride of a pool means the kernel size.
Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
              IntArrayRef padding = 0, IntArrayRef dilation = 1, std::int64_t groups = 1);
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
              IntArrayRef padding = 0, IntArrayRef dilation = 1, std::int64_t groups = 1);
Tensor conv3d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
              IntArrayRef padding = 0, IntArrayRef dilation = 1, std::int64_t groups = 1);
Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
                        IntArrayRef padding = 0, IntArrayRef output_padding = 0, std::int64_t groups = 1,
                        IntArrayRef dilation = 1);
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
                        IntArrayRef padding = 0, IntArrayRef output_padding = 0, std::int64_t groups = 1,
                        IntArrayRef dilation = 1);
Tensor conv_transpose3d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
                        IntArrayRef padding = 0, IntArrayRef output_padding = 0, std::int64_t groups = 1,
                        IntArrayRef dilation = 1);
Tensor max_pool1d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride = {}, IntArrayRef padding = 0,
                  IntArrayRef dilation = 1, bool ceil_mode = false);
Tensor max_pool2d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride = {}, IntArrayRef padding = 0,
                  IntArrayRef dilation = 1, bool ceil_mode = false);
Tensor max_pool3d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride = {}, IntArrayRef padding = 0,
                  IntArrayRef dilation = 1, bool ceil_mode = false);
/// Values, and int64 positions within each plane.
std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& x, IntArrayRef kernel, IntArrayRef stride = {},
                                                   IntArrayRef padding = 0, IntArrayRef dilation = 1,
                                                   bool ceil_mode = false);
Tensor avg_pool1d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride = {}, IntArrayRef padding = 0,
                  bool ceil_mode = false, bool count_include_pad = true);
Tensor avg_pool2d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride = {}, IntArrayRef padding = 0,
                  bool ceil_mode = false, bool count_include_pad = true,
                  optional<std::int64_t> divisor_override = nullopt);
Tensor avg_pool3d(const Tensor& x, IntArrayRef kernel, IntArrayRef stride = {}, IntArrayRef padding = 0,
                  bool ceil_mode = false, bool count_include_pad = true,
                  optional<std::int64_t> divisor_override = nullopt);
Tensor adaptive_avg_pool2d(const Tensor& x, IntArrayRef output_size);

// ------------------------------------------------------------------------------------------------ normalisation,
// dropout
/// x [N, C, ...]. In training the batch's statistics are used and the running ones, if defined, move by `momentum`.
/// 16-bit x takes float32 weight, bias and statistics. A batch that is not finite leaves the running statistics alone.
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                  const Tensor& running_var, bool training, double momentum, double eps, bool cudnn_enabled = true);
Tensor layer_norm(const Tensor& x, IntArrayRef normalized_shape, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5, bool cudnn_enabled = true);
Tensor group_norm(const Tensor& x, std::int64_t num_groups, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5);
Tensor dropout(const Tensor& x, double p, bool train);
/// Drops whole channels of [N, C, ...].
Tensor feature_dropout(const Tensor& x, double p, bool train);

// ------------------------------------------------------------------------------------------------ losses
// reduction is one of Reduction::None, Mean, Sum.
namespace Reduction {
enum Kind : std::int64_t { None = 0, Mean = 1, Sum = 2 };
}
/// logits [N, C, ...] against int64 labels [N, ...], or against probabilities of the logits' shape.
Tensor cross_entropy_loss(const Tensor& logits, const Tensor& target, const Tensor& weight = {},
                          std::int64_t reduction = Reduction::Mean, std::int64_t ignore_index = -100,
                          double label_smoothing = 0);
/// log-probabilities [N, C, ...] against int64 labels.
Tensor nll_loss(const Tensor& x, const Tensor& target, const Tensor& weight = {},
                std::int64_t reduction = Reduction::Mean, std::int64_t ignore_index = -100);
Tensor mse_loss(const Tensor& x, const Tensor& target, std::int64_t reduction = Reduction::Mean);
Tensor l1_loss(const Tensor& x, const Tensor& target, std::int64_t reduction = Reduction::Mean);
Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, std::int64_t reduction = Reduction::Mean, double beta = 1);
Tensor huber_loss(const Tensor& x, const Tensor& target, std::int64_t reduction = Reduction::Mean, double delta = 1);
Tensor kl_div(const Tensor& x, const Tensor& target, std::int64_t reduction = Reduction::Mean, bool log_target = false);
Tensor binary_cross_entropy(const Tensor& x, const Tensor& target, const Tensor& weight = {},
                            std::int64_t reduction = Reduction::Mean);
Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target, const Tensor& weight = {},
                                        const Tensor& pos_weight = {}, std::int64_t reduction = Reduction::Mean);
Tensor cosine_similarity(const Tensor& a, const Tensor& b, std::int64_t dim = 1, double eps = 1e-8);

// ------------------------------------------------------------------------------------------------ operators
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator%(const Tensor& a, const Tensor& b) { return remainder(a, b); }
inline Tensor operator+(const Tensor& a, const Scalar& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Scalar& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Scalar& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Scalar& b) { return div(a, b); }
inline Tensor operator%(const Tensor& a, const Scalar& b) { return remainder(a, b); }
inline Tensor operator+(const Scalar& a, const Tensor& b) { return add(b, a); }
inline Tensor operator-(const Scalar& a, const Tensor& b) { return rsub(b, a); }
inline Tensor operator*(const Scalar& a, const Tensor& b) { return mul(b, a); }
Tensor operator/(const Scalar& a, const Tensor& b);
inline Tensor operator==(const Tensor& a, const Tensor& b) { return eq(a, b); }
inline Tensor operator!=(const Tensor& a, const Tensor& b) { return ne(a, b); }
inline Tensor operator<(const Tensor& a, const Tensor& b) { return lt(a, b); }
inline Tensor operator<=(const Tensor& a, const Tensor& b) { return le(a, b); }
inline Tensor operator>(const Tensor& a, const Tensor& b) { return gt(a, b); }
inline Tensor operator>=(const Tensor& a, const Tensor& b) { return ge(a, b); }
inline Tensor operator==(const Tensor& a, const Scalar& b) { return eq(a, b); }
inline Tensor operator!=(const Tensor& a, const Scalar& b) { return ne(a, b); }
inline Tensor operator<(const Tensor& a, const Scalar& b) { return lt(a, b); }
inline Tensor operator<=(const Tensor& a, const Scalar& b) { return le(a, b); }
inline Tensor operator>(const Tensor& a, const Scalar& b) { return gt(a, b); }
inline Tensor operator>=(const Tensor& a, const Scalar& b) { return ge(a, b); }
inline Tensor operator&(const Tensor& a, const Tensor& b) { return bitwise_and(a, b); }
inline Tensor operator|(const Tensor& a, const Tensor& b) { return bitwise_or(a, b); }
inline Tensor operator^(const Tensor& a, const Tensor& b) { return bitwise_xor(a, b); }

}  // namespace halftone
