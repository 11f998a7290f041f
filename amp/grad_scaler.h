// GradScaler multiplies the loss before backward, so that small float16 gradients do not vanish, and divides the
// gradients again before the optimizer's step. A step whose gradients overflowed is skipped, and the scale follows.
//
//   scaler.scale(loss).backward();
//   scaler.step(optimizer);
//   scaler.update();
//
// To limit the gradients' norm, give the step a limit: scaler.step(optimizer, amp::MaxNorm(1.0)).
//
// Where a step is captured in a cuda::Graph, all of an iteration's calls of the scaler are part of the one graph, or
// only scale() is.
//
// Scale and flags live on the device: with halftone's optimizers nothing here waits for it, except where a comment says
// so.
#pragma once

#include <deque>
#include <map>
#include <unordered_map>

#include "core/map_tensors.h"
#include "kernels/updates.h"
#include "optim/clip.h"
#include "optim/scaled_optimizer.h"

namespace halftone::amp {

using optim::MaxNorm;

struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;  // steps without overflow before the scale grows
  bool enabled = true;                  // off, the scaler passes everything through
  double min_scale = FLT_MIN;
  double max_scale = FLT_MAX;
  std::int64_t max_skips_in_a_row =
      0;                      // when that many steps are skipped update() throws; 0: never. Waits now and then
  std::size_t history = 256;  // updates to remember
};

/// What became of a step.
class StepResult {
 public:
  explicit StepResult(Tensor flag, Tensor of_optimizer = {}) : value(std::move(of_optimizer)), flag_(std::move(flag)) {}
  /// Both wait for the device.
  bool found_inf() const { return flag_.defined() && flag_.item<float>() != 0; }
  bool stepped() const { return !found_inf(); }
  /// Not 0 for an overflow: one float on the device; undefined when nothing was checked.
  const Tensor& flag() const { return flag_; }

  Tensor value;  // what the optimizer's own step() returned, if that was called
  Tensor norm;   // of the gradients, unscaled, before a limit that step() was given: on the device, not waited for

 private:
  Tensor flag_;
};

/// How far an optimizer is between two updates. The order of calls is checked: the wrong one would train on wrong
/// gradients without a sign.
enum class Stage { ready, unscaled, stepped };
enum class Call { unscale, step };

/// Why a call is out of order; null when it is not.
constexpr const char* objection(Stage stage, Call call) {
  if (stage == Stage::ready || (stage == Stage::unscaled && call == Call::step)) return nullptr;
  if (call == Call::step) return "step() has already been called since the last update().";
  return stage == Stage::unscaled ? "unscale_() has already been called on this optimizer since the last update()."
                                  : "unscale_() is being called after step().";
}

class GradScaler {
 public:
  /// On a machine without CUDA a scaler for CUDA warns and is disabled. The scale itself lives where the first scaled
  /// tensor does.
  explicit GradScaler(DeviceType device = kCUDA, GradScalerOptions options = {});
  explicit GradScaler(std::string_view device, GradScalerOptions options = {});

  /// The outputs times the scale: a tensor, or vectors, arrays, optionals, tuples, pairs and maps of such at any depth,
  /// where what is no tensor stays as it is. float16 outputs are multiplied in float32: 65536 is infinite in float16.
  template <class T> auto scale(const T& outputs);
  Tensor scale(const Tensor& output);

  /// Divides the gradients of the optimizer's parameters by the scale now, to look at them or to clip them.
  void unscale_(optim::Optimizer& optimizer);
  /// unscale_(), if that was not called yet, and the optimizer's step unless a gradient was infinite or NaN. Takes no
  /// closure while the scaler is enabled. An optimizer that is no ScaledOptimizer makes it wait.
  StepResult step(optim::Optimizer& optimizer, const optim::Optimizer::LossClosure& closure = nullptr);
  /// The same with the norm over all of the optimizer's gradients limited before: what clip_grad_norm_() and step() do,
  /// but a ScaledOptimizer takes no extra pass over the gradients. When disabled it clips all the same.
  StepResult step(optim::Optimizer& optimizer, const MaxNorm& limit);
  /// Adapts the scale: once an iteration, after all steps.
  void update();
  /// Sets the scale.
  void update(double new_scale);
  void update(const Tensor& new_scale);
  /// unscale_(), if that was not called yet, and nn::utils::clip_grad_norm_ over all of the optimizer's parameters,
  /// with one look at the gradients and one division. The norm is that of the unscaled gradients, and is not waited
  /// for.
  Tensor clip_grad_norm_(optim::Optimizer& optimizer, double max_norm, double norm_type = 2);

  /// Waits for the device; 1 when disabled.
  double get_scale() const;
  std::int64_t get_growth_tracker() const;
  double get_growth_factor() const { return options_.growth_factor; }
  double get_backoff_factor() const { return options_.backoff_factor; }
  std::int64_t get_growth_interval() const { return options_.growth_interval; }
  void set_growth_factor(double factor) { change(&GradScalerOptions::growth_factor, factor); }
  void set_backoff_factor(double factor) { change(&GradScalerOptions::backoff_factor, factor); }
  void set_growth_interval(std::int64_t steps) { change(&GradScalerOptions::growth_interval, steps); }
  bool is_enabled() const { return options_.enabled; }

  /// One update: the scale that the step was made with, and whether it was skipped for an overflow.
  struct Record {
    std::int64_t update;
    double scale;
    bool overflowed;
  };
  /// The last updates; waits for the device.
  std::vector<Record> history() const;
  /// Updates that found an overflow so far; waits for the device.
  std::int64_t skipped_steps() const;
  /// Names the first parameter whose gradient is infinite or NaN now, if there is one: ask before zero_grad(). Waits.
  static optional<std::string> first_nonfinite(const optim::Optimizer& optimizer);

  /// Python's keys. Save after update(). Empty when disabled.
  StateDict state_dict() const;
  /// Does nothing when disabled; throws when the state is empty, or its values make no sense, and then keeps its own.
  void load_state_dict(const StateDict& saved);

 private:
  struct OptimizerRecord {
    Stage stage = Stage::ready;
    std::vector<Tensor> flags;  // one a device: not 0 when a gradient there is not finite
    std::uint64_t capture = 0;  // of the graph that the calls became part of; 0: none
    std::uint64_t replays = 0;  // of graphs until then
  };
  struct Past {
    std::int64_t update;
    Tensor scale, flag;
  };
  enum class Half { refused, accepted };
  enum class Division { none, by_scale };
  using ByDevice = optim::ByDevice;

  template <class T> void change(T GradScalerOptions::*field, T value);
  void check_started(const char* call);
  std::uint64_t capture() const;
  OptimizerRecord& current_record(const optim::Optimizer& optimizer);
  OptimizerRecord& record_for(optim::Optimizer& optimizer, Call call);
  static ByDevice gradients(const optim::Optimizer& optimizer, Half half);
  static void check_has_gradients(const ByDevice& gradients);
  static void check_has_flags(const std::vector<Tensor>& flags);
  StepResult step_limited(optim::Optimizer& optimizer, const MaxNorm* limit);
  StepResult step_scaled(optim::ScaledOptimizer& optimizer, OptimizerRecord& record, const MaxNorm* limit);
  optim::LimitedNorm look(const optim::Optimizer& optimizer, OptimizerRecord& record, const MaxNorm* limit);
  void check_each(const ByDevice& gradients, Division division, std::vector<Tensor>& flags);
  Tensor fresh_flag(Device device);
  std::vector<Tensor> fresh_flags(const ByDevice& gradients);
  Tensor scale_on(Device device);
  Tensor total(const std::vector<Tensor>& flags) const;
  void begin(Device device);
  void note_capture();
  void set_scale(Tensor scale);
  void advance(const Tensor& flag, const Tensor& zeroed);
  void end_iteration();
  void watch_skips() const;
  std::vector<std::int32_t> counts() const;
  ScaleRule rule() const;

  GradScalerOptions options_;
  ScaleState initial_;
  Tensor scale_, counts_;  // ScaleState on the device, from the first scale() on
  bool in_graph_ = false;  // a captured graph knows their addresses: they are written to, not replaced
  std::unordered_map<const optim::Optimizer*, OptimizerRecord> records_;
  std::unordered_map<Device, Tensor> scales_;  // by device
  struct FlagBlock {
    Tensor zeros;
    std::int64_t used = 0;
  };
  std::unordered_map<Device, FlagBlock> flag_blocks_;
  std::deque<Past> history_;
  std::int64_t updates_ = 0;
};

template <class T> auto GradScaler::scale(const T& outputs) {
  static_assert(holds_tensors<T>(),
                "GradScaler::scale takes tensors, and vectors, arrays, optionals, tuples and maps of tensors");
  return map_tensors(outputs, [this](const Tensor& output) { return scale(output); });
}

}  // namespace halftone::amp
