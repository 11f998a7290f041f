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

TEST_CASE("test_grad_scaling_autocast_fused_optimizers: explicit unscale_ or not, the run is the same",
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
    const Net control = Net::make(), net = Net::make();
    optim::SGD control_sgd(control.params(), 0.1), sgd(net.params(), 0.1);
    GradScaler scaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = enabled});
    for (int batch = 0; batch < kBatches; ++batch) {
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      const bool skip = enabled && batch == kSkipped;
      penalty_loss(control, mse_loss(control.forward(x), y), 1).backward();
      if (!skip) control_sgd.step();
      scaler.scale(penalty_loss(net, mse_loss(net.forward(x), y), scaler.get_scale())).backward();
      if (skip) net.w2.grad()[0][0].fill_(kInf);
      scaler.step(sgd);
      scaler.update();
      if (!skip) check_gradients_agree(control, net, 1e-5);
      control_sgd.zero_grad(), sgd.zero_grad();
    }
    check_nets_agree(control, net, 1e-5);
    CHECK(scaler.get_scale() == (enabled ? kFinalScale : 1.0));
  }
}

TEST_CASE("test_grad_scaling_accumulation: two micro-batches a step, one update", "[amp][scaler]") {
  for (const bool enabled : {true, false}) {
    const Net control = Net::make(), net = Net::make();
    optim::SGD control_sgd(control.params(), 1.0), sgd(net.params(), 1.0);
    GradScaler scaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = enabled});
    for (int batch = 0; batch < kBatches; ++batch) {
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      (mse_loss(control.forward(x), y) / 2).backward();
      scaler.scale(mse_loss(net.forward(x), y) / 2).backward();
      if (batch % 2 == 0) continue;
      control_sgd.step();
      scaler.step(sgd);
      scaler.update();
      check_gradients_agree(control, net, 1e-6);
      control_sgd.zero_grad(), sgd.zero_grad();
    }
    check_nets_agree(control, net, 1e-6);
    CHECK(scaler.get_scale() == (enabled ? 128 * 4 : 1));
  }
}

TEST_CASE("test_grad_scaling_multiple: two optimizers share a scale, and skip each for itself", "[amp][scaler]") {
  const bool enabled = GENERATE(true, false);
  for (const Device other : {get_default_device(), another_device()}) {  // test_grad_scaling_multigpu
    const Net control0 = Net::make(), control1 = Net::make(other), net0 = Net::make(), net1 = Net::make(other);
    optim::SGD c0(control0.params(), 1.0), c1(control1.params(), 1.0), o0(net0.params(), 1.0), o1(net1.params(), 1.0);
    GradScaler scaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = enabled});
    for (int batch = 0; batch < kBatches; ++batch) {
      const bool skip = enabled && batch == kSkipped;
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      const auto losses = [&](const Net& a, const Net& b) {
        const Tensor out0 = a.forward(x), out1 = b.forward(x.to(other)).to(get_default_device());
        return std::pair{mse_loss(out0 * 0.3 + out1 * 0.7, y), mse_loss(out0 * 0.6 - out1 * 0.4, y)};
      };
      const auto [a0, a1] = losses(control0, control1);
      a0.backward({}, true);
      a1.backward();
      c0.step();
      if (!skip) c1.step();

      const auto [b0, b1] = losses(net0, net1);
      scaler.scale(b0).backward({}, true);
      scaler.scale(b1).backward();
      if (skip) net1.w2.grad()[2][2].fill_(kInf);
      scaler.unscale_(o0);
      CHECK(scaler.step(o0).stepped());
      CHECK(scaler.step(o1).found_inf() == skip);
      scaler.update();
      check_gradients_agree(control0, net0, 1e-6);
      if (!skip) check_gradients_agree(control1, net1, 1e-6);
      c0.zero_grad(), c1.zero_grad(), o0.zero_grad(), o1.zero_grad();
    }
    check_nets_agree(control0, net0, 1e-6);
    check_nets_agree(control1, net1, 1e-6);
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
