// Several GPUs together, by NCCL.
#include "core/cuda_nccl.h"

#include <thread>

#include "nn/parallel/comm.h"
#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using Doubles = std::vector<double>;
using Devices = std::vector<Device>;
namespace comm = nn::parallel::comm;

namespace {

/// Whether the machine can run these tests.
bool has_nccl() { return cuda::nccl::version() > 0 && cuda::device_count() >= 2; }

/// [1, 2, ...] times k + 1 on the k-th device.
std::vector<Tensor> multiples(const Devices& on, Dtype dtype, std::int64_t n = 5) {
  std::vector<Tensor> all;
  for (std::size_t k = 0; k < on.size(); ++k)
    all.push_back((arange(1, n + 1, TensorOptions(kFloat64).device(on[k])) * static_cast<double>(k + 1)).to(dtype));
  return all;
}

Doubles times(double factor, std::int64_t n = 5) {
  Doubles all;
  for (std::int64_t i = 1; i <= n; ++i) all.push_back(static_cast<double>(i) * factor);
  return all;
}

}  // namespace

TEST_CASE("NCCL serves two or more different GPUs, none of which captures a graph", "[cuda][nccl]") {
  CHECK_FALSE(cuda::nccl::serves(Devices{{kCPU, 0}, {kCPU, 1}}));
  CHECK_FALSE(cuda::nccl::serves({}));
  if (!has_nccl()) return;
  const Device a(kCUDA, 0), b(kCUDA, 1);
  CHECK(cuda::nccl::serves(Devices{a, b}));
  CHECK(cuda::nccl::serves(Devices{b, a}));
  CHECK_FALSE(cuda::nccl::serves(Devices{a}));
  CHECK_FALSE(cuda::nccl::serves(Devices{a, a}));
  CHECK_FALSE(cuda::nccl::serves(Devices{a, kCPU}));
  {
    const AllowNccl off(false);
    CHECK_FALSE(cuda::nccl::serves(Devices{a, b}));
  }
  cuda::Graph graph(a);
  graph.capture([&] { CHECK_FALSE(cuda::nccl::serves(Devices{a, b})); });
}

TEST_CASE("NCCL broadcasts every dtype and any dense layout", "[cuda][nccl]") {
  if (!has_nccl()) return;
  for (const Device root : cuda_devices()) {
    std::vector<cuda::nccl::Spread> spreads;
    const auto add = [&](const Tensor& from) {
      spreads.push_back({from, {}});
      for (const Device device : cuda_devices()) {
        if (device != root) spreads.back().to.push_back(empty_like(from, TensorOptions(device)));
      }
    };
    for (const Dtype dtype : kDtypes) add(arange(12, TensorOptions(kInt64).device(root)).to(dtype).reshape({3, 4}));
    add(arange(12, TensorOptions(kFloat32).device(root)).reshape({3, 4}).t());
    add(arange(9, TensorOptions(kUInt8).device(root)).slice(0, 1));  // at an odd address
    add(empty({0, 3}, root));
    comm::copy_elements(spreads, cuda_devices());
    for (const auto& [from, to] : spreads) {
      for (const Tensor& copy : to) CHECK(equal(copy.cpu(), from.cpu()));
    }
  }
}

TEST_CASE("NCCL adds up float32 and float64, sums of 16 bits are float32's", "[cuda][nccl]") {
  if (!has_nccl()) return;
  const Devices on = cuda_devices();
  const auto n = static_cast<double>(on.size());
  for (const Device root : on) {
    for (const Dtype dtype : {kFloat32, kFloat64, kFloat16, kBFloat16}) {
      const Tensor sum = comm::reduce_add(multiples(on, dtype), root);
      CHECK(sum.device() == root);
      CHECK(sum.dtype() == (dtype == kFloat64 ? kFloat64 : kFloat32));
      CHECK(values(sum) == times(n * (n + 1) / 2));
    }
  }
  // 2048 + 1 is 2048 in float16.
  std::vector<Tensor> halves;
  for (std::size_t k = 0; k < on.size(); ++k)
    halves.push_back(full({3}, k == 0 ? 2048. : 1., TensorOptions(kFloat16).device(on[k])));
  CHECK(values(comm::reduce_add(halves, on[0])) == Doubles(3, 2047 + n));
}

TEST_CASE("NCCL gives every device the sum", "[cuda][nccl]") {
  if (!has_nccl()) return;
  const Devices on = cuda_devices();
  const auto n = static_cast<double>(on.size());
  for (const Dtype dtype : {kFloat32, kFloat64, kFloat16}) {
    const std::vector<Tensor> sums = comm::all_reduce(multiples(on, dtype), std::vector<Edge>(on.size()));
    for (std::size_t k = 0; k < on.size(); ++k) {
      CHECK(sums[k].device() == on[k]);
      CHECK(values(sums[k]) == times(n * (n + 1) / 2));
    }
  }
}

TEST_CASE("what NCCL does not take is added and copied all the same", "[cuda][nccl]") {
  if (!has_nccl()) return;
  const Devices on = cuda_devices();
  const auto n = static_cast<double>(on.size());
  std::vector<Tensor> tensors = multiples(on, kFloat32);
  const double whole = n * (n + 1) / 2;
  SECTION("a tensor without memory of its own") { tensors[1] = full({}, 7., on[1]).expand({5}); }
  SECTION("another layout") { tensors[1] = multiples({on[1]}, kFloat32, 9)[0].slice(0, 0, 9, 2); }
  SECTION("another dtype") { tensors[1] = tensors[1].to(kFloat64); }
  SECTION("one that is missing") { tensors[1] = Tensor(); }
  SECTION("a history") { tensors[1].requires_grad_(); }
  SECTION("only some of the devices") { tensors.resize(2); }
  SECTION("a sum on a device that brings nothing") { tensors.erase(tensors.begin()); }
  Doubles expected(5, 0.);
  for (const Tensor& t : tensors) {
    for (std::size_t i = 0; t.defined() && i < 5; ++i) expected[i] += values(t)[i];
  }
  CHECK(values(comm::reduce_add(tensors, on[0])) == expected);
  CHECK(whole > 0);
}

TEST_CASE("replicas train alike with and without NCCL", "[cuda][nccl]") {
  if (!has_nccl()) return;
  const Devices on = cuda_devices();
  const bool in_region = GENERATE(false, true);
  const auto train = [&](bool with_nccl) {
    const AllowNccl allowed(with_nccl);
    manual_seed(7);
    TwoLayers net;
    net->to(on[0]);
    nn::DataParallel parallel(net, on);
    optim::SGD optimizer(net->parameters(), optim::SGDOptions(0.1));
    for (int step = 0; step < 3; ++step) {
      optimizer.zero_grad();
      Tensor y;
      {
        const amp::autocast region(kCUDA, kBFloat16, in_region);
        y = parallel(arange(32, TensorOptions(kFloat32).device(on[0])).reshape({8, 4}) / 32);
      }
      (y.to(kFloat32) * y.to(kFloat32)).mean().backward();
      optimizer.step();
    }
    return net;
  };
  const TwoLayers with = train(true), without = train(false);
  const auto left = with->parameters(), right = without->parameters();
  for (std::size_t i = 0; i < left.size(); ++i) CHECK(close(left[i], right[i], 1e-6));
  CHECK(gradient_difference(*with, *without) < 1e-6);
}

TEST_CASE("two threads that use several GPUs at once do not wait for each other in a circle", "[cuda][nccl]") {
  if (!has_nccl()) return;
  const Devices on = cuda_devices();
  const auto work = [&] {
    for (int i = 0; i < 50; ++i) {
      comm::reduce_add(multiples(on, kFloat32), on[0]);
      ones({4}, on[1]).to(on[0]).to(on[1]);
    }
  };
  std::thread other(work);
  work();
  other.join();
  for (const Device device : on) cuda::synchronize(device.index());
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("all parameters of a net go to the replicas in one NCCL call", "[cuda][nccl][launches]") {
  need_gpus(2);
  const Devices on = cuda_devices();
  nn::Sequential net;
  for (int i = 0; i < 10; ++i) net->push_back(nn::Linear(4, 4));
  net->to(on[0]);
  nn::DataParallel parallel(net, on);
  const Tensor x = randn({8, 4}, on[0]);
  const auto nccl_calls = [&] {
    cudasim::reset_counters();
    parallel(x);
    const auto launches = cudasim::launches_by_kernel_name();
    return launches.contains("nccl") ? launches.at("nccl") : 0;
  };
  CHECK(nccl_calls() == 0);  // clone() has brought all
  const NoGradGuard no_grad;
  for (const Tensor& p : net->parameters()) p.mul_(2);
  CHECK(nccl_calls() == on.size());  // one on each device
  CHECK(nccl_calls() == 0);          // nothing has changed
  net->parameters()[3].mul_(2);
  CHECK(nccl_calls() == on.size());
}

TEST_CASE("where NCCL cannot be started GPUs copy to each other, after a warning", "[cuda][nccl]") {
  need_gpus(3);
  const Devices on{{kCUDA, 1}, {kCUDA, 2}};  // no other test uses these alone
  const Warnings warnings;
  cudasim::fail_call(cudasim::Kind::library, 1, 2);  // it may be tried again
  const Tensor sum = comm::reduce_add(multiples(on, kFloat32), on[0]);
  cudasim::clear_failures();
  CHECK(values(sum) == times(3));
  REQUIRE(warnings.texts().size() == 1);
  CHECK_THAT(warnings.texts()[0],
             ContainsSubstring("GPUs copy to each other without NCCL, for it could not be started: NCCL: "
                               "unhandled system error"));
  CHECK(values(comm::reduce_add(multiples(on, kFloat32), on[0])) == times(3));
  CHECK(warnings.texts().size() == 1);
}

TEST_CASE("a collective that fails is an error, and the next one starts anew", "[cuda][nccl]") {
  need_gpus(2);
  const Devices on = cuda_devices();
  TwoLayers net;
  net->to(on[0]);
  nn::DataParallel parallel(net, on);
  const Tensor x = randn({8, 4}, on[0]);
  const Tensor wanted = parallel(x).detach();
  for (std::size_t n = 1; n <= on.size(); ++n) {
    {
      const NoGradGuard no_grad;
      for (Tensor& p : net->parameters()) p.mul_(1);  // counts as a change
    }
    cudasim::fail_call(cudasim::Kind::library, n);
    CHECK_THAT(message_of_error([&] { parallel(x); }), ContainsSubstring("NCCL: unhandled cuda error"));
    cudasim::clear_failures();
    CHECK(close(parallel(x), wanted));
  }
}

#endif
