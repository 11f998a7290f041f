// How often a training step goes to the device, and that it never waits for it. Counted by the simulated GPU.
#include "halftone.h"
#include "tests/cuda.h"

#if HALFTONE_SIMULATED_CUDA

using namespace halftone;
using namespace halftone::test;

namespace {

struct Count {
  std::uint64_t launches = 0, waits = 0;
  std::uint64_t pageable = 0, blocking = 0;  // copies of ordinary host memory; allocations that may wait for the device
};

template <class F> Count count(F f) {
  cudasim::reset_counters();
  f();
  Count c;
  for (const cudasim::Counters& device : cudasim::counters()) {
    c.launches += device.launches + device.library_calls + device.memsets + device.device_to_device;
    c.waits += device.host_waits;
    c.pageable += device.pageable_copies;
    c.blocking += device.blocking_allocations;
  }
  return c;
}

// 60 parameters of two shapes.
nn::Sequential deep_net() {
  nn::Sequential net;
  for (int i = 0; i < 30; ++i) net->push_back(nn::Linear(8, 8));
  return net;
}

}  // namespace

TEST_CASE("the scaler and the optimizer take three launches, whatever the number of parameters", "[cuda][launches]") {
  const Device device(kCUDA, 0);
  const nn::Sequential net = deep_net();
  net->to(device);
  std::unique_ptr<optim::Optimizer> optimizer;
  if (GENERATE(false, true)) {
    optimizer = std::make_unique<optim::AdamW>(net->parameters(), optim::AdamWOptions(1e-3));
  } else {
    optimizer = std::make_unique<optim::SGD>(net->parameters(), optim::SGDOptions(0.1).momentum(0.9));
  }
  amp::GradScaler scaler(kCUDA);
  const Tensor x = randn({4, 8}, device);
  const auto backward = [&] {
    optimizer->zero_grad();
    const amp::autocast region(kCUDA, kFloat16);
    scaler.scale(net->forward(x).sum()).backward();
  };
  const auto finish = [&] {
    scaler.step(*optimizer);
    scaler.update();
  };
  for (int i = 0; i < 2; ++i) backward(), finish();
  const Count whole = count([&] { backward(); });
  CHECK(whole.waits == 0);
  const Count last = count([&] { finish(); });
  CHECK(last.waits == 0);
  CHECK(last.launches == 3);  // check, step, next scale
}

TEST_CASE("a limit on the gradients' norm costs no launch in the step, and one before it", "[cuda][launches]") {
  const bool in_step = GENERATE(false, true);
  const Device device(kCUDA, 0);
  const nn::Sequential net = deep_net();
  net->to(device);
  optim::AdamW optimizer(net->parameters(), optim::AdamWOptions(1e-3));
  amp::GradScaler scaler(kCUDA);
  const Tensor x = randn({4, 8}, device);
  const auto backward = [&] {
    optimizer.zero_grad();
    scaler.scale(net->forward(x).sum()).backward();
  };
  const auto finish = [&] {
    if (in_step) {
      scaler.step(optimizer, amp::MaxNorm(1.0));
    } else {
      scaler.clip_grad_norm_(optimizer, 1.0);
      scaler.step(optimizer);
    }
    scaler.update();
  };
  for (int i = 0; i < 2; ++i) backward(), finish();
  backward();
  const Count last = count(finish);
  CHECK(last.waits == 0);
  CHECK(last.launches == (in_step ? 3 : 4));  // check and norm, (division,) step, next scale
}

TEST_CASE("a training step never makes the host wait", "[cuda][launches]") {
  const Device device(kCUDA, 0);
  nn::Sequential net(nn::Conv2d(nn::Conv2dOptions(1, 4, 3)), nn::BatchNorm2d(4), nn::ReLU(),
                     nn::MaxPool2d(nn::MaxPool2dOptions(2)), nn::Flatten(), nn::Dropout(0.3), nn::Linear(100, 10));
  net->to(device);
  optim::Adam optimizer(net->parameters(), optim::AdamOptions(1e-3));
  amp::GradScaler scaler(kCUDA);
  const Tensor x = randn({2, 1, 12, 12}, device), y = zeros({2}, TensorOptions(kInt64).device(device));
  const auto step = [&] {
    optimizer.zero_grad();
    Tensor loss;
    {
      const amp::autocast region(kCUDA, kFloat16);
      loss = cross_entropy_loss(net->forward(x), y);
    }
    scaler.scale(loss).backward();
    scaler.step(optimizer, amp::MaxNorm(1.0));
    scaler.update();
  };
  step();
  const Count c = count(step);
  CHECK(c.waits == 0);
  CHECK(c.pageable == 0);
  CHECK(c.blocking == 0);
  CHECK(c.launches <= 50);  // of 7 layers, a loss, a clipped and scaled update: count again before raising it
}

TEST_CASE("no step of many takes more launches than the others", "[cuda][launches]") {
  const Device device(kCUDA, 0);
  const Tensor w = ones({8}, device).requires_grad_();
  optim::SGD sgd({w}, 1e-3);
  amp::GradScaler scaler(kCUDA, {.init_scale = 4, .growth_interval = 10});
  const auto backward = [&] {
    sgd.zero_grad();
    scaler.scale(w.sum()).backward();
  };
  const auto finish = [&] {
    scaler.step(sgd);
    scaler.update();
  };
  for (int i = 0; i < 2; ++i) backward(), finish();
  std::uint64_t most = 0;
  for (int i = 0; i < 130; ++i) {
    backward();
    most = std::max(most, count(finish).launches);
  }
  CHECK(most == 3);
}

#endif
