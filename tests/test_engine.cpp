// The engine's contract: what is added where, what is an error, and the four hazards of a naive engine.
#include <thread>

#include "halftone.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;
using Catch::Matchers::ContainsSubstring;
using test::kind;

namespace {

Tensor leaf(std::vector<float> values) {
  const auto n = static_cast<std::int64_t>(values.size());
  return from_blob(values.data(), n, kFloat32)
      .to(get_default_device(), kFloat32, false, /*copy=*/true)
      .requires_grad_();
}

std::vector<float> values(const Tensor& t) {
  const Tensor dense = t.detach().cpu().to(kFloat32).contiguous();
  return {dense.data_ptr<float>(), dense.data_ptr<float>() + dense.numel()};
}

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("backward adds to the gradients of leaves", "[engine]") {
  const Tensor x = leaf({1, 2, 3});
  (x * x).sum().backward();
  CHECK(values(x.grad()) == Floats{2, 4, 6});
  (x * 2).sum().backward();
  CHECK(values(x.grad()) == Floats{4, 6, 8});
}

TEST_CASE("a held gradient handle sees later accumulation", "[engine]") {
  const Tensor x = leaf({1, 2});
  x.sum().backward();
  const Tensor held = x.grad();
  x.sum().backward();
  CHECK(values(held) == Floats{2, 2});
}

TEST_CASE("a tensor used twice gets the sum of both gradients", "[engine]") {
  const Tensor x = leaf({3});
  const Tensor y = x * x;
  (y + y * x).sum().backward();
  CHECK(values(x.grad()) == Floats{2 * 3 + 3 * 9});
}

TEST_CASE("a broadcast operand gets its gradient summed to its shape", "[engine]") {
  const Tensor a = ones({2, 3}).requires_grad_();
  const Tensor b = ones({3}).requires_grad_();
  const Tensor c = ones({2, 1}).requires_grad_();
  (a * b + c).sum().backward();
  CHECK(values(b.grad()) == Floats{2, 2, 2});
  CHECK(c.grad().sizes().equals({2, 1}));
  CHECK(values(c.grad()) == Floats{3, 3});
}

TEST_CASE("leaves own their gradients", "[engine][hazard]") {
  const Tensor a = leaf({1, 2}), b = leaf({3, 4});
  (a + b).sum().backward();
  CHECK_FALSE(a.grad().is_alias_of(b.grad()));
  a.mutable_grad().mul_(10);
  CHECK(values(b.grad()) == Floats{1, 1});

  const Tensor seed = ones({2});
  const Tensor c = leaf({1, 2});
  c.view({2}).backward(seed);
  c.mutable_grad().mul_(5);
  CHECK(values(seed) == Floats{1, 1});
}

TEST_CASE("long graphs are built, differentiated and destroyed without recursion", "[engine][hazard]") {
  const std::int64_t before = live_tensors();
  const Floats one = kind() == kCPU ? Floats{1} : Floats{};  // without elements a simulated GPU has nothing to launch
  {
    const Tensor x = leaf(one);
    Tensor y = x;
    for (int i = 0; i < 200'000; ++i) y = y + 0;
    y.sum().backward();
    CHECK(values(x.grad()) == one);
  }
  {
    const Tensor x = leaf(one);
    Tensor y = x;
    for (int i = 0; i < 200'000; ++i) y = y * x;  // each node saves the one before
  }
  CHECK(live_tensors() == before);
}

TEST_CASE("a saved tensor that was written to is refused", "[engine][hazard]") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 1;
  const Tensor z = y * y;
  y.add_(1);
  CHECK_THROWS_WITH(z.sum().backward(), ContainsSubstring("modified by an inplace operation") &&
                                            ContainsSubstring("MulBackward0") && ContainsSubstring("float32[2]") &&
                                            ContainsSubstring("is at version 1; expected version 0"));

  const Tensor e = x.exp();  // saves its result
  e.mul_(2);
  CHECK_THROWS_WITH(e.sum().backward(), ContainsSubstring("ExpBackward0") && ContainsSubstring("the op's result"));
}

TEST_CASE("a saved result does not keep its own node alive", "[engine][hazard]") {
  const std::int64_t before = live_tensors();
  {
    const Tensor x = leaf({1, 2});
    const Tensor y = x.exp().tanh().sigmoid();
  }
  CHECK(live_tensors() == before);
}

TEST_CASE("errors that people search for", "[engine][errors]") {
  const Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH((x * 2).backward(), ContainsSubstring("grad can be implicitly created only for scalar outputs"));
  CHECK_THROWS_WITH(ones({1}).backward(), ContainsSubstring("does not require grad and does not have a grad_fn"));
  CHECK_THROWS_WITH((x * 2).backward(ones({3})), ContainsSubstring("Mismatch in shape"));
  CHECK_THROWS_WITH(x.add_(1),
                    ContainsSubstring("a leaf Variable that requires grad is being used in an in-place operation"));
  CHECK_THROWS_WITH(x[0].fill_(1), ContainsSubstring("a view of a leaf Variable that requires grad"));
  CHECK_THROWS_WITH((x * 2).requires_grad_(false), ContainsSubstring("leaf"));
  CHECK_THROWS_WITH(ones({2}, kInt64).requires_grad_(),
                    ContainsSubstring("Tensors of floating point dtype can require gradients"));
  CHECK_THROWS_WITH(ones({2}).register_hook([](const Tensor&) {}), ContainsSubstring("doesn't require gradient"));
  CHECK_THROWS_WITH(ones({2})._base(), ContainsSubstring("non-view"));

  const Tensor y = (x * x).sum();
  y.backward();
  CHECK_THROWS_WITH(y.backward(), ContainsSubstring("backward through the graph a second time") &&
                                      ContainsSubstring("already been freed"));
}

TEST_CASE("retain_graph allows a second backward, and a graph without saved tensors needs none", "[engine]") {
  const Tensor x = leaf({1, 2});
  const Tensor y = (x * x).sum();
  y.backward({}, true);
  y.backward();
  CHECK(values(x.grad()) == Floats{4, 8});

  const Tensor z = (x + 1).reshape({2, 1}).sum();
  z.backward();
  z.backward();
  CHECK(values(x.grad()) == Floats{6, 10});
}

TEST_CASE("autograd::grad returns gradients and leaves leaves alone", "[engine]") {
  const Tensor x = leaf({1, 2}), w = leaf({3, 4}), unused = leaf({5});
  const Tensor mid = x * w;
  const Tensor out = (mid * mid).sum();
  const auto grads = autograd::grad({out}, {x, mid}, {}, true);
  CHECK(values(grads[0]) == Floats{18, 64});
  CHECK(values(grads[1]) == Floats{6, 16});
  CHECK_FALSE(x.grad().defined());
  CHECK_FALSE(w.grad().defined());
  CHECK_THROWS_WITH(autograd::grad({out}, {unused}, {}, true), ContainsSubstring("Set allow_unused"));
  CHECK_FALSE(autograd::grad({out}, {unused}, {}, true, false, true)[0].defined());
  CHECK_THROWS_WITH(autograd::grad({out}, {ones({1})}), ContainsSubstring("does not require grad"));
}

TEST_CASE("backward with inputs touches only those", "[engine]") {
  const Tensor x = leaf({1, 2}), w = leaf({3, 4});
  (x * w).sum().backward({}, nullopt, false, TensorList(x));
  CHECK(values(x.grad()) == Floats{3, 4});
  CHECK_FALSE(w.grad().defined());
}

TEST_CASE("create_graph gives higher derivatives", "[engine]") {
  const Tensor x = leaf({2, 3});
  Tensor y = x.pow(4).sum();
  for (const float factor : {4.f * 8, 12.f * 4, 24.f * 2}) {
    y = autograd::grad({y}, {x}, {}, nullopt, true)[0];
    CHECK(values(y)[0] == factor);
    y = y.sum();
  }
  // Through results that were saved.
  const Tensor z = leaf({0.5f});
  const Tensor first = autograd::grad({z.tanh()}, {z}, {}, nullopt, true)[0];
  const Tensor second = autograd::grad({first}, {z})[0];
  const double t = std::tanh(0.5);
  CHECK(second.item<double>() == Catch::Approx(-2 * t * (1 - t * t)));
}

TEST_CASE("hooks see and replace gradients", "[engine]") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 3;
  Floats seen;
  const unsigned first = y.register_hook([&](const Tensor& g) { seen = values(g); });
  y.register_hook([](const Tensor& g) { return g * 10; });
  const unsigned on_leaf = x.register_hook([](const Tensor& g) { return g + 1; });
  (y * 2).sum().backward({}, true);
  CHECK(seen == Floats{2, 2});
  CHECK(values(x.grad()) == Floats{61, 61});

  y.remove_hook(first);
  x.remove_hook(on_leaf);
  CHECK_THROWS_WITH(x.remove_hook(on_leaf), ContainsSubstring("no hook"));
  seen.clear();
  (y * 1).sum().backward();
  CHECK(seen.empty());
  CHECK(values(x.grad()) == Floats{91, 91});

  const Tensor z = leaf({1});
  z.register_hook([](const Tensor&) { return ones({4}); });
  CHECK_THROWS_WITH((z * 1).sum().backward(), ContainsSubstring("has changed the size"));
}

TEST_CASE("retain_grad keeps the gradient of a result", "[engine]") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 3;
  y.retain_grad();
  CHECK(y.retains_grad());
  (y * y).sum().backward();
  CHECK(values(y.grad()) == Floats{6, 12});
}

TEST_CASE("guards nest and are the thread's own", "[engine][threads]") {
  const Tensor x = leaf({1});
  {
    const NoGradGuard no_grad;
    CHECK_FALSE((x * 2).requires_grad());
    {
      const AutoGradMode on(true);
      CHECK((x * 2).requires_grad());
    }
    CHECK_FALSE(GradMode::is_enabled());
    bool other = false;
    std::thread([&] { other = GradMode::is_enabled(); }).join();
    CHECK(other);
  }
  CHECK(GradMode::is_enabled());
}

TEST_CASE("threads may run backward into one leaf", "[engine][threads]") {
  const Tensor x = ones({100}).requires_grad_();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) (x * 2).sum().backward();
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(values(x.grad())[0] == 400);
}

TEST_CASE("in-place ops keep the handle and change its history", "[engine][inplace]") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 2;
  y.mul_(3).add_(x);
  CHECK(y.grad_fn()->name() == "AddBackward0");
  y.sum().backward();
  CHECK(values(x.grad()) == Floats{7, 7});

  Tensor acc = zeros({2});
  acc += x * x;
  CHECK(acc.requires_grad());
  x.mutable_grad().zero_();
  acc.sum().backward();
  CHECK(values(x.grad()) == Floats{2, 4});
}

TEST_CASE("a write through a view reaches the history of its base and of other views", "[engine][inplace]") {
  const Tensor x = leaf({1, 2, 3, 4});
  const Tensor base = x * 1;
  const Tensor head = base.narrow(0, 0, 2), all = base.view({2, 2});
  head.mul_(10);
  CHECK(values(base) == Floats{10, 20, 3, 4});
  CHECK(base.grad_fn()->name() == "CopySlices");
  (all * all).sum().backward();
  CHECK(values(x.grad()) == Floats{200, 400, 6, 8});

  x.mutable_grad().zero_();
  const Tensor target = zeros({3, 2});
  target[1] = x.narrow(0, 2, 2) * 5;
  target[2] = 7;
  CHECK(values(target) == Floats{0, 0, 15, 20, 7, 7});
  (target * target).sum().backward();
  CHECK(values(x.grad()) == Floats{0, 0, 150, 200});
}

TEST_CASE("a write through a view is differentiable twice", "[engine][inplace]") {
  const Tensor x = leaf({1, 2});
  const Tensor base = x * 1;
  base[0].add_(x[1] * x[1]);
  const Tensor g = autograd::grad({(base * base).sum()}, {x}, {}, nullopt, true)[0];
  CHECK(values(g) == Floats{10, 44});
  const Tensor gg = autograd::grad({g[0]}, {x})[0];
  CHECK(values(gg) == Floats{2, 8});
}

TEST_CASE("set_data changes what a live handle holds", "[engine]") {
  const Tensor x = leaf({1, 2});
  const Tensor same = x;
  x.set_data(ones({3}, kFloat16));
  CHECK(same.dtype() == kFloat16);
  CHECK(same.requires_grad());
  (same * 2).sum().backward();
  CHECK(same.grad().dtype() == kFloat16);
}

TEST_CASE("gradients take the dtype of the tensor they belong to", "[engine]") {
  const Tensor w = leaf({1, 2});
  const Tensor y = w.to(kFloat16) * 3;
  CHECK(y.dtype() == kFloat16);
  y.sum().backward();
  CHECK(w.grad().dtype() == kFloat32);
  CHECK(values(w.grad()) == Floats{3, 3});
}

TEST_CASE("anomaly mode names the op and what it was called with", "[engine]") {
  const Tensor x = leaf({0, 1});
  const DetectAnomalyGuard anomaly;
  const Tensor y = x.sqrt() * 0;  // 0 / 0 in the gradient of the root
  CHECK_THROWS_WITH(y.sum().backward(), ContainsSubstring("SqrtBackward0") && ContainsSubstring("nan values") &&
                                            ContainsSubstring(str("sqrt(", describe(x), ")")));
}

TEST_CASE("the graph can be walked", "[engine]") {
  const Tensor x = leaf({1, 2});
  const Tensor y = (x * x).mean();
  CHECK(y.grad_fn()->name() == "MeanBackward0");
  const Edge& product = y.grad_fn()->next_edge(0);
  CHECK(product.node->name() == "MulBackward0");
  CHECK(product.node->num_outputs() == 2);
  CHECK(product.node->next_edge(1).node->name() == "torch::autograd::AccumulateGrad");
  CHECK(x.grad_fn() == nullptr);
  CHECK((x + 1).grad_fn()->name() == "AddBackward1");
}

TEST_CASE("backward inside backward", "[engine]") {
  const Tensor x = leaf({3});
  const Tensor y = x * 2;
  float inner = 0;
  y.register_hook([&](const Tensor&) {
    const AutoGradMode on(true);
    const Tensor z = leaf({5});
    (z * z).sum().backward();
    inner = values(z.grad())[0];
  });
  y.sum().backward();
  CHECK(inner == 10);
  CHECK(values(x.grad()) == Floats{2});
}

TEST_CASE("detached tensors share memory and have no history", "[engine]") {
  const Tensor x = leaf({1, 2});
  const Tensor d = (x * 2).detach();
  CHECK_FALSE(d.requires_grad());
  const Tensor y = x * 2;
  y.detach_();
  CHECK(y.is_leaf());
  CHECK_FALSE(y.requires_grad());
}

TEST_CASE("assigning to a temporary writes, assigning to a variable rebinds", "[engine]") {
  Tensor t = zeros({2, 2});
  t[0] = ones({2});
  t[1] = 3;
  CHECK(values(t) == Floats{1, 1, 3, 3});
  Tensor other = t;
  other = ones({1});
  CHECK(t.numel() == 4);
  const Tensor x = leaf({1, 2});
  x.sum().backward();
  x.grad().data() = full({2}, 7.0f);
  CHECK(values(x.grad()) == Floats{7, 7});
}
