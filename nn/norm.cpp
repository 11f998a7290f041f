#include "nn/norm.h"

#include <algorithm>

#include "autograd/ops.h"
#include "nn/detail.h"
#include "nn/parallel/sync_batch_norm.h"

namespace halftone::nn {

namespace {

/// Weight and bias, or undefined ones.
template <class Layer> void register_affine(Layer& layer, bool affine, IntArrayRef sizes) {
  layer.weight = layer.register_parameter("weight", affine ? empty(sizes) : Tensor(), affine);
  layer.bias = layer.register_parameter("bias", affine ? empty(sizes) : Tensor(), affine);
}

void reset_affine(const Tensor& weight, const Tensor& bias) {
  if (!weight.defined()) return;
  const NoGradGuard no_grad;
  weight.fill_(1);
  bias.zero_();
}

/// One value has no variance.
template <class Who> void check_batch(const Who& who, const Tensor& x) {
  const std::int64_t values = x.size(1) == 0 ? 0 : x.numel() / x.size(1);
  check<ValueError>(values != 1, who, ": Expected more than 1 value per channel when training, got input size ",
                    x.sizes());
}

}  // namespace

// ------------------------------------------------------------------------------------------------ BatchNorm

template <std::size_t D, class Derived> void BatchNormImplBase<D, Derived>::reset() {
  register_affine(*this, options.affine(), options.num_features());
  const bool tracks = options.track_running_stats();
  running_mean = this->register_buffer("running_mean", tracks ? empty(options.num_features()) : Tensor());
  running_var = this->register_buffer("running_var", tracks ? empty(options.num_features()) : Tensor());
  num_batches_tracked = this->register_buffer("num_batches_tracked", tracks ? zeros({}, kInt64) : Tensor());
  reset_parameters();
}

template <std::size_t D, class Derived> void BatchNormImplBase<D, Derived>::reset_running_stats() {
  if (!options.track_running_stats()) return;
  const NoGradGuard no_grad;
  running_mean.zero_();
  running_var.fill_(1);
  num_batches_tracked.zero_();
}

template <std::size_t D, class Derived> void BatchNormImplBase<D, Derived>::reset_parameters() {
  reset_running_stats();
  reset_affine(weight, bias);
}

template <std::size_t D, class Derived> void BatchNormImplBase<D, Derived>::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "BatchNorm" << D << "d(" << options.num_features() << ", eps=" << options.eps()
      << ", momentum=";
  if (options.momentum()) {
    out << *options.momentum();
  } else {
    out << "None";
  }
  out << ", affine=" << detail::text(options.affine())
      << ", track_running_stats=" << detail::text(options.track_running_stats()) << ')';
}

template <std::size_t D, class Derived> void BatchNormImplBase<D, Derived>::check_input(const Tensor& x) const {
  constexpr auto kRank = static_cast<std::int64_t>(D) + 2;
  const bool fits = x.dim() == kRank || (D == 1 && x.dim() == 2);
  check<ValueError>(fits, this->label(), ": expected ", D == 1 ? "2D or 3" : std::to_string(kRank), "D input (got ",
                    x.dim(), "D input)");
  check<ValueError>(x.size(1) == options.num_features(), this->label(), ": expected ", options.num_features(),
                    " channels (num_features), got input size ", x.sizes());
}

template <std::size_t D, class Derived> double BatchNormImplBase<D, Derived>::running_stats_step() const {
  if (options.momentum()) return *options.momentum();
  return 1 / num_batches_tracked.item<double>();
}

template <std::size_t D, class Derived> Tensor BatchNormImplBase<D, Derived>::forward(const Tensor& x) {
  check_input(x);
  const bool updates = this->is_training() && options.track_running_stats();
  const bool by_batch = this->is_training() || !running_mean.defined();
  const bool joined = this->is_training() && group_;
  if (by_batch && !joined) check_batch(this->label(), x);
  if (updates) num_batches_tracked.add_(1);
  if (joined) return over_replicas(x, updates ? running_stats_step() : 0);
  return halftone::batch_norm(x, weight, bias, running_mean, running_var, by_batch, updates ? running_stats_step() : 0,
                              options.eps());
}

template <std::size_t D, class Derived>
Tensor BatchNormImplBase<D, Derived>::over_replicas(const Tensor& x, double step) {
  const parallel::SyncBatchNorm norm{*group_, rank_, options.eps(), step};
  return norm(x, weight, bias, running_mean, running_var);
}

template class BatchNormImplBase<1, BatchNorm1dImpl>;
template class BatchNormImplBase<2, BatchNorm2dImpl>;
template class BatchNormImplBase<3, BatchNorm3dImpl>;

// ------------------------------------------------------------------------------------------------ LayerNorm

LayerNormImpl::LayerNormImpl(LayerNormOptions norm_options) : options(std::move(norm_options)) {
  LayerNormImpl::reset();
}

void LayerNormImpl::reset() {
  register_affine(*this, options.elementwise_affine(), options.normalized_shape());
  reset_parameters();
}

void LayerNormImpl::reset_parameters() { reset_affine(weight, bias); }

void LayerNormImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "LayerNorm(" << IntArrayRef(options.normalized_shape()) << ", eps=" << options.eps()
      << ", elementwise_affine=" << detail::text(options.elementwise_affine()) << ')';
}

Tensor LayerNormImpl::forward(const Tensor& x) {
  const IntArrayRef shape = options.normalized_shape();
  const bool fits = x.sizes().size() >= shape.size() && x.sizes().slice(x.sizes().size() - shape.size()).equals(shape);
  if (!fits) {
    std::string list;
    for (const std::int64_t size : shape) list += ", " + std::to_string(size);
    fail(label(), ": Given normalized_shape=", shape, ", expected input with shape [*", list,
         "], but got input of size", x.sizes());
  }
  return halftone::layer_norm(x, shape, weight, bias, options.eps());
}

// ------------------------------------------------------------------------------------------------ GroupNorm

GroupNormImpl::GroupNormImpl(const GroupNormOptions& norm_options) : options(norm_options) { GroupNormImpl::reset(); }

void GroupNormImpl::reset() {
  check<ValueError>(options.num_groups() > 0 && options.num_channels() % options.num_groups() == 0,
                    "GroupNorm: num_channels must be divisible by num_groups: ", options.num_channels(), " by ",
                    options.num_groups());
  register_affine(*this, options.affine(), options.num_channels());
  reset_parameters();
}

void GroupNormImpl::reset_parameters() { reset_affine(weight, bias); }

void GroupNormImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "GroupNorm(" << options.num_groups() << ", " << options.num_channels()
      << ", eps=" << options.eps() << ", affine=" << detail::text(options.affine()) << ')';
}

Tensor GroupNormImpl::forward(const Tensor& x) {
  check<ValueError>(x.dim() >= 2 && x.size(1) == options.num_channels(), label(), ": expected ", options.num_channels(),
                    " channels (num_channels), got input size ", x.sizes());
  return halftone::group_norm(x, options.num_groups(), weight, bias, options.eps());
}

// ------------------------------------------------------------------------------------------------ functional

namespace functional {

Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                  const BatchNormFuncOptions& options) {
  check<ValueError>(x.dim() >= 2, "batch_norm: expected input [N, C, ...], got size ", x.sizes());
  if (options.training()) check_batch("batch_norm", x);
  return halftone::batch_norm(x, options.weight(), options.bias(), running_mean, running_var, options.training(),
                              options.momentum().value_or(0), options.eps());
}

Tensor layer_norm(const Tensor& x, const LayerNormFuncOptions& options) {
  return halftone::layer_norm(x, options.normalized_shape(), options.weight(), options.bias(), options.eps());
}

Tensor group_norm(const Tensor& x, const GroupNormFuncOptions& options) {
  return halftone::group_norm(x, options.num_groups(), options.weight(), options.bias(), options.eps());
}

Tensor normalize(const Tensor& x, const NormalizeFuncOptions& options) {
  const Tensor length = x.norm(options.p(), options.dim(), true).clamp_min(options.eps());
  return x / length.expand_as(x);
}

}  // namespace functional
template class Cloneable<BatchNorm1dImpl>;
template class Cloneable<BatchNorm2dImpl>;
template class Cloneable<BatchNorm3dImpl>;
template class Cloneable<LayerNormImpl>;
template class Cloneable<GroupNormImpl>;

}  // namespace halftone::nn
