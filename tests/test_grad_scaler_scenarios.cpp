// PyTorch's scenarios of training with a gradient scaler, under their names: each beside a run without one.
#include "tests/scaler_scenarios.h"

using namespace halftone;
using namespace halftone::test;

TEST_CASE("a scaled run equals a plain one that skips the same step, for every optimizer", "[amp][scaler]") {
  for (const char* const optimizer : kOptimizers) {
    for (const int skipped : {0, 1, 3}) {
      Scenario s{.optimizer = optimizer, .skipped = skipped, .scaled_step = plain_step};
      run_enabled_and_not(s);
    }
  }
}

TEST_CASE("test_grad_scaling_autocast_fused_optimizers: the step that divides is equal to one that does not",
          "[amp][scaler]") {
  const std::string adam = GENERATE("Adam", "Adam with amsgrad", "AdamW", "AdamW with amsgrad");
  const bool separate_unscale = GENERATE(false, true);
  INFO(adam << (separate_unscale ? " with" : " without") << " unscale_");
  const Net control = Net::make(), net = Net::make();
  Ordinary ordinary(optimizer_of(adam, control.params()));
  const auto fused = optimizer_of(adam, net.params());
  GradScaler control_scaler = scenario_scaler(), scaler = scenario_scaler();
  for (int batch = 0; batch < kBatches; ++batch) {
    const Tensor x = rand({8, 8}), y = rand({8, 8});
    const bool skip = batch == kSkipped;
    const auto train = [&](const Net& trained, optim::Optimizer& o, GradScaler& s) {
      Tensor loss;
      {
        const amp::autocast region(kind(), kFloat16);
        loss = mse_loss(trained.forward(x), y);
      }
      s.scale(loss).backward();
      if (skip) trained.w2.grad()[3][3].fill_(kInf);
      if (separate_unscale) s.unscale_(o);
      CHECK(s.step(o).found_inf() == skip);
      s.update();
      return loss.detach();
    };
    check_close(train(control, ordinary, control_scaler), train(net, *fused, scaler), kTolerance);
    if (!skip) check_gradients_agree(control, net, kTolerance);
    ordinary.zero_grad(), fused->zero_grad();
  }
  check_nets_agree(control, net, kTolerance);
  check_states_agree(*ordinary.inner, *fused, kTolerance);
  CHECK(control_scaler.get_scale() == kFinalScale);
  CHECK(scaler.get_scale() == kFinalScale);
}

TEST_CASE("gradients are divided when unscale_ returns, and the run is the same, for every optimizer",
          "[amp][scaler]") {
  for (const char* const optimizer : kOptimizers) {
    Scenario s;
    s.optimizer = optimizer;
    s.scaled_step = [](const Net& net, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                       const Tensor& loss) {
      scaler.scale(loss).backward();
      const Tensor before = net.w1.grad().clone();
      const double scale = scaler.get_scale();
      spoil();
      scaler.unscale_(o);
      CHECK(net.w1.grad().allclose(before / scale));
      scaler.step(o);
      scaler.update();
    };
    run_enabled_and_not(s);
  }
}

TEST_CASE("test_grad_scaling_autocast: a float16 region against float32", "[amp][scaler]") {
  run_in_region("plain", plain_step, kNearSgd);  // the scaler divides, and waits
}

TEST_CASE("test_grad_scaling_autocast_foreach: the division is a pass of its own", "[amp][scaler]") {
  run_in_region("SGD", unscaled_step, kNearSgd);
  for (const char* const adam : {"Adam", "AdamW"}) run_in_region(adam, unscaled_step, kNearAdam);
}

TEST_CASE("test_grad_scaling_autocast_fused: the step divides", "[amp][scaler]") {
  run_in_region("SGD", plain_step, kNearSgd);
  for (const char* const adam : {"Adam", "AdamW"}) run_in_region(adam, plain_step, kNearAdam);
}

TEST_CASE("test_grad_scaling_clipping: scaled gradients are clipped at the limit times the scale", "[amp][scaler]") {
  Scenario s;
  s.tolerance = 1e-5;
  s.prepare_control = [](const Net& net) { nn::utils::clip_grad_norm_(net.params(), 0.2); };
  s.scaled_step = [](const Net& net, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                     const Tensor& loss) {
    scaler.scale(loss).backward();
    nn::utils::clip_grad_norm_(net.params(), 0.2 * scaler.get_scale());
    spoil();
    scaler.step(o);
    scaler.update();
  };
  run_enabled_and_not(s);
}

TEST_CASE("test_grad_scaling_clipping_separate_unscale: unscale_, then the true limit", "[amp][scaler]") {
  Scenario s;
  s.tolerance = 1e-5;
  s.prepare_control = [](const Net& net) { nn::utils::clip_grad_norm_(net.params(), 0.2); };
  s.scaled_step = [](const Net& net, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                     const Tensor& loss) {
    scaler.scale(loss).backward();
    spoil();
    scaler.unscale_(o);
    nn::utils::clip_grad_norm_(net.params(), 0.2);
    scaler.step(o);
    scaler.update();
  };
  run_enabled_and_not(s);
  s.scaled_step = [](const Net&, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                     const Tensor& loss) {
    scaler.scale(loss).backward();
    spoil();
    scaler.clip_grad_norm_(o, 0.2);
    scaler.step(o);
    scaler.update();
  };
  run_enabled_and_not(s);
}

TEST_CASE("test_grad_scaling_penalty: a penalty on gradients, with double backward", "[amp][scaler]") {
  const auto penalty_loss = [](const Net& net, const Tensor& loss, double scale) {
    const std::vector<Tensor> grads = autograd::grad({loss * scale}, net.params(), {}, nullopt, /*create_graph=*/true);
    Tensor norm = zeros({});
    for (const Tensor& g : grads) norm = norm + (g * (1 / scale)).pow(2).sum();
    return loss + norm.sqrt();
  };
  for (const bool enabled : {true, false}) {
    Twins twins(0.1);
    GradScaler scaler = scenario_scaler(enabled);
    for (int batch = 0; batch < kBatches; ++batch) {
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      const bool skip = enabled && batch == kSkipped;
      penalty_loss(twins.control, mse_loss(twins.control.forward(x), y), 1).backward();
      if (!skip) twins.control_sgd.step();
      scaler.scale(penalty_loss(twins.net, mse_loss(twins.net.forward(x), y), scaler.get_scale())).backward();
      if (skip) twins.net.w2.grad()[0][0].fill_(kInf);
      scaler.step(twins.sgd);
      scaler.update();
      if (!skip) twins.check_gradients();
      twins.zero_grad();
    }
    twins.check_parameters();
    CHECK(scaler.get_scale() == (enabled ? kFinalScale : 1.0));
  }
}

TEST_CASE("test_grad_scaling_accumulation: two micro-batches a step, one update", "[amp][scaler]") {
  for (const bool enabled : {true, false}) {
    Twins twins(1.0);
    GradScaler scaler = scenario_scaler(enabled);
    for (int batch = 0; batch < kBatches; ++batch) {
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      (mse_loss(twins.control.forward(x), y) / 2).backward();
      scaler.scale(mse_loss(twins.net.forward(x), y) / 2).backward();
      if (batch % 2 == 0) continue;
      twins.control_sgd.step();
      scaler.step(twins.sgd);
      scaler.update();
      twins.check_gradients();
      twins.zero_grad();
    }
    twins.check_parameters();
    CHECK(scaler.get_scale() == (enabled ? 128 * 4 : 1));
  }
}

TEST_CASE("test_grad_scaling_multiple: two optimizers share a scale, and skip each for itself", "[amp][scaler]") {
  const bool enabled = GENERATE(true, false);
  for (const Device other : {get_default_device(), another_device()}) {  // test_grad_scaling_multigpu
    Twins here(1.0), there(1.0, other);
    GradScaler scaler = scenario_scaler(enabled);
    for (int batch = 0; batch < kBatches; ++batch) {
      const bool skip = enabled && batch == kSkipped;
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      const auto losses = [&](const Net& a, const Net& b) {
        const Tensor out0 = a.forward(x), out1 = b.forward(x.to(other)).to(get_default_device());
        return std::pair{mse_loss(out0 * 0.3 + out1 * 0.7, y), mse_loss(out0 * 0.6 - out1 * 0.4, y)};
      };
      const auto [a0, a1] = losses(here.control, there.control);
      a0.backward({}, true);
      a1.backward();
      here.control_sgd.step();
      if (!skip) there.control_sgd.step();

      const auto [b0, b1] = losses(here.net, there.net);
      scaler.scale(b0).backward({}, true);
      scaler.scale(b1).backward();
      if (skip) there.net.w2.grad()[2][2].fill_(kInf);
      scaler.unscale_(here.sgd);
      CHECK(scaler.step(here.sgd).stepped());
      CHECK(scaler.step(there.sgd).found_inf() == skip);
      scaler.update();
      here.check_gradients();
      if (!skip) there.check_gradients();
      here.zero_grad(), there.zero_grad();
    }
    here.check_parameters();
    there.check_parameters();
    CHECK(scaler.get_scale() == (enabled ? kFinalScale : 1.0));
  }
}

TEST_CASE("test_params_invalidated_with_grads_invalidated_between_unscale_and_step: what comes later is applied",
          "[amp][scaler]") {
  for (const char* const kind : kOptimizers) {
    for (const double bad : {static_cast<double>(kInf), std::nan("")}) {
      const Tensor p = parameter();
      const auto optimizer = optimizer_of(kind, {p});
      GradScaler scaler = scaler_of(128);
      scaler.scale(p.sum()).backward();
      scaler.unscale_(*optimizer);
      p.grad().fill_(bad);
      CHECK(scaler.step(*optimizer).stepped());
      CHECK(!isfinite(p).any().item<bool>());
    }
  }
}
