// The gradient scaler on GPUs, several at once where there are: PyTorch's tests of the same names. test_grad_scaler.cpp
// has the rest of the contract, which is the same for every kind of device.
#include <cmath>
#include <limits>

#include "halftone.h"
#include "kernels/backend.h"
#include "tests/cuda.h"
#include "tests/op_cases.h"

using namespace halftone;
using namespace halftone::test;
using amp::GradScaler;

namespace {

const double kInf = std::numeric_limits<double>::infinity();

GradScaler scaler_of(double init_scale) { return GradScaler(kCUDA, {.init_scale = init_scale, .growth_interval = 1}); }

TensorOptions on(Device device, Dtype dtype = kFloat32) { return TensorOptions(dtype).device(device); }

Tensor parameter(Device device, Dtype dtype = kFloat32) { return ones({3}, on(device, dtype)).requires_grad_(); }

/// Every GPU and the host: a scaler may meet them all.
std::vector<Device> all_devices() {
  std::vector<Device> all = cuda_devices();
  all.emplace_back(kCPU);
  return all;
}

double first(const Tensor& t) { return t.detach().flatten()[0].item<double>(); }

// Two layers; made twice for a device they are the same.
nn::Sequential net_on(Device device) {
  manual_seed(54);
  nn::Sequential net(nn::Linear(8, 8), nn::Linear(8, 8));
  net->to(device);
  return net;
}

Tensor unscaled_flag(const std::vector<Tensor>& grads, double scale, Device device) {
  const Tensor divisor = full({}, scale, on(device));
  Tensor flag = zeros({}, on(device));
  backend(kCUDA).unscale(grads, divisor, flag);
  return flag;
}

}  // namespace

// ---------------------------------------------------------------- the kernels

TEST_CASE("test_grad_scaling_unscale on CUDA: layouts, dtypes, infinities and NaN", "[cuda][amp][scaler]") {
  for (const Device device : cuda_devices()) {
    for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64}) {
      const auto fours = [&](IntArrayRef sizes) { return full(sizes, 4.0, on(device, dtype)); };
      for (const double bad : {0.0, kInf, std::nan("")}) {
        for (const Tensor& g : {fours({4, 6}), fours({6, 4}).t(), fours({4, 12}).slice(1, 0, nullopt, 2)}) {
          if (bad != 0) g[2][3].fill_(bad);
          const Tensor half = ones({3}, on(device, kFloat16));
          CHECK(unscaled_flag({half, g}, 4, device).item<float>() == (bad == 0 ? 0.0f : 1.0f));
          CHECK(first(g) == 1);
          CHECK(first(half) == 0.25);
        }
      }
    }
    CHECK(first(unscaled_flag({full({1}, 1e300, on(device, kFloat64))}, 4, device)) == 0);
  }
}

TEST_CASE("test_grad_scaling_unscale: gradients of several devices in one call are refused", "[cuda][amp][scaler]") {
  if (!cuda::is_available()) return;
  for (const Device here : all_devices()) {
    for (const Device there : all_devices()) {
      const std::vector<Tensor> grads{ones({2}, on(here)), ones({2}, on(there))};
      const Tensor scale = full({}, 2, on(here));
      Tensor flag = zeros({}, on(here));
      const std::string message = message_of_error([&] { backend(here.type()).unscale(grads, scale, flag); });
      if (grads[0].device() == grads[1].device()) {
        CHECK(message == "no error");
      } else {
        CHECK_THAT(message, Catch::Matchers::ContainsSubstring("unscale: tensor 1 of the list is on " +
                                                               grads[1].device().str()));
        CHECK(first(grads[0]) == 1);
      }
    }
  }
}

TEST_CASE("test_grad_scaling_unscale: an infinity in any one gradient, on any device, is found",
          "[cuda][amp][scaler]") {
  if (!cuda::is_available()) return;
  std::vector<Tensor> params;
  for (const Device device : all_devices()) {
    for (const Dtype dtype : {kFloat32, kBFloat16, kFloat64}) params.push_back(parameter(device, dtype));
  }
  for (const Tensor& bad : params) {
    GradScaler scaler = scaler_of(4);
    optim::SGD sgd(params, 1.0);
    scaler.scale(ones({}, cuda_devices().back()));
    for (const Tensor& p : params) p.mutable_grad() = full_like(p, 4);
    bad.grad()[1].fill_(kInf);
    scaler.unscale_(sgd);
    for (const Tensor& p : params) CHECK(first(p.grad()) == 1);
    CHECK(scaler.step(sgd).found_inf());
    for (const Tensor& p : params) CHECK(first(p) == 1);
    scaler.update();
    CHECK(scaler.get_scale() == 2);
  }
}

TEST_CASE("test_grad_scaling_update_scale on CUDA", "[cuda][amp][scaler]") {
  const ScaleRule rule{.growth_factor = 2, .backoff_factor = 0.25, .growth_interval = 2};
  for (const Device device : cuda_devices()) {
    Tensor scale = full({}, 4.0, on(device)), counts = zeros({3}, on(device, kInt32));
    const auto update = [&](double flag) {
      backend(kCUDA).next_scale(rule, scale, counts, full({}, flag, on(device)), scale, counts);
      return std::pair{scale.item<float>(), counts[0].item<int>()};
    };
    CHECK(update(0) == std::pair{4.0f, 1});
    CHECK(update(0) == std::pair{8.0f, 0});
    CHECK(update(1) == std::pair{2.0f, 0});
  }
}

// ---------------------------------------------------------------- several devices

TEST_CASE("test_grad_scaling_device_as_key: devices of one index are equal keys", "[cuda][amp][scaler]") {
  std::unordered_map<Device, int> map;
  for (const Device device : {Device(kCUDA, 0), Device("cuda:0"), Device(kCUDA, 1), Device("cuda:1")}) ++map[device];
  CHECK(map.size() == 2);
  CHECK(map.at(Device(kCUDA, 1)) == 2);
  if (!cuda::is_available()) return;
  CHECK(canonical(kCUDA) == Device(kCUDA, 0));
  CHECK(++map[ones({1}, kCUDA).device()] == 3);
}

TEST_CASE("test_grad_scaling_scale on CUDA: tensors of several devices in one call", "[cuda][amp][scaler]") {
  if (!cuda::is_available()) return;
  for (const Device first_device : all_devices()) {
    for (const Device other : all_devices()) {
      GradScaler scaler = scaler_of(2);
      const Tensor t = full({}, 4.0, on(first_device)), u = full({}, 4.0, on(other));
      using Nested = std::tuple<Tensor, std::vector<Tensor>, std::map<std::string, std::pair<Tensor, Tensor>>>;
      const auto scaled = scaler.scale(Nested{t, {u, t}, {{"key", {u, t}}}});
      const auto& [one, list, map] = scaled;
      for (const Tensor& x : {one, list[1], map.at("key").second}) {
        CHECK(first(x) == 8);
        CHECK(x.device() == t.device());
      }
      for (const Tensor& x : {list[0], map.at("key").first}) {
        CHECK(first(x) == 8);
        CHECK(x.device() == u.device());
      }
    }
  }
}

TEST_CASE("test_grad_scaling_multiple, _multigpu: two models share a scale, and skip each for itself",
          "[cuda][amp][scaler]") {
  if (!cuda::is_available()) return;
  const Device device0 = cuda_devices().front(), device1 = GENERATE(Device(kCUDA, 0), cuda_devices().back());
  const bool autocast = GENERATE(false, true);
  const DefaultDevice scope(device0);
  const nn::Sequential control0 = net_on(device0), control1 = net_on(device1), net0 = net_on(device0),
                       net1 = net_on(device1);
  optim::SGD c0(control0->parameters(), 0.5), c1(control1->parameters(), 0.5);
  optim::SGD o0(net0->parameters(), 0.5), o1(net1->parameters(), 0.5);
  GradScaler scaler = scaler_of(128);
  for (int batch = 0; batch < 4; ++batch) {
    const bool overflows = batch == 1;
    const Tensor x = rand({8, 8}), y = rand({8, 8});
    const auto losses = [&](nn::Sequential a, nn::Sequential b) {
      const amp::autocast region(kCUDA, kFloat16, autocast);
      const Tensor out0 = a->forward(x), out1 = b->forward(x.to(device1)).to(device0);
      return std::pair{mse_loss(out0 * 0.3 + out1 * 0.7, y), mse_loss(out0 * 0.6 - out1 * 0.4, y)};
    };
    const auto [a0, a1] = losses(control0, control1);
    a0.backward({}, true);
    a1.backward();
    c0.step();
    if (!overflows) c1.step();
    c0.zero_grad(), c1.zero_grad();

    const auto [b0, b1] = losses(net0, net1);
    scaler.scale(b0).backward({}, true);
    scaler.scale(b1).backward();
    if (overflows) net1->parameters()[2].grad()[2][2].fill_(kInf);
    scaler.unscale_(o0);
    CHECK(scaler.step(o0).flag().item<float>() == 0);
    CHECK(scaler.step(o1).flag().item<float>() == (overflows ? 1 : 0));
    scaler.update();
    o0.zero_grad(), o1.zero_grad();
  }
  // A scale that is a power of two rounds nothing in float32; in float16 it saves small gradients from rounding.
  const double most = autocast ? 4 * tolerance(kFloat16, 8) : 1e-7;
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(control0->parameters()[i].allclose(net0->parameters()[i], most, most));
    CHECK(control1->parameters()[i].allclose(net1->parameters()[i], most, most));
  }
  CHECK(scaler.get_scale() == 128 * 8 * 0.5);
}

TEST_CASE("test_grad_scaling_autocast on CUDA: a scale that float16 cannot hold backs off, then training goes on",
          "[cuda][amp][scaler]") {
  for (const Device device : cuda_devices()) {
    const DefaultDevice scope(device);
    const Tensor w = ones({8, 8}).requires_grad_(), x = ones({8, 8});
    optim::SGD sgd({w}, 0.01);
    GradScaler scaler = scaler_of(0x1p15);
    std::vector<bool> taken;
    for (int step = 0; step < 8; ++step) {
      sgd.zero_grad();
      Tensor loss;
      {
        const amp::autocast region(kCUDA, kFloat16);
        loss = x.mm(w).sum();  // each gradient of w is 8 times the scale: 2^16 is infinite in float16
      }
      scaler.scale(loss).backward();
      taken.push_back(scaler.step(sgd).stepped());
      scaler.update();
    }
    CHECK(taken == std::vector<bool>{false, false, false, true, false, true, false, true});
    CHECK(scaler.skipped_steps() == 5);
  }
}

TEST_CASE("test_grad_scaling_state_dict on CUDA: a scale goes on on another device", "[cuda][amp][scaler]") {
  if (!cuda::is_available()) return;
  GradScaler source = scaler_of(3), target = scaler_of(6);
  const Tensor p = parameter(cuda_devices().front());
  optim::SGD sgd({p}, 0.0);
  source.scale(p.sum()).backward();
  source.step(sgd);
  source.update();
  target.scale(ones({}, cuda_devices().back()));
  target.load_state_dict(source.state_dict());
  CHECK(target.get_scale() == 6);
  CHECK(first(target.scale(ones({}, cuda_devices().back()))) == 6);
}

#if HALFTONE_SIMULATED_CUDA

namespace {

std::uint64_t launches_on(Device device) {
  return cudasim::counters()[static_cast<std::size_t>(device.index())].launches;
}

std::uint64_t peer_copies() {
  std::uint64_t sum = 0;
  for (const cudasim::Counters& device : cudasim::counters()) sum += device.peer_copies;
  return sum;
}

}  // namespace

// A flag more would show: step() and update() add up all flags of their optimizers, one launch for each beyond the
// first, where the scale is, and copy there the flags that are elsewhere.
TEST_CASE("test_grad_scaling_multigpu: each optimizer has one flag, on its own device", "[cuda][amp][launches]") {
  need_gpus(2);
  const std::size_t home = GENERATE(0, 1);    // of the scale
  const std::size_t bad = GENERATE(0, 1, 2);  // the optimizer whose gradients overflow; 2: neither
  const Device devices[] = {cuda_devices().front(), cuda_devices().back()};
  const std::vector<Tensor> params[] = {{parameter(devices[0]), parameter(devices[0])},
                                        {parameter(devices[1]), parameter(devices[1])}};
  optim::SGD optimizers[] = {optim::SGD(params[0], 0.5), optim::SGD(params[1], 0.5)};
  GradScaler scaler = scaler_of(128);
  const auto begin = [&] {
    scaler.scale(ones({}, on(devices[home])));
    for (const auto& list : params) {
      for (const Tensor& p : list) p.mutable_grad() = ones_like(p);
    }
  };
  begin();
  for (optim::SGD& sgd : optimizers) scaler.step(sgd);
  scaler.update();

  begin();
  if (bad < 2) params[bad][1].grad()[2].fill_(kInf);
  for (std::size_t i = 0; i < 2; ++i) {
    INFO("optimizer " << i << ", scale on " << devices[home]);
    const Device here = devices[i], other = devices[1 - i];
    cudasim::reset_counters();
    scaler.unscale_(optimizers[i]);
    CHECK(launches_on(here) == 1);
    CHECK(launches_on(other) == 0);

    cudasim::reset_counters();
    const amp::StepResult result = scaler.step(optimizers[i]);
    CHECK(launches_on(here) == 1);
    CHECK(launches_on(other) == 0);
    CHECK(peer_copies() == (i == home ? 0 : 2));  // the flag to the scale's device, and their sum back
    CHECK(result.flag().device() == devices[home]);
    CHECK(result.flag().item<float>() == (i == bad ? 1 : 0));
  }
  cudasim::reset_counters();
  scaler.update();
  CHECK(launches_on(devices[home]) == 2);  // the sum of two flags, and the next scale
  CHECK(launches_on(devices[1 - home]) == 0);
  CHECK(peer_copies() == 1);
  CHECK(scaler.get_scale() == (bad < 2 ? 128 : 512));
}

TEST_CASE("unscale_, step and update take three launches, whatever the number of parameters", "[cuda][amp][launches]") {
  need_gpus(1);
  std::vector<Tensor> params;
  for (int i = 0; i < 60; ++i) params.push_back(parameter(cuda_devices().front()));
  std::unique_ptr<optim::Optimizer> optimizer;
  if (GENERATE(false, true)) {
    optimizer = std::make_unique<optim::AdamW>(params, optim::AdamWOptions(1e-3));
  } else {
    optimizer = std::make_unique<optim::SGD>(params, optim::SGDOptions(0.1).momentum(0.9));
  }
  GradScaler scaler = scaler_of(128);
  for (int i = 0; i < 3; ++i) {
    scaler.scale(ones({}, cuda_devices().front()));
    for (const Tensor& p : params) p.mutable_grad() = ones_like(p);
    cudasim::reset_counters();
    scaler.unscale_(*optimizer);
    scaler.step(*optimizer);
    scaler.update();
  }
  const cudasim::Counters last = cudasim::counters()[0];
  CHECK(last.launches == 3);  // check and division, step, next scale
  CHECK(last.library_calls + last.memsets + last.device_to_device + last.host_to_device == 0);
  CHECK(last.host_waits == 0);
}

TEST_CASE("an optimizer over several GPUs is checked, limited, stepped and skipped without a wait",
          "[cuda][amp][launches]") {
  need_gpus(1);
  const bool limited = GENERATE(false, true);
  std::vector<Tensor> params;
  for (const Device device : cuda_devices()) params.push_back(parameter(device));
  optim::Adam adam(params, optim::AdamOptions(0.5));
  GradScaler scaler = scaler_of(128);
  const auto iterate = [&](double gradient) {
    scaler.scale(ones({}, cuda_devices().front()));
    for (const Tensor& p : params) p.mutable_grad() = ones_like(p);
    params.back().mutable_grad() = full_like(params.back(), gradient);
    cudasim::reset_counters();
    const amp::StepResult result = limited ? scaler.step(adam, amp::MaxNorm(1)) : scaler.step(adam);
    scaler.update();
    for (const cudasim::Counters& device : cudasim::counters()) CHECK(device.host_waits == 0);
    return result;
  };
  iterate(1);
  std::vector<Tensor> before;
  for (const Tensor& p : params) before.push_back(p.detach().clone());
  CHECK(iterate(kInf).found_inf());
  for (std::size_t i = 0; i < params.size(); ++i) CHECK(params[i].detach().equal(before[i]));
  CHECK(iterate(1).stepped());
  for (std::size_t i = 0; i < params.size(); ++i) CHECK(!params[i].detach().equal(before[i]));
}

#endif
