// Schedules against PyTorch's: rows of tests/golden/schedulers.inc give the rates of two groups over the epochs.
#include <cmath>

#include "autograd/ops.h"
#include "optim/optim.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::optim;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Schedule {
  std::string name;
  std::vector<double> lrs;  // of group 0 and 1 at epoch 0, then at epoch 1, ...
};

const std::vector<Schedule> kSchedules = {
#include "tests/golden/schedulers.inc"
};

std::unique_ptr<SGD> two_groups() {
  std::vector<OptimizerParamGroup> groups;
  groups.emplace_back(std::vector{zeros({1}).requires_grad_()}, std::make_unique<SGDOptions>(0.4));
  groups.emplace_back(std::vector{zeros({1}).requires_grad_()}, std::make_unique<SGDOptions>(0.05));
  return std::make_unique<SGD>(std::move(groups), SGDOptions());
}

double lr(const Optimizer& optimizer, std::size_t group = 0) {
  return optimizer.param_groups()[group].options().get_lr();
}

std::unique_ptr<LRScheduler> make(const std::string& name, Optimizer& o) {
  if (name == "step") return std::make_unique<StepLR>(o, 7, 0.5);
  if (name == "multi step") return std::make_unique<MultiStepLR>(o, std::vector<std::int64_t>{3, 9, 9, 20}, 0.3);
  if (name == "exponential") return std::make_unique<ExponentialLR>(o, 0.9);
  if (name == "cosine") return std::make_unique<CosineAnnealingLR>(o, 10, 0.01);
  if (name == "cosine to zero") return std::make_unique<CosineAnnealingLR>(o, 4);
  if (name == "linear") return std::make_unique<LinearLR>(o, 0.25, 0.75, 8);
  if (name == "linear by default") return std::make_unique<LinearLR>(o);
  if (name == "lambda") return std::make_unique<LambdaLR>(o, [](std::int64_t e) { return std::pow(0.95, e); });
  if (name == "one cycle") return std::make_unique<OneCycleLR>(o, 0.8, 26);
  if (name == "one linear cycle") {
    return std::make_unique<OneCycleLR>(
        o, 0.8,
        OneCycleLROptions{
            .total_steps = 20, .pct_start = 0.4, .cosine = false, .div_factor = 10, .final_div_factor = 100});
  }
  const std::vector<LambdaLR::Lambda> lambdas = {[](std::int64_t e) { return 1.0 / static_cast<double>(1 + e); },
                                                 [](std::int64_t e) { return static_cast<double>(1 + e); }};
  return std::make_unique<LambdaLR>(o, lambdas);
}

}  // namespace

TEST_CASE("schedules give PyTorch's rates", "[optim][schedulers]") {
  for (const Schedule& row : kSchedules) {
    INFO(row.name);
    const auto optimizer = two_groups();
    const auto scheduler = make(row.name, *optimizer);
    for (std::size_t i = 0; i < row.lrs.size(); i += 2) {
      if (i > 0) scheduler->step();
      INFO("epoch " << i / 2);
      CHECK(std::abs(lr(*optimizer, 0) - row.lrs[i]) <= 1e-12);
      CHECK(std::abs(lr(*optimizer, 1) - row.lrs[i + 1]) <= 1e-12);
      CHECK(scheduler->get_last_lr() == std::vector{lr(*optimizer, 0), lr(*optimizer, 1)});
    }
  }
}

TEST_CASE("a schedule goes on where its saved state stood", "[optim][schedulers]") {
  for (const Schedule& row : kSchedules) {
    INFO(row.name);
    const auto optimizer = two_groups(), other = two_groups();
    const auto scheduler = make(row.name, *optimizer), restored = make(row.name, *other);
    for (int epoch = 0; epoch < 9; ++epoch) scheduler->step();
    restored->load_state_dict(scheduler->state_dict());
    other->load_state_dict(optimizer->state_dict());
    for (int epoch = 0; epoch < 9; ++epoch) {
      scheduler->step();
      restored->step();
      CHECK(lr(*other) == lr(*optimizer));
    }
  }
}

TEST_CASE("schedules that multiply combine", "[optim][schedulers]") {
  const auto optimizer = two_groups();
  ExponentialLR fall(*optimizer, 0.5);
  StepLR drop(*optimizer, 2, 0.1);
  for (int epoch = 0; epoch < 2; ++epoch) fall.step(), drop.step();
  CHECK(lr(*optimizer) == Catch::Approx(0.4 * 0.25 * 0.1));
}

TEST_CASE("a user's schedule overrides get_lrs", "[optim][schedulers]") {
  struct Countdown : LRScheduler {
    using LRScheduler::LRScheduler;
    std::vector<double> get_lrs() override {
      return std::vector<double>(base_lrs().size(), 1 / static_cast<double>(step_count_));
    }
  };
  const auto optimizer = two_groups();
  Countdown countdown(*optimizer);
  countdown.step();
  CHECK(lr(*optimizer) == 1);
  countdown.step();
  CHECK(lr(*optimizer, 1) == 0.5);
}

TEST_CASE("ReduceLROnPlateau waits for its patience, then reduces", "[optim][schedulers]") {
  struct Row {
    double metric, lr;
  };
  const auto optimizer = two_groups();
  ReduceLROnPlateau plateau(*optimizer, {.factor = 0.5, .patience = 1, .cooldown = 1, .min_lr = 0.1});
  for (const Row& row : {Row{1, 0.4}, Row{0.9, 0.4}, Row{0.9, 0.4}, Row{0.95, 0.2}, Row{2, 0.2}, Row{2, 0.2},
                         Row{2, 0.1}, Row{2, 0.1}, Row{2, 0.1}, Row{0.1, 0.1}, Row{2, 0.1}, Row{2, 0.1}}) {
    plateau.step(row.metric);
    CHECK(lr(*optimizer) == Catch::Approx(row.lr));
  }
  ReduceLROnPlateau accuracy(*optimizer, {.lower_is_better = false, .factor = 0.5, .patience = 0});
  accuracy.step(0.5), accuracy.step(0.6);
  CHECK(lr(*optimizer) == Catch::Approx(0.1));
  accuracy.step(0.55);
  CHECK(lr(*optimizer) == Catch::Approx(0.05));
}

TEST_CASE("a cosine schedule knows no rate of a group that was added later", "[optim][schedulers]") {
  const auto optimizer = two_groups();
  CosineAnnealingLR schedule(*optimizer, 1);
  schedule.step();  // the bottom
  optimizer->add_param_group(OptimizerParamGroup(std::vector{ones({1}).requires_grad_()}));
  CHECK_THROWS_WITH(schedule.step(), ContainsSubstring("made for 2 parameter groups gives 2 rates, but its optimizer "
                                                       "has 3 groups"));
}

TEST_CASE("schedules refuse settings that make no sense", "[optim][schedulers]") {
  const auto optimizer = two_groups();
  Optimizer& o = *optimizer;
  CHECK_THROWS_WITH(StepLR(o, 0), ContainsSubstring("step_size must be positive, not 0"));
  CHECK_THROWS_WITH(CosineAnnealingLR(o, 0), ContainsSubstring("T_max must be positive, not 0"));
  CHECK_THROWS_WITH(LinearLR(o, 0, 1, 5), ContainsSubstring("start_factor must be in (0, 1], not 0"));
  CHECK_THROWS_WITH(LinearLR(o, 0.5, 2, 5), ContainsSubstring("end_factor must be in [0, 1], not 2"));
  CHECK_THROWS_WITH(LambdaLR(o, std::vector<LambdaLR::Lambda>(3)), ContainsSubstring("expected 2 functions"));
  CHECK_THROWS_WITH(OneCycleLR(o, 1, 0), ContainsSubstring("total_steps must be positive"));
  CHECK_THROWS_WITH(ReduceLROnPlateau(o, {.factor = 1}), ContainsSubstring("factor must be below 1"));
  OneCycleLR cycle(o, 1, 3);
  cycle.step(), cycle.step();
  const double last = lr(o);
  cycle.step();
  CHECK(lr(o) == last);
  CHECK_THROWS_WITH(cycle.step(), ContainsSubstring("Tried to step 4 times. The specified number of total steps is 3"));
  for (const double all_way : {0.0, 0.1, 1.0}) {  // no way up, one of no length, and no way down
    OneCycleLR short_one(o, 1, {.total_steps = 10, .pct_start = all_way});
    for (int i = 0; i < 10; ++i) {
      CHECK((lr(o) > 0 && lr(o) <= 1));
      short_one.step();
    }
  }
  ExponentialLR fall(o, 0.5);
  o.add_param_group(std::vector{zeros({1}).requires_grad_()});
  LambdaLR per_group(o, [](std::int64_t) { return 1.0; });
  per_group.step();
  o.add_param_group(std::vector{zeros({1}).requires_grad_()});
  CHECK_THROWS_WITH(per_group.step(), ContainsSubstring("add groups before making schedulers"));
}
