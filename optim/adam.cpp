#include "optim/adam.h"

#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "kernels/backend.h"

namespace halftone::optim {

template <bool Decoupled> void BasicAdamOptions<Decoupled>::validate() const {
  const auto [beta1, beta2] = betas_;
  const char* const who = Decoupled ? "AdamW: " : "Adam: ";
  check<ValueError>(lr_ >= 0, who, "Invalid learning rate: ", lr_, "; it must not be negative");
  check<ValueError>(eps_ >= 0, who, "Invalid epsilon value: ", eps_, "; it must not be negative");
  check<ValueError>(0 <= beta1 && beta1 < 1, who, "Invalid beta parameter at index 0: ", beta1,
                    "; it must be in [0, 1)");
  check<ValueError>(0 <= beta2 && beta2 < 1, who, "Invalid beta parameter at index 1: ", beta2,
                    "; it must be in [0, 1)");
  check<ValueError>(weight_decay_ >= 0, who, "Invalid weight_decay value: ", weight_decay_,
                    "; it must not be negative");
}

std::int64_t AdamParamState::step() const {
  return skipped_.defined() ? attempted_ - skipped_.item<std::int64_t>() : attempted_;
}

// A graph knows the attempts of its capture and the place of the skips, whose difference becomes the steps loaded.
void AdamParamState::adopt(OptimizerParamState& old) {
  OptimizerCloneableParamState::adopt(old);
  const auto& before = static_cast<const AdamParamState&>(old);
  before.skipped_.fill_(before.attempted_ - attempted_);
  attempted_ = before.attempted_;
  skipped_ = before.skipped_;
  in_graph = true;
}

/// Parameters that one kernel call updates: on one device, after the same steps.
struct AdamBatch {
  std::vector<Tensor> params, targets, grads, first, second, second_max;
  std::vector<AdamParamState*> states;

  using Key = std::tuple<BatchKey, std::int64_t, const TensorImpl*>;
  static Key key(const Tensor& param, const AdamParamState& state) {
    return {batch_key(param), state.attempted_, state.skipped_.unsafeGetTensorImpl()};
  }

  // The tensor in which this batch counts its skips. Parameters that sit this step out keep the old one.
  Tensor skip_counter(bool may_skip) const {
    const Device device = params[0].device();
    Tensor counter = states[0]->skipped_;
    if (counter.defined() && counter.device() != device) return counter.to(device);  // the parameters moved
    if (counter.defined()) {
      const bool others_share_it = counter.use_count() > static_cast<long>(states.size()) + 1;
      check(!others_share_it || !cuda::is_capturing(device),
            "Adam: parameters that took part in every step so far sit out the one that is captured; take a step "
            "without them before the capture, so that their steps are counted apart");
      return others_share_it ? counter.clone() : counter;
    }
    check(
        !cuda::is_capturing(device), "Adam: the host counts the steps, so a captured graph would take the ",
        "same one again and again; set capturable(true) or step by a GradScaler, and take one step before the capture");
    return may_skip ? zeros({}, TensorOptions(kInt64).device(device)) : counter;
  }

  void run(AdamStep step, const Scaling& scaling, bool capturable) const {
    const auto [grad_scale, found_inf] = scaling.on(params[0].device());
    const Tensor skipped = skip_counter(found_inf.defined() || capturable);
    step.replayed = states[0]->in_graph || cuda::is_capturing(params[0].device());
    step.steps = static_cast<double>(states[0]->attempted_ + 1);
    backend(params[0]).adam(step.corrected(step.steps), targets, grads, first, second, second_max, grad_scale,
                            found_inf, skipped);
    for (AdamParamState* state : states) {  // after the call: a step that failed is none
      if (!step.replayed) ++state->attempted_;
      state->in_graph = step.replayed;
      state->skipped_ = skipped;
    }
    bump_versions(targets);
    if (grad_scale.defined()) bump_versions(grads);
    write_back(params, targets, [&](std::size_t i) -> MasterState& { return *states[i]; });
  }
};

template <bool Decoupled>
void BasicAdam<Decoupled>::add(AdamBatch& batch, const Options& options, const Tensor& param) {
  auto& state = state_of<AdamParamState>(param);
  fit_state(state.exp_avg(), param);
  fit_state(state.exp_avg_sq(), param);
  batch.params.push_back(param);
  batch.targets.push_back(state.target(param, options.master_weights()));
  batch.grads.push_back(param.grad());
  batch.first.push_back(state.exp_avg());
  batch.second.push_back(state.exp_avg_sq());
  batch.states.push_back(&state);
  if (!options.amsgrad()) return;
  fit_state(state.max_exp_avg_sq(), param);
  batch.second_max.push_back(state.max_exp_avg_sq());
}

// Parameters that share a count of steps in a graph have the same number of them.
template <bool Decoupled> void BasicAdam<Decoupled>::check_loaded(const Optimizer::State& loaded) const {
  std::map<const TensorImpl*, std::int64_t> steps;
  for (const auto& [param, state] : loaded) {
    const auto old = this->state_.find(param);
    if (old == this->state_.end() || !old->second->in_graph) continue;
    const std::int64_t own = static_cast<const AdamParamState&>(*state).step();
    const TensorImpl* const counter = static_cast<const AdamParamState&>(*old->second).skipped_.unsafeGetTensorImpl();
    const std::int64_t others = steps.try_emplace(counter, own).first->second;
    check(own == others, "load_state_dict: parameters that a captured step counts as one were saved after ", own,
          " and ", others, " steps; capture the step again after loading");
  }
}

template <bool Decoupled> void BasicAdam<Decoupled>::update(const Scaling& scaling) {
  for (OptimizerParamGroup& group : param_groups_) {
    const auto& options = static_cast<const Options&>(group.options());
    std::map<AdamBatch::Key, AdamBatch> batches;
    for (const Tensor& p : group.params()) {
      if (p.grad().defined()) add(batches[AdamBatch::key(p, state_of<AdamParamState>(p))], options, p);
    }
    const AdamStep step{.lr = options.lr(),
                        .beta1 = std::get<0>(options.betas()),
                        .beta2 = std::get<1>(options.betas()),
                        .eps = options.eps(),
                        .weight_decay = options.weight_decay(),
                        .decoupled = Decoupled,
                        .amsgrad = options.amsgrad(),
                        .maximize = options.maximize()};
    for (const auto& [key, batch] : batches) batch.run(step, scaling, options.capturable());
  }
}

template struct BasicAdamOptions<false>;
template struct BasicAdamOptions<true>;
template class BasicAdam<false>;
template class BasicAdam<true>;

}  // namespace halftone::optim
