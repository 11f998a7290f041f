// Bytes on CUDA devices: memory, statistics, copies between devices and to and from the host, pinned memory, failures.
#include <thread>

#include "halftone.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("CUDA memory is counted", "[cuda][memory]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  const MemoryStats before = memory_stats(device);
  reset_peak_memory_stats(device);
  {
    const Tensor a = empty({1000, 1000}, device);
    CHECK(memory_stats(device).current == before.current + 4000000);
    const Tensor b = empty({10}, device);
  }
  const MemoryStats after = memory_stats(device);
  CHECK(after.current == before.current);
  CHECK(after.peak == before.current + 4000040);
  CHECK(after.allocations == before.allocations + 2);
  CHECK_NOTHROW(empty_cache(device));
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("a thread that works on one device makes no context on another", "[cuda]") {
  if (cuda::device_count() < 2) return;
  const auto last = static_cast<DeviceIndex>(cuda::device_count() - 1);
  const Device device(kCUDA, last);
  const Tensor made_elsewhere = ones({64}, device);
  const auto in_thread = [](auto work) {
    cudasim::reset_counters();
    std::thread(work).join();
    return cudasim::counters()[0].contexts;
  };
  CHECK(in_thread([&] { CHECK((ones({4}, device) + 1).sum().item<float>() == 8); }) == 0);
  CHECK(in_thread([moved = made_elsewhere.clone()]() mutable { moved.reset(); }) == 0);
}

TEST_CASE("a copy of ordinary host memory is staged, or waited for if it is large", "[cuda][copy]") {
  const Device device(kCUDA, 0);
  for (const std::int64_t n : {1, 1000, 2 << 20, (2 << 20) + 1}) {
    const bool large = n > 2 << 20;
    INFO(n);
    const Tensor host = full({n}, 3, TensorOptions(kFloat32).device(kCPU));
    cudasim::reset_counters();
    const Tensor there = host.to(device);
    CHECK(cudasim::counters()[0].pageable_copies == (large ? 1 : 0));
    CHECK(cudasim::counters()[0].host_waits == (large ? 1 : 0));
    host.fill_(4);
    CHECK(there.eq(3).all().item<bool>());
  }
}

#endif

TEST_CASE("a device that is not there is named", "[cuda][memory]") {
  if (!cuda::is_available()) return;
  const int count = cuda::device_count();
  CHECK_THAT(message_of_error([&] { empty({1}, Device(kCUDA, static_cast<DeviceIndex>(count))); }),
             ContainsSubstring(str("there is no cuda:", count)));
  CHECK_THAT(message_of_error([&] { cuda::synchronize(static_cast<DeviceIndex>(count)); }),
             ContainsSubstring(str("there is no cuda:", count)));
}

TEST_CASE("copies to, from and between devices keep every value", "[cuda][copy]") {
  std::vector<Device> devices = cuda_devices();
  if (devices.empty()) return;
  devices.push_back(kCPU);
  for (const Device from : devices) {
    for (const Device to : devices) {
      for (const Dtype dtype : kDtypes) {
        INFO(from << " to " << to << ", " << dtype);
        const Tensor x = arange(24, TensorOptions(kInt64).device(from)).to(dtype).reshape({2, 3, 4});
        const Tensor there = x.to(to);
        CHECK(there.device() == canonical(to));
        CHECK(equal(there.cpu(), x.cpu()));
        CHECK(equal(x.transpose(0, 2).to(to).cpu(), x.cpu().transpose(0, 2)));  // strides are kept
        Tensor target = zeros({2, 3, 4}, TensorOptions(kFloat32).device(to));
        target.copy_(x);
        CHECK(equal(target.cpu(), x.cpu().to(kFloat32)));
      }
      CHECK(empty({0, 3}, from).to(to).numel() == 0);
    }
  }
}

TEST_CASE("gradients cross devices", "[cuda][copy]") {
  if (cuda::device_count() < 2) return;
  const Tensor x = ones({3}, Device(kCUDA, 0)).requires_grad_();
  (x.to("cuda:1") * 2).cpu().sum().backward();
  CHECK(x.grad().device() == Device(kCUDA, 0));
  CHECK(equal(x.grad().cpu(), full({3}, 2.0, kCPU)));
}

TEST_CASE("DeviceGuard chooses what cuda without an index means", "[cuda]") {
  if (cuda::device_count() < 2) return;
  const DeviceGuard guard(Device(kCUDA, 1));
  CHECK(ones({2}, kCUDA).device() == Device(kCUDA, 1));
  CHECK((ones({2}, kCUDA) + 1).sum().item<float>() == 4);
}

TEST_CASE("pinned memory is host memory that devices know", "[cuda][pinned]") {
  const Tensor plain = arange(6, TensorOptions(kFloat32).device(kCPU));
  CHECK_FALSE(plain.is_pinned());
  if (!cuda::is_available()) {
    CHECK_THAT(message_of_error([&] { plain.pin_memory(); }), ContainsSubstring("no cuda device"));
    return;
  }
  const Tensor pinned = plain.pin_memory();
  CHECK(pinned.is_pinned());
  CHECK(pinned.is_cpu());
  CHECK(pinned.pin_memory().is_same(pinned));
  CHECK(equal(pinned, plain));
  CHECK(empty({0}, kCPU).pin_memory().numel() == 0);
  CHECK(equal(pinned.to("cuda", kFloat32, /*non_blocking=*/true).cpu(), plain));
  CHECK(empty({4}, TensorOptions(kFloat32).device(kCPU).pinned_memory(true)).is_pinned());
  CHECK_THAT(message_of_error([] { empty({4}, TensorOptions(kCUDA).pinned_memory(true)); }),
             ContainsSubstring("pinned memory is host memory, it cannot be on cuda:0"));
  CHECK_THAT(message_of_error([] { ones({2}, kCUDA).pin_memory(); }),
             ContainsSubstring("pin_memory: only host memory can be pinned"));
}

TEST_CASE("a block of pinned memory is not used again while a copy still reads it", "[cuda][pinned]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  for (int round = 0; round < 20; ++round) {
    Tensor there;
    {
      const Tensor host = full({1000}, round, TensorOptions(kFloat32).device(kCPU)).pin_memory();
      there = host.to(device, kFloat32, /*non_blocking=*/true);
    }
    const Tensor next = full({1000}, -1, TensorOptions(kFloat32).device(kCPU)).pin_memory();
    CHECK(there.eq(round).all().item<bool>());
  }
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("out of memory says what is held and what is free", "[cuda][memory]") {
  const std::string message = message_of_error([] { empty({std::int64_t{1} << 40}, Device(kCUDA, 0)); });
  CHECK_THAT(message, ContainsSubstring("cuda:0: out of memory: cannot allocate 4398046511104 bytes; tensors hold "));
  CHECK_NOTHROW(ones({4}, Device(kCUDA, 0)).sum().item());
}

namespace {

// Makes each of the calls of `work` fail in turn: every failure is an Error, and nothing is leaked. `check` looks at
// what work() left behind.
template <class Work, class Check> void fail_each_call(cudasim::Kind kind, Work work, Check check_state) {
  work();
  cuda::synchronize(0);
  const std::uint64_t first = cudasim::calls_made(kind);
  work();
  cuda::synchronize(0);
  const std::uint64_t calls = cudasim::calls_made(kind) - first;
  REQUIRE(calls > 0);
  for (std::uint64_t n = 1; n <= calls; ++n) {
    INFO("call " << n << " of " << calls);
    const std::int64_t held = memory_stats(Device(kCUDA, 0)).current;
    cudasim::fail_call(kind, n);
    const std::string message = message_of_error(work);
    if (kind == cudasim::Kind::allocation) {
      CHECK(message == "no error");  // the second try, after what is idle was given back, succeeds
    } else {
      CHECK_THAT(message, ContainsSubstring("CUDA: ") || ContainsSubstring("cuBLAS: "));
    }
    cudasim::clear_failures();
    cuda::synchronize(0);
    CHECK(memory_stats(Device(kCUDA, 0)).current == held);
    check_state();
  }
}

}  // namespace

TEST_CASE("a call that fails leaks nothing and leaves the state as it was", "[cuda][failures]") {
  const Device device(kCUDA, 0);
  const Tensor x = randn({8, 8}, device), w = randn({8, 8}, device);
  const Tensor host = x.cpu();
  const auto work = [&] {
    const Tensor y = x.matmul(w).relu().sum(0);
    const Tensor z = y.cpu();
  };
  const auto unchanged = [&] { CHECK(equal(x.cpu(), host)); };
  for (const cudasim::Kind kind :
       {cudasim::Kind::allocation, cudasim::Kind::launch, cudasim::Kind::library, cudasim::Kind::copy}) {
    INFO("kind " << static_cast<int>(kind));
    fail_each_call(kind, work, unchanged);
  }
}

TEST_CASE("a training step that fails anywhere changes all parameters or none", "[cuda][failures]") {
  const Device device(kCUDA, 0);
  manual_seed(3);
  nn::Sequential net(nn::Conv2d(nn::Conv2dOptions(1, 2, 3)), nn::ReLU(), nn::Flatten(), nn::Linear(32, 3));
  net->to(device);
  optim::SGD optimizer(net->parameters(), optim::SGDOptions(0.1).momentum(0.9));
  amp::GradScaler scaler(kCUDA);
  const Tensor x = randn({2, 1, 6, 6}, device), y = zeros({2}, TensorOptions(kInt64).device(device));
  const auto step = [&] {
    optimizer.zero_grad();
    Tensor loss;
    {
      const amp::autocast region(kCUDA, kFloat16);
      loss = cross_entropy_loss(net->forward(x), y);
    }
    scaler.scale(loss).backward();
    scaler.step(optimizer);
    scaler.update();
  };
  const auto values = [&] {
    std::vector<Tensor> all;
    for (const Tensor& p : net->parameters()) all.push_back(p.detach().cpu());
    return all;
  };
  const auto count_changed = [&](const std::vector<Tensor>& before) {
    const std::vector<Tensor> now = values();
    std::size_t changed = 0;
    for (std::size_t i = 0; i < now.size(); ++i) changed += equal(now[i], before[i]) ? 0 : 1;
    return changed;
  };
  for (int i = 0; i < 2; ++i) step();
  for (const cudasim::Kind kind : {cudasim::Kind::launch, cudasim::Kind::library}) {
    cuda::synchronize(0);
    const std::uint64_t first = cudasim::calls_made(kind);
    step();
    cuda::synchronize(0);
    const std::uint64_t calls = cudasim::calls_made(kind) - first;
    REQUIRE(calls > 5 * (kind == cudasim::Kind::launch));
    for (std::uint64_t n = 1; n <= calls; ++n) {
      INFO("kind " << static_cast<int>(kind) << ", call " << n << " of " << calls);
      const std::vector<Tensor> before = values();
      cudasim::fail_call(kind, n);
      CHECK(message_of_error(step) != "no error");
      cudasim::clear_failures();
      const std::size_t changed = count_changed(before);
      CHECK((changed == 0 || changed == before.size()));
      if (changed == before.size()) scaler.update();  // only the scale's own step was missing
      const double scale = scaler.get_scale();
      CHECK((scale > 0 && std::isfinite(scale)));
      CHECK(message_of_error(step) == "no error");  // and training goes on
      CHECK(count_changed(before) == before.size());
    }
  }
}

TEST_CASE("a backward pass that fails leaves the gradients it found", "[cuda][failures]") {
  const Device device(kCUDA, 0);
  const Tensor w = randn({4, 4}, device).requires_grad_();
  const auto work = [&] {
    w.mutable_grad().reset();
    w.matmul(w).sum().backward();
    w.mutable_grad().reset();
  };
  fail_each_call(cudasim::Kind::launch, work, [&] {
    w.mutable_grad().reset();
    CHECK_NOTHROW(w.matmul(w).sum().backward());
    w.mutable_grad().reset();
  });
}

#endif
