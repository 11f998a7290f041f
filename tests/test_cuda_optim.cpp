// Optimizers whose parameters move between devices, and whose steps are part of a captured graph.
#include "halftone.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;
using namespace halftone::optim;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr double kLr = 1e-3;

// Two parameters that go through the same steps.
struct Pair {
  Tensor a, b;
  std::unique_ptr<ScaledOptimizer> optimizer;

  Pair(bool adam, Device device, Dtype dtype = kFloat32)
      : a(full({3}, 1.0, TensorOptions(dtype).device(device)).requires_grad_()),
        b(full({2}, 2.0, TensorOptions(dtype).device(device)).requires_grad_()) {
    const bool master = dtype != kFloat32;
    if (adam) {
      optimizer = std::make_unique<Adam>(std::vector{a, b}, AdamOptions(kLr).capturable(true).master_weights(master));
    } else {
      optimizer = std::make_unique<SGD>(std::vector{a, b}, SGDOptions(kLr).momentum(0.9).master_weights(master));
    }
  }
  void set_gradients(bool both = true) const {
    a.mutable_grad() = full({3}, 0.5, a.options());
    b.mutable_grad() = both ? full({2}, 0.25, b.options()) : Tensor();
  }
  void step(bool both = true) const {
    set_gradients(both);
    optimizer->step();
  }
  void move(Device device) const {
    a.set_data(a.to(device));
    b.set_data(b.to(device));
  }
};

Tensor flag(Device device) { return zeros({}, TensorOptions(kFloat32).device(device)); }

}  // namespace

TEST_CASE("an optimizer goes on where its parameters move to another device", "[cuda][optim]") {
  need_gpus(1);
  const bool adam = GENERATE(false, true);
  const Dtype dtype = GENERATE(kFloat32, kBFloat16);
  INFO((adam ? "Adam " : "SGD ") << dtype);
  const Pair stays(adam, kCPU, dtype), moves(adam, Device(kCUDA, 0), dtype);
  const Device way[] = {Device(kCUDA, 0), kCPU, Device(kCUDA, cuda::device_count() > 1 ? 1 : 0), Device(kCUDA, 0)};
  for (const Device device : way) {
    moves.move(device);
    for (int i = 0; i < 2; ++i) {
      stays.set_gradients();
      moves.set_gradients();
      stays.optimizer->step_scaled({{}, flag(kCPU)});
      moves.optimizer->step_scaled({{}, flag(device)});
      CHECK(allclose(moves.a.cpu(), stays.a, 1e-5, 1e-6));
      CHECK(allclose(moves.b.cpu(), stays.b, 1e-5, 1e-6));
    }
  }
}

TEST_CASE("a captured step goes on with state that is loaded", "[cuda][optim][graph]") {
  need_gpus(1);
  const bool adam = GENERATE(false, true);
  const Dtype dtype = GENERATE(kFloat32, kBFloat16);
  INFO((adam ? "Adam " : "SGD ") << dtype);
  const Device device(kCUDA, 0);
  const Pair eager(adam, device, dtype), captured(adam, device, dtype), other(adam, device, dtype);
  for (int i = 0; i < 3; ++i) other.step();
  for (const Pair* pair : {&eager, &captured}) pair->step(), pair->step(), pair->set_gradients();
  cuda::Graph graph(device);
  graph.capture([&] { captured.optimizer->step(); });
  graph.replay();
  for (const Pair* pair : {&eager, &captured}) {
    const NoGradGuard plain;
    pair->a.copy_(other.a);
    pair->b.copy_(other.b);
    pair->optimizer->load_state_dict(other.optimizer->state_dict());
  }
  for (int i = 0; i < 3; ++i) {
    eager.step();
    graph.replay();
    CHECK(allclose(captured.a, eager.a, 1e-6, 1e-7));
    CHECK(allclose(captured.b, eager.b, 1e-6, 1e-7));
  }
  const StateDict a = eager.optimizer->state_dict(), b = captured.optimizer->state_dict();
  if (adam) CHECK(a.get<std::int64_t>("state.0.step") == b.get<std::int64_t>("state.0.step"));
  for (const auto& [key, tensor] : a.tensors) CHECK(allclose(b.tensor(key), tensor, 1e-5, 1e-7));
}

TEST_CASE("what a captured step would make anew at every replay is refused", "[cuda][optim][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  cuda::Graph graph(device);
  const Tensor p = ones({2}, TensorOptions(kBFloat16).device(device)).requires_grad_();
  p.mutable_grad() = ones({2}, p.options());
  SGD sgd({p}, SGDOptions(kLr).master_weights(true));
  const auto capture = [&](ScaledOptimizer& optimizer) { graph.capture([&] { optimizer.step(); }); };
  CHECK_THROWS_WITH(capture(sgd), ContainsSubstring("the float32 copy of bfloat16[2] on cuda:0 would start anew"));
  sgd.step();
  CHECK_NOTHROW(capture(sgd));

  const Pair pair(true, device);
  pair.step();
  pair.set_gradients(/*both=*/false);
  CHECK_THROWS_WITH(capture(*pair.optimizer), ContainsSubstring("take a step without them before the capture"));
  pair.step(/*both=*/false);
  CHECK_NOTHROW(capture(*pair.optimizer));
}

TEST_CASE("master weights follow what a captured body writes to the parameters", "[cuda][optim][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const auto train = [&](bool captured) {
    const Tensor p = tensor({1.0, 0.25}, TensorOptions(kBFloat16).device(device)).requires_grad_();
    p.mutable_grad() = ones({2}, p.options());
    SGD optimizer({p}, SGDOptions(kLr).master_weights(true));
    const auto body = [&] {
      optimizer.step();
      const NoGradGuard plain;
      p.clamp_(-0.5, 0.5);
    };
    body();
    cuda::Graph graph(device);
    if (captured) graph.capture(body);
    for (int i = 0; i < 20; ++i) captured ? graph.replay() : body();
    return std::pair(p.detach().cpu(), optimizer.state_dict().tensor("state.0.master").cpu());
  };
  const auto [eager, eager_master] = train(false);
  const auto [replayed, replayed_master] = train(true);
  CHECK(equal(replayed, eager));
  CHECK(equal(replayed_master, eager_master));
  CHECK(eager_master[1].item<double>() == Catch::Approx(0.25 - 21 * kLr));  // steps that bfloat16 would lose
}

TEST_CASE("state that a captured step counts as one is loaded as one", "[cuda][optim][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const Pair captured(true, device), other(true, device);
  captured.step();
  captured.set_gradients();
  cuda::Graph graph(device);
  graph.capture([&] { captured.optimizer->step(); });
  other.step(/*both=*/false);
  other.step();
  const Tensor before = captured.optimizer->state_dict().tensor("state.0.exp_avg").clone();
  CHECK_THROWS_WITH(
      captured.optimizer->load_state_dict(other.optimizer->state_dict()),
      ContainsSubstring("load_state_dict: parameters that a captured step counts as one were saved after "));
  CHECK(equal(captured.optimizer->state_dict().tensor("state.0.exp_avg"), before));
}

TEST_CASE("a scaler's update leaves out what was given up in a capture", "[cuda][amp][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const Pair a(true, device), b(true, device);
  amp::GradScaler scaler(kCUDA);
  scaler.scale(a.a.sum());
  const auto step = [&](const Pair& pair) {
    pair.set_gradients();
    scaler.step(*pair.optimizer);
  };
  step(a), step(b);
  scaler.update();
  cuda::Graph graph(device);
  CHECK_THROWS_WITH(graph.capture([&] {
    step(b);
    fail("given up");
  }),
                    "given up");
  step(a);
  scaler.update();
  CHECK(scaler.skipped_steps() == 0);
  CHECK(scaler.get_growth_tracker() == 2);
}

TEST_CASE("a scaler's calls of an iteration are captured together or not at all", "[cuda][amp][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const Pair pair(true, device);
  amp::GradScaler scaler(kCUDA);
  scaler.scale(pair.a.sum());
  const auto iterate = [&] {
    pair.set_gradients();
    scaler.unscale_(*pair.optimizer);
    scaler.step(*pair.optimizer);
    scaler.update();
  };
  iterate();
  const auto message = ContainsSubstring("unscale_() and step() must be captured in one cuda::Graph, or both not");
  cuda::Graph graph(device);
  pair.set_gradients();
  scaler.unscale_(*pair.optimizer);
  CHECK_THROWS_WITH(graph.capture([&] { scaler.step(*pair.optimizer); }), message);
  scaler.update();
  pair.set_gradients();
  graph.capture([&] { scaler.unscale_(*pair.optimizer); });
  graph.replay();
  CHECK_THROWS_WITH(scaler.step(*pair.optimizer), message);
}

TEST_CASE("a scaler goes on after a capture that failed", "[cuda][amp][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const Pair pair(true, device);
  amp::GradScaler scaler(kCUDA);
  const auto step = [&] {
    pair.set_gradients();
    scaler.scale(pair.a.sum());
    scaler.step(*pair.optimizer);
  };
  step();
  scaler.update();
  cuda::Graph graph(device);
  const auto half_of_it = [&] {
    step();
    fail("given up");
  };
  CHECK_THROWS_WITH(graph.capture(half_of_it), "given up");
  CHECK_NOTHROW(step());
  CHECK_THROWS_WITH(scaler.step(*pair.optimizer), ContainsSubstring("step() has already been called"));
  CHECK_NOTHROW(scaler.update());
}
