// Bytes on CUDA devices: memory, statistics, copies between devices and to and from the host, pinned memory, failures.
#include <thread>

#include "halftone.h"
#include "tests/cuda.h"
#include "tests/cuda_failures.h"

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

TEST_CASE("freed memory is kept until the cache is emptied", "[cuda][memory]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  empty_cache(device);
  const MemoryStats before = memory_stats(device);
  CHECK(before.reserved >= before.current);
  constexpr std::int64_t kBytes = std::int64_t{64} << 20;  // more than the gaps in what a driver keeps
  {
    const Tensor a = empty({kBytes}, TensorOptions(kUInt8).device(device));
    CHECK(memory_stats(device).reserved > before.reserved);
    CHECK(memory_stats(device).reserved >= before.current + kBytes);
  }
  cuda::synchronize(0);
  const MemoryStats freed = memory_stats(device);
  CHECK(freed.current == before.current);
  CHECK(freed.reserved >= before.current + kBytes);
  const void* const kept = empty({kBytes}, TensorOptions(kUInt8).device(device)).data_ptr();
  CHECK(memory_stats(device).reserved == freed.reserved);  // used again
  CHECK(kept != nullptr);
  empty_cache(device);
  const MemoryStats emptied = memory_stats(device);
  CHECK(emptied.reserved <= freed.reserved - kBytes);
  CHECK(emptied.reserved >= emptied.current);
#if HALFTONE_SIMULATED_CUDA
  CHECK(emptied.reserved == before.reserved);
#endif
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

TEST_CASE("pinned memory may be changed when a blocking copy has returned", "[cuda][pinned]") {
  if (!cuda::is_available()) return;
  const Tensor host = full({1000}, 1, TensorOptions(kFloat32).device(kCPU)).pin_memory();
  const Tensor there = host.to(Device(kCUDA, 0));
  host.fill_(2);
  CHECK(there.eq(1).all().item<bool>());
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("out of memory says what is held and what is free", "[cuda][memory]") {
  const std::string message = message_of_error([] { empty({std::int64_t{1} << 40}, Device(kCUDA, 0)); });
  CHECK_THAT(message, ContainsSubstring("cuda:0: out of memory: cannot allocate 4398046511104 bytes; tensors hold "));
  CHECK_NOTHROW(ones({4}, Device(kCUDA, 0)).sum().item());
}

namespace {

// A block of pinned memory whose events cannot be asked is passed over, and another one is made. It stays idle, so
// there is one more at most, however many calls fail.
bool is_no_leak(const Alive& before, const Alive& after) {
  return after.allocations == before.allocations && after.bytes == before.bytes && after.streams == before.streams &&
         after.pinned <= before.pinned + 1 && after.events <= before.events + cuda_devices().size();
}

// How often an allocation must fail until it is given up: it is tried again after idle memory was given back.
std::uint64_t times_to_fail(Kind kind) { return kind == Kind::allocation ? 2 : 1; }

std::uint64_t count_calls(Kind kind, const std::function<void()>& work) {
  const std::uint64_t first = cudasim::calls_made(kind);
  work();
  return cudasim::calls_made(kind) - first;
}

// Makes each call of `work` fail in turn: the error tells of it, nothing leaks, and the same work then succeeds.
// `check_state` looks at what the failed work left behind.
void fail_each_call(Kind kind, const std::function<void()>& work, const std::function<void()>& check_state) {
  const auto settle = [&] {  // blocks of pinned memory take turns
    for (int i = 0; i < 3; ++i) work(), alive();
    return alive();
  };
  const Alive before = settle();
  const std::uint64_t calls = count_calls(kind, work);
  for (std::uint64_t n = 1; n <= calls; ++n) {
    INFO(name_of(kind) << " " << n << " of " << calls);
    alive();
    cudasim::fail_call(kind, n, times_to_fail(kind));
    const std::string message = message_of_error(work);
    cudasim::clear_failures();
    INFO(message);
    CHECK(is_injected(kind, message));
    check_state();
    const Alive after = alive();
    CHECK(after.allocations == before.allocations);
    CHECK(after.bytes == before.bytes);
    const Alive later = settle();
    INFO("before: " << before << "; after: " << later);
    CHECK(is_no_leak(before, later));
  }
}

void fail_each_call(const std::vector<Kind>& kinds, const std::function<void()>& work,
                    const std::function<void()>& check_state) {
  for (const Kind kind : kinds) {
    const std::uint64_t calls = count_calls(kind, work);
    INFO(name_of(kind));
    REQUIRE(calls > 0);
    fail_each_call(kind, work, check_state);
  }
}

const TensorOptions kHost = TensorOptions(kFloat32).device(kCPU);

}  // namespace

TEST_CASE("a call that fails leaks nothing and leaves the state as it was", "[cuda][failures]") {
  const Device device(kCUDA, 0);
  const Tensor x = randn({8, 8}, device), w = randn({8, 8}, device);
  const Tensor host = x.cpu();
  const auto work = [&] {
    const Tensor y = x.matmul(w).relu().sum(0);
    const Tensor z = y.cpu();
  };
  fail_each_call({Kind::allocation, Kind::launch, Kind::library, Kind::copy, Kind::any}, work,
                 [&] { CHECK(equal(x.cpu(), host)); });
}

TEST_CASE("copies to and from pinned memory that fail leak nothing", "[cuda][failures][pinned]") {
  const Device device(kCUDA, 0);
  const Tensor target = zeros({1000}, device);
  std::vector<Tensor> idle;
  for (int i = 0; i < 4; ++i) idle.push_back(zeros({1000}, kHost).pin_memory());
  idle.clear();
  const auto work = [&] {
    Tensor there;
    {
      const Tensor source = full({1000}, 3, kHost).pin_memory();
      there = source.to(device, kFloat32, /*non_blocking=*/true);
    }
    const Tensor next = full({1000}, -1, kHost).pin_memory();  // the same block only if the copy has been made
    const Tensor back = zeros({1000}, kHost).pin_memory();
    Tensor(back).copy_(there, /*non_blocking=*/true);
    cuda::synchronize(0);
    CHECK(equal(back, full({1000}, 3, kHost)));
  };
  fail_each_call({Kind::allocation, Kind::copy, Kind::any}, work, [] {});
  cudasim::fail_call(Kind::allocation, 1);
  CHECK_THAT(message_of_error([] { zeros({5000000}, kHost).pin_memory(); }), ContainsSubstring("out of memory"));
  cudasim::clear_failures();
}

TEST_CASE("copies between devices that fail leak nothing", "[cuda][failures]") {
  if (cuda::device_count() < 2) return;
  const Tensor x = arange(1000, TensorOptions(kFloat32).device(Device(kCUDA, 0)));
  const Tensor host = x.cpu();
  const auto work = [&] {
    Tensor y;
    {
      const Tensor source = x + 0;
      y = source.to("cuda:1");
    }
    const Tensor refill = x - 1;  // in the source's memory
    const Tensor back = y.cpu();
    CHECK(equal(back, host));
  };
  fail_each_call({Kind::allocation, Kind::launch, Kind::copy, Kind::any}, work, [&] { CHECK(equal(x.cpu(), host)); });
}

TEST_CASE("captures and replays that fail leave no graph, no leak and a usable device", "[cuda][failures][graph]") {
  const Device device(kCUDA, 0);
  const Tensor x = randn({8, 8}, device), w = randn({8, 8}, device);
  const Tensor expected = x.matmul(w).relu().cpu();
  cuda::Graph reused(device);
  const auto work = [&] {
    Tensor y;
    cuda::Graph graph(device);
    graph.capture([&] { y = x.matmul(w).relu(); });
    graph.replay();
    const Tensor found = y.cpu();
    CHECK(equal(found, expected));
    reused.capture([&] { y = x.matmul(w).relu(); });
    reused.replay();
    reused.reset();
  };
  fail_each_call({Kind::allocation, Kind::launch, Kind::library, Kind::copy, Kind::any}, work, [&] {
    CHECK_FALSE(cuda::is_capturing(device));
    reused.reset();
    CHECK(equal(x.matmul(w).relu().cpu(), expected));
  });
}

// Hidden, because a device is set up but once: CTest runs it alone.
TEST_CASE("a device that cannot be set up leaves nothing behind and can be tried again", "[.cuda_start]") {
  need_gpus(2);
  const Device device(kCUDA, 1);
  const auto counts = [] {
    return std::array{cudasim::live_allocations(), cudasim::live_pinned_blocks(), cudasim::live_events(),
                      cudasim::live_streams()};
  };
  const auto before = counts();
  int failures = 0;
  for (std::uint64_t n = 1; n < 100; ++n) {
    INFO("call " << n);
    cudasim::fail_call(Kind::any, n);
    const std::string message = message_of_error([&] { empty({4}, device); });
    cudasim::clear_failures();
    if (message == "no error") break;
    ++failures;
    CHECK(is_injected(Kind::any, message));
    CHECK(counts() == before);
  }
  CHECK(failures >= 8);
  CHECK(ones({4}, device).sum().item<float>() == 4);
}

// Hidden as well: whether a device can access another one's memory is asked but once.
TEST_CASE("tensors travel between GPUs that cannot access each other's memory", "[.cuda_start]") {
  need_gpus(4);
  cudasim::set_peer_access(false);
  const Device here(kCUDA, 2), there(kCUDA, 3);
  cudasim::reset_counters();
  const Tensor x = arange(24, TensorOptions(kFloat32).device(here)).reshape({4, 6});
  const Tensor host = x.cpu();
  CHECK(equal(x.to(there).cpu(), host));
  CHECK(equal(x.to(there).to(here).cpu(), host));
  CHECK(equal(x.t().to(there).cpu(), host.t()));
  Tensor target = zeros({6, 4}, TensorOptions(kFloat16).device(there));
  target.copy_(x.t());
  CHECK(equal(target.cpu().to(kFloat32), host.t()));
  const Tensor leaf = ones({3}, here).requires_grad_();
  (leaf.to(there) * 2).sum().backward();
  CHECK(equal(leaf.grad().cpu(), full({3}, 2.0, kCPU)));
  CHECK(cudasim::counters()[2].peer_copies >= 5);
  CHECK(cudasim::counters()[3].peer_copies == 2);
  CHECK(cudasim::reports().empty());
  cudasim::set_peer_access(true);
}

TEST_CASE("memory given back while another device copies from it is not written first", "[cuda][copy]") {
  if (cuda::device_count() < 2) return;
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    INFO("seed " << seed);
    cudasim::set_seed(seed);
    Tensor there;
    {
      const Tensor source = full({1000}, 5, TensorOptions(kFloat32).device(Device(kCUDA, 1)));
      there = source.to("cuda:0");
    }
    const Tensor refill = full({1000}, 9, TensorOptions(kFloat32).device(Device(kCUDA, 1)));
    cuda::synchronize(1);
    CHECK(there.eq(5).all().item<bool>());
  }
  cudasim::set_seed(1);
}

TEST_CASE("halftone's kernels are watched: what nobody wrote is reported when they read it", "[cuda][memory]") {
#if CUDASIM_HAS_CHECKS
  const Device device(kCUDA, 0);
  const auto x = [&](IntArrayRef sizes) { return empty(sizes, device); };
  const Tensor index = zeros({2}, TensorOptions(kInt64).device(device));
  struct Row {
    const char* name;
    std::function<void()> work;
  };
  const Row rows[] = {
      {"elements", [&] { x({4}) + 1; }},
      {"strided elements",
       [&] {
         x({4, 6}).t() * 2;
       }},
      {"cast", [&] { x({4}).to(kFloat16); }},
      {"transposed copy",
       [&] {
         x({64, 64}).t().contiguous();
       }},
      {"sum", [&] { x({100}).sum(); }},
      {"maximum",
       [&] {
         x({4, 5}).argmax(1);
       }},
      {"scan", [&] { x({10}).cumsum(0); }},
      {"softmax",
       [&] {
         x({4, 5}).softmax(1);
       }},
      {"layer norm",
       [&] {
         layer_norm(x({4, 5}), 5);
       }},
      {"batch norm",
       [&] {
         batch_norm(x({4, 5, 2, 2}), {}, {}, {}, {}, true, 0.1, 1e-5);
       }},
      {"loss",
       [&] {
         cross_entropy_loss(x({2, 5}), index);
       }},
      {"maximum of windows",
       [&] {
         max_pool2d(x({1, 1, 4, 4}), 2);
       }},
      {"mean of windows",
       [&] {
         avg_pool2d(x({1, 1, 4, 4}), 2);
       }},
      {"rows",
       [&] {
         x({4, 5}).index_select(0, index);
       }},
      {"places", [&] { x({4}).gather(0, index); }},
      {"product",
       [&] {
         x({4, 4}).matmul(x({4, 4}));
       }},
      {"convolution",
       [&] {
         conv2d(x({1, 1, 4, 4}), x({1, 1, 3, 3}));
       }},
      {"dropout", [&] { dropout(x({100}), 0.5, true); }},
  };
  cudasim::set_quiet(true);
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK_THAT(message_of_error([&] { row.work(), cuda::synchronize(0); }), ContainsSubstring("cudaErrorAssert"));
    const std::vector<std::string> reports = cudasim::reports();
    REQUIRE_FALSE(reports.empty());
    CHECK_THAT(reports[0], ContainsSubstring("uninitialised memory"));
    cudasim::clear_reports();
  }
  cudasim::set_quiet(false);
#endif
}

TEST_CASE("a training step that fails anywhere changes all parameters or none", "[cuda][failures]") {
  const Device device(kCUDA, 0);
  manual_seed(3);
  nn::Sequential net(nn::Conv2d(nn::Conv2dOptions(1, 2, 3)), nn::ReLU(), nn::Flatten(), nn::Linear(32, 3));
  net->to(device);
  optim::SGD optimizer(net->parameters(), optim::SGDOptions(1e-3).momentum(0.9));
  amp::GradScalerOptions options;
  options.history = 1;  // it keeps tensors
  amp::GradScaler scaler(kCUDA, options);
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
  const Alive held = alive();
  for (const Kind kind : {Kind::allocation, Kind::launch, Kind::library, Kind::copy, Kind::any}) {
    cuda::synchronize(0);
    const std::uint64_t calls = count_calls(kind, step);
    INFO(name_of(kind));
    CHECK((calls > 0) != (kind == Kind::copy));  // a step copies nothing
    for (std::uint64_t n = 1; n <= calls; ++n) {
      INFO(n << " of " << calls);
      const std::vector<Tensor> before = values();
      cudasim::fail_call(kind, n, times_to_fail(kind));
      const std::string message = message_of_error(step);
      cudasim::clear_failures();
      INFO(message);
      const bool fails = message != "no error";
      CHECK(is_injected(kind, message));
      const std::size_t changed = count_changed(before);
      CHECK((changed == 0 || changed == before.size()));
      if (fails && changed == before.size()) scaler.update();  // only the scale's own step was missing
      const double scale = scaler.get_scale();
      CHECK((scale > 0 && std::isfinite(scale)));
      CHECK(message_of_error(step) == "no error");  // and training goes on
      CHECK(count_changed(before) == before.size());
      // The scaler's flags come in blocks, of which there may be two.
      CHECK(alive().allocations <= held.allocations + 1);
    }
  }
}

TEST_CASE("a backward pass that fails leaves each gradient as it was, or complete", "[cuda][failures]") {
  const Device device(kCUDA, 0);
  const Tensor x = randn({2, 2, 5, 5}, device).requires_grad_(), w = randn({3, 2, 3, 3}, device).requires_grad_(),
               bias = randn({3}, device).requires_grad_(), v = randn({3, 3}, device).requires_grad_();
  const Tensor leaves[] = {x, w, bias, v};
  const auto loss = [&] {  // v has two uses, whose gradients are added up first
    return conv2d(x, w, bias).relu().sum({2, 3}).matmul(v).matmul(v).sum();
  };
  std::vector<Tensor> old, sums;
  for (const Tensor& leaf : leaves) old.push_back(randn(leaf.sizes(), kHost));
  const auto give_old = [&] {
    for (std::size_t i = 0; i < old.size(); ++i) leaves[i].mutable_grad() = old[i].to(device);
  };
  give_old();
  loss().backward();
  for (const Tensor& leaf : leaves) sums.push_back(leaf.grad().cpu());

  std::size_t kept = 0, added = 0, failures = 0;
  for (const Kind kind : {Kind::launch, Kind::allocation, Kind::library}) {
    Tensor first = loss();
    const std::uint64_t calls = count_calls(kind, [&] { first.backward(); });
    REQUIRE(calls > 2);
    for (std::uint64_t n = 1; n <= calls; ++n) {
      give_old();
      const Tensor y = loss();
      cudasim::fail_call(kind, n, times_to_fail(kind));
      const std::string message = message_of_error([&] { y.backward(); });
      cudasim::clear_failures();
      INFO(name_of(kind) << " " << n << " of " << calls << ": " << message);
      CHECK(is_injected(kind, message));
      const bool fails = message != "no error";
      failures += fails;
      for (std::size_t i = 0; i < old.size(); ++i) {
        const Tensor found = leaves[i].grad().cpu();
        const bool is_old = equal(found, old[i]), is_sum = equal(found, sums[i]);
        INFO("leaf " << i);
        CHECK((is_sum || (fails && is_old)));
        kept += is_old, added += fails && is_sum;
      }
    }
  }
  CHECK(failures > 10);
  CHECK(kept > added);
  CHECK(added > 0);  // or nothing was tested of those whose turn had come
}

TEST_CASE("a gradient whose copy fails is none", "[cuda][failures]") {
  const Tensor w = randn({4, 4}, Device(kCUDA, 0)).requires_grad_();
  bool failed = true;
  for (std::uint64_t n = 1; failed; ++n) {
    w.mutable_grad().reset();
    cudasim::fail_call(cudasim::Kind::launch, n);
    failed = message_of_error([&] { w.sum().backward(); }) != "no error";
    cudasim::clear_failures();
    CHECK(w.grad().defined() != failed);
  }
  CHECK(w.grad().cpu().eq(1).all().item<bool>());
}

namespace {

struct Trained {
  Tensor param;
  std::unique_ptr<optim::ScaledOptimizer> optimizer;

  void give_gradient(int step) const {
    manual_seed(static_cast<std::uint64_t>(step));
    param.mutable_grad() = randn({5}, Device(kCUDA, 0)) * 4;
  }
  void step() const {
    const Tensor scale = full({}, 4.0, param.options()), flag = zeros({}, param.options());
    optimizer->step_scaled({scale, flag});
  }
};

Trained trained_by(const std::string& kind) {
  const Tensor p = ones({5}, Device(kCUDA, 0)).requires_grad_();
  const optim::SGDOptions sgd = optim::SGDOptions(0.1).momentum(0.9);
  if (kind == "SGD") return {p, std::make_unique<optim::SGD>(std::vector{p}, sgd)};
  if (kind == "SGD with dampening")
    return {p, std::make_unique<optim::SGD>(std::vector{p}, optim::SGDOptions(sgd).dampening(0.5))};
  if (kind == "Adam") return {p, std::make_unique<optim::Adam>(std::vector{p}, 0.1)};
  return {p, std::make_unique<optim::AdamW>(std::vector{p}, optim::AdamWOptions(0.1).amsgrad(true))};
}

void check_equal(const StateDict& a, const StateDict& b) {
  CHECK(a.values == b.values);
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (const auto& [key, tensor] : a.tensors) {
    INFO(key);
    CHECK(tensor.cpu().equal(b.tensors.at(key).cpu()));
  }
}

}  // namespace

TEST_CASE("an optimizer's step that fails leaves no trace", "[cuda][failures]") {
  for (const char* const kind : {"SGD", "SGD with dampening", "Adam", "AdamW"}) {
    INFO(kind);
    const Trained trained = trained_by(kind), twin = trained_by(kind);  // the twin's steps never fail
    bool failed = true;
    for (int n = 1; failed; ++n) {
      trained.give_gradient(n), twin.give_gradient(n);
      const Tensor before = trained.param.detach().cpu(), gradient = trained.param.grad().cpu();
      cudasim::fail_call(cudasim::Kind::launch, static_cast<std::uint64_t>(n));
      failed = message_of_error([&] { trained.step(); }) != "no error";
      cudasim::clear_failures();
      if (failed) {
        CHECK(trained.param.detach().cpu().equal(before));
        CHECK(trained.param.grad().cpu().equal(gradient));
        trained.step();
      }
      twin.step();
      CHECK(trained.param.detach().cpu().equal(twin.param.detach().cpu()));
      check_equal(trained.optimizer->state_dict(), twin.optimizer->state_dict());
    }
  }
}

TEST_CASE("a scaler whose call fails goes on as if it had not been made", "[cuda][failures]") {
  const Tensor w = ones({4}, Device(kCUDA, 0)).requires_grad_();
  optim::SGD sgd({w}, 1.0);
  amp::GradScaler scaler(kCUDA, {.init_scale = 8, .growth_interval = 1});
  const auto fails_once = [](cudasim::Kind kind, auto call) {
    cudasim::fail_call(kind, 1);
    CHECK(message_of_error(call) != "no error");
    cudasim::clear_failures();
    return call();
  };
  const Tensor loss = w.sum();
  for (const cudasim::Kind kind : {cudasim::Kind::copy, cudasim::Kind::launch}) {
    cudasim::fail_call(kind, 1);
    CHECK(message_of_error([&] { scaler.scale(loss); }) != "no error");  // it cannot begin
    cudasim::clear_failures();
  }
  scaler.scale(loss).backward();
  fails_once(cudasim::Kind::launch, [&] { scaler.step(sgd); });
  CHECK(w.sum().item<float>() == 0);
  fails_once(cudasim::Kind::launch, [&] { scaler.update(); });
  CHECK(scaler.get_scale() == 16);
  CHECK(scaler.history().size() == 1);
}

#endif
