// nn::DataParallel at its edges: grad modes, second derivatives, lifetimes, few samples, shared weights, odd results.
#include <array>
#include <atomic>

#include "tests/gradcheck.h"
#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using test::close;

TEST_CASE("test_data_parallel_no_grad: replicas see the caller's mode", "[parallel][threads]") {
  const auto on = devices(2);
  std::array<std::atomic<bool>, 2> recorded{true, true};
  DataParallel parallel(Functional([&](const Tensor& x) {
                          recorded[x.device() == on[0] ? 0 : 1] = GradMode::is_enabled();
                          return x * 2;
                        }),
                        on);
  const Tensor x = randn({4, 4}).requires_grad_();
  {
    const NoGradGuard no_grad;
    CHECK_FALSE(parallel(x).requires_grad());
  }
  CHECK_FALSE(recorded[0].load());
  CHECK_FALSE(recorded[1].load());
  CHECK(parallel(x).requires_grad());
  CHECK(recorded[1].load());

  TwoLayers net;
  DataParallel layers(net, on);
  const NoGradGuard no_grad;
  CHECK_FALSE(layers(randn({4, 4})).requires_grad());
}

namespace {

/// Its state goes from step to step, as that of a recurrent net.
struct RecurrentImpl : Cloneable<RecurrentImpl> {
  RecurrentImpl() { reset(); }
  void reset() override {
    in = register_module("in", Linear(3, 5));
    state = register_module("state", Linear(5, 5));
  }
  std::pair<Tensor, Tensor> forward(const Tensor& sequence, const Tensor& first) {  // [batch, time, 3], [batch, 5]
    Tensor h = first;
    std::vector<Tensor> all;
    for (std::int64_t t = 0; t < sequence.size(1); ++t) {
      h = (in(sequence.select(1, t)) + state(h)).tanh();
      all.push_back(h);
    }
    return {stack(all, 1), h};
  }
  Linear in{nullptr}, state{nullptr};
};
TORCH_MODULE(Recurrent);

}  // namespace

TEST_CASE("test_data_parallel_rnn: a recurrent net with and without a history", "[parallel][threads]") {
  Recurrent net;
  const Recurrent plain = net.clone();
  DataParallel parallel(net, devices(2));
  const Tensor sequence = randn({4, 6, 3}), first = zeros({4, 5});
  for (const bool recorded : {false, true, false}) {
    const AutoGradMode mode(recorded);
    const auto [all, last] = parallel(sequence, first);
    const auto [expected_all, expected_last] = plain->forward(sequence, first);
    CHECK(close(all, expected_all));
    CHECK(close(last, expected_last));
    CHECK(all.requires_grad() == recorded);
    if (!recorded) continue;
    all.square().sum().backward();
    expected_all.square().sum().backward();
    CHECK(gradient_difference(*net, *plain) < 1e-4);
  }
}

namespace {

struct ScaledImpl : Cloneable<ScaledImpl> {
  void reset() override { scale = register_buffer("scale", full({2}, 1.5, kFloat64).requires_grad_()); }
  ScaledImpl() { reset(); }
  Tensor forward(const Tensor& x) { return x * scale * scale; }
  void replace(const Tensor& other) { scale = buffers_["scale"] = other; }
  Tensor scale;
};

}  // namespace

TEST_CASE("test_data_parallel_buffers_requiring_grad: a gradient check through a buffer", "[parallel][gradcheck]") {
  const auto on = devices(2);
  auto net = std::make_shared<ScaledImpl>();
  const Tensor batch = randn({3, 2}, kFloat64);
  DataParallel(net, on)->forward(batch).sum().backward();
  CHECK(close(net->scale.grad(), batch.sum(0) * 2 * 1.5));
  const std::vector<Tensor> inputs{randn({3, 2}, kFloat64), full({2}, 1.5, kFloat64)};
  const Function of_both = [&](In in) {
    net->replace(in[1]);
    return DataParallel(net, on)->forward(in[0]);
  };
  CHECK(gradcheck(of_both, inputs) == "");
  CHECK(gradgradcheck(of_both, inputs) == "");
}

TEST_CASE("test_data_parallel_function_deletion: double backward after the wrapper is gone", "[parallel][threads]") {
  const auto on = devices(2);
  TwoLayers net;
  const TwoLayers plain = net.clone();
  const Tensor x = randn({5, 4}).requires_grad_();
  const auto penalty = [](const Tensor& y, const Tensor& input) {
    const Tensor g = autograd::grad({(y * y).sum()}, {input}, {}, nullopt, /*create_graph=*/true)[0];
    return (g * g).sum();
  };
  Tensor y;
  {
    DataParallel parallel(net, on);
    y = parallel(x);
  }
  penalty(y, x).backward();
  const Tensor same = x.detach().clone().requires_grad_();
  penalty(plain(same), same).backward();
  CHECK(gradient_difference(*net, *plain) < 1e-4);
  CHECK(close(x.grad(), same.grad(), 1e-4));
}

TEST_CASE("test_data_parallel_model_no_refcycles: nothing is left", "[parallel]") {
  const auto on = devices(3);
  std::int64_t before = 0;
  for (int i = 0; i < 3; ++i) {
    if (i == 1) before = live_tensors();  // what libraries keep from their first call on is there by now
    TwoLayers net;
    DataParallel parallel(net, on);
    for (int step = 0; step < 3; ++step) parallel(randn({6, 4})).sum().backward();
    const amp::autocast region(on[0].type(), kBFloat16);
    for (int step = 0; step < 3; ++step) parallel(randn({6, 4})).sum().backward();
  }
  CHECK(live_tensors() == before);
}

TEST_CASE("P1: five samples over four devices use three replicas", "[parallel]") {
  const auto on = devices(4);
  std::atomic<int> calls = 0;
  const Functional count([&](const Tensor& x) {
    ++calls;
    return x;
  });
  DataParallel(count, on)->forward(ones({5, 2}));
  CHECK(calls == 3);
  calls = 0;
  DataParallel(count, DataParallelOptions().device_ids(on).split(parallel::Split::Balanced))->forward(ones({5, 2}));
  CHECK(calls == 4);
}

TEST_CASE("P2: no samples", "[parallel]") {
  TwoLayers net;
  const Tensor y = DataParallel(net, devices(3))->forward(zeros({0, 4}).requires_grad_());
  CHECK(y.sizes().equals({0, 3}));
  y.sum().backward();
  CHECK(values(net->first->bias.grad()) == std::vector<double>(6, 0.0));
}

TEST_CASE("P6: scalars become a vector with one from each replica, and a warning", "[parallel]") {
  const Warnings warnings;
  const auto on = devices(3);
  DataParallel parallel(Functional([](const Tensor& x) { return x.mean(); }), on);
  const Tensor x = arange(8, kFloat32).to(on[0]).requires_grad_();
  const Tensor y = parallel(x);
  parallel(x);
  CHECK(values(y) == std::vector<double>{1, 4, 6.5});
  REQUIRE(warnings.texts().size() == 1);  // once for a wrapper
  CHECK_THAT(warnings.texts()[0], ContainsSubstring("no dimensions") && ContainsSubstring("vector"));
  y.sum().backward();
  CHECK(close(x.grad(), tensor({1. / 3, 1. / 3, 1. / 3, 1. / 3, 1. / 3, 1. / 3, 1. / 2, 1. / 2})));
}

namespace {

/// One weight under two names: tied when registered, or later, which clone() does not see.
struct TiedImpl : Cloneable<TiedImpl> {
  explicit TiedImpl(bool at_once) : tied_at_once(at_once) { reset(); }
  void reset() override {
    a = register_parameter("a", randn({4, 4}));
    b = register_parameter("b", tied_at_once ? a : randn({4, 4}));
  }
  void tie() { b = parameters_["b"] = a; }
  Tensor forward(const Tensor& x) { return x.matmul(a).tanh().matmul(b); }
  bool tied_at_once;
  Tensor a, b;
};

}  // namespace

TEST_CASE("P7: shared weights stay shared", "[parallel][threads]") {
  for (const bool at_once : {true, false}) {
    auto net = std::make_shared<TiedImpl>(at_once), plain = std::make_shared<TiedImpl>(at_once);
    net->tie();
    plain->tie();
    plain->a.set_data(net->a.detach().clone());
    DataParallel parallel(net, devices(3));
    const Tensor x = randn({7, 4});
    for (int step = 0; step < 2; ++step) {
      parallel(x).sum().backward();
      plain->forward(x).sum().backward();
    }
    CHECK(close(net->a.grad(), plain->a.grad()));
    CHECK(net->parameters().size() == 1);
  }
}

namespace {

struct AssigningImpl : Cloneable<AssigningImpl> {
  AssigningImpl() { reset(); }
  void reset() override { fc = register_module("fc", Linear(2, 2)); }
  Tensor forward(const Tensor& x) {
    ++calls;
    last = x;
    return fc(x) + calls;
  }
  Linear fc{nullptr};
  int calls = 0;
  Tensor last;
};

}  // namespace

namespace {

/// One norm under two names.
struct TwiceImpl : Cloneable<TwiceImpl> {
  TwiceImpl() { reset(); }
  void reset() override {
    fc = register_module("fc", Linear(4, 4));
    before = register_module("before", BatchNorm1d(4));
    after = register_module("after", before);
  }
  Tensor forward(const Tensor& x) { return after->forward(fc(before->forward(x))); }
  Linear fc{nullptr};
  std::shared_ptr<BatchNorm1dImpl> before, after;
};

}  // namespace

TEST_CASE("P7: a norm that is registered twice stays one", "[parallel][threads]") {
  const auto on = devices(2);
  auto net = std::make_shared<TwiceImpl>(), plain = std::make_shared<TwiceImpl>();
  plain->load_state_dict(net->state_dict());
  DataParallel parallel(net, DataParallelOptions().device_ids(on).buffers(parallel::Buffers::Sync));
  const Tensor x = randn({8, 4});
  for (int step = 0; step < 2; ++step) {
    const Tensor y = parallel(x), expected = plain->forward(x);
    CHECK(close(y, expected, 1e-4));
    (y * y * y).sum().backward();
    (expected * expected * expected).sum().backward();
  }
  CHECK(gradient_difference(*net, *plain) < 1e-2);
  CHECK(close(net->before->running_mean, plain->before->running_mean, 1e-4));
  CHECK(values(net->before->num_batches_tracked) == std::vector<double>{4});
}

TEST_CASE("P8: what a forward assigns to fields is not seen in the module", "[parallel]") {
  auto net = std::make_shared<AssigningImpl>();
  const Tensor x = randn({4, 2});
  DataParallel parallel(net, devices(2));
  const Tensor first = parallel(x), second = parallel(x);
  CHECK(net->calls == 0);
  CHECK_FALSE(net->last.defined());
  CHECK(close(second, first + 1));  // a replica that stays remembers
  parallel->reset_replicas();
  CHECK(close(parallel(x), first));

  DataParallel fresh(net, DataParallelOptions().device_ids(devices(2)).persistent(false));
  CHECK(close(fresh(x), first));
  CHECK(close(fresh(x), first));
}

TEST_CASE("results without tensors must agree; nothing may be returned", "[parallel][errors]") {
  struct Returns : Cloneable<Returns> {
    void reset() override {}
    std::pair<Tensor, double> forward(const Tensor& x, bool agree) { return {x, agree ? 1.0 : x.sum().item<double>()}; }
  };
  const auto on = devices(2);
  DataParallel parallel(std::make_shared<Returns>(), on);
  CHECK(parallel(ones({4}), true).second == 1);
  CHECK_THROWS_WITH(parallel(arange(4, kFloat32), false),
                    ContainsSubstring("the output[1], a double, differs between replica 0 and replica 1"));

  struct Silent : Cloneable<Silent> {
    void reset() override {}
    void forward(const Tensor& x) { x.sum(); }
  };
  DataParallel silent(std::make_shared<Silent>(), on);
  static_assert(std::is_void_v<decltype(silent(ones({4})))>);
  silent(ones({4}));
}
