// DataParallel in an autocast region: what the replicas see, what crosses in 16 bits, how gradients come back.
#include <mutex>

#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using test::close;

namespace {

/// A product, a norm, an embedding: a parameter that is cast, one that never is, one that is read as it is.
struct MixedImpl : Cloneable<MixedImpl> {
  MixedImpl() { reset(); }
  void reset() override {
    table = register_module("table", Embedding(10, 8));
    fc = register_module("fc", Linear(8, 8));
    norm = register_module("norm", LayerNorm(std::vector<std::int64_t>{8}));
    out = register_module("out", Linear(8, 2));
  }
  Tensor forward(const Tensor& words) { return out(norm(fc(table(words)))); }
  Embedding table{nullptr};
  Linear fc{nullptr}, out{nullptr};
  LayerNorm norm{nullptr};
};
TORCH_MODULE(Mixed);

Dtype dtype_in(const std::vector<amp::TraceRecord>& records, std::string_view op, std::size_t input) {
  for (const amp::TraceRecord& r : records) {
    if (r.op == op) return r.inputs[input].ran;
  }
  return Dtype::Undefined;
}

}  // namespace

TEST_CASE("A8: the region reaches every replica with its dtype, its other kinds of device and its cache flag",
          "[parallel][amp][threads]") {
  const auto on = devices(4);
  const DeviceType kind = on[0].type(), other = kind == kCPU ? kCUDA : kCPU;
  std::mutex mutex;
  std::vector<amp::AutocastState> seen;
  DataParallel parallel(Functional([&](const Tensor& x) {
                          const std::scoped_lock lock(mutex);
                          seen.push_back(amp::AutocastState::current());
                          return x;
                        }),
                        on);
  for (const Dtype low : {kBFloat16, kFloat16}) {
    for (const bool cache : {true, false}) {
      seen.clear();
      const amp::autocast region(kind, low, true, cache);
      parallel(ones({4, 2}));
      REQUIRE(seen.size() == 4);
      for (const amp::AutocastState& state : seen) {
        CHECK(state.of(kind).enabled);
        CHECK(state.of(kind).low == low);
        CHECK(state.of(other).enabled == amp::is_autocast_enabled(other));
        CHECK(state.cache_enabled == cache);
      }
      {
        seen.clear();
        const amp::autocast off(kind, nullopt, /*enabled=*/false);
        parallel(ones({4, 2}));
        for (const amp::AutocastState& state : seen) CHECK_FALSE(state.of(kind).enabled);
      }
    }
  }
  CHECK_FALSE(amp::is_autocast_enabled(kind));
}

TEST_CASE("test_autocast: a region opened in the module's own forward works too", "[parallel][amp][threads]") {
  struct OwnRegion : Cloneable<OwnRegion> {
    OwnRegion() { reset(); }
    void reset() override { fc = register_module("fc", Linear(4, 4)); }
    Tensor forward(const Tensor& x) {
      const amp::autocast region(x.device().type(), kFloat16);
      return fc(x);
    }
    Linear fc{nullptr};
  };
  DataParallel parallel(std::make_shared<OwnRegion>(), devices(2));
  const Tensor y = parallel(randn({4, 4}));
  CHECK(y.dtype() == kFloat16);
  y.sum().backward();
  CHECK(parallel->module->fc->weight.grad().dtype() == kFloat32);
}

TEST_CASE("test_parallel_apply_autocast: the region propagates", "[parallel][amp][threads]") {
  const auto on = devices(2);
  Linear a(3, 2), b(3, 2);
  b->to(on[1]);
  const amp::autocast region(on[0].type(), kBFloat16);
  const auto out = parallel::parallel_apply(std::vector<Linear>{a, b},
                                            std::vector<Tensor>{randn({2, 3}, on[0]), randn({2, 3}, on[1])}, on);
  CHECK(out[0].dtype() == kBFloat16);
  CHECK(out[1].dtype() == kBFloat16);
}

TEST_CASE("in a region results and gradients are those of the plain module in the region", "[parallel][amp][threads]") {
  const auto on = devices(3);
  for (const Dtype low : {kBFloat16, kFloat16}) {
    for (const bool cache : {true, false}) {
      manual_seed(3);
      Mixed net;
      const Mixed plain = net.clone();
      DataParallel parallel(net, on);
      const Tensor words = randint(10, {7});
      for (int step = 0; step < 3; ++step) {
        const amp::autocast region(on[0].type(), low, true, cache);
        const Tensor y = parallel(words), expected = plain(words);
        CHECK(y.dtype() == low);
        CHECK(close(y, expected, 1e-6));
        y.to(kFloat32).square().sum().backward();
        expected.to(kFloat32).square().sum().backward();
        for (const Tensor& p : net->parameters()) CHECK(p.grad().dtype() == kFloat32);
        const double rounding = low == kBFloat16 ? 0.1 : 0.02;
        CHECK(gradient_difference(*net, *plain) < rounding);
        const NoGradGuard no_grad;
        for (const Tensor& p : net->parameters()) p.sub_(p.grad(), 0.01);  // the next step needs new copies
        plain->load_state_dict(net->state_dict());
        net->zero_grad();
        plain->zero_grad();
      }
    }
  }
}

TEST_CASE("norms keep their float32 parameters in a region", "[parallel][amp][threads]") {
  const auto on = devices(2);
  DataParallel parallel(Mixed(), on);
  {
    const NoGradGuard no_grad;
    parallel->module->norm->weight.fill_(1 + 1. / 4096);  // which neither 16-bit type holds
  }
  const Tensor words = randint(10, {4});
  for (int step = 0; step < 3; ++step) {
    const amp::autocast region(on[0].type(), kBFloat16);
    const amp::trace trace;
    parallel(words);
    CHECK(dtype_in(trace.records(), "linear", 1) == kBFloat16);
    CHECK(dtype_in(trace.records(), "layer_norm", 1) == kFloat32);
  }
}

namespace {

/// Shows the weight of the second replica.
struct Peek : Cloneable<Peek> {
  Peek() { reset(); }
  void reset() override { fc = register_module("fc", Linear(64, 64)); }
  Tensor forward(const Tensor& x, bool reads) {
    if (x.device() == devices(2)[1]) seen = fc->weight.storage();
    return reads ? fc(x) + fc->weight.sum() : fc(x);
  }
  Linear fc{nullptr};
  static inline std::shared_ptr<Storage> seen;
};

}  // namespace

TEST_CASE("in a region what only products read crosses in 16 bits, and float32 bytes stay behind", "[parallel][amp]") {
  const auto on = devices(2);
  auto module = std::make_shared<Peek>();
  DataParallel parallel(module, on);
  const auto step = [&](bool reads) {
    {
      const NoGradGuard no_grad;
      module->fc->weight.mul_(1.01);
    }
    const amp::autocast region(on[0].type(), kBFloat16);
    const Tensor y = parallel(randn({4, 64}), reads);
    CHECK(close(y, module->forward(y.detach() * 0, reads).detach() * 0 + y));  // the original can still be called
    return Peek::seen->is_deferred();
  };
  CHECK_FALSE(step(false));  // clone() has brought all
  CHECK(step(false));
  CHECK(step(false));
  CHECK_FALSE(step(true));   // fetched when it was read
  CHECK_FALSE(step(false));  // and from then on copied at once
  Peek::seen = nullptr;
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("in a region parameters and their gradients are half the traffic", "[cuda][nccl][parallel][amp]") {
  need_gpus(3);
  const auto on = cuda_devices();
  const bool with_nccl = GENERATE(false, true);
  const AllowNccl allowed(with_nccl);
  Sequential net(Linear(64, 32), ReLU(), Linear(32, 64));
  net->to(on[0]);
  std::uint64_t parameters = 0;
  for (const Tensor& p : net->parameters()) parameters += p.nbytes();
  const std::uint64_t to_all = parameters * (on.size() - 1);
  DataParallel parallel(net, on);
  const Tensor x = randn({8, 64}, on[0]);
  const auto bytes_of = [](const auto& work) {
    cudasim::reset_counters();
    work();
    return counted(&cudasim::Counters::peer_bytes);
  };
  parallel(x);  // makes the replicas
  for (const bool in_region : {false, true}) {
    INFO((with_nccl ? "NCCL" : "copies") << (in_region ? ", in a region" : ""));
    const amp::autocast region(kCUDA, kBFloat16, in_region);
    const std::uint64_t share = in_region ? 2 : 1;
    {
      const NoGradGuard no_grad;
      touch_parameters(*net);
      parallel(x);
      const std::uint64_t inputs_and_outputs = bytes_of([&] { parallel(x); });
      touch_parameters(*net);
      CHECK(bytes_of([&] { parallel(x); }) - inputs_and_outputs == to_all / share);
    }
    const Tensor y = parallel(x);
    const std::uint64_t gradients_of_outputs = y.nbytes() / on.size() * (on.size() - 1);
    CHECK(bytes_of([&] { y.sum().backward(); }) - gradients_of_outputs == to_all / share);
  }
}

#endif

TEST_CASE("float32 bytes that are fetched late are those of the forward's weights", "[parallel][amp][threads]") {
  const auto on = devices(3);
  struct Reads : Cloneable<Reads> {
    Reads() { reset(); }
    void reset() override { weight = register_parameter("weight", randn({4, 4})); }
    Tensor forward(const Tensor& x) { return x.matmul(weight) + weight[0]; }  // in 16 bits, and as it is
    Tensor weight;
  };
  auto net = std::make_shared<Reads>();
  DataParallel parallel(net, on);
  const Tensor x = randn({6, 4});
  for (int i = 0; i < 4; ++i) {
    const amp::autocast region(on[0].type(), kBFloat16);
    CHECK(close(parallel(x), net->forward(x), 1e-6));
    const NoGradGuard no_grad;
    net->weight.add_(1);
  }
}

TEST_CASE("a write to a parameter whose bytes others have yet to fetch is an error", "[parallel][amp][errors]") {
  const auto on = devices(2);
  struct Writes : Cloneable<Writes> {
    Writes() { reset(); }
    void reset() override { fc = register_module("fc", Linear(2, 2)); }
    Tensor forward(const Tensor& x) { return fc(x); }
    Linear fc{nullptr};
  };
  auto net = std::make_shared<Writes>();
  std::shared_ptr<Tensor> held = std::make_shared<Tensor>();
  net->fc->register_forward_pre_hook([held, on](Module& m, const std::vector<Tensor>& in) {
    if (in[0].device() == on[1]) *held = m.parameters()[0];
  });
  DataParallel parallel(net, on);
  const NoGradGuard no_grad;
  for (int i = 0; i < 2; ++i) {
    net->fc->weight.mul_(2);
    const amp::autocast region(on[0].type(), kBFloat16);
    parallel(randn({2, 2}));
  }
  net->fc->weight.mul_(2);
  CHECK_THROWS_WITH(
      held->clone(),
      ContainsSubstring("the original of 'fc.weight' was written to before its replica on " + on[1].str()));
  *held = Tensor();
}

TEST_CASE("gradients of 16 bits are summed in float32, over uses and over replicas", "[parallel][amp][threads]") {
  const auto on = devices(4);
  struct ManyUses : Cloneable<ManyUses> {
    ManyUses() { reset(); }
    void reset() override { weight = register_parameter("weight", ones({1, 1})); }
    Tensor forward(const Tensor& x) {
      Tensor sum = zeros({x.size(0), 1}, x.options());
      for (int i = 0; i < 500; ++i) sum = sum + linear(x, weight).to(kFloat32);
      return sum;
    }
    Tensor weight;
  };
  for (const bool cache : {true, false}) {
    auto net = std::make_shared<ManyUses>();
    DataParallel parallel(net, on);
    for (int step = 0; step < 2; ++step) {
      net->zero_grad();
      const amp::autocast region(on[0].type(), kBFloat16, true, cache);
      parallel(ones({4, 1})).sum().backward();
      CHECK(values(net->weight.grad()) == std::vector<double>{2000});
    }
  }
  // A model of 16 bits: 300 gradients of 1 from two replicas, 2 from others: bfloat16 would lose the small ones.
  auto half = std::make_shared<ManyUses>();
  half->to(kBFloat16);
  const auto copies = parallel::comm::broadcast(half->weight, on);
  const Tensor total = parallel::comm::reduce_add(
      std::vector<Tensor>{full({1}, 256, on[0]).to(kBFloat16), full({1}, 1, on[1]).to(kBFloat16),
                          full({1}, 1, on[2]).to(kBFloat16), Tensor()},
      on[0]);
  CHECK(total.dtype() == kFloat32);
  CHECK(values(total) == std::vector<double>{258});
}

TEST_CASE("test_strided_grad_layout: gradients have the layout and dtype of the plain module's", "[parallel][amp]") {
  const auto on = devices(2);
  for (const MemoryFormat format : {MemoryFormat::Contiguous, MemoryFormat::ChannelsLast}) {
    for (const Dtype low : {kBFloat16, kFloat16}) {
      for (const int precision : {32, 16, 1632}) {
        Conv2d net(Conv2dOptions(3, 4, 3));
        net->weight.set_data(net->weight.detach().contiguous(format));
        if (precision == 16) net->to(low);
        const Conv2d plain = net.clone();
        const amp::autocast region(on[0].type(), low, precision == 1632);
        DataParallel parallel(net, on);
        const Tensor x = randn({4, 3, 5, 5}).to(net->weight.dtype()).contiguous(format);
        parallel(x).to(kFloat32).sum().backward();
        plain(x).to(kFloat32).sum().backward();
        const Tensor g = net->weight.grad(), expected = plain->weight.grad();
        CHECK(g.strides().equals(expected.strides()));
        CHECK(g.dtype() == expected.dtype());
        CHECK(close(g, expected, precision == 32 ? 1e-4 : 0.5));
      }
    }
  }
}
