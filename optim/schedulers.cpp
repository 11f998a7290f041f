#include "optim/schedulers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace halftone::optim {

LRScheduler::LRScheduler(Optimizer& optimizer) : optimizer_(optimizer), base_lrs_(get_current_lrs()) {}

void LRScheduler::step() {
  ++step_count_;
  set_lrs(get_lrs());
}

std::vector<double> LRScheduler::get_current_lrs() const {
  std::vector<double> lrs;
  for (const OptimizerParamGroup& group : optimizer_.param_groups()) lrs.push_back(group.options().get_lr());
  return lrs;
}

std::vector<double> LRScheduler::scaled_lrs(double factor) const {
  std::vector<double> lrs = get_current_lrs();
  for (double& lr : lrs) lr *= factor;
  return lrs;
}

void LRScheduler::check_groups(std::size_t rates) const {
  const std::size_t groups = optimizer_.param_groups().size();
  check(rates == groups, "a learning-rate scheduler made for ", base_lrs_.size(), " parameter groups gives ", rates,
        " rates, but its optimizer has ", groups, " groups: add groups before making schedulers");
}

void LRScheduler::set_lrs(const std::vector<double>& lrs) {
  check_groups(lrs.size());
  std::vector<OptimizerParamGroup>& groups = optimizer_.param_groups();
  for (std::size_t i = 0; i < lrs.size(); ++i) groups[i].options().set_lr(lrs[i]);
}

StateDict LRScheduler::state_dict() const {
  StateDict out;
  out.set("step_count", step_count_);
  for (std::size_t i = 0; i < base_lrs_.size(); ++i) out.set(str("base_lrs.", i), base_lrs_[i]);
  return out;
}

void LRScheduler::load_state_dict(const StateDict& saved) {
  std::vector<double> base;
  for (std::size_t i = 0; i < base_lrs_.size(); ++i) base.push_back(saved.get<double>(str("base_lrs.", i)));
  step_count_ = saved.get<std::int64_t>("step_count");
  base_lrs_ = std::move(base);
}

StepLR::StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma)
    : LRScheduler(optimizer), step_size_(step_size), gamma_(gamma) {
  check<ValueError>(step_size > 0, "StepLR: step_size must be positive, not ", step_size);
}

std::vector<double> StepLR::get_lrs() { return scaled_lrs(step_count_ % step_size_ == 0 ? gamma_ : 1); }

MultiStepLR::MultiStepLR(Optimizer& optimizer, std::vector<std::int64_t> milestones, double gamma)
    : LRScheduler(optimizer), milestones_(std::move(milestones)), gamma_(gamma) {}

std::vector<double> MultiStepLR::get_lrs() {
  const auto times = std::ranges::count(milestones_, step_count_);
  return scaled_lrs(std::pow(gamma_, static_cast<double>(times)));
}

ExponentialLR::ExponentialLR(Optimizer& optimizer, double gamma) : LRScheduler(optimizer), gamma_(gamma) {}

std::vector<double> ExponentialLR::get_lrs() { return scaled_lrs(gamma_); }

CosineAnnealingLR::CosineAnnealingLR(Optimizer& optimizer, std::int64_t t_max, double eta_min)
    : LRScheduler(optimizer), t_max_(t_max), eta_min_(eta_min) {
  check<ValueError>(t_max > 0, "CosineAnnealingLR: T_max must be positive, not ", t_max);
}

// From epoch t - 1 to t the distance to eta_min changes by the quotient of the two cosine terms. Where the old one is
// zero, at the bottom, the way up begins with the increment that the closed form gives.
std::vector<double> CosineAnnealingLR::get_lrs() {
  std::vector<double> lrs = get_current_lrs();
  const auto height = [&](std::int64_t t) {
    return 1 + std::cos(std::numbers::pi * static_cast<double>(t) / static_cast<double>(t_max_));
  };
  const bool leaves_bottom = (step_count_ - 1 - t_max_) % (2 * t_max_) == 0;
  if (leaves_bottom) check_groups(base_lrs().size());
  for (std::size_t i = 0; i < lrs.size(); ++i) {
    if (leaves_bottom) {
      const double angle = std::numbers::pi / static_cast<double>(t_max_);
      lrs[i] += (base_lrs()[i] - eta_min_) * (1 - std::cos(angle)) / 2;
    } else {
      lrs[i] = height(step_count_) / height(step_count_ - 1) * (lrs[i] - eta_min_) + eta_min_;
    }
  }
  return lrs;
}

LinearLR::LinearLR(Optimizer& optimizer, double start_factor, double end_factor, std::int64_t total_iters)
    : LRScheduler(optimizer), start_factor_(start_factor), end_factor_(end_factor), total_iters_(total_iters) {
  check<ValueError>(0 < start_factor && start_factor <= 1, "LinearLR: start_factor must be in (0, 1], not ",
                    start_factor);
  check<ValueError>(0 <= end_factor && end_factor <= 1, "LinearLR: end_factor must be in [0, 1], not ", end_factor);
  check<ValueError>(total_iters > 0, "LinearLR: total_iters must be positive, not ", total_iters);
  begin();
}

std::vector<double> LinearLR::get_lrs() {
  if (step_count_ == 0) return scaled_lrs(start_factor_);
  if (step_count_ > total_iters_) return get_current_lrs();
  const double rise = end_factor_ - start_factor_;
  const auto total = static_cast<double>(total_iters_), before = static_cast<double>(step_count_ - 1);
  return scaled_lrs(1 + rise / (total * start_factor_ + before * rise));
}

LambdaLR::LambdaLR(Optimizer& optimizer, const Lambda& lambda)
    : LambdaLR(optimizer, std::vector<Lambda>(optimizer.param_groups().size(), lambda)) {}

LambdaLR::LambdaLR(Optimizer& optimizer, std::vector<Lambda> lambdas)
    : LRScheduler(optimizer), lambdas_(std::move(lambdas)) {
  check<ValueError>(lambdas_.size() == base_lrs().size(), "LambdaLR: expected ", base_lrs().size(),
                    " functions, one a parameter group, but got ", lambdas_.size());
  begin();
}

std::vector<double> LambdaLR::get_lrs() {
  std::vector<double> lrs = base_lrs();
  for (std::size_t i = 0; i < lrs.size(); ++i) lrs[i] *= lambdas_[i](step_count_);
  return lrs;
}

OneCycleLR::OneCycleLR(Optimizer& optimizer, double max_lr, OneCycleLROptions options)
    : LRScheduler(optimizer), max_lr_(max_lr), options_(options) {
  check<ValueError>(options.total_steps > 0, "OneCycleLR: total_steps must be positive, not ", options.total_steps);
  check<ValueError>(0 <= options.pct_start && options.pct_start <= 1, "OneCycleLR: pct_start must be in [0, 1], not ",
                    options.pct_start);
  begin();
}

OneCycleLR::OneCycleLR(Optimizer& optimizer, double max_lr, std::int64_t total_steps)
    : OneCycleLR(optimizer, max_lr, OneCycleLROptions{.total_steps = total_steps}) {}

std::vector<double> OneCycleLR::get_lrs() {
  // A loop that steps after every batch ends with one step beyond the cycle, which keeps the last rate.
  check<ValueError>(step_count_ <= options_.total_steps, "OneCycleLR: Tried to step ", step_count_,
                    " times. The specified number of total steps is ", options_.total_steps);
  const auto between = [&](double from, double to, double part) {
    if (!options_.cosine) return from + (to - from) * part;
    return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * part));
  };
  const double first = max_lr_ / options_.div_factor, last = first / options_.final_div_factor;
  const auto now = static_cast<double>(std::min(step_count_, options_.total_steps - 1));
  const auto total = static_cast<double>(options_.total_steps);
  const double top = options_.pct_start * total - 1, way_down = total - 1 - top;
  const double lr = now < top ? between(first, max_lr_, now / top)
                              : between(max_lr_, last, way_down > 0 ? (now - top) / way_down : 0);
  return std::vector<double>(base_lrs().size(), lr);
}

ReduceLROnPlateau::ReduceLROnPlateau(Optimizer& optimizer, ReduceLROnPlateauOptions options)
    : optimizer_(optimizer),
      options_(options),
      best_(options.lower_is_better ? std::numeric_limits<double>::infinity()
                                    : -std::numeric_limits<double>::infinity()) {
  check<ValueError>(options.factor < 1, "ReduceLROnPlateau: factor must be below 1, not ", options.factor);
}

bool ReduceLROnPlateau::improves(double metric) const {
  return options_.lower_is_better ? metric < best_ * (1 - options_.threshold)
                                  : metric > best_ * (1 + options_.threshold);
}

void ReduceLROnPlateau::step(double metric) {
  if (improves(metric)) {
    best_ = metric;
    bad_epochs_ = 0;
  } else {
    ++bad_epochs_;
  }
  if (cooling_ > 0) {
    --cooling_;
    bad_epochs_ = 0;
  }
  if (bad_epochs_ <= options_.patience) return;
  for (OptimizerParamGroup& group : optimizer_.param_groups()) {
    const double old = group.options().get_lr(), reduced = std::max(old * options_.factor, options_.min_lr);
    if (old - reduced > options_.eps) group.options().set_lr(reduced);
  }
  cooling_ = options_.cooldown;
  bad_epochs_ = 0;
}

}  // namespace halftone::optim
