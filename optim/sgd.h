#pragma once

#include "optim/scaled_optimizer.h"

namespace halftone::optim {

struct SGDOptions : public OptimizerCloneableOptions<SGDOptions> {
  SGDOptions(double lr = 1e-3) : lr_(lr) {}  // NOLINT: SGD(params, 0.1)

  TORCH_ARG(double, lr);
  TORCH_ARG(double, momentum) = 0;
  TORCH_ARG(double, dampening) = 0;
  TORCH_ARG(double, weight_decay) = 0;
  TORCH_ARG(bool, nesterov) = false;
  TORCH_ARG(bool, maximize) = false;
  /// Updates 16-bit parameters in float32 copies and rounds these: small steps are not lost.
  TORCH_ARG(bool, master_weights) = false;

 public:
  double get_lr() const override { return lr(); }
  void set_lr(double value) override { lr_ = value; }
  void validate() const override;
  template <class Visit> void visit_fields(Visit visit) {
    visit("lr", lr_), visit("momentum", momentum_), visit("dampening", dampening_);
    visit("weight_decay", weight_decay_), visit("nesterov", nesterov_), visit("maximize", maximize_);
    visit("master_weights", master_weights_);
  }
};

struct SGDParamState : public OptimizerCloneableParamState<SGDParamState>, public MasterState {
  TORCH_ARG(Tensor, momentum_buffer);

 public:
  template <class Visit> void visit_fields(Visit visit) {
    visit("momentum_buffer", momentum_buffer_);
    visit_master(visit);
  }

 private:
  friend class SGD;
  Tensor first_skipped_;  // with dampening: the found_inf of the step that was to begin the buffer
};

/// Stochastic gradient descent, with momentum if asked for.
class SGD : public ScaledOptimizer {
 public:
  explicit SGD(std::vector<OptimizerParamGroup> groups, const SGDOptions& defaults = {})
      : ScaledOptimizer(std::move(groups), std::make_unique<SGDOptions>(defaults)) {}
  explicit SGD(std::vector<Tensor> params, const SGDOptions& defaults = {})
      : ScaledOptimizer(std::move(params), std::make_unique<SGDOptions>(defaults)) {}

 protected:
  void update(const Scaling& scaling) override;
  std::unique_ptr<OptimizerParamState> make_state() const override { return std::make_unique<SGDParamState>(); }

 private:
  struct Batch {
    std::vector<Tensor> params, targets, grads, momenta;
  };
  void add(Batch& batch, const SGDOptions& options, const Tensor& param);
  void run(const SGDOptions& options, bool first, const Batch& batch, const Scaling& scaling);
  void keep_momenta(const SGDOptions& options, bool first, const Batch& batch, const Scaling& scaling);
  bool begins(const SGDOptions& options, const Tensor& param);
};

}  // namespace halftone::optim
