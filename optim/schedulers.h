// Learning-rate schedules with the semantics of PyTorch's Python classes: making a scheduler is epoch 0, every step()
// is the next one. Schedules that multiply change what they find, so that they combine with each other and with
// set_lr().
#pragma once

#include "optim/optimizer.h"

namespace halftone::optim {

/// Base of all schedules: sets the learning rates of an optimizer's groups, which must live as long.
class LRScheduler {
 public:
  explicit LRScheduler(Optimizer& optimizer);
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;
  virtual ~LRScheduler() = default;

  /// Moves on to the next epoch. Leave it out where amp::GradScaler::step() reports a skipped step.
  void step();
  /// The rates set last, one a group.
  std::vector<double> get_last_lr() const { return get_current_lrs(); }

  /// The epoch and the rates it began with; a schedule's settings are the constructor's.
  StateDict state_dict() const;
  void load_state_dict(const StateDict& saved);

 protected:
  /// The rates of epoch step_count_, one a group.
  virtual std::vector<double> get_lrs() = 0;
  std::vector<double> get_current_lrs() const;
  /// The rates of the groups when the scheduler was made.
  const std::vector<double>& base_lrs() const { return base_lrs_; }
  /// Throws unless there are as many groups as rates.
  void check_groups(std::size_t rates) const;
  /// Current rates times a factor.
  std::vector<double> scaled_lrs(double factor) const;
  /// Sets the rates of epoch 0: for constructors of schedules that do not begin at the base rates.
  void begin() { set_lrs(get_lrs()); }

  std::int64_t step_count_ = 0;

 private:
  void set_lrs(const std::vector<double>& lrs);

  Optimizer& optimizer_;
  std::vector<double> base_lrs_;
};

/// Multiplies by gamma every step_size epochs.
class StepLR : public LRScheduler {
 public:
  StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma = 0.1);

 protected:
  std::vector<double> get_lrs() override;

 private:
  std::int64_t step_size_;
  double gamma_;
};

/// Multiplies by gamma at each of the given epochs; one listed twice counts twice.
class MultiStepLR : public LRScheduler {
 public:
  MultiStepLR(Optimizer& optimizer, std::vector<std::int64_t> milestones, double gamma = 0.1);

 protected:
  std::vector<double> get_lrs() override;

 private:
  std::vector<std::int64_t> milestones_;
  double gamma_;
};

/// Multiplies by gamma every epoch.
class ExponentialLR : public LRScheduler {
 public:
  ExponentialLR(Optimizer& optimizer, double gamma);

 protected:
  std::vector<double> get_lrs() override;

 private:
  double gamma_;
};

/// From the base rate to eta_min along half a cosine in t_max epochs, and back in the next ones.
class CosineAnnealingLR : public LRScheduler {
 public:
  CosineAnnealingLR(Optimizer& optimizer, std::int64_t t_max, double eta_min = 0);

 protected:
  std::vector<double> get_lrs() override;

 private:
  std::int64_t t_max_;
  double eta_min_;
};

/// The base rate times a factor that goes linearly from start_factor to end_factor in total_iters epochs.
class LinearLR : public LRScheduler {
 public:
  explicit LinearLR(Optimizer& optimizer, double start_factor = 1.0 / 3, double end_factor = 1,
                    std::int64_t total_iters = 5);

 protected:
  std::vector<double> get_lrs() override;

 private:
  double start_factor_, end_factor_;
  std::int64_t total_iters_;
};

/// The base rate times lambda(epoch); one function for all groups, or one a group.
class LambdaLR : public LRScheduler {
 public:
  using Lambda = std::function<double(std::int64_t)>;
  LambdaLR(Optimizer& optimizer, const Lambda& lambda);
  LambdaLR(Optimizer& optimizer, std::vector<Lambda> lambdas);

 protected:
  std::vector<double> get_lrs() override;

 private:
  std::vector<Lambda> lambdas_;
};

struct OneCycleLROptions {
  std::int64_t total_steps = 0;
  double pct_start = 0.3;         // of the steps, for the way up
  bool cosine = true;             // or linear
  double div_factor = 25;         // the first rate is max_lr / div_factor
  double final_div_factor = 1e4;  // the last rate is the first one / final_div_factor
};

/// One way up to max_lr and one down to almost nothing (Smith and Topin, 2018), stepped after every batch. Cycles the
/// rate, not the momentum.
class OneCycleLR : public LRScheduler {
 public:
  OneCycleLR(Optimizer& optimizer, double max_lr, OneCycleLROptions options);
  OneCycleLR(Optimizer& optimizer, double max_lr, std::int64_t total_steps);

 protected:
  std::vector<double> get_lrs() override;

 private:
  double max_lr_;
  OneCycleLROptions options_;
};

struct ReduceLROnPlateauOptions {
  bool lower_is_better = true;
  double factor = 0.1;
  std::int64_t patience = 10;
  double threshold = 1e-4;  // a change of less, relative to the best value, is no improvement
  std::int64_t cooldown = 0;
  double min_lr = 0;
  double eps = 1e-8;  // a rate that would change by less is left
};

/// Multiplies the rates by a factor when a metric has not improved for longer than `patience` epochs.
class ReduceLROnPlateau {
 public:
  explicit ReduceLROnPlateau(Optimizer& optimizer, ReduceLROnPlateauOptions options = {});
  /// Call once an epoch.
  void step(double metric);

 private:
  bool improves(double metric) const;

  Optimizer& optimizer_;
  ReduceLROnPlateauOptions options_;
  double best_;
  std::int64_t bad_epochs_ = 0, cooling_ = 0;
};

}  // namespace halftone::optim
