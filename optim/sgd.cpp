#include "optim/sgd.h"

#include "kernels/backend.h"

namespace halftone::optim {

void SGDOptions::validate() const {
  check<ValueError>(lr_ >= 0, "SGD: Invalid learning rate: ", lr_, "; it must not be negative");
  check<ValueError>(momentum_ >= 0, "SGD: Invalid momentum value: ", momentum_, "; it must not be negative");
  check<ValueError>(weight_decay_ >= 0, "SGD: Invalid weight_decay value: ", weight_decay_,
                    "; it must not be negative");
  check<ValueError>(!nesterov_ || (momentum_ > 0 && dampening_ == 0),
                    "SGD: Nesterov momentum requires a momentum and zero dampening, not momentum ", momentum_,
                    " and dampening ", dampening_);
}

void SGD::update(const Scaling& scaling) {
  for (OptimizerParamGroup& group : param_groups_) {
    const auto& options = static_cast<const SGDOptions&>(group.options());
    std::map<std::pair<BatchKey, bool>, Batch> batches;
    for (const Tensor& p : group.params()) {
      if (!p.grad().defined()) continue;
      add(batches[{batch_key(p), begins(options, p)}], options, p);
    }
    for (const auto& [key, batch] : batches) run(options, key.second, batch, scaling);
  }
}

// True for the step that fills an empty momentum buffer with the plain gradient. Without dampening the formula does
// that by itself from a buffer of zeros. With it, one must know whether the earlier steps were skipped, and wait for
// the answer until one was taken.
bool SGD::begins(const SGDOptions& options, const Tensor& param) {
  if (options.momentum() == 0 || options.dampening() == 0) return false;
  const auto& state = state_of<SGDParamState>(param);
  if (!state.momentum_buffer().defined()) return true;
  return state.first_skipped_.defined() && state.first_skipped_.item<float>() != 0;
}

void SGD::add(Batch& batch, const SGDOptions& options, const Tensor& param) {
  const bool master = options.master_weights() && is_low_precision(param.dtype());
  batch.params.push_back(param);
  batch.targets.push_back(master ? state_of<SGDParamState>(param).target(param, true) : param);
  batch.grads.push_back(param.grad());
  if (options.momentum() == 0) return;
  Tensor momentum = state_of<SGDParamState>(param).momentum_buffer();
  fit_state(momentum, param);
  batch.momenta.push_back(std::move(momentum));
}

void SGD::run(const SGDOptions& o, bool first, const Batch& batch, const Scaling& scaling) {
  const SgdStep step{.lr = o.lr(),
                     .momentum = o.momentum(),
                     .dampening = o.dampening(),
                     .weight_decay = o.weight_decay(),
                     .nesterov = o.nesterov(),
                     .maximize = o.maximize(),
                     .first = first};
  const auto [grad_scale, found_inf] = scaling.on(batch.params[0].device());
  backend(batch.params[0]).sgd(step, batch.targets, batch.grads, batch.momenta, grad_scale, found_inf);
  keep_momenta(o, first, batch, scaling);
  bump_versions(batch.targets);
  if (grad_scale.defined()) bump_versions(batch.grads);
  write_back(batch.params, batch.targets,
             [&](std::size_t i) -> MasterState& { return state_of<SGDParamState>(batch.params[i]); });
}

// After the call: a step that failed leaves an empty buffer empty.
void SGD::keep_momenta(const SGDOptions& options, bool first, const Batch& batch, const Scaling& scaling) {
  for (std::size_t i = 0; i < batch.momenta.size(); ++i) {
    auto& state = state_of<SGDParamState>(batch.params[i]);
    state.momentum_buffer(batch.momenta[i]);
    if (options.dampening() != 0) state.first_skipped_ = first ? scaling.found_inf : Tensor();
  }
}

}  // namespace halftone::optim
