// Normalisation: values are brought to mean 0 and variance 1 over some axes, then scaled and shifted by parameters. In
// a model of 16 bits these layers may keep float32 parameters and statistics: see Module::half.
#pragma once

#include "core/arg.h"
#include "nn/cloneable.h"
#include "nn/parallel/joinable.h"

namespace halftone::nn {

struct BatchNormOptions {
  BatchNormOptions(std::int64_t num_features) : num_features_(num_features) {}  // NOLINT
  TORCH_ARG(std::int64_t, num_features);
  TORCH_ARG(double, eps) = 1e-5;
  /// How far the running statistics move towards the batch's; nullopt makes them the mean over all batches.
  TORCH_ARG(optional<double>, momentum) = 0.1;
  TORCH_ARG(bool, affine) = true;
  TORCH_ARG(bool, track_running_stats) = true;
};
using BatchNorm1dOptions = BatchNormOptions;
using BatchNorm2dOptions = BatchNormOptions;
using BatchNorm3dOptions = BatchNormOptions;

/// Normalises each channel of x [N, num_features, D sizes]: in training by the batch's statistics, otherwise by running
/// ones.
template <std::size_t D, class Derived> class BatchNormImplBase : public Cloneable<Derived>, public parallel::Joinable {
 public:
  BatchNormImplBase(std::int64_t num_features) : BatchNormImplBase(BatchNormOptions(num_features)) {}  // NOLINT
  explicit BatchNormImplBase(const BatchNormOptions& norm_options) : options(norm_options) {
    BatchNormImplBase::reset();
  }

  void reset() override;
  void reset_running_stats();
  void reset_parameters();
  void pretty_print(std::ostream& out) const override;
  bool is_normalization() const override { return true; }
  Tensor forward(const Tensor& x);

  BatchNormOptions options;
  Tensor weight, bias;               // [num_features], undefined without affine
  Tensor running_mean, running_var;  // [num_features], undefined without track_running_stats
  Tensor num_batches_tracked;        // int64 without dimensions

 private:
  void check_input(const Tensor& x) const;
  double running_stats_step() const;
  Tensor over_replicas(const Tensor& x, double step);
};

/// x [N, C] or [N, C, L].
class BatchNorm1dImpl : public BatchNormImplBase<1, BatchNorm1dImpl> {
  using BatchNormImplBase::BatchNormImplBase;
};
/// x [N, C, H, W].
class BatchNorm2dImpl : public BatchNormImplBase<2, BatchNorm2dImpl> {
  using BatchNormImplBase::BatchNormImplBase;
};
/// x [N, C, D, H, W].
class BatchNorm3dImpl : public BatchNormImplBase<3, BatchNorm3dImpl> {
  using BatchNormImplBase::BatchNormImplBase;
};
extern template class BatchNormImplBase<1, BatchNorm1dImpl>;
extern template class BatchNormImplBase<2, BatchNorm2dImpl>;
extern template class BatchNormImplBase<3, BatchNorm3dImpl>;
HALFTONE_LAYER(BatchNorm1d);
HALFTONE_LAYER(BatchNorm2d);
HALFTONE_LAYER(BatchNorm3d);

struct LayerNormOptions {
  LayerNormOptions(std::vector<std::int64_t> normalized_shape)  // NOLINT
      : normalized_shape_(std::move(normalized_shape)) {}
  TORCH_ARG(std::vector<std::int64_t>, normalized_shape);
  TORCH_ARG(double, eps) = 1e-5;
  TORCH_ARG(bool, elementwise_affine) = true;
};

/// Normalises x [..., normalized_shape] over its last axes.
class LayerNormImpl : public Cloneable<LayerNormImpl> {
 public:
  LayerNormImpl(std::vector<std::int64_t> normalized_shape)  // NOLINT
      : LayerNormImpl(LayerNormOptions(std::move(normalized_shape))) {}
  explicit LayerNormImpl(LayerNormOptions norm_options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& out) const override;
  bool is_normalization() const override { return true; }
  Tensor forward(const Tensor& x);

  LayerNormOptions options;
  Tensor weight, bias;  // [normalized_shape], undefined without elementwise_affine
};
HALFTONE_LAYER(LayerNorm);

struct GroupNormOptions {
  GroupNormOptions(std::int64_t num_groups, std::int64_t num_channels)
      : num_groups_(num_groups), num_channels_(num_channels) {}
  TORCH_ARG(std::int64_t, num_groups);
  TORCH_ARG(std::int64_t, num_channels);
  TORCH_ARG(double, eps) = 1e-5;
  TORCH_ARG(bool, affine) = true;
};

/// Normalises x [N, num_channels, ...] over groups of channels, each sample for itself.
class GroupNormImpl : public Cloneable<GroupNormImpl> {
 public:
  GroupNormImpl(std::int64_t num_groups, std::int64_t num_channels)
      : GroupNormImpl(GroupNormOptions(num_groups, num_channels)) {}
  explicit GroupNormImpl(const GroupNormOptions& norm_options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& out) const override;
  bool is_normalization() const override { return true; }
  Tensor forward(const Tensor& x);

  GroupNormOptions options;
  Tensor weight, bias;  // [num_channels], undefined without affine
};
HALFTONE_LAYER(GroupNorm);

namespace functional {

struct BatchNormFuncOptions {
  TORCH_ARG(Tensor, weight);
  TORCH_ARG(Tensor, bias);
  TORCH_ARG(bool, training) = false;
  TORCH_ARG(optional<double>, momentum) = 0.1;
  TORCH_ARG(double, eps) = 1e-5;
};

struct LayerNormFuncOptions {
  LayerNormFuncOptions(std::vector<std::int64_t> normalized_shape)  // NOLINT
      : normalized_shape_(std::move(normalized_shape)) {}
  TORCH_ARG(std::vector<std::int64_t>, normalized_shape);
  TORCH_ARG(Tensor, weight);
  TORCH_ARG(Tensor, bias);
  TORCH_ARG(double, eps) = 1e-5;
};

struct GroupNormFuncOptions {
  GroupNormFuncOptions(std::int64_t num_groups) : num_groups_(num_groups) {}  // NOLINT
  TORCH_ARG(std::int64_t, num_groups);
  TORCH_ARG(Tensor, weight);
  TORCH_ARG(Tensor, bias);
  TORCH_ARG(double, eps) = 1e-5;
};

struct NormalizeFuncOptions {
  TORCH_ARG(double, p) = 2;
  TORCH_ARG(std::int64_t, dim) = 1;
  TORCH_ARG(double, eps) = 1e-12;
};

Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                  const BatchNormFuncOptions& options = {});
Tensor layer_norm(const Tensor& x, const LayerNormFuncOptions& options);
Tensor group_norm(const Tensor& x, const GroupNormFuncOptions& options);
/// x divided by its p-norm along a dimension, where that is at least eps.
Tensor normalize(const Tensor& x, const NormalizeFuncOptions& options = {});

}  // namespace functional
}  // namespace halftone::nn
