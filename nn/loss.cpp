#include "nn/loss.h"

#include "autograd/ops.h"

namespace halftone::nn {

namespace functional {

namespace {

template <class Variant> std::int64_t reduction_of(const Variant& reduction) {
  if (std::holds_alternative<enumtype::kNone>(reduction)) return Reduction::None;
  return std::holds_alternative<enumtype::kMean>(reduction) ? Reduction::Mean : Reduction::Sum;
}

/// Both at one shape.
std::pair<Tensor, Tensor> paired(const char* name, const Tensor& x, const Tensor& target) {
  if (x.sizes() == target.sizes()) return {x, target};
  warn(str(name, ": Using a target size ", target.sizes(), " that is different to the input size ", x.sizes(),
           ". This will likely lead to incorrect results due to broadcasting. Please ensure they have the same size."));
  const auto both = broadcast_tensors({x, target});
  return {both[0], both[1]};
}

void check_same_size(const char* name, const Tensor& x, const Tensor& target) {
  check<ValueError>(x.sizes() == target.sizes(), name, ": Using a target size (", target.sizes(),
                    ") that is different to the input size (", x.sizes(),
                    ") is deprecated. Please ensure they have the same size.");
}

}  // namespace

Tensor mse_loss(const Tensor& x, const Tensor& target, const MSELossFuncOptions& options) {
  const auto [a, b] = paired("mse_loss", x, target);
  return halftone::mse_loss(a, b, reduction_of(options.reduction()));
}

Tensor l1_loss(const Tensor& x, const Tensor& target, const L1LossFuncOptions& options) {
  const auto [a, b] = paired("l1_loss", x, target);
  return halftone::l1_loss(a, b, reduction_of(options.reduction()));
}

Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, const SmoothL1LossFuncOptions& options) {
  const auto [a, b] = paired("smooth_l1_loss", x, target);
  return halftone::smooth_l1_loss(a, b, reduction_of(options.reduction()), options.beta().value_or(1));
}

Tensor huber_loss(const Tensor& x, const Tensor& target, const HuberLossFuncOptions& options) {
  const auto [a, b] = paired("huber_loss", x, target);
  return halftone::huber_loss(a, b, reduction_of(options.reduction()), options.delta());
}

Tensor kl_div(const Tensor& x, const Tensor& target, const KLDivFuncOptions& options) {
  const bool batch_mean = std::holds_alternative<enumtype::kBatchMean>(options.reduction());
  const std::int64_t reduction = batch_mean ? Reduction::Sum : reduction_of(options.reduction());
  const Tensor loss = halftone::kl_div(x, target, reduction, options.log_target());
  return batch_mean && x.dim() > 0 ? loss / x.size(0) : loss;
}

Tensor nll_loss(const Tensor& x, const Tensor& target, const NLLLossFuncOptions& options) {
  return halftone::nll_loss(x, target, options.weight(), reduction_of(options.reduction()), options.ignore_index());
}

Tensor cross_entropy(const Tensor& x, const Tensor& target, const CrossEntropyFuncOptions& options) {
  return cross_entropy_loss(x, target, options.weight(), reduction_of(options.reduction()), options.ignore_index(),
                            options.label_smoothing());
}

Tensor binary_cross_entropy(const Tensor& x, const Tensor& target, const BinaryCrossEntropyFuncOptions& options) {
  check_same_size("binary_cross_entropy", x, target);
  return halftone::binary_cross_entropy(x, target, options.weight(), reduction_of(options.reduction()));
}

Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                        const BinaryCrossEntropyWithLogitsFuncOptions& options) {
  check<ValueError>(x.sizes() == target.sizes(), "binary_cross_entropy_with_logits: Target size (", target.sizes(),
                    ") must be the same as input size (", x.sizes(), ")");
  return halftone::binary_cross_entropy_with_logits(x, target, options.weight(), options.pos_weight(),
                                                    reduction_of(options.reduction()));
}

}  // namespace functional

void MSELossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "MSELoss()"; }
Tensor MSELossImpl::forward(const Tensor& x, const Tensor& target) { return functional::mse_loss(x, target, options); }

void L1LossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "L1Loss()"; }
Tensor L1LossImpl::forward(const Tensor& x, const Tensor& target) { return functional::l1_loss(x, target, options); }

// libtorch prints these two without parentheses.
void SmoothL1LossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "SmoothL1Loss"; }
Tensor SmoothL1LossImpl::forward(const Tensor& x, const Tensor& target) {
  return functional::smooth_l1_loss(x, target, options);
}

void HuberLossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "HuberLoss"; }
Tensor HuberLossImpl::forward(const Tensor& x, const Tensor& target) {
  return functional::huber_loss(x, target, options);
}

void KLDivLossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "KLDivLoss()"; }
Tensor KLDivLossImpl::forward(const Tensor& x, const Tensor& target) { return functional::kl_div(x, target, options); }

NLLLossImpl::NLLLossImpl(NLLLossOptions loss_options) : options(std::move(loss_options)) { NLLLossImpl::reset(); }
void NLLLossImpl::reset() { weight = register_buffer("weight", options.weight()); }
void NLLLossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "NLLLoss()"; }
Tensor NLLLossImpl::forward(const Tensor& x, const Tensor& target) {
  return functional::nll_loss(x, target, NLLLossOptions(options).weight(weight));
}

CrossEntropyLossImpl::CrossEntropyLossImpl(CrossEntropyLossOptions loss_options) : options(std::move(loss_options)) {
  CrossEntropyLossImpl::reset();
}
void CrossEntropyLossImpl::reset() { weight = register_buffer("weight", options.weight()); }
void CrossEntropyLossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "CrossEntropyLoss()"; }
Tensor CrossEntropyLossImpl::forward(const Tensor& x, const Tensor& target) {
  return functional::cross_entropy(x, target, CrossEntropyLossOptions(options).weight(weight));
}

BCELossImpl::BCELossImpl(BCELossOptions loss_options) : options(std::move(loss_options)) { BCELossImpl::reset(); }
void BCELossImpl::reset() { weight = register_buffer("weight", options.weight()); }
void BCELossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "BCELoss()"; }
Tensor BCELossImpl::forward(const Tensor& x, const Tensor& target) {
  return functional::binary_cross_entropy(x, target, BCELossOptions(options).weight(weight));
}

BCEWithLogitsLossImpl::BCEWithLogitsLossImpl(BCEWithLogitsLossOptions loss_options) : options(std::move(loss_options)) {
  BCEWithLogitsLossImpl::reset();
}
void BCEWithLogitsLossImpl::reset() {
  weight = register_buffer("weight", options.weight());
  pos_weight = register_buffer("pos_weight", options.pos_weight());
}
void BCEWithLogitsLossImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "BCEWithLogitsLoss()"; }
Tensor BCEWithLogitsLossImpl::forward(const Tensor& x, const Tensor& target) {
  const auto how = BCEWithLogitsLossOptions(options).weight(weight).pos_weight(pos_weight);
  return functional::binary_cross_entropy_with_logits(x, target, how);
}

template class Cloneable<MSELossImpl>;
template class Cloneable<L1LossImpl>;
template class Cloneable<SmoothL1LossImpl>;
template class Cloneable<HuberLossImpl>;
template class Cloneable<KLDivLossImpl>;
template class Cloneable<NLLLossImpl>;
template class Cloneable<CrossEntropyLossImpl>;
template class Cloneable<BCELossImpl>;
template class Cloneable<BCEWithLogitsLossImpl>;

}  // namespace halftone::nn
