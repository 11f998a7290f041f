// What becomes of buffers and hooks in replicas: running statistics, synchronised batch norm, mode.
#include <atomic>

#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using parallel::Buffers;
using test::close;

namespace {

DataParallelOptions with(const std::vector<Device>& on, Buffers policy) {
  return DataParallelOptions().device_ids(on).buffers(policy);
}

/// The module alone, on the whole batch.
template <class Holder> Holder control_of(const Holder& net) { return net.clone(); }

}  // namespace

TEST_CASE("P4: BatchNorm's statistics persist from replica 0 alone, and count one batch a forward",
          "[parallel][threads]") {
  const auto on = devices(2);
  BatchNorm1d norm(3);
  const BatchNorm1d first_share = norm.clone();
  DataParallel parallel(norm, on);
  for (int step = 0; step < 3; ++step) {
    const Tensor x = randn({8, 3});
    parallel(x);
    first_share(x.narrow(0, 0, 4));
  }
  CHECK(close(norm->running_mean, first_share->running_mean));
  CHECK(close(norm->running_var, first_share->running_var));
  CHECK(values(norm->num_batches_tracked) == std::vector<double>{3});
}

TEST_CASE("the mode of the module holds in its replicas", "[parallel]") {
  BatchNorm1d norm(3);
  DataParallel parallel(norm, devices(2));
  parallel(randn({8, 3}));
  const Tensor mean = norm->running_mean.clone();
  parallel->eval();
  const Tensor x = randn({8, 3});
  CHECK(close(parallel(x), norm(x)));
  CHECK(norm->running_mean.equal(mean));
  parallel->train();
  parallel(x);
  CHECK_FALSE(norm->running_mean.equal(mean));
}

TEST_CASE("Buffers::Mean: running statistics become the mean over the replicas", "[parallel][threads]") {
  const auto on = devices(3);
  BatchNorm1d norm(2);
  std::vector<BatchNorm1d> alone;
  for (int k = 0; k < 3; ++k) alone.push_back(norm.clone());
  DataParallel parallel(norm, with(on, Buffers::Mean));
  const Tensor x = randn({9, 2});
  parallel(x);
  Tensor mean = zeros({2}), var = zeros({2});
  for (int k = 0; k < 3; ++k) {
    const BatchNorm1d& one = alone[static_cast<std::size_t>(k)];
    one(x.narrow(0, 3 * k, 3));
    mean.add_(one->running_mean.detach());
    var.add_(one->running_var.detach());
  }
  CHECK(close(norm->running_mean, mean / 3));
  CHECK(close(norm->running_var, var / 3));
  CHECK(values(norm->num_batches_tracked) == std::vector<double>{1});
  parallel->eval();
  const Tensor before = norm->running_mean.clone();
  parallel(x);
  CHECK(norm->running_mean.equal(before));
}

TEST_CASE("Buffers::Sync: results, gradients and statistics are those of the whole batch", "[parallel][threads]") {
  for (const std::int64_t rows : {8, 7, 4}) {
    const auto on = devices(4);
    Sequential net(Linear(3, 4), BatchNorm1d(4), Tanh(), Linear(4, 4), BatchNorm1d(4));
    const Sequential plain = control_of(net);
    DataParallel parallel(net, with(on, Buffers::Sync));
    const Tensor x = randn({rows, 3}).requires_grad_(), same = x.detach().clone().requires_grad_();
    for (int step = 0; step < 2; ++step) {
      const Tensor weights = randn({rows, 4});
      const Tensor y = parallel(x), expected = plain->forward(same);
      CHECK(close(y, expected, 1e-4));
      (y * weights).sum().backward();
      (expected * weights).sum().backward();
    }
    CHECK(gradient_difference(*net, *plain) < 1e-3);
    CHECK(close(x.grad(), same.grad(), 1e-3));
    const auto own = net->named_buffers(), wanted = plain->named_buffers();
    for (const auto& item : own) {
      INFO(item.key());
      CHECK(close(item.value(), wanted[item.key()], 1e-4));
    }
  }
}

TEST_CASE("Buffers::Sync: images, double backward, one row a replica, and a region", "[parallel][amp][threads]") {
  const auto on = devices(3);
  BatchNorm2d norm(2);
  norm->to(kFloat64);
  const BatchNorm2d plain = control_of(norm);
  DataParallel parallel(norm, with(on, Buffers::Sync));
  const Tensor x = randn({3, 2, 2, 2}, kFloat64).requires_grad_(), same = x.detach().clone().requires_grad_();
  const auto penalty = [](const Tensor& y, const Tensor& input) {
    const Tensor g = autograd::grad({(y * y * y).sum()}, {input}, {}, nullopt, /*create_graph=*/true)[0];
    return (g * g).sum();
  };
  penalty(parallel(x), x).backward();
  penalty(plain(same), same).backward();
  CHECK(close(x.grad(), same.grad(), 1e-6));
  CHECK(gradient_difference(*norm, *plain) < 1e-8);

  BatchNorm1d single(2);
  DataParallel rows(single, with(on, Buffers::Sync));
  CHECK(rows(randn({3, 2})).sizes().equals({3, 2}));  // one value a channel here, three in all
  CHECK_THROWS_WITH(rows(randn({1, 2})), ContainsSubstring("more than 1 value per channel in all replicas together"));
  CHECK_THROWS_WITH(DataParallel(single, on)->forward(randn({3, 2})),
                    ContainsSubstring("more than 1 value per channel"));

  const amp::autocast region(on[0].type(), kBFloat16);
  const Tensor low = randn({6, 2}).to(kBFloat16);
  const Tensor y = rows(low);
  CHECK(y.dtype() == kBFloat16);
  CHECK(close(y, BatchNorm1d(2)->forward(low), 0.02));
}

TEST_CASE("Buffers::Sync: statistics that overflow do not spoil the running ones", "[parallel]") {
  const auto on = devices(2);
  BatchNorm1d norm(1);
  DataParallel parallel(norm, with(on, Buffers::Sync));
  Tensor x = ones({4, 1});
  x[3] = std::numeric_limits<float>::infinity();
  parallel(x);
  CHECK(values(norm->running_mean) == std::vector<double>{0});
  CHECK(values(norm->running_var) == std::vector<double>{1});
}

TEST_CASE("Buffers::Sync: an error in one replica does not leave the others waiting", "[parallel][errors][threads]") {
  struct Uneven : Cloneable<Uneven> {
    Uneven() { reset(); }
    void reset() override { norm = register_module("norm", BatchNorm1d(2)); }
    Tensor forward(const Tensor& x, int bad) {
      const bool chosen = x.device() == devices(3)[2];
      if (chosen && bad == 1) fail<IndexError>("out of range");
      if (chosen && bad == 2) return x;  // does not come to the meeting
      return norm(x);
    }
    BatchNorm1d norm{nullptr};
  };
  const auto on = devices(3);
  DataParallel parallel(std::make_shared<Uneven>(), with(on, Buffers::Sync));
  const Tensor x = randn({6, 2});
  for (int i = 0; i < 20; ++i) {
    CHECK_THROWS_AS(parallel(x, 1), IndexError);
    CHECK_THROWS_WITH(parallel(x, 1), "replica 2 on " + on[2].str() + ": out of range");
    CHECK_THROWS_WITH(parallel(x, 2), ContainsSubstring("replica 0 on " + on[0].str()) &&
                                          ContainsSubstring("waited for replica 2 on " + on[2].str()) &&
                                          ContainsSubstring("ended without calling it"));
    CHECK(parallel(x, 0).size(0) == 6);
  }
  BatchNorm1d& norm = parallel->module->norm;
  CHECK(norm(x).size(0) == 6);  // the module itself waits for nobody
}

TEST_CASE("hooks run once a replica, those that came later too; the wrapper's own once", "[parallel][threads]") {
  const auto on = devices(3);
  TwoLayers net;
  DataParallel parallel(net, on);
  const Tensor x = randn({6, 4});
  parallel(x);
  std::atomic<int> inner = 0, top = 0, outer = 0;
  const std::size_t handle =
      net->first->register_forward_hook([&](Module&, const std::vector<Tensor>&, const Tensor& y) -> Tensor {
        ++inner;
        return y * 0;
      });
  net->register_forward_pre_hook([&](Module&, const std::vector<Tensor>&) { ++top; });
  parallel->register_forward_hook([&](Module&, const std::vector<Tensor>&, const Tensor&) { ++outer; });
  const Tensor y = parallel(x);
  CHECK(inner == 3);
  CHECK(top == 3);
  CHECK(outer == 1);
  CHECK(close(y, net(x)));
  net->first->remove_hook(handle);
  inner = 0;
  parallel(x);
  CHECK(inner == 0);
}

TEST_CASE("hooks on a parameter see the sum over replicas, once", "[parallel]") {
  TwoLayers net;
  const TwoLayers plain = net.clone();
  DataParallel parallel(net, devices(3));
  int calls = 0;
  net->first->weight.register_hook([&](const Tensor& g) {
    ++calls;
    return g * 2;
  });
  const Tensor x = randn({6, 4});
  parallel(x).sum().backward();
  plain(x).sum().backward();
  CHECK(calls == 1);
  CHECK(close(net->first->weight.grad(), plain->first->weight.grad() * 2));
}

TEST_CASE("frozen parameters, changed weights, another dtype and new layers reach the replicas", "[parallel]") {
  const auto on = devices(2);
  Sequential net(Linear(4, 4), Linear(4, 2));
  DataParallel parallel(net, on);
  const Tensor x = randn({6, 4});
  parallel(x).sum().backward();
  net->zero_grad();

  net->ptr(0)->requires_grad_(false);
  parallel(x).sum().backward();
  CHECK_FALSE(net->parameters()[0].grad().defined());
  CHECK(net->parameters()[2].grad().defined());
  net->requires_grad_(true);

  {
    const NoGradGuard no_grad;
    net->parameters()[0].mul_(2);
  }
  CHECK(close(parallel(x), net->forward(x)));
  net->parameters()[1].set_data(ones({4}));
  CHECK(close(parallel(x), net->forward(x)));
  net->to(kFloat64);
  CHECK(close(parallel(x.to(kFloat64)), net->forward(x.to(kFloat64))));
  net->to(kFloat32);
  net->push_back(ReLU());
  CHECK(close(parallel(x), net->forward(x)));
  net->load_state_dict(net.clone()->state_dict());
  CHECK(close(parallel(x), net->forward(x)));
}

TEST_CASE("two forwards before one backward, and a step between forward and backward", "[parallel][threads]") {
  const auto on = devices(3);
  TwoLayers net;
  const TwoLayers plain = net.clone();
  DataParallel parallel(net, on);
  const Tensor a = randn({6, 4}), b = randn({4, 4});
  (parallel(a).square().sum() + parallel(b).square().sum()).backward();
  (plain(a).square().sum() + plain(b).square().sum()).backward();
  CHECK(gradient_difference(*net, *plain) < 1e-3);

  const Tensor loss = parallel(a).square().sum();
  {
    const NoGradGuard no_grad;
    for (const Tensor& p : net->parameters()) p.mul_(2);
  }
  CHECK_THROWS_WITH(loss.backward(), ContainsSubstring("modified by an inplace operation"));
}

TEST_CASE("replicas train as the module does, with scaler and optimizer", "[parallel][amp][threads]") {
  const auto on = devices(2);
  manual_seed(0);
  const Tensor x = randn({64, 4});
  const Tensor labels = x.sum(1).gt(0).to(kInt64);
  TwoLayers net;
  DataParallel parallel(net, on);
  optim::AdamW optimizer(parallel->parameters(), optim::AdamWOptions(0.05));
  amp::GradScaler scaler(on[0].type());
  float first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    Tensor loss;
    {
      const amp::autocast region(on[0].type(), kFloat16);
      loss = nn::functional::cross_entropy(parallel(x), labels);
    }
    scaler.scale(loss).backward();
    scaler.step(optimizer);
    scaler.update();
    (step == 0 ? first : last) = loss.item<float>();
  }
  CHECK(last < first / 4);
}
