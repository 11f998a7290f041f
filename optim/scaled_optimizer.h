// Optimizers that take part in gradient scaling: they divide by the scale and skip a step without the host ever
// knowing.
#pragma once

#include <map>
#include <tuple>

#include "optim/optimizer.h"

namespace halftone::optim {

/// A step whose gradients may still be multiplied by a scale, or have a norm to be limited. Both are tensors of one
/// element, either may be undefined.
struct Scaling {
  Tensor grad_scale;  // float, or double when it limits a norm too: gradients are divided by it, and stay divided
  Tensor found_inf;   // float: when it is not 0, the step must leave no trace

  Scaling on(Device device) const;
};

/// An optimizer that amp::GradScaler drives without waiting for the device. Override update(); what the host knows when
/// it runs must not depend on whether the step is taken.
class ScaledOptimizer : public Optimizer {
 public:
  using Optimizer::Optimizer;
  /// Final, because step_scaled() stands beside it: whatever a step does belongs into update().
  Tensor step(LossClosure closure = nullptr) final;
  /// A step on gradients that are still scaled, taken or left out by what the device finds. Queued, not waited for.
  void step_scaled(const Scaling& scaling);

 protected:
  /// One step over all parameters that have gradients; runs unrecorded and outside any region.
  virtual void update(const Scaling& scaling) = 0;

 private:
  void note_captures();
};

/// State of a parameter that may be kept in 16 bits while its values are updated in float32.
class MasterState {
 public:
  /// What the update is to write: the parameter itself, or its float32 copy if `wanted`.
  Tensor target(const Tensor& param, bool wanted);
  /// Rounds the copy into the parameter after the update.
  void round_into(const Tensor& param) const;
  /// Takes the parameter's memory as what the copy was rounded to.
  void note(const Tensor& param);

 protected:
  template <class Visit> void visit_master(Visit visit) { visit("master", master_); }

 private:
  void renew(const Tensor& param);

  Tensor master_;
  // The parameter's memory as note() found it: when others wrote to it since, the copy is out of date.
  std::shared_ptr<Storage> storage_;
  std::uint32_t version_ = 0;
};

/// Rounds the targets of an update that are copies into the parameters. All are rounded before one is noted: they may
/// lie in one storage, where a write to one counts as a write to all.
template <class StateOf>
void write_back(const std::vector<Tensor>& params, const std::vector<Tensor>& targets, StateOf state_of) {
  const auto for_each_copy = [&](auto f) {
    for (std::size_t i = 0; i < params.size(); ++i) {
      if (!targets[i].is_same(params[i])) f(state_of(i), params[i]);
    }
  };
  for_each_copy([](const MasterState& state, const Tensor& param) { state.round_into(param); });
  for_each_copy([](MasterState& state, const Tensor& param) { state.note(param); });
}

/// What parameters must have in common for one kernel call to update them: the device.
using BatchKey = std::pair<DeviceType, DeviceIndex>;
inline BatchKey batch_key(const Tensor& param) { return {param.device().type(), param.device().index()}; }

/// The dtype in which a parameter's state is kept.
inline Dtype state_dtype(const Tensor& param) { return param.dtype() == kFloat64 ? kFloat64 : kFloat32; }
/// State zeros for a parameter that has none yet; afterwards state that follows the parameter to another device or
/// dtype.
void fit_state(Tensor& state, const Tensor& param);
/// Counts the in-place writes of an update.
void bump_versions(const std::vector<Tensor>& tensors);

}  // namespace halftone::optim
