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
  const ContextScope scope(kPlain);
  update({});
  return loss;
}

void ScaledOptimizer::step_scaled(const Scaling& scaling) {
  const ContextScope scope(kPlain);
  update(scaling);
}

Tensor MasterState::target(const Tensor& param, bool wanted) {
  if (!wanted || !is_low_precision(param.dtype())) {
    master_.reset();
    return param;
  }
  // A copy that was just loaded has no storage noted: it is the more precise of the two.
  const bool stale = storage_ && (storage_ != param.storage() || version_ != param._version());
  if (!master_.defined() || stale) {
    master_ = param.detach().to(kFloat32);
    storage_ = param.storage();
    version_ = param._version();
  }
  return master_;
}

void MasterState::write_back(const Tensor& param) {
  Tensor target = param;
  backend(param).copy(master_, target);
  param.storage()->bump_version();
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
