// The CPU's arithmetic, family by family in the files beside this one.
#pragma once

#include "kernels/backend.h"

namespace halftone {

class CpuBackend final : public Backend {
 public:
  void copy(const Tensor& from, Tensor& to) override;
  void fill(Tensor& y, const Scalar& value) override;
  void arange(Tensor& y, double start, double step) override;
  void unary(const Unary& f, const Tensor& x, Tensor& y, Dtype compute) override;
  void unary_grad(const Unary& f, const Tensor& g, const Tensor& x, const Tensor& y, Tensor& dx) override;
  void binary(const Binary& f, const Tensor& a, const Tensor& b, Tensor& y, Dtype compute) override;
  void binary_grad(const Binary& f, Operand which, const Tensor& g, const Tensor& a, const Tensor& b, const Tensor& y,
                   Tensor& dx) override;
  void ternary(const Ternary& f, const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y, Dtype compute) override;
  void reduce(const Reduce& r, const Tensor& x, unsigned mask, Tensor& y) override;
  void extreme(Extreme which, const Tensor& x, std::int64_t dim, Tensor& values, Tensor& indices) override;
  void scan(Scan kind, const Tensor& x, std::int64_t dim, Tensor& y) override;
  void softmax(const Tensor& x, std::int64_t dim, bool log, Tensor& y) override;
  void softmax_grad(const Tensor& g, const Tensor& y, std::int64_t dim, bool log, Tensor& dx) override;
  void cross_entropy(const Tensor& logits, const Tensor& labels, const Tensor& weight, std::int64_t ignore_index,
                     double smoothing, Tensor& loss, Tensor& lse) override;
  void cross_entropy_grad(const Tensor& g, const Tensor& logits, const Tensor& labels, const Tensor& weight,
                          const Tensor& lse, std::int64_t ignore_index, double smoothing, Tensor& dx) override;
  void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t width, double eps, Tensor& y,
                  Tensor& mean, Tensor& rstd) override;
  void layer_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                       std::int64_t width, Tensor& dx, Tensor& dweight, Tensor& dbias) override;
  void batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& running_mean, Tensor& running_var,
                  bool training, double momentum, double eps, Tensor& y, Tensor& mean, Tensor& rstd) override;
  void batch_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                       bool training, Tensor& dx, Tensor& dweight, Tensor& dbias) override;
  void gemm(const Tensor& a, const Tensor& b, const Tensor& bias, Activation activation, bool accumulate,
            Tensor& y) override;
  void conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) override;
  void conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w, Tensor& dx) override;
  void conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, Tensor& dw, Tensor& dbias) override;
  void max_pool(const PoolShape& s, const Tensor& x, Tensor& y, Tensor& indices) override;
  void max_pool_grad(const PoolShape& s, const Tensor& g, const Tensor& indices, Tensor& dx) override;
  void max_pool_take(const PoolShape& s, const Tensor& x, const Tensor& indices, Tensor& y) override;
  void avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) override;
  void avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) override;
  void adaptive_avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) override;
  void adaptive_avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) override;
  void gather(const Tensor& x, std::int64_t dim, const Tensor& index, Tensor& y, const char* op) override;
  void scatter(Write mode, std::int64_t dim, const Tensor& index, const Tensor& source, Tensor& y) override;
  void index(const IndexPlan& plan, const Tensor& x, Tensor& y) override;
  void index_put(const IndexPlan& plan, Write mode, const Tensor& values, Tensor& x) override;
  Tensor nonzero(const Tensor& x) override;
  void random(const RandomFill& f, Tensor& y, Generator& generator) override;
  void randperm(Tensor& y, Generator& generator) override;
  void dropout(const DropoutMask& mask, const Tensor& x, Tensor& y) override;
  void sgd(const SgdStep& f, TensorList params, TensorList grads, TensorList momenta, const Tensor& grad_scale,
           const Tensor& found_inf) override;
  void adam(const AdamStep& f, TensorList params, TensorList grads, TensorList first, TensorList second,
            TensorList second_max, const Tensor& grad_scale, const Tensor& found_inf, const Tensor& skipped) override;
  void next_scale(const ScaleRule& rule, const Tensor& scale, const Tensor& counts, const Tensor& found_inf,
                  Tensor& new_scale, Tensor& new_counts, const Tensor& flags) override;
  void unscale(TensorList tensors, const Tensor& scale, Tensor& found_inf) override;
  void list_norm(TensorList tensors, double p, Tensor& y, const Clip& clip) override;
  void list_divide(TensorList tensors, const Tensor& divisor) override;
};

}  // namespace halftone
