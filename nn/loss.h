// Losses. The reduction of their options is kMean, kSum or kNone; the free functions of autograd/ops.h take
// Reduction::Mean and so on for the same.
#pragma once

#include <variant>

#include "core/arg.h"
#include "core/enum.h"
#include "nn/cloneable.h"

namespace halftone::nn {

using LossReduction = std::variant<enumtype::kNone, enumtype::kMean, enumtype::kSum>;

struct MSELossOptions {
  using reduction_t = LossReduction;
  MSELossOptions(reduction_t reduction = kMean) : reduction_(reduction) {}  // NOLINT: MSELossOptions(kSum)
  TORCH_ARG(reduction_t, reduction);
};
using L1LossOptions = MSELossOptions;

struct SmoothL1LossOptions {
  using reduction_t = LossReduction;
  SmoothL1LossOptions(reduction_t reduction = kMean) : reduction_(reduction) {}  // NOLINT
  TORCH_ARG(reduction_t, reduction);
  /// Where the square goes over into a line; 1 when not given.
  TORCH_ARG(optional<double>, beta) = nullopt;
};

struct HuberLossOptions {
  using reduction_t = LossReduction;
  HuberLossOptions(reduction_t reduction = kMean) : reduction_(reduction) {}  // NOLINT
  TORCH_ARG(reduction_t, reduction);
  TORCH_ARG(double, delta) = 1;
};

struct KLDivLossOptions {
  using reduction_t = std::variant<enumtype::kNone, enumtype::kBatchMean, enumtype::kSum, enumtype::kMean>;
  KLDivLossOptions(reduction_t reduction = kMean) : reduction_(reduction) {}  // NOLINT
  /// kBatchMean divides by the batch size: the mathematical definition.
  TORCH_ARG(reduction_t, reduction);
  /// Whether the target holds logarithms.
  TORCH_ARG(bool, log_target) = false;
};

struct NLLLossOptions {
  using reduction_t = LossReduction;
  /// One factor a class.
  TORCH_ARG(Tensor, weight);
  /// Targets of this value do not count.
  TORCH_ARG(std::int64_t, ignore_index) = -100;
  TORCH_ARG(reduction_t, reduction) = kMean;
};

struct CrossEntropyLossOptions {
  using reduction_t = LossReduction;
  TORCH_ARG(Tensor, weight);
  TORCH_ARG(std::int64_t, ignore_index) = -100;
  TORCH_ARG(reduction_t, reduction) = kMean;
  /// How much of the target is spread evenly over all classes.
  TORCH_ARG(double, label_smoothing) = 0;
};

struct BCELossOptions {
  using reduction_t = LossReduction;
  TORCH_ARG(Tensor, weight);
  TORCH_ARG(reduction_t, reduction) = kMean;
};

struct BCEWithLogitsLossOptions {
  using reduction_t = LossReduction;
  TORCH_ARG(Tensor, weight);
  TORCH_ARG(reduction_t, reduction) = kMean;
  /// A factor for positive targets, one a class.
  TORCH_ARG(Tensor, pos_weight);
};

/// (x - target)^2.
class MSELossImpl : public Cloneable<MSELossImpl> {
 public:
  explicit MSELossImpl(const MSELossOptions& loss_options = {}) : options(loss_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  MSELossOptions options;
};
HALFTONE_LAYER(MSELoss);

/// |x - target|.
class L1LossImpl : public Cloneable<L1LossImpl> {
 public:
  explicit L1LossImpl(const L1LossOptions& loss_options = {}) : options(loss_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  L1LossOptions options;
};
HALFTONE_LAYER(L1Loss);

/// A square near 0, a line further off; beta scales the square.
class SmoothL1LossImpl : public Cloneable<SmoothL1LossImpl> {
 public:
  explicit SmoothL1LossImpl(const SmoothL1LossOptions& loss_options = {}) : options(loss_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  SmoothL1LossOptions options;
};
HALFTONE_LAYER(SmoothL1Loss);

/// A square near 0, a line further off; delta scales the line.
class HuberLossImpl : public Cloneable<HuberLossImpl> {
 public:
  explicit HuberLossImpl(const HuberLossOptions& loss_options = {}) : options(loss_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  HuberLossOptions options;
};
HALFTONE_LAYER(HuberLoss);

/// The divergence of the distribution whose logarithms are x from the target.
class KLDivLossImpl : public Cloneable<KLDivLossImpl> {
 public:
  explicit KLDivLossImpl(const KLDivLossOptions& loss_options = {}) : options(loss_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  KLDivLossOptions options;
};
HALFTONE_LAYER(KLDivLoss);

/// x [N, C, ...] holds log-probabilities, target [N, ...] int64 classes.
class NLLLossImpl : public Cloneable<NLLLossImpl> {
 public:
  explicit NLLLossImpl(NLLLossOptions loss_options = {});
  void reset() override;
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  NLLLossOptions options;
  Tensor weight;  // [C], or undefined
};
HALFTONE_LAYER(NLLLoss);

/// x [N, C, ...] holds logits; target is int64 classes [N, ...] or probabilities of x's shape.
class CrossEntropyLossImpl : public Cloneable<CrossEntropyLossImpl> {
 public:
  explicit CrossEntropyLossImpl(CrossEntropyLossOptions loss_options = {});
  void reset() override;
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  CrossEntropyLossOptions options;
  Tensor weight;  // [C], or undefined
};
HALFTONE_LAYER(CrossEntropyLoss);

/// x holds probabilities, target has its shape. Does not work in float16: see BCEWithLogitsLoss.
class BCELossImpl : public Cloneable<BCELossImpl> {
 public:
  explicit BCELossImpl(BCELossOptions loss_options = {});
  void reset() override;
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  BCELossOptions options;
  Tensor weight;  // broadcastable to x, or undefined
};
HALFTONE_LAYER(BCELoss);

/// BCELoss of sigmoid(x), without its rounding.
class BCEWithLogitsLossImpl : public Cloneable<BCEWithLogitsLossImpl> {
 public:
  explicit BCEWithLogitsLossImpl(BCEWithLogitsLossOptions loss_options = {});
  void reset() override;
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x, const Tensor& target);

  BCEWithLogitsLossOptions options;
  Tensor weight, pos_weight;  // broadcastable to x, or undefined
};
HALFTONE_LAYER(BCEWithLogitsLoss);

namespace functional {

using MSELossFuncOptions = MSELossOptions;
using L1LossFuncOptions = L1LossOptions;
using SmoothL1LossFuncOptions = SmoothL1LossOptions;
using HuberLossFuncOptions = HuberLossOptions;
using KLDivFuncOptions = KLDivLossOptions;
using NLLLossFuncOptions = NLLLossOptions;
using CrossEntropyFuncOptions = CrossEntropyLossOptions;
using BinaryCrossEntropyFuncOptions = BCELossOptions;
using BinaryCrossEntropyWithLogitsFuncOptions = BCEWithLogitsLossOptions;

// The first three warn when the shapes differ, as that is rarely meant, and then broadcast.
Tensor mse_loss(const Tensor& x, const Tensor& target, const MSELossFuncOptions& options = {});
Tensor l1_loss(const Tensor& x, const Tensor& target, const L1LossFuncOptions& options = {});
Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, const SmoothL1LossFuncOptions& options = {});
Tensor huber_loss(const Tensor& x, const Tensor& target, const HuberLossFuncOptions& options = {});
Tensor kl_div(const Tensor& x, const Tensor& target, const KLDivFuncOptions& options = {});
Tensor nll_loss(const Tensor& x, const Tensor& target, const NLLLossFuncOptions& options = {});
Tensor cross_entropy(const Tensor& x, const Tensor& target, const CrossEntropyFuncOptions& options = {});
Tensor binary_cross_entropy(const Tensor& x, const Tensor& target, const BinaryCrossEntropyFuncOptions& options = {});
Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                        const BinaryCrossEntropyWithLogitsFuncOptions& options = {});

}  // namespace functional
}  // namespace halftone::nn
