#include "optim/scaled_optimizer.h"

#include "autograd/context.h"
#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "kernels/backend.h"

namespace halftone::optim {
namespace {

const auto kPlain = [](Context& c) { c = {.record = false}; };

}  // namespace

Scaling Scaling::on(Device device) const {
  const auto there = [&](const Tensor& t) { return !t.defined() || t.device() == device ? t : t.to(device); };
  return {there(grad_scale), there(found_inf)};
}

Tensor ScaledOptimizer::step(LossClosure closure) {
  Tensor loss = compute_loss(closure);
  step_scaled({});
  return loss;
}

void ScaledOptimizer::step_scaled(const Scaling& scaling) {
  const ContextScope scope(kPlain);
  update(scaling);
  note_captures();
}

void ScaledOptimizer::note_captures() {
  for (const OptimizerParamGroup& group : param_groups_) {
    for (const Tensor& p : group.params()) {
      if (!p.grad().defined() || !cuda::is_capturing(p.device())) continue;
      if (const auto found = state_.find(p.unsafeGetTensorImpl()); found != state_.end())
        found->second->in_graph = true;
    }
  }
}

Tensor MasterState::target(const Tensor& param, bool wanted) {
  if (!wanted || !is_low_precision(param.dtype())) {
    master_.reset();
    return param;
  }
  if (!master_.defined() || storage_ != param.storage() || version_ != param._version()) renew(param);
  return master_;
}

// Where the copy is, if it can stay there: a captured graph may know it. The copy is the more precise of the two where
// it rounds to what is there: after a load, a move, a write to others in the same storage.
void MasterState::renew(const Tensor& param) {
  const bool fits = master_.defined() && master_.sizes().equals(param.sizes());
  const bool stays = fits && master_.device() == param.device();
  check(stays || !cuda::is_capturing(param.device()), "optimizer: the float32 copy of ", describe(param),
        " would start anew at every replay of the graph; take one step before it is captured");
  Tensor copy = param.detach().to(kFloat32);
  if (fits) {
    const Tensor old = master_.to(param.device());
    copy = where(old.to(param.dtype()).eq(param), old, copy);
  }
  if (stays) {
    master_.copy_(copy);
  } else {
    master_ = std::move(copy);
  }
  note(param);
}

void MasterState::round_into(const Tensor& param) const {
  Tensor target = param;
  backend(param).copy(master_, target);
  param.storage()->bump_version();
}

void MasterState::note(const Tensor& param) {
  storage_ = param.storage();
  version_ = param._version();
}

void fit_state(Tensor& state, const Tensor& param) {
  const Dtype dtype = state_dtype(param);
  if (!state.defined()) {
    check(!cuda::is_capturing(param.device()), "optimizer: the state of ", describe(param),
          " would start anew at every replay of the graph; take one step before it is captured");
    state = zeros_like(param, TensorOptions(dtype));
  } else if (state.dtype() != dtype || state.device() != param.device()) {
    state = state.to(param.device(), dtype);
  }
}

void bump_versions(const std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors) t.storage()->bump_version();
}

}  // namespace halftone::optim
