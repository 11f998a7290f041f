// What the tests of the gradient scaler share: optimizers, a net, and a run with the scaler beside one without.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "amp/amp.h"
#include "autograd/engine.h"
#include "autograd/ops.h"
#include "core/random.h"
#include "core/serialize.h"
#include "optim/optim.h"
#include "tests/catch.h"
#include "tests/devices.h"

namespace halftone::test {

using amp::GradScaler;
using amp::GradScalerOptions;

inline const float kInf = std::numeric_limits<float>::infinity();

inline GradScaler scaler_of(double init_scale, std::int64_t growth_interval = 1) {
  return GradScaler(kind(), {.init_scale = init_scale, .growth_interval = growth_interval});
}

inline GradScaler scenario_scaler(bool enabled = true) {
  return GradScaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = enabled});
}

inline Tensor parameter(double value = 1, Dtype dtype = kFloat32) { return full({3}, value, dtype).requires_grad_(); }

inline double first(const Tensor& t) { return t.detach().reshape({-1})[0].item<double>(); }

// Plain descent as a user writes it, without any part in scaling.
struct PlainOptions : optim::OptimizerCloneableOptions<PlainOptions> {
  PlainOptions(double rate) : lr(rate) {}  // NOLINT
  double get_lr() const override { return lr; }
  void set_lr(double value) override { lr = value; }
  template <class Visit> void visit_fields(Visit visit) { visit("lr", lr); }
  double lr;
};
struct PlainDescent : optim::Optimizer {
  explicit PlainDescent(std::vector<Tensor> params, double lr = 1)
      : Optimizer(std::move(params), std::make_unique<PlainOptions>(lr)) {}
  Tensor step(LossClosure closure = nullptr) override {
    compute_loss(closure);
    const NoGradGuard no_grad;
    for (const Tensor& p : param_groups_[0].params()) {
      if (p.grad().defined()) p.sub_(p.grad(), param_groups_[0].options().get_lr());
    }
    return scalar_tensor(42.0);
  }
};

// Keeps an optimizer's part in scaling from the scaler: it divides the gradients itself, and waits to know whether to
// step.
struct Ordinary : optim::Optimizer {
  explicit Ordinary(std::unique_ptr<optim::Optimizer> optimizer)
      : Optimizer(optimizer->param_groups()[0].params(), std::make_unique<PlainOptions>(1)),
        inner(std::move(optimizer)) {}
  Tensor step(LossClosure closure = nullptr) override { return inner->step(std::move(closure)); }
  std::unique_ptr<optim::Optimizer> inner;
};

// ------------------------------------------------------------------------------------------------ scenarios

// Two layers with a copy, so that a run with the scaler is compared with one that skips the same step by hand.
struct Net {
  Tensor w1, b1, w2, b2;

  static Net make(Device device = get_default_device()) {
    manual_seed(54);
    const auto leaf = [&](IntArrayRef sizes) { return ((rand(sizes) - 0.5) / 2).to(device).requires_grad_(); };
    return {leaf({8, 8}), leaf(8), leaf({8, 8}), leaf(8)};
  }
  Tensor forward(const Tensor& x) const { return linear(linear(x, w1, b1), w2, b2); }
  std::vector<Tensor> params() const { return {w1, b1, w2, b2}; }
};

inline std::unique_ptr<optim::Optimizer> optimizer_of(const std::string& kind, const std::vector<Tensor>& params) {
  if (kind == "SGD") return std::make_unique<optim::SGD>(params, 1.0);
  if (kind == "SGD with momentum") return std::make_unique<optim::SGD>(params, optim::SGDOptions(0.1).momentum(0.9));
  if (kind == "SGD with dampening") {
    return std::make_unique<optim::SGD>(params, optim::SGDOptions(0.1).momentum(0.9).dampening(0.5));
  }
  const bool amsgrad = kind.ends_with("amsgrad");
  if (kind.starts_with("AdamW")) {
    return std::make_unique<optim::AdamW>(params, optim::AdamWOptions(0.01).amsgrad(amsgrad));
  }
  if (kind.starts_with("Adam")) {
    return std::make_unique<optim::Adam>(params, optim::AdamOptions(0.01).amsgrad(amsgrad));
  }
  return std::make_unique<PlainDescent>(params);
}

inline constexpr int kBatches = 4, kSkipped = 2;
inline constexpr double kFinalScale = 128 * 8 * 0.5;  // of a run with a skipped batch
inline constexpr double kTolerance = 1e-7;            // PyTorch's; a scale that is a power of two rounds nothing

struct Scenario {
  std::string optimizer = "SGD";
  bool enabled = true;
  int skipped = kSkipped;  // the batch in which an inf is planted
  // From the scaled loss to the step; the inf is planted by `spoil` after backward.
  std::function<void(const Net&, optim::Optimizer&, GradScaler&, const std::function<void()>& spoil,
                     const Tensor& loss)>
      scaled_step;
  // What is done to the control's gradients before its step.
  std::function<void(const Net&)> prepare_control = [](const Net&) {};
  std::function<void(GradScaler&)> between = [](GradScaler&) {};
  bool autocast = false;
  double tolerance = kTolerance;
};

inline void plain_step(const Net&, optim::Optimizer& optimizer, GradScaler& scaler, const std::function<void()>& spoil,
                       const Tensor& loss) {
  scaler.scale(loss).backward();
  spoil();
  scaler.step(optimizer);
  scaler.update();
}

inline void unscaled_step(const Net&, optim::Optimizer& optimizer, GradScaler& scaler,
                          const std::function<void()>& spoil, const Tensor& loss) {
  scaler.scale(loss).backward();
  spoil();
  scaler.unscale_(optimizer);
  scaler.step(optimizer);
  scaler.update();
}

inline void check_close(const Tensor& a, const Tensor& b, double tolerance) {
  CHECK(a.allclose(b, tolerance, tolerance));
  CHECK(a.dtype() == b.dtype());
}

inline void check_nets_agree(const Net& control, const Net& scaled, double tolerance) {
  for (std::size_t i = 0; i < 4; ++i) check_close(control.params()[i], scaled.params()[i], tolerance);
}

inline void check_gradients_agree(const Net& control, const Net& scaled, double tolerance) {
  for (std::size_t i = 0; i < 4; ++i) check_close(control.params()[i].grad(), scaled.params()[i].grad(), tolerance);
}

inline void check_states_agree(const optim::Optimizer& control, const optim::Optimizer& scaled, double tolerance) {
  const StateDict a = control.state_dict(), b = scaled.state_dict();
  CHECK(a.values == b.values);  // options, and how many steps were taken
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (const auto& [key, tensor] : a.tensors) {
    INFO(key);
    check_close(tensor, b.tensors.at(key), tolerance);
  }
}

// A net that plain descent trains, and its copy for descent with a scaler.
struct Twins {
  explicit Twins(double lr, Device device = get_default_device())
      : control(Net::make(device)), net(Net::make(device)), control_sgd(control.params(), lr), sgd(net.params(), lr) {}
  void check_gradients() const { check_gradients_agree(control, net, kTolerance); }
  void check_parameters() const { check_nets_agree(control, net, kTolerance); }
  void zero_grad() { control_sgd.zero_grad(), sgd.zero_grad(); }

  Net control, net;
  optim::SGD control_sgd, sgd;
};

inline void run(const Scenario& s) {
  INFO(s.optimizer << (s.enabled ? "" : ", disabled"));
  const Net control = Net::make(), net = Net::make();
  const auto control_optimizer = optimizer_of(s.optimizer, control.params()),
             optimizer = optimizer_of(s.optimizer, net.params());
  GradScaler scaler = scenario_scaler(s.enabled);
  for (int batch = 0; batch < kBatches; ++batch) {
    const Tensor x = rand({8, 8}), y = rand({8, 8});
    const Tensor control_loss = mse_loss(control.forward(x), y);
    control_loss.backward();
    s.prepare_control(control);
    const bool skip = s.enabled && batch == s.skipped;
    if (!skip) control_optimizer->step();

    Tensor loss;
    {
      const amp::autocast region(kind(), kFloat16, s.autocast);
      loss = mse_loss(net.forward(x), y);
    }
    check_close(control_loss.detach(), loss.detach(), s.tolerance);
    const auto spoil = [&] {
      if (skip) net.w2.grad()[3][3].fill_(kInf);
    };
    s.scaled_step(net, *optimizer, scaler, spoil, loss);
    if (!skip) check_gradients_agree(control, net, s.tolerance);
    control_optimizer->zero_grad(), optimizer->zero_grad();
    s.between(scaler);
  }
  check_nets_agree(control, net, s.tolerance);
  check_states_agree(*control_optimizer, *optimizer, s.tolerance);
  CHECK(scaler.get_scale() == (s.enabled ? kFinalScale : 1.0));
}

inline void run_enabled_and_not(Scenario s) {
  for (const bool enabled : {true, false}) {
    s.enabled = enabled;
    run(s);
  }
}

// In a float16 region against float32, with the scaler as it is and saved and restored after every batch.
inline void run_in_region(const char* optimizer, decltype(Scenario::scaled_step) step, double tolerance) {
  Scenario s{.optimizer = optimizer, .scaled_step = std::move(step)};
  s.autocast = true;
  s.tolerance = tolerance;
  run_enabled_and_not(s);
  s.between = [](GradScaler& scaler) {
    std::stringstream file;
    save(scaler, file);
    const std::int64_t interval = scaler.get_growth_interval();
    scaler = GradScaler(kind(), {.init_scale = 77, .growth_interval = 99, .enabled = scaler.is_enabled()});
    load(scaler, file);
    if (scaler.is_enabled()) CHECK(scaler.get_growth_interval() == interval);
  };
  run_enabled_and_not(s);
}

// SGD's steps are as near as its gradients. Adam's are of the size of lr whatever the gradient, so a small one whose
// sign is uncertain moves its parameter to either side.
inline constexpr double kNearSgd = 1e-3, kNearAdam = 0.1;

inline const char* const kOptimizers[] = {"SGD",  "SGD with momentum",  "SGD with dampening",
                                          "Adam", "AdamW with amsgrad", "plain"};

}  // namespace halftone::test
