#include "amp/grad_scaler.h"

#include <algorithm>
#include <cmath>

#include "amp/autocast.h"
#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "core/runtime.h"
#include "kernels/backend.h"

namespace halftone::amp {
namespace {

const auto kPlain = [](Context& c) { c = {.record = false}; };

void validate(const GradScalerOptions& o) {
  if (!o.enabled) return;
  check<ValueError>(std::isfinite(o.init_scale) && o.init_scale > 0 && o.init_scale <= FLT_MAX,
                    "GradScaler: init_scale must be a positive float32 number, not ", o.init_scale);
  check<ValueError>(o.growth_factor > 1, "GradScaler: the growth factor must be > 1.0, not ", o.growth_factor);
  check<ValueError>(o.backoff_factor > 0 && o.backoff_factor < 1,
                    "GradScaler: the backoff factor must be between 0 and 1.0, not ", o.backoff_factor);
  check<ValueError>(o.growth_interval >= 1, "GradScaler: the growth interval must be at least 1, not ",
                    o.growth_interval);
  check<ValueError>(0 < o.min_scale && o.min_scale <= o.max_scale && o.max_scale <= FLT_MAX,
                    "GradScaler: min_scale and max_scale must be positive float32 numbers in that order, not ",
                    o.min_scale, " and ", o.max_scale);
}

Tensor counts_tensor(const ScaleState& s, Device device) {
  Tensor counts = empty({3}, TensorOptions(kInt32).device(kCPU));
  const std::int32_t fields[] = {s.clean_steps, s.skipped, s.skipped_in_a_row};
  std::copy_n(fields, 3, counts.data_ptr<std::int32_t>());
  return counts.to(device);
}

}  // namespace

GradScaler::GradScaler(DeviceType device, GradScalerOptions options) : options_(options) {
  if (options_.enabled && device == kCUDA && !cuda::is_available()) {
    warn("GradScaler is made for cuda, but CUDA is not available: it is disabled");
    options_.enabled = false;
  }
  validate(options_);
  initial_.scale = static_cast<float>(options_.init_scale);
}

GradScaler::GradScaler(std::string_view device, GradScalerOptions options) : GradScaler(device_type(device), options) {}

ScaleRule GradScaler::rule() const {
  return {options_.growth_factor, options_.backoff_factor, options_.growth_interval,
          static_cast<float>(options_.min_scale), static_cast<float>(options_.max_scale)};
}

// ---------------------------------------------------------------- scale

void GradScaler::begin(Device device) {
  Tensor counts = counts_tensor(initial_, device);
  set_scale(full({}, initial_.scale, TensorOptions(kFloat32).device(device)));
  if (in_graph_) {
    counts_.copy_(counts);
  } else {
    counts_ = std::move(counts);
  }
}

void GradScaler::note_capture() { in_graph_ = in_graph_ || cuda::is_capturing(scale_.device()); }

void GradScaler::set_scale(Tensor scale) {
  if (in_graph_) {
    scale_.copy_(scale);
  } else {
    scale_ = std::move(scale);
  }
  scales_.clear();
}

Tensor GradScaler::scale_on(Device device) {
  if (device == scale_.device()) return scale_;
  if (in_graph_) return scale_.to(device);  // a replay may have changed it
  Tensor& copy = scales_[device];
  if (!copy.defined()) copy = scale_.to(device);
  return copy;
}

Tensor GradScaler::scale(const Tensor& output) {
  if (!is_enabled()) return output;
  check<ValueError>(output.defined() && output.is_floating_point(),
                    "GradScaler.scale: outputs must be floating tensors, got ", describe(output));
  if (!scale_.defined()) begin(output.device());
  note_capture();
  return (output.dtype() == kFloat16 ? output.to(kFloat32) : output) * scale_on(output.device());
}

// ---------------------------------------------------------------- unscale_ and step

void GradScaler::check_started(const char* call) {
  check(scale_.defined(), "GradScaler.", call,
        ": no scale yet, as scale() was never called. Was backward called on scaler.scale(loss)?");
  note_capture();
}

std::uint64_t GradScaler::capture() const { return scale_.defined() ? cuda::current_capture(scale_.device()) : 0; }

// Calls that became part of a graph which is captured no more were given up with it. Or the graph goes on to make them,
// which the host's calls must not mix with: gradients would be divided twice.
GradScaler::OptimizerRecord& GradScaler::current_record(const optim::Optimizer& optimizer) {
  OptimizerRecord& record = records_[&optimizer];
  const std::uint64_t now = capture();
  if (record.stage == Stage::unscaled && record.capture != now) {
    const bool mixed = record.capture == 0 || cuda::graph_replays(scale_.device()) != record.replays;
    check(!mixed, "GradScaler: unscale_() and step() must be captured in one cuda::Graph, or both not");
  }
  if (record.capture != now) record = {};
  record.capture = now;
  record.replays = scale_.defined() ? cuda::graph_replays(scale_.device()) : 0;
  return record;
}

GradScaler::OptimizerRecord& GradScaler::record_for(optim::Optimizer& optimizer, Call call) {
  const char* const method = call == Call::step ? "step" : "unscale_";
  check_started(method);
  OptimizerRecord& record = current_record(optimizer);
  const char* const wrong = objection(record.stage, call);
  check(!wrong, "GradScaler.", method, ": ", wrong ? wrong : "", " Call update() once, at the end of each iteration");
  return record;
}

GradScaler::ByDevice GradScaler::gradients(const optim::Optimizer& optimizer, Half half) {
  ByDevice lists;
  for (const optim::OptimizerParamGroup& group : optimizer.param_groups()) {
    for (const Tensor& p : group.params()) {
      const Tensor& grad = p.grad();
      if (!grad.defined()) continue;
      if (half == Half::refused && grad.dtype() == kFloat16) {
        fail<ValueError>(
            "GradScaler.unscale_: Attempting to unscale FP16 gradients: ", optimizer.describe_parameter(p), " is ",
            describe(p),
            ". Divided by the scale they may vanish. Keep parameters in float32 and let autocast cast them, "
            "or call step() without unscale_()");
      }
      optim::append(lists, grad);
    }
  }
  return lists;
}

void GradScaler::check_has_gradients(const ByDevice& gradients) {
  check(
      !gradients.empty(),
      "GradScaler.step: No inf checks were recorded for this optimizer, as none of its parameters has a gradient. Was "
      "backward called on scaler.scale(loss), and does the loss depend on them?");
}

void GradScaler::check_has_flags(const std::vector<Tensor>& flags) {
  check(!flags.empty(),
        "GradScaler.step: No inf checks were recorded for this optimizer: when unscale_() was called, none of its "
        "parameters "
        "had a gradient");
}

// A zero for a check to set, of its own, so that whoever holds an old flag can still read it. update() makes as many as
// were used without a launch; beside the scale's device they come in blocks.
Tensor GradScaler::fresh_flag(Device device) {
  constexpr std::int64_t kBlock = 64;
  if (cuda::is_capturing(device)) return zeros({}, TensorOptions(kFloat32).device(device));  // anew at every replay
  FlagBlock& block = flag_blocks_[device];
  if (!block.zeros.defined() || block.used == block.zeros.numel())
    block = {zeros({kBlock}, TensorOptions(kFloat32).device(device)), 0};
  return alias(block.zeros, {}, {}, block.used++);
}

std::vector<Tensor> GradScaler::fresh_flags(const ByDevice& gradients) {
  std::vector<Tensor> flags;
  for (const auto& [device, list] : gradients) flags.push_back(fresh_flag(device));
  return flags;
}

void GradScaler::check_each(const ByDevice& gradients, Division division, std::vector<Tensor>& flags) {
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const auto& [device, list] = gradients[i];
    const bool divides = division == Division::by_scale;
    backend(device.type()).unscale(list, divides ? scale_on(device) : Tensor(), flags[i]);
    if (divides) optim::bump_versions(list);
  }
}

void GradScaler::unscale_(optim::Optimizer& optimizer) {
  if (!is_enabled()) return;
  const ContextScope scope(kPlain);
  OptimizerRecord& record = record_for(optimizer, Call::unscale);
  const ByDevice lists = gradients(optimizer, Half::refused);
  std::vector<Tensor> flags = fresh_flags(lists);
  check_each(lists, Division::by_scale, flags);
  record.stage = Stage::unscaled;
  record.flags = std::move(flags);
}

Tensor GradScaler::clip_grad_norm_(optim::Optimizer& optimizer, double max_norm, double norm_type) {
  const ContextScope scope(kPlain);
  const MaxNorm limit(max_norm, norm_type);
  if (!is_enabled() || current_record(optimizer).stage == Stage::unscaled) {
    return optim::clip_norm(gradients(optimizer, Half::accepted), limit);
  }
  OptimizerRecord& record = record_for(optimizer, Call::unscale);
  const ByDevice lists = gradients(optimizer, Half::refused);
  std::vector<Tensor> flags = fresh_flags(lists);
  Tensor norm = optim::clip_norm(lists, limit, scale_, flags);
  record.stage = Stage::unscaled;
  record.flags = std::move(flags);
  return norm;
}

StepResult GradScaler::step(optim::Optimizer& optimizer, const optim::Optimizer::LossClosure& closure) {
  if (!is_enabled()) return StepResult({}, optimizer.step(closure));
  check(!closure,
        "GradScaler.step: closure use is not currently supported while the scaler is enabled, as the closure would put "
        "scaled gradients in the place of unscaled ones");
  return step_limited(optimizer, nullptr);
}

StepResult GradScaler::step(optim::Optimizer& optimizer, const MaxNorm& limit) {
  if (is_enabled()) return step_limited(optimizer, &limit);
  Tensor norm = clip_grad_norm_(optimizer, limit.most, limit.type);
  StepResult result({}, optimizer.step());
  result.norm = std::move(norm);
  return result;
}

// `limit` is null when there is none.
StepResult GradScaler::step_limited(optim::Optimizer& optimizer, const MaxNorm* limit) {
  OptimizerRecord& record = record_for(optimizer, Call::step);
  if (auto* const scaled = dynamic_cast<optim::ScaledOptimizer*>(&optimizer)) {
    return step_scaled(*scaled, record, limit);
  }
  if (record.stage == Stage::ready) {
    check_has_gradients(gradients(optimizer, Half::refused));
    if (!limit) unscale_(optimizer);
  }
  Tensor norm = limit ? clip_grad_norm_(optimizer, limit->most, limit->type) : Tensor();
  check_has_flags(record.flags);
  StepResult result(total(record.flags));
  result.norm = std::move(norm);
  if (result.stepped()) result.value = optimizer.step();
  record.stage = Stage::stepped;
  return result;
}

StepResult GradScaler::step_scaled(optim::ScaledOptimizer& optimizer, OptimizerRecord& record, const MaxNorm* limit) {
  const optim::LimitedNorm limited = look(optimizer, record, limit);
  check_has_flags(record.flags);
  StepResult result(total(record.flags));
  result.norm = limited.norm;
  optimizer.step_scaled({limited.divisor, result.flag()});
  record.stage = Stage::stepped;
  return result;
}

// Checks gradients that are still scaled, and finds the norm of those that have a limit. Both only look: the optimizer
// divides the gradients by what this returns in the same pass that uses them.
optim::LimitedNorm GradScaler::look(const optim::Optimizer& optimizer, OptimizerRecord& record, const MaxNorm* limit) {
  if (record.stage == Stage::unscaled && !limit) return {};
  const ContextScope scope(kPlain);
  const ByDevice lists = gradients(optimizer, Half::accepted);
  if (record.stage == Stage::unscaled) return optim::limit_norm(lists, *limit);
  check_has_gradients(lists);
  std::vector<Tensor> flags = fresh_flags(lists);
  optim::LimitedNorm limited{{}, scale_};
  if (limit) {
    limited = optim::limit_norm(lists, *limit, scale_, flags);
  } else {
    check_each(lists, Division::none, flags);
  }
  record.flags = std::move(flags);
  return limited;
}

// ---------------------------------------------------------------- update

Tensor GradScaler::total(const std::vector<Tensor>& flags) const {
  const ContextScope scope(kPlain);
  Tensor sum = flags[0].to(scale_.device());
  for (std::size_t i = 1; i < flags.size(); ++i) sum = sum + flags[i].to(scale_.device());
  return sum;
}

void GradScaler::update() {
  if (!is_enabled()) return;
  check_started("update");
  const ContextScope scope(kPlain);
  std::vector<Tensor> flags;
  for (const auto& [optimizer, record] : records_) {
    if (record.capture == capture()) flags.insert(flags.end(), record.flags.begin(), record.flags.end());
  }
  check(!flags.empty(), "GradScaler.update: No inf checks were recorded prior to update. Call step() first");
  const Tensor flag = total(flags);
  if (cuda::is_capturing(scale_.device())) {
    advance(flag, {});
    return end_iteration();
  }
  Past past{updates_, in_graph_ ? scale_.clone() : scale_, flag};
  FlagBlock next{empty({std::ranges::count(flags, scale_.device(), &Tensor::device)}, scale_.options())};
  advance(flag, next.zeros);
  end_iteration();
  flag_blocks_[scale_.device()] = std::move(next);
  history_.push_back(std::move(past));
  if (history_.size() > options_.history) history_.pop_front();
  ++updates_;
  watch_skips();
}

// `zeroed` becomes zeros in the same launch.
void GradScaler::advance(const Tensor& flag, const Tensor& zeroed) {
  Tensor new_scale = in_graph_ ? scale_ : empty_like(scale_), new_counts = in_graph_ ? counts_ : empty_like(counts_);
  backend(scale_).next_scale(rule(), scale_, counts_, flag, new_scale, new_counts, zeroed);
  if (in_graph_) optim::bump_versions({scale_});
  scale_ = std::move(new_scale);
  counts_ = std::move(new_counts);
}

void GradScaler::update(double new_scale) {
  if (!is_enabled()) return;
  check_started("update");
  check<ValueError>(std::isfinite(new_scale) && new_scale > 0 && new_scale <= FLT_MAX,
                    "GradScaler.update: the new scale must be a positive float32 number, not ", new_scale);
  set_scale(full({}, new_scale, scale_.options()));
  end_iteration();
}

void GradScaler::update(const Tensor& new_scale) {
  if (!is_enabled()) return;
  check_started("update");
  check<ValueError>(
      new_scale.defined() && new_scale.numel() == 1 && !new_scale.requires_grad(),
      "GradScaler.update: the new scale must be a number or a tensor of one element that requires no gradient");
  const ContextScope scope(kPlain);
  set_scale(new_scale.to(scale_.device(), kFloat32, false, /*copy=*/true).reshape({}));
  end_iteration();
}

void GradScaler::end_iteration() {
  scales_.clear();
  records_.clear();
}

// Looks every n updates, so n skips in a row are seen after 2 n at the latest.
void GradScaler::watch_skips() const {
  const std::int64_t limit = options_.max_skips_in_a_row;
  if (limit <= 0 || updates_ % limit != 0) return;
  const std::int32_t in_a_row = counts()[2];
  check(in_a_row < limit, "GradScaler: the last ", in_a_row, " steps were all skipped, and the scale is down to ",
        get_scale(), ": the gradients are not finite whatever the scale. first_nonfinite() names the parameter");
}

// ---------------------------------------------------------------- looking in

std::vector<std::int32_t> GradScaler::counts() const {
  if (!counts_.defined()) return {initial_.clean_steps, initial_.skipped, initial_.skipped_in_a_row};
  const Tensor here = counts_.cpu();
  return {here.data_ptr<std::int32_t>(), here.data_ptr<std::int32_t>() + 3};
}

double GradScaler::get_scale() const {
  if (!is_enabled()) return 1;
  return scale_.defined() ? double{scale_.item<float>()} : double{initial_.scale};
}
std::int64_t GradScaler::get_growth_tracker() const { return counts()[0]; }
std::int64_t GradScaler::skipped_steps() const { return counts()[1]; }

std::vector<GradScaler::Record> GradScaler::history() const {
  std::vector<Record> records;
  for (const Past& past : history_)
    records.push_back({past.update, double{past.scale.item<float>()}, past.flag.item<float>() != 0});
  return records;
}

optional<std::string> GradScaler::first_nonfinite(const optim::Optimizer& optimizer) {
  const ContextScope scope(kPlain);
  for (const optim::OptimizerParamGroup& group : optimizer.param_groups()) {
    for (const Tensor& p : group.params()) {
      if (p.grad().defined() && !isfinite(p.grad()).all().item<bool>()) return optimizer.describe_parameter(p);
    }
  }
  return nullopt;
}

template <class T> void GradScaler::change(T GradScalerOptions::*field, T value) {
  GradScalerOptions changed = options_;
  changed.*field = value;
  validate(changed);
  options_ = changed;
}
template void GradScaler::change(double GradScalerOptions::*, double);
template void GradScaler::change(std::int64_t GradScalerOptions::*, std::int64_t);

StateDict GradScaler::state_dict() const {
  StateDict out;
  if (!is_enabled()) return out;
  out.set("scale", get_scale());
  out.set("growth_factor", options_.growth_factor);
  out.set("backoff_factor", options_.backoff_factor);
  out.set("growth_interval", options_.growth_interval);
  out.set("_growth_tracker", get_growth_tracker());
  return out;
}

void GradScaler::load_state_dict(const StateDict& saved) {
  if (!is_enabled()) return;
  check(!saved.empty(),
        "GradScaler.load_state_dict: the source state dict is empty, possibly because it was saved from a "
        "disabled GradScaler");
  GradScalerOptions changed = options_;
  changed.init_scale = saved.get<double>("scale");
  changed.growth_factor = saved.get<double>("growth_factor");
  changed.backoff_factor = saved.get<double>("backoff_factor");
  changed.growth_interval = saved.get<std::int64_t>("growth_interval");
  const auto clean_steps = saved.get<std::int32_t>("_growth_tracker");
  validate(changed);
  options_ = changed;
  initial_ = {.scale = static_cast<float>(changed.init_scale), .clean_steps = clean_steps};
  if (scale_.defined()) begin(scale_.device());
}

}  // namespace halftone::amp
