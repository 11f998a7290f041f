#pragma once

#include <tuple>

#include "optim/scaled_optimizer.h"

namespace halftone::optim {

/// The settings of Adam and of AdamW, whose weight decay is decoupled from the gradient.
template <bool Decoupled> struct BasicAdamOptions : public OptimizerCloneableOptions<BasicAdamOptions<Decoupled>> {
  using Betas = std::tuple<double, double>;
  BasicAdamOptions(double lr = 1e-3) : lr_(lr) {}  // NOLINT: Adam(params, 1e-3)

  TORCH_ARG(double, lr);
  TORCH_ARG(Betas, betas) = {0.9, 0.999};
  TORCH_ARG(double, eps) = 1e-8;
  TORCH_ARG(double, weight_decay) = Decoupled ? 1e-2 : 0;
  TORCH_ARG(bool, amsgrad) = false;
  TORCH_ARG(bool, maximize) = false;
  /// Updates 16-bit parameters in float32 copies and rounds these: small steps are not lost.
  TORCH_ARG(bool, master_weights) = false;
  /// Counts the steps on the device, so that a step can be part of a captured cuda::Graph. Steps that a GradScaler
  /// drives are counted there anyway.
  TORCH_ARG(bool, capturable) = false;

 public:
  double get_lr() const override { return lr_; }
  void set_lr(double value) override { lr_ = value; }
  void validate() const override;
  template <class Visit> void visit_fields(Visit visit) {
    visit("lr", lr_), visit("beta1", std::get<0>(betas_)), visit("beta2", std::get<1>(betas_)), visit("eps", eps_);
    visit("weight_decay", weight_decay_), visit("amsgrad", amsgrad_), visit("maximize", maximize_);
    visit("master_weights", master_weights_), visit("capturable", capturable_);
  }
};

struct AdamBatch;

/// State is float32 beside 16-bit parameters too, so an eps of 1e-8 is what it says.
struct AdamParamState : public OptimizerCloneableParamState<AdamParamState>, public MasterState {
  TORCH_ARG(Tensor, exp_avg);
  TORCH_ARG(Tensor, exp_avg_sq);
  TORCH_ARG(Tensor, max_exp_avg_sq);

 public:
  /// Steps taken. Waits for the device if some may have been skipped.
  std::int64_t step() const;
  template <class Visit> void visit_fields(Visit visit) {
    const std::int64_t before = step();
    std::int64_t steps = before;
    visit("step", steps), visit("exp_avg", exp_avg_), visit("exp_avg_sq", exp_avg_sq_);
    visit("max_exp_avg_sq", max_exp_avg_sq_);
    visit_master(visit);
    if (steps != before) attempted_ = steps, skipped_.reset(), in_graph = false;
  }
  void adopt(OptimizerParamState& old) override;

 private:
  template <bool> friend class BasicAdam;
  friend struct AdamBatch;

  // A skipped step must not count, or the bias corrections would be off, but only the device knows that it was skipped.
  // So the host counts attempts, the device counts skips (in a tensor that parameters going through the same steps
  // share), and the kernel takes the difference. A graph knows the attempts before its capture alone: from then on the
  // host counts no more, and each step taken, replayed or not, is a skip less.
  std::int64_t attempted_ = 0;
  Tensor skipped_;
};

/// Adam (Kingma and Ba, 2015), whose weight decay is added to the gradient; or AdamW (Loshchilov and Hutter, 2019),
/// whose weight decay shrinks the parameter.
template <bool Decoupled> class BasicAdam : public ScaledOptimizer {
 public:
  using Options = BasicAdamOptions<Decoupled>;
  explicit BasicAdam(std::vector<OptimizerParamGroup> groups, const Options& defaults = {})
      : ScaledOptimizer(std::move(groups), std::make_unique<Options>(defaults)) {}
  explicit BasicAdam(std::vector<Tensor> params, const Options& defaults = {})
      : ScaledOptimizer(std::move(params), std::make_unique<Options>(defaults)) {}

 protected:
  void update(const Scaling& scaling) override;
  std::unique_ptr<OptimizerParamState> make_state() const override { return std::make_unique<AdamParamState>(); }
  void check_loaded(const Optimizer::State& loaded) const override;

 private:
  void add(AdamBatch& batch, const Options& options, const Tensor& param);
};

using AdamOptions = BasicAdamOptions<false>;
using AdamWOptions = BasicAdamOptions<true>;
using Adam = BasicAdam<false>;
using AdamW = BasicAdam<true>;
using AdamWParamState = AdamParamState;

}  // namespace halftone::optim
