// The arithmetic of a kind of device. One implementation per kind, cut by family so that it does not grow with the ops:
// a new formula is a functor (functors.h), not a method.
//
// Outputs are allocated by the caller; shapes, dtypes and devices are checked above, so a backend may assume them.
// Tensors may be strided in any way unless a method says "dense". 16-bit values are widened to float, computed, and
// rounded once.
#pragma once

#include <memory>
#include <span>

#include "core/tensor.h"
#include "kernels/functors.h"
#include "kernels/random.h"
#include "kernels/rows.h"
#include "kernels/updates.h"
#include "kernels/windows.h"

namespace halftone {

class Generator;

enum class Activation : std::int8_t { none, relu, gelu };

/// Which operand of a binary formula a gradient is for.
enum class Operand : std::int8_t { a, b };

/// Advanced indexing: element i of the result is the slice of x at (index[0][i], index[1][i], ...) along the indexed
/// axes. Indices are int64, contiguous, of one shape.
struct IndexPlan {
  std::span<const Tensor> indices;
  Dims sizes;         // of the indexed axes of x
  Dims strides;       // of the indexed axes of x, in elements
  Dims rest_sizes;    // the axes that stay, behind the index's own axis in the result
  Dims rest_strides;  // in x
  /// Whether negative indices count from the end; else they are out of range.
  bool from_end = true;
  /// A literal: whose mistake an index out of range is, if not index's or index_put's.
  const char* op = nullptr;
};

enum class Write : std::int8_t { set, add };

/// What a list's norm brings along: the division that limits it, and the check of a gradient scaler. The tensors are of
/// one element on the list's device, and any may be undefined.
struct Clip {
  double most = 0;
  Tensor divisor;    // double: becomes what the list is to be divided by so that its norm is at most `most`
  Tensor scale;      // float: the list is multiplied by it. The norm is that without, and the divisor includes it
  Tensor found_inf;  // float: becomes 1 if an element is not finite
};

class Backend {
 public:
  virtual ~Backend() = default;

  // --- copies
  /// Same shape; any strides; casts. Overlapping memory is not allowed.
  virtual void copy(const Tensor& from, Tensor& to) = 0;
  virtual void fill(Tensor& y, const Scalar& value) = 0;
  /// y[i] = start + i * step.
  virtual void arange(Tensor& y, double start, double step) = 0;

  // --- pointwise: operands broadcast to y's shape; computed in `compute`'s arithmetic type; y may be one of the
  // operands
  virtual void unary(const Unary& f, const Tensor& x, Tensor& y, Dtype compute) = 0;
  /// dx = f.grad(g, x, y); x or y is undefined where the formula does not need it.
  virtual void unary_grad(const Unary& f, const Tensor& g, const Tensor& x, const Tensor& y, Tensor& dx) = 0;
  virtual void binary(const Binary& f, const Tensor& a, const Tensor& b, Tensor& y, Dtype compute) = 0;
  /// dx = f.grad_a or f.grad_b (g, a, b, y); y is undefined where the formula does not need it.
  virtual void binary_grad(const Binary& f, Operand which, const Tensor& g, const Tensor& a, const Tensor& b,
                           const Tensor& y, Tensor& dx) = 0;
  virtual void ternary(const Ternary& f, const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y,
                       Dtype compute) = 0;

  // --- rows
  /// Reduces the axes of the mask; y is contiguous, with those axes gone. Sums of 16-bit values are kept in float, of
  /// integers in int64.
  virtual void reduce(const Reduce& r, const Tensor& x, unsigned mask, Tensor& y) = 0;
  /// values and int64 indices of the first largest or smallest element along `dim` (NaN wins); either may be undefined.
  virtual void extreme(Extreme which, const Tensor& x, std::int64_t dim, Tensor& values, Tensor& indices) = 0;
  virtual void scan(Scan kind, const Tensor& x, std::int64_t dim, Tensor& y) = 0;
  /// y = softmax or log-softmax of x along `dim`; y may have another floating dtype than x.
  virtual void softmax(const Tensor& x, std::int64_t dim, bool log, Tensor& y) = 0;
  virtual void softmax_grad(const Tensor& g, const Tensor& y, std::int64_t dim, bool log, Tensor& dx) = 0;
  /// For logits [rows, classes] and int64 labels [rows]: loss[i] = w[t] ((1 - s) (lse - x_t) + s mean_c (lse - x_c) w_c
  /// / w_t ...) as torch.nn.CrossEntropyLoss defines label smoothing s; 0 where the label is ignored. loss and lse
  /// (log-sum-exp) are float (or double). weight may be undefined. A label out of range is an error naming it.
  virtual void cross_entropy(const Tensor& logits, const Tensor& labels, const Tensor& weight,
                             std::int64_t ignore_index, double smoothing, Tensor& loss, Tensor& lse) = 0;
  /// dx[i, c] = g[i] d loss[i] / d logits[i, c]; g is [rows], possibly with stride 0.
  virtual void cross_entropy_grad(const Tensor& g, const Tensor& logits, const Tensor& labels, const Tensor& weight,
                                  const Tensor& lse, std::int64_t ignore_index, double smoothing, Tensor& dx) = 0;
  /// y = (x - mean) * rstd * weight + bias over the last `width` elements of a dense x; mean and rstd are [rows] float.
  virtual void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t width, double eps,
                          Tensor& y, Tensor& mean, Tensor& rstd) = 0;
  /// Any of dx, dweight, dbias may be undefined when not wanted.
  virtual void layer_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean,
                               const Tensor& rstd, std::int64_t width, Tensor& dx, Tensor& dweight, Tensor& dbias) = 0;
  /// Over all axes but 1 of x [N, C, ...], contiguous or channels-last. mean and rstd are [C] float (or double),
  /// computed from x when `training` is on (then running statistics, if defined, move by momentum, unless a mean or
  /// variance of the batch is not finite), else given by the caller.
  virtual void batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& running_mean,
                          Tensor& running_var, bool training, double momentum, double eps, Tensor& y, Tensor& mean,
                          Tensor& rstd) = 0;
  virtual void batch_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean,
                               const Tensor& rstd, bool training, Tensor& dx, Tensor& dweight, Tensor& dbias) = 0;

  // --- products: a is [m, k] or [batch, m, k], b [k, n] or [batch, k, n], y [m, n] or [batch, m, n], strides at will
  // (a transposed view is a flag to the gemm); bias [n] may be undefined; accumulate adds to y.
  virtual void gemm(const Tensor& a, const Tensor& b, const Tensor& bias, Activation activation, bool accumulate,
                    Tensor& y) = 0;

  // --- windows: x, w, y, g dense, each contiguous or channels-last; bias and dbias may be undefined
  virtual void conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) = 0;
  virtual void conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w, Tensor& dx) = 0;
  virtual void conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, Tensor& dw, Tensor& dbias) = 0;
  /// indices (int64, laid out as y): the position of each maximum within its channel's plane.
  virtual void max_pool(const PoolShape& s, const Tensor& x, Tensor& y, Tensor& indices) = 0;
  virtual void max_pool_grad(const PoolShape& s, const Tensor& g, const Tensor& indices, Tensor& dx) = 0;
  /// y[n, c, o] = x[n, c, indices[n, c, o]]: the derivative of max_pool_grad.
  virtual void max_pool_take(const PoolShape& s, const Tensor& x, const Tensor& indices, Tensor& y) = 0;
  virtual void avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) = 0;
  virtual void avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) = 0;
  /// Output cell o covers input cells floor(o in / out) .. ceil((o + 1) in / out).
  virtual void adaptive_avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) = 0;
  virtual void adaptive_avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) = 0;

  // --- indexing; int64 indices are checked, an index out of range is an IndexError naming the op (a literal), it and
  // the size
  virtual void gather(const Tensor& x, std::int64_t dim, const Tensor& index, Tensor& y, const char* op = "gather") = 0;
  virtual void scatter(Write mode, std::int64_t dim, const Tensor& index, const Tensor& source, Tensor& y) = 0;
  virtual void index(const IndexPlan& plan, const Tensor& x, Tensor& y) = 0;
  virtual void index_put(const IndexPlan& plan, Write mode, const Tensor& values, Tensor& x) = 0;
  /// int64 [count, x.dim()] coordinates of the elements that are not zero, in row-major order.
  virtual Tensor nonzero(const Tensor& x) = 0;

  // --- random
  virtual void random(const RandomFill& f, Tensor& y, Generator& generator) = 0;
  virtual void randperm(Tensor& y, Generator& generator) = 0;
  /// y = x where kept, scaled by 1 / (1 - p); also its own gradient.
  virtual void dropout(const DropoutMask& mask, const Tensor& x, Tensor& y) = 0;

  // --- lists of tensors, in place. `found_inf` (float, one element, may be undefined): when it is not 0 nothing is
  // written. `grad_scale` (float or double, one element, may be undefined): gradients are divided by it first and
  // written back.
  virtual void sgd(const SgdStep& f, TensorList params, TensorList grads, TensorList momenta, const Tensor& grad_scale,
                   const Tensor& found_inf) = 0;
  /// `skipped` (int64, one element, may be undefined) counts the steps that found_inf prevented, this one too if it
  /// does; then the bias corrections are those of f.steps - skipped, else f's own. When it is written nobody reads it.
  /// A replayed step, which the host cannot count, is taken from `skipped` when it is taken, and leaves it when not.
  virtual void adam(const AdamStep& f, TensorList params, TensorList grads, TensorList first, TensorList second,
                    TensorList second_max, const Tensor& grad_scale, const Tensor& found_inf,
                    const Tensor& skipped = {}) = 0;
  /// A scaler's state, `scale` (float, one element) and `counts` (int32: clean_steps, skipped, skipped_in_a_row), after
  /// a step; written to tensors of their own, as a graph may have saved the old ones, or in place. `flags` (float,
  /// contiguous, may be undefined) are set to 0, which spares the next step's checks a launch.
  virtual void next_scale(const ScaleRule& rule, const Tensor& scale, const Tensor& counts, const Tensor& found_inf,
                          Tensor& new_scale, Tensor& new_counts, const Tensor& flags = {}) = 0;
  /// x /= scale (one float on the device; undefined: 1, which only looks), by one multiplication an element, rounding
  /// once; sets found_inf to 1 if any x is not finite before. Tensors of another device than found_inf's are an error.
  virtual void unscale(TensorList tensors, const Tensor& scale, Tensor& found_inf) = 0;
  /// The p-norm over all elements of all tensors, as a float (or double) 0-dim tensor y.
  virtual void list_norm(TensorList tensors, double p, Tensor& y, const Clip& clip = {}) = 0;
  /// x /= divisor for every tensor, by one multiplication an element; divisor is one double on the device.
  virtual void list_divide(TensorList tensors, const Tensor& divisor) = 0;
};

/// The arithmetic of a kind of device; throws Error when this build or machine has none.
Backend& backend(DeviceType type);
inline Backend& backend(const Tensor& t) { return backend(t.device().type()); }

std::unique_ptr<Backend> make_cpu_backend();
/// Null when the build has no CUDA or the machine no usable device.
std::unique_ptr<Backend> make_cuda_backend();

}  // namespace halftone
