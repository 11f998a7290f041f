// What DataParallel copies to its replicas, and when: changes that it must see, and copies that it must not make.
#include <atomic>
#include <thread>

#include "core/cuda_nccl.h"
#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using test::close;

namespace {

/// Multiplies, in 16 bits in a region.
struct ProductImpl : Cloneable<ProductImpl> {
  ProductImpl() { reset(); }
  void reset() override { weight = register_parameter("weight", randn({4, 4})); }
  Tensor forward(const Tensor& x) { return x.matmul(weight); }
  Tensor weight;
};

}  // namespace

TEST_CASE("a parameter that moves inside one storage is copied anew", "[parallel][amp]") {
  const auto on = devices(2);
  const Tensor bank = randn({2, 4, 4}), x = randn({4, 4});
  const bool in_region = GENERATE(false, true), recorded = GENERATE(false, true);
  const AutoGradMode mode(recorded);
  const amp::autocast region(on[0].type(), kBFloat16, in_region);
  auto net = std::make_shared<ProductImpl>();
  DataParallel parallel(net, on);
  for (const std::int64_t row : {0, 1, 0}) {
    net->weight.set_data(bank[row]);
    CHECK(close(parallel(x), x.matmul(bank[row]), 1e-6));
  }
}

TEST_CASE("what a replayed graph wrote is copied anew", "[cuda][parallel]") {
  need_gpus(2);
  const auto on = cuda_devices();
  auto net = std::make_shared<ProductImpl>();
  net->to(on[0]);
  DataParallel parallel(net, {on[0], on[1]});
  const Tensor x = randn({4, 4}, on[0]), step = ones({4, 4}, on[0]);
  const NoGradGuard no_grad;
  cuda::Graph graph(on[0]);
  const auto write = [&] { net->weight.add_(step); };
  write();
  graph.capture(write);
  parallel(x);
  const auto replays = cuda::graph_replays(on[0]);
  graph.replay();
  CHECK(cuda::graph_replays(on[0]) == replays + 1);
  CHECK(cuda::graph_replays(kCPU) == 0);
  CHECK(close(parallel(x), x.matmul(net->weight)));
}

TEST_CASE("replicas of a factory may keep their parameters in one storage", "[parallel][amp]") {
  struct BankedImpl : Module {
    explicit BankedImpl(const Tensor& bank) {
      a = register_parameter("a", bank[1]);
      b = register_parameter("b", bank[2]);
    }
    Tensor forward(const Tensor& x) { return x.matmul(a).tanh().matmul(b) + a[0]; }  // in 16 bits, and as it is
    Tensor a, b;
  };
  const auto on = devices(3);
  auto net = std::make_shared<BankedImpl>(randn({3, 4, 4}));
  const Device last = on[2];
  DataParallel parallel(net, DataParallelOptions().device_ids(on).replica_factory([last] {
    return std::make_shared<BankedImpl>(zeros({3, 4, 4}, last));
  }));
  const Tensor x = randn({6, 4});
  for (const bool in_region : {true, false, true}) {
    const amp::autocast region(on[0].type(), kBFloat16, in_region);
    CHECK(close(parallel(x), net->forward(x), 1e-6));
  }
}

TEST_CASE("a replica that ties what the module does not is refused", "[parallel][errors]") {
  struct PairImpl : Module {
    explicit PairImpl(bool is_tied) {
      a = register_parameter("a", randn({2, 2}));
      b = register_parameter("b", is_tied ? a : randn({2, 2}));
    }
    Tensor forward(const Tensor& x) { return x.matmul(a).matmul(b); }
    Tensor a, b;
  };
  const auto on = devices(2);
  const auto with = [&](bool net_is_tied, bool replica_is_tied) {
    return DataParallel(std::make_shared<PairImpl>(net_is_tied),
                        DataParallelOptions().device_ids(on).replica_factory(
                            [replica_is_tied] { return std::make_shared<PairImpl>(replica_is_tied); }));
  };
  const Tensor x = randn({4, 2});
  CHECK_THROWS_WITH(with(false, true)(x), ContainsSubstring("in the replica 'b' is the same tensor as 'a'"));
  DataParallel untied = with(true, false), tied = with(true, true);
  CHECK(close(untied(x), untied->module->forward(x)));
  CHECK(close(tied(x), tied->module->forward(x)));
}

namespace {

/// A table that forward writes to, in each replica.
struct LimitedImpl : Cloneable<LimitedImpl> {
  LimitedImpl() { reset(); }
  void reset() override {
    table = register_module("table", Embedding(EmbeddingOptions(50, 8).max_norm(0.5)));
    fc = register_module("fc", Linear(8, 2));
  }
  Tensor forward(const Tensor& words) { return fc(table(words)); }
  Embedding table{nullptr};
  Linear fc{nullptr};
};

}  // namespace

TEST_CASE("an embedding that limits its norms writes while other replicas read", "[parallel][amp][threads]") {
  for (const int count : {2, 3, 4}) {
    const auto on = devices(count);
    for (int i = 0; i < 25; ++i) {
      auto net = std::make_shared<LimitedImpl>();
      DataParallelOptions options;
      if (i % 2 == 0) options.replica_factory([] { return std::make_shared<LimitedImpl>(); });  // without the values
      DataParallel parallel(net, options.device_ids(on));
      const Tensor words = randint(50, {12}, kInt64).to(on[0]);
      const amp::autocast region(on[0].type(), kBFloat16);
      CHECK(close(parallel(words), net->forward(words), 1e-2));
      CHECK(close(parallel(words), net->forward(words), 1e-2));
    }
  }
}

TEST_CASE("what a forward was seen to write is not left behind again", "[parallel][amp][errors][threads]") {
  static std::atomic<bool> is_written;
  struct WritesImpl : Cloneable<WritesImpl> {
    WritesImpl() { reset(); }
    void reset() override { weight = register_parameter("weight", ones({2, 2})); }
    Tensor forward(const Tensor& x, bool writes) {
      if (writes && x.device() == devices(2)[0]) {
        const NoGradGuard no_grad;
        weight.mul_(2);
        is_written = true;
      }
      while (writes && !is_written) std::this_thread::yield();
      return x.matmul(weight) + weight[0];
    }
    Tensor weight;
  };
  const auto on = devices(2);
  auto net = std::make_shared<WritesImpl>();
  DataParallel parallel(net, on);
  const Tensor x = ones({2, 2});
  const amp::autocast region(on[0].type(), kBFloat16);
  parallel(x, false);
  {
    const NoGradGuard no_grad;
    net->weight.mul_(1);
  }
  is_written = false;
  CHECK_THROWS_WITH(parallel(x, true), ContainsSubstring("replica 1 on " + on[1].str()) &&
                                           ContainsSubstring("the original of 'weight' was written to"));
  is_written = false;
  const Tensor y = parallel(x, true);
  CHECK(values(y[1]) == std::vector<double>{6, 6});  // 2 * 2 + 2: as it was before this forward
}

TEST_CASE("a parameter that a forward leaves out is cast again when it is used", "[parallel][amp]") {
  const auto on = devices(2);
  static std::shared_ptr<Storage> bytes;
  struct SometimesImpl : Cloneable<SometimesImpl> {
    SometimesImpl() { reset(); }
    void reset() override { weight = register_parameter("weight", randn({4, 4})); }
    Tensor forward(const Tensor& x, bool used) {
      if (x.device() == devices(2)[1]) bytes = weight.storage();
      return used ? x.matmul(weight) : x;
    }
    Tensor weight;
  };
  auto net = std::make_shared<SometimesImpl>();
  DataParallel parallel(net, on);
  const Tensor x = randn({4, 4});
  const amp::autocast region(on[0].type(), kBFloat16);
  parallel(x, true);
  for (const bool used : {true, false, true}) {
    {
      const NoGradGuard no_grad;
      net->weight.add_(1);
    }
    CHECK(close(parallel(x, used), net->forward(x, used), 1e-6));
    CHECK(bytes->is_deferred());
  }
  bytes = nullptr;
}

TEST_CASE("a weight that an embedding and a product share is read by both", "[parallel][amp]") {
  struct SharedImpl : Cloneable<SharedImpl> {
    SharedImpl() { reset(); }
    void reset() override {
      table = register_module("table", Embedding(6, 4));
      decoder = register_parameter("decoder", table->weight);
    }
    Tensor forward(const Tensor& words) { return linear(table(words), decoder); }
    Embedding table{nullptr};
    Tensor decoder;
  };
  const auto on = devices(2);
  auto net = std::make_shared<SharedImpl>();
  DataParallel parallel(net, on);
  const Tensor words = arange(6, kInt64).to(on[0]);
  for (int i = 0; i < 3; ++i) {
    const amp::autocast region(on[0].type(), kBFloat16);
    const Tensor y = parallel(words);
    CHECK(close(y, net->forward(words), 1e-6));
    const Tensor g = autograd::grad({y.to(kFloat32).square().sum()}, {net->decoder})[0];
    const Tensor expected = autograd::grad({net->forward(words).to(kFloat32).square().sum()}, {net->decoder})[0];
    CHECK(close(g, expected, 0.1));
    const NoGradGuard no_grad;
    net->decoder.mul_(1.25);
  }
}

TEST_CASE("frozen parameters and half() between forwards in a region are seen", "[parallel][amp]") {
  const auto on = devices(2);
  TwoLayers net;
  DataParallel parallel(net, on);
  const Tensor x = randn({4, 4});
  const auto step = [&] {
    const amp::autocast region(on[0].type(), kBFloat16);
    const Tensor y = parallel(x);
    CHECK(close(y, net(x), 1e-6));
    net->zero_grad();
    if (y.requires_grad()) y.to(kFloat32).sum().backward();
  };
  step();
  net->first->weight.requires_grad_(false);
  step();
  CHECK_FALSE(net->first->weight.grad().defined());
  CHECK(net->first->bias.grad().defined());
  net->requires_grad_(false);
  step();
  net->first->weight.requires_grad_();
  step();
  CHECK(net->first->weight.grad().dtype() == kFloat32);
  CHECK_FALSE(net->second->weight.grad().defined());
  net->half();
  step();
  CHECK(net->first->weight.grad().dtype() == kFloat16);
  net->to(kFloat32);
  step();
  CHECK(net->first->weight.grad().dtype() == kFloat32);
}

TEST_CASE("gradients of some parameters alone, with hooks, kept graphs and graphs of gradients", "[parallel][amp]") {
  const auto on = devices(3);
  const bool in_region = GENERATE(false, true);
  TwoLayers net;
  const TwoLayers plain = net.clone();
  DataParallel parallel(net, on);
  const Tensor x = randn({6, 4});
  const amp::autocast region(on[0].type(), kBFloat16, in_region);
  const double tolerance = in_region ? 0.05 : 1e-4;
  const auto loss_of = [&](const auto& module) { return module(x).to(kFloat32).square().sum(); };

  const Tensor loss = loss_of(parallel), expected = loss_of(plain);
  const auto one = autograd::grad({loss}, {net->second->weight}, {}, /*retain_graph=*/true);
  CHECK(close(one[0], autograd::grad({expected}, {plain->second->weight}, {}, true)[0], tolerance));
  CHECK_FALSE(net->second->weight.grad().defined());

  const std::vector<Tensor> only{net->first->bias};
  loss.backward({}, /*keep_graph=*/true, /*create_graph=*/false, TensorList(only));
  CHECK(net->first->bias.grad().defined());
  CHECK_FALSE(net->first->weight.grad().defined());
  net->zero_grad();

  int calls = 0;
  const auto hook = net->first->weight.register_hook([&](const Tensor& g) {
    ++calls;
    return g * 2;
  });
  loss.backward();
  CHECK(calls == 1);
  net->first->weight.remove_hook(hook);
  expected.backward();
  CHECK(close(net->first->weight.grad(), plain->first->weight.grad() * 2, tolerance));
  CHECK(close(net->second->bias.grad(), plain->second->bias.grad(), tolerance));

  const auto penalty = [&](const auto& module, const TwoLayers& of) {
    const auto g = autograd::grad({loss_of(module)}, {of->second->weight}, {}, nullopt, /*create_graph=*/true);
    return g[0].square().sum();
  };
  plain->zero_grad();
  net->zero_grad();
  penalty(parallel, net).backward();
  penalty(plain, plain).backward();
  if (!in_region) CHECK(gradient_difference(*net, *plain) < 1e-2);
  CHECK(net->second->weight.grad().defined());
}

TEST_CASE("the gradient of one parameter does not ask for those of others", "[parallel]") {
  struct TwoResultsImpl : Cloneable<TwoResultsImpl> {
    TwoResultsImpl() { reset(); }
    void reset() override { layers = register_module("layers", TwoLayers()); }
    std::pair<Tensor, Tensor> forward(const Tensor& x) {
      const Tensor h = layers->first(x).tanh();
      return {h, layers->second(h)};
    }
    std::shared_ptr<TwoLayersImpl> layers;
  };
  auto net = std::make_shared<TwoResultsImpl>();
  DataParallel parallel(net, devices(2));
  const Tensor x = randn({4, 4});
  const auto [h, y] = parallel(x);
  const auto [plain_h, plain_y] = net->forward(x);
  h.sum().backward();  // what led to h is gone
  plain_h.sum().backward();
  const Tensor weight = net->layers->second->weight;
  CHECK(
      close(autograd::grad({y.sum()}, {weight}, {}, true)[0], autograd::grad({plain_y.sum()}, {weight}, {}, true)[0]));
  CHECK_THROWS_WITH(autograd::grad({y.sum()}, {net->layers->first->weight}), ContainsSubstring("a second time"));
}

TEST_CASE("a copy of a model with a DataParallel in it has its weights, mode and hooks", "[parallel][module]") {
  struct OuterImpl : Cloneable<OuterImpl> {
    OuterImpl() { reset(); }
    void reset() override { inner = register_module("inner", DataParallel(TwoLayers(), devices(2))); }
    Tensor forward(const Tensor& x) { return inner->forward(x); }
    std::shared_ptr<DataParallelImpl<TwoLayersImpl>> inner;
  };
  OuterImpl net;
  net.inner->module->first->eval();
  int calls = 0;
  net.inner->register_forward_hook([&](Module&, const std::vector<Tensor>&, const Tensor&) { ++calls; });
  const auto copy = std::dynamic_pointer_cast<OuterImpl>(net.clone());
  const Tensor x = randn({4, 4});
  CHECK(close(copy->forward(x), net.forward(x)));
  CHECK_FALSE(copy->inner->module->first->is_training());
  CHECK(copy->inner->has_hooks());
  CHECK(copy->inner->module->first->path() == "inner.module.first");
  CHECK_FALSE(copy->inner->module->first->weight.is_alias_of(net.inner->module->first->weight));
  {
    const NoGradGuard no_grad;
    copy->inner->module->first->weight.zero_();
  }
  CHECK_FALSE(close(copy->forward(x), net.forward(x)));
  const auto alone = std::dynamic_pointer_cast<DataParallelImpl<TwoLayersImpl>>(net.inner->clone());
  CHECK(close(alone->forward(x), net.forward(x)));
  CHECK(alone->devices() == net.inner->devices());
}

TEST_CASE("a member that cannot be copied is an error, not a member with other weights", "[module][errors]") {
  struct PlainImpl : Module {
    PlainImpl() { weight = register_parameter("weight", randn({2})); }
    Tensor weight;
  };
  struct OuterImpl : Cloneable<OuterImpl> {
    OuterImpl() { reset(); }
    void reset() override { plain = register_module("plain", std::make_shared<PlainImpl>()); }
    std::shared_ptr<PlainImpl> plain;
  };
  CHECK_THROWS_WITH(OuterImpl().clone(),
                    ContainsSubstring("'plain' has parameters or buffers and no way to be copied; derive"));
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("a forward without changes copies inputs and outputs alone", "[cuda][parallel][amp]") {
  const AllowNccl off(false);
  const auto on = cuda_devices();
  const std::size_t others = on.size() - 1;
  TwoLayers net;
  net->to(on[0]);
  DataParallel parallel(net, on);
  const Tensor x = randn({8, 4}, on[0]);
  const NoGradGuard no_grad;
  for (const bool in_region : {false, true}) {
    const amp::autocast region(kCUDA, kBFloat16, in_region);
    parallel(x);
    cudasim::reset_counters();
    parallel(x);
    CHECK(counted(&cudasim::Counters::peer_copies) == 2 * others);
    CHECK(counted(&cudasim::Counters::host_to_device) == 0);
    CHECK(counted(&cudasim::Counters::host_waits) == 0);
  }
}

TEST_CASE("without changes no weight is cast again in evaluation", "[cuda][parallel][amp][launches]") {
  need_gpus(2);
  const auto on = cuda_devices();
  TwoLayers net;
  net->to(on[0]);
  DataParallel parallel(net, on);
  const Tensor x = randn({8, 4}, on[0]);
  const NoGradGuard no_grad;
  parallel(x);
  const auto launches = [&] {
    const amp::autocast region(kCUDA, kBFloat16);
    cudasim::reset_counters();
    parallel(x);
    return cudasim::counters()[0].launches;
  };
  const auto first = launches();
  CHECK(launches() + 4 == first);  // the casts of two weights and two biases
}

TEST_CASE("new replicas are copied once, by clone()", "[cuda][parallel]") {
  const AllowNccl off(false);
  const auto on = cuda_devices();
  const std::size_t others = on.size() - 1;
  TwoLayers net;
  net->to(on[0]);
  DataParallel parallel(net, DataParallelOptions().device_ids(on).persistent(false));
  const Tensor x = randn({8, 4}, on[0]);
  for (int i = 0; i < 2; ++i) {
    cudasim::reset_counters();
    parallel(x);
    CHECK(counted(&cudasim::Counters::peer_copies) == (4 + 2) * others);
  }
}

TEST_CASE("a training step on several GPUs under a scaler never waits", "[cuda][parallel][amp]") {
  const auto on = cuda_devices();
  TwoLayers net;
  net->to(on[0]);
  DataParallel parallel(net, on);
  optim::SGD optimizer(net->parameters(), optim::SGDOptions(0.1));
  amp::GradScaler scaler(kCUDA);
  const Tensor x = randn({8, 4}, on[0]);
  for (int i = 0; i < 3; ++i) {
    cudasim::reset_counters();
    optimizer.zero_grad();
    Tensor loss;
    {
      const amp::autocast region(kCUDA, kFloat16);
      loss = parallel(x).to(kFloat32).square().mean();
    }
    scaler.scale(loss).backward();
    scaler.step(optimizer);
    scaler.update();
    if (i > 0) CHECK(counted(&cudasim::Counters::host_waits) == 0);
  }
}

TEST_CASE("the gradients of all parameters are added up in one NCCL call", "[cuda][nccl][launches]") {
  need_gpus(2);
  if (cuda::nccl::version() == 0) return;
  const auto on = cuda_devices();
  Sequential net;
  for (int i = 0; i < 10; ++i) net->push_back(Linear(4, 4));
  net->to(on[0]);
  DataParallel parallel(net, on);
  const Tensor x = randn({8, 4}, on[0]);
  for (const bool in_region : {false, true}) {
    const amp::autocast region(kCUDA, kBFloat16, in_region);
    const Tensor loss = parallel(x).to(kFloat32).sum();
    cudasim::reset_counters();
    loss.backward();
    CHECK(cudasim::launches_by_kernel_name().at("nccl") == on.size());
  }
}

TEST_CASE("a copy that fails while replicas are bound is made by the next forward", "[cuda][parallel][errors]") {
  need_gpus(4);
  const AllowNccl off(false);
  const auto on = cuda_devices();
  const bool in_region = GENERATE(false, true);
  TwoLayers net;
  net->to(on[0]);
  DataParallel parallel(net, on);
  const Tensor x = randn({8, 4}, on[0]);
  const amp::autocast region(kCUDA, kBFloat16, in_region);
  parallel(x);
  for (std::uint64_t n = 1; n <= 12; ++n) {
    {
      const NoGradGuard no_grad;
      for (const Tensor& p : net->parameters()) p.mul_(1.5);
    }
    cudasim::fail_call(cudasim::Kind::copy, n);
    CHECK_THROWS_AS(parallel(x), Error);
    cudasim::clear_failures();
    CHECK(close(parallel(x), net(x), 1e-6));
  }
}

TEST_CASE("a forward over two GPUs cannot be captured, and says so", "[cuda][parallel][errors]") {
  need_gpus(2);
  const auto on = cuda_devices();
  TwoLayers net;
  net->to(on[0]);
  DataParallel parallel(net, {on[0], on[1]});
  const Tensor x = randn({8, 4}, on[0]);
  const NoGradGuard no_grad;
  const Tensor expected = parallel(x);
  cuda::Graph graph(on[0]);
  CHECK_THAT(message_of_error([&] { graph.capture([&] { parallel(x); }); }), ContainsSubstring("captur"));
  CHECK(close(parallel(x), expected));
}

TEST_CASE("replicas made inside the forward of replicas do not wait for each other", "[cuda][nccl][threads]") {
  need_gpus(2);
  const auto on = cuda_devices();
  auto shared = std::make_shared<TwoLayersImpl>();
  shared->to(on[0]);
  struct MakerImpl : Cloneable<MakerImpl> {
    void reset() override {}
    Tensor forward(const Tensor& x) {
      TwoLayers own;
      own->to(x.device());
      const Device other = x.device() == cuda_devices()[0] ? cuda_devices()[1] : cuda_devices()[0];
      const auto replicas = parallel::replicate(own, {x.device(), other});
      const Tensor there = x.to(other);
      return replicas[0]->forward(x) - replicas[1]->forward(there).to(x.device());
    }
  };
  DataParallel parallel(std::make_shared<MakerImpl>(), on);
  const amp::autocast region(kCUDA, kBFloat16);
  for (int i = 0; i < 5; ++i) CHECK(close(parallel(randn({8, 4}, on[0])), zeros({8, 3}, on[0]), 1e-6));
}

#endif
