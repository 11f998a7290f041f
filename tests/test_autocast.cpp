// Regions: which op runs in which dtype, what is cast and cached, how regions nest, fail and travel to threads. Tests
// named test_... are the counterparts of PyTorch's of that name.
#include <atomic>
#include <set>
#include <thread>

#include "amp/amp.h"
#include "autograd/apply.h"
#include "autograd/engine.h"
#include "autograd/ops.h"
#include "core/runtime.h"
#include "nn/linear.h"
#include "optim/optim.h"
#include "tests/autocast_cases.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

// ---------------------------------------------------------------- the policy, decided at compile time

namespace {

using amp::wanted;
using amp::widen;
constexpr Dtype kNone = Dtype::Undefined;

static_assert(wanted(Precision::lower, kFloat16, kFloat32) == kFloat16);
static_assert(wanted(Precision::lower, kFloat16, kBFloat16) == kFloat16);  // a foreign 16-bit type is cast too
static_assert(wanted(Precision::full, kFloat16, kFloat16) == kFloat32);
static_assert(wanted(Precision::any, kFloat16, kFloat32) == kNone);
static_assert(wanted(Precision::full_if_unset, kFloat16, kFloat32) == kNone);
static_assert(amp::wanted_output(Precision::full_if_unset, kBFloat16) == kFloat32);
static_assert(amp::wanted_output(Precision::full_if_unset, kInt64) == kNone);
static_assert(amp::wanted_output(Precision::full_if_unset, kFloat64) == kNone);
static_assert(amp::wanted_output(Precision::full, kBFloat16) == kNone);

// A4: what a promote op is brought to does not depend on the order of its inputs.
constexpr Dtype kMixable[] = {kFloat16, kBFloat16, kFloat32, kFloat64, kInt64, kBool};
constexpr bool order_is_irrelevant() {
  for (const Dtype a : kMixable) {
    for (const Dtype b : kMixable) {
      for (const Dtype c : kMixable) {
        const Dtype forth = widen(widen(widen(kNone, a), b), c), back = widen(widen(widen(kNone, c), b), a);
        if (forth != back) return false;
      }
    }
  }
  return true;
}
static_assert(order_is_irrelevant());
static_assert(widen(widen(kNone, kFloat16), kBFloat16) == kFloat32);
static_assert(widen(widen(kNone, kFloat16), kFloat16) == kFloat16);
static_assert(widen(widen(kNone, kFloat16), kFloat32) == kFloat32);
static_assert(widen(widen(kNone, kFloat64), kInt64) == kNone);

// test_non_string_device: a device with an index is not a kind of device.
static_assert(!std::is_constructible_v<amp::autocast, Device>);

constexpr std::int64_t n = test::kAutocastSize;

Tensor labels() { return arange(n).remainder(3); }

std::string last_warning;
void remember_warning(const std::string& text) { last_warning = text; }

Tensor weight(Dims sizes = {n, n}) { return (ones(sizes) / 3).requires_grad_(); }

}  // namespace

TEST_CASE("every op with a policy has a case here", "[amp]") {
  std::set<std::string_view> covered{"binary_cross_entropy"};
  for (const AutocastCase& c : autocast_cases()) {
    REQUIRE(find_op(c.op) != nullptr);
    covered.insert(find_op(c.op)->name);
  }
  for (const OpInfo& row : kOps) {
    INFO(row.name << " is " << name(row.precision));
    CHECK((row.precision == Precision::any || covered.contains(row.name)));
  }
}

TEST_CASE("test_autocast_torch_low_precision: products and convolutions give the region's dtype", "[amp]") {
  for (const Dtype low : {kBFloat16, kFloat16}) {
    for (const Dtype came : {kFloat32, kBFloat16, kFloat16})
      check_ops(Precision::lower, std::array{came}, low, low, low);
    check_ops(Precision::lower, std::array{kFloat32, kFloat16, kBFloat16}, low, low, low);
  }
}

TEST_CASE("test_autocast_torch_fp32: exponentials, norms and losses run in float32", "[amp]") {
  for (const Dtype low : {kBFloat16, kFloat16}) {
    for (const Dtype came : {kFloat32, kBFloat16, kFloat16})
      check_ops(Precision::full, std::array{came}, low, kFloat32, kFloat32);
    check_ops(Precision::full, std::array{kFloat16, kFloat32, kBFloat16}, low, kFloat32, kFloat32);
    for (const Dtype came : {kFloat32, kBFloat16, kFloat16}) check_outputs_full(came, low);
  }
}

TEST_CASE("tensors without dimensions are cast like any other", "[amp]") {
  for (const Dtype low : {kBFloat16, kFloat16}) {
    const Tensor one = full({}, 1.5, low), wide = full({}, 1.5, kFloat32), square = ones({n, n});
    const amp::autocast region(kind(), low);
    for (const Tensor& y : {exp(one), log1p(one), one.pow(2), mse_loss(one, wide), softplus(one)})
      CHECK(y.dtype() == kFloat32);
    CHECK(one.sum().dtype() == kFloat32);
    CHECK(addmm(wide, square, square).dtype() == low);
    CHECK(einsum(",->", {wide, wide}).dtype() == low);
  }
}

TEST_CASE("functions and methods do the same", "[amp]") {
  struct Row {
    Tensor function, method;
  };
  for (const Dtype low : {kBFloat16, kFloat16}) {
    const Tensor a = rand({n, n}), b = rand({n, n}), c = rand({2, n, n}), v = rand({n}), h = (a + 0.1).to(low);
    const amp::autocast region(kind(), low);
    for (const Row& row : {Row{matmul(a, b), a.matmul(b)},
                           Row{mm(a, b), a.mm(b)},
                           Row{bmm(c, c), c.bmm(c)},
                           Row{mv(a, v), a.mv(v)},
                           Row{addmm(a, a, b), a.addmm(a, b)},
                           Row{dot(v, v), v.dot(v)},
                           Row{exp(h), h.exp()},
                           Row{log(h), h.log()},
                           Row{pow(h, 2), h.pow(2)},
                           Row{rsqrt(h), h.rsqrt()},
                           Row{reciprocal(h), h.reciprocal()},
                           Row{norm(h), h.norm()},
                           Row{sum(h), h.sum()},
                           Row{prod(v.to(low)), v.to(low).prod()},
                           Row{cumsum(h, 0), h.cumsum(0)},
                           Row{softmax(h, 1), h.softmax(1)},
                           Row{log_softmax(h, 1), h.log_softmax(1)},
                           Row{logsumexp(h, 1), h.logsumexp(1)},
                           Row{h + a, h.add(a)},
                           Row{h * a, h.mul(a)}}) {
      CHECK(row.function.dtype() == row.method.dtype());
      CHECK(row.function.equal(row.method));
    }
  }
}

TEST_CASE("a dtype that the caller names wins", "[amp]") {
  const Tensor x = ones({n}, kBFloat16);
  const amp::autocast region(kind(), kBFloat16);
  CHECK(x.sum(kFloat64).dtype() == kFloat64);
  CHECK(x.softmax(0, kBFloat16).dtype() == kBFloat16);
  CHECK(ones({n}, kInt64).sum().dtype() == kInt64);
  CHECK(ones({n}, kFloat64).sum().dtype() == kFloat64);
}

TEST_CASE("test_autocast_torch_need_autocast_promote: mixed arguments meet in the widest dtype", "[amp]") {
  struct Row {
    std::array<Dtype, 2> came;
    Dtype ran;
  };
  for (const Row& row :
       {Row{{kFloat16, kFloat32}, kFloat32}, Row{{kFloat32, kFloat16}, kFloat32}, Row{{kBFloat16, kFloat32}, kFloat32},
        Row{{kFloat16, kBFloat16}, kFloat32}, Row{{kBFloat16, kFloat16}, kFloat32}, Row{{kFloat16, kFloat16}, kFloat16},
        Row{{kBFloat16, kBFloat16}, kBFloat16}, Row{{kFloat32, kFloat32}, kFloat32}}) {
    for (const Dtype low : {kBFloat16, kFloat16}) check_ops(Precision::promote, row.came, low, row.ran, row.ran);
  }
}

TEST_CASE("test_autocast_torch_expect_builtin_promote: arithmetic and comparisons promote by themselves", "[amp]") {
  using Binary = Tensor (*)(const Tensor&, const Tensor&);
  const Binary comparisons[] = {
      [](const Tensor& a, const Tensor& b) { return a == b; }, [](const Tensor& a, const Tensor& b) { return a >= b; },
      [](const Tensor& a, const Tensor& b) { return a > b; },  [](const Tensor& a, const Tensor& b) { return a <= b; },
      [](const Tensor& a, const Tensor& b) { return a < b; },  [](const Tensor& a, const Tensor& b) { return a != b; }};
  const Binary arithmetic[] = {[](const Tensor& a, const Tensor& b) { return a + b; },
                               [](const Tensor& a, const Tensor& b) { return a.div(b); },
                               [](const Tensor& a, const Tensor& b) { return a.mul(b); }};
  for (const Dtype low : {kBFloat16, kFloat16}) {
    const Tensor a = rand({n}) + 0.5, b = (rand({n}) + 0.5).to(low);
    const amp::autocast region(kind(), low);
    for (const Binary f : comparisons) {
      CHECK(f(a, b).dtype() == kBool);
      CHECK(f(a, b).equal(f(a, b.to(kFloat32))));
    }
    for (const Binary f : arithmetic) {
      CHECK(f(a, b).dtype() == kFloat32);
      CHECK(f(a, b).equal(f(a, b.to(kFloat32))));
      CHECK(f(b, b).dtype() == low);
    }
  }
}

TEST_CASE("test_autocast_banned: binary_cross_entropy is refused, and the message names the way out", "[amp]") {
  const Tensor x = full({n}, 0.5), y = ones({n});
  CHECK_NOTHROW(binary_cross_entropy(x, y));
  const amp::autocast region(kind());
  for (const Dtype dtype : {kFloat32, kBFloat16}) {
    CHECK_THROWS_WITH(binary_cross_entropy(x.to(dtype), y),
                      ContainsSubstring("binary_cross_entropy is unsafe to autocast") &&
                          ContainsSubstring("binary_cross_entropy_with_logits"));
  }
  const amp::autocast off(kind(), nullopt, false);
  CHECK_NOTHROW(binary_cross_entropy(x, y));
}

TEST_CASE("test_autocast_ignored_types: float64 and integers are left alone", "[amp]") {
  const Tensor d = ones({n, n}, kFloat64), f = ones({n, n}), i = ones({n, n}, kInt32);
  const amp::autocast region(kind(), kBFloat16);
  CHECK(d.mm(d).dtype() == kFloat64);
  CHECK_THROWS_WITH(d.mm(f), ContainsSubstring("float64") && ContainsSubstring("bfloat16"));
  CHECK(d.pow(2).dtype() == kFloat64);
  CHECK(d.norm().dtype() == kFloat64);
  CHECK(d.sum().dtype() == kFloat64);
  CHECK(i.pow(2).dtype() == kInt32);
  CHECK(i.sum().dtype() == kInt64);
  CHECK(stack({d, f}).dtype() == kFloat64);
  CHECK(zeros({2}).dtype() == kFloat32);
}

TEST_CASE("in-place ops are never cast", "[amp]") {
  const Tensor a = ones({n, n}), b = ones({n, n}, kBFloat16);
  const amp::autocast region(kind());
  CHECK(a.mul_(b).dtype() == kFloat32);
  CHECK(a.addmm_(a.clone(), a.clone()).dtype() == kFloat32);
  CHECK_THROWS(a.addmm_(a.clone(), b));
}

TEST_CASE("gradients reach parameters in the parameters' dtype", "[amp]") {
  const Tensor w = weight(), b = weight({n}), x = ones({n, n});
  {
    const amp::autocast region(kind());
    linear(x, w, b).relu().sum().backward();
  }
  CHECK(w.grad().dtype() == kFloat32);
  CHECK(b.grad().dtype() == kFloat32);
  CHECK(w.grad()[0][0].item<double>() == n);
}

TEST_CASE("a leaf used directly and through its cast sums both gradients in its own dtype", "[amp]") {
  for (const bool cached : {true, false}) {
    const Tensor w = ones({1, 1}).requires_grad_(), x = full({1, 1}, 256.0);
    const amp::autocast region(kind(), kBFloat16, true, cached);
    (x.mm(w) + w).sum().backward();
    CHECK(w.grad().item<double>() == 257);  // 256 in bfloat16
  }
}

TEST_CASE("test_generic_autocast: two regions give equal results", "[amp]") {
  for (const AutocastCase& c : autocast_cases()) {
    const std::vector<Tensor> args = make_inputs(c, std::array{kFloat32});
    const auto run = [&] {
      const amp::autocast region(kind());
      return c.run(args);
    };
    INFO(c.op);
    CHECK(run().equal(run()));
  }
}

// ---------------------------------------------------------------- regions

TEST_CASE("test_autocast_fast_dtype: the low dtype is float16 on CUDA and bfloat16 on the CPU", "[amp]") {
  CHECK(amp::get_autocast_dtype(kCUDA) == kFloat16);
  CHECK(amp::get_autocast_dtype(kCPU) == kBFloat16);
  const Dtype usual = amp::get_autocast_dtype(kind()), other = usual == kFloat16 ? kBFloat16 : kFloat16;
  for (const Dtype low : {other, usual}) {
    amp::set_autocast_dtype(kind(), low);
    CHECK(ones({2}).dtype() == kFloat32);
    const amp::autocast region(name(kind()));
    CHECK(ones({n, n}).mm(ones({n, n})).dtype() == low);
  }
  CHECK_THROWS_AS(amp::set_autocast_dtype(kind(), kInt32), ValueError);
}

TEST_CASE("A6: a nested region without a dtype inherits", "[amp]") {
  const amp::autocast outer(kind(), kFloat16);
  {
    const amp::autocast inner(kind());
    CHECK(amp::get_autocast_dtype(kind()) == kFloat16);
    const amp::autocast off(kind(), nullopt, false);
    const amp::autocast again(kind());
    CHECK(ones({n, n}).mm(ones({n, n})).dtype() == kFloat16);
  }
  CHECK(amp::is_autocast_enabled(kind()));
}

TEST_CASE("nothing is cast in a disabled region, and the cache around it is as it was afterwards", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast outer(kind());
  const Tensor low = x.mm(w);
  {
    const amp::autocast off(kind(), nullopt, false);
    CHECK_THROWS_WITH(low.mm(w), ContainsSubstring("float32"));
    CHECK(low.to(kFloat32).mm(w).dtype() == kFloat32);
  }
  CHECK(low.mm(w).dtype() == low.dtype());
  CHECK(amp::autocast_cache().misses == 1);
  CHECK(amp::autocast_cache().hits == 1);
}

TEST_CASE("A5: exceptions leave the state as it was", "[amp]") {
  const amp::autocast outer(kind(), kFloat16);
  try {
    const amp::autocast inner(kind(), kBFloat16, true, false);
    throw 1;
  } catch (int) {
  }
  CHECK(amp::get_autocast_dtype(kind()) == kFloat16);
  CHECK(amp::is_autocast_cache_enabled());
}

TEST_CASE("A1: recursion of a guarded function leaves the state as before", "[amp]") {
  std::function<Tensor(int)> power;
  power = amp::with_autocast(kind(), kBFloat16, [&](int depth) -> Tensor {
    CHECK(amp::is_autocast_enabled(kind()));
    const Tensor x = ones({2, 2});
    return depth == 0 ? x : x.mm(power(depth - 1));
  });
  CHECK(power(5).dtype() == kBFloat16);
  CHECK(!amp::is_autocast_enabled(kind()));
  CHECK(context.filter == nullptr);
}

TEST_CASE("regions of the CPU and of CUDA are independent", "[amp]") {
  const WarningHandler before = set_warning_handler(&remember_warning);
  {
    const amp::autocast cpu(kCPU, kFloat16);
    const amp::autocast gpu(kCUDA, kBFloat16);
    CHECK(amp::get_autocast_dtype(kCPU) == kFloat16);
    CHECK(amp::get_autocast_dtype(kCUDA) == kBFloat16);
    CHECK(ones({n, n}, kCPU).mm(ones({n, n}, kCPU)).dtype() == kFloat16);
    CHECK(amp::is_autocast_enabled(kCUDA) == cuda::is_available());
    const Tensor here = ones({n, n});
    CHECK(here.mm(here).dtype() == (kind() == kCPU ? kFloat16 : kBFloat16));
  }
  set_warning_handler(before);
}

TEST_CASE("a region for an absent CUDA, or with a dtype the CPU does not support, warns and is disabled", "[amp]") {
  const WarningHandler before = set_warning_handler(&remember_warning);
  last_warning.clear();
  {
    const amp::autocast region(kCUDA);
    CHECK(amp::is_autocast_enabled(kCUDA) == cuda::is_available());
    CHECK(last_warning.empty() == cuda::is_available());
  }
  {
    const amp::autocast region(kCPU, kFloat32);
    CHECK(!amp::is_autocast_enabled(kCPU));
    CHECK_THAT(last_warning, ContainsSubstring("supports bfloat16 and float16, not float32"));
  }
  set_warning_handler(before);
  CHECK_THROWS_AS(amp::autocast(kCPU, kInt32), ValueError);
}

TEST_CASE("test_autocast_disabled_with_fp32_dtype: accepted without a word", "[amp]") {
  const WarningHandler before = set_warning_handler(&remember_warning);
  last_warning.clear();
  {
    const amp::autocast region(kind(), kFloat32, /*enabled=*/false);
    CHECK(ones({2, 2}).mm(ones({2, 2})).dtype() == kFloat32);
  }
  CHECK(last_warning.empty());
  set_warning_handler(before);
}

TEST_CASE("test_invalid_device: an unknown kind of device is an error", "[amp]") {
  CHECK_THROWS_WITH(amp::autocast("tpu"), ContainsSubstring("unknown device type 'tpu'"));
  CHECK_THROWS_WITH(amp::autocast("cuda:0"), ContainsSubstring("without an index"));
}

// ---------------------------------------------------------------- the cache

TEST_CASE("test_cast_cache_is_global: nested regions share the outermost one's casts", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind());
  x.mm(w);
  {
    const amp::autocast nested(kind());
    x.mm(w);
  }
  CHECK(amp::autocast_cache().misses == 1);
  CHECK(amp::autocast_cache().hits == 1);
}

TEST_CASE("the cache tells its size and can be cleared", "[amp][cache]") {
  CHECK(amp::autocast_cache().entries == 0);
  const Tensor w = weight(), v = weight(), x = ones({n, n});
  const amp::autocast region(kind());
  x.mm(w).mm(v);
  CHECK(amp::autocast_cache().entries == 2);
  CHECK(amp::autocast_cache().bytes == 2 * n * n * 2);
  amp::clear_autocast_cache();
  CHECK(amp::autocast_cache().entries == 0);
  x.mm(w);
  CHECK(amp::autocast_cache().misses == 3);
}

TEST_CASE("only float32 leaves that require a gradient and are no views are cached", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n}), half = ones({n, n}, kFloat16).requires_grad_();
  const amp::autocast region(kind(), kBFloat16);
  x.mm(w.t());
  x.mm(w * 1);
  x.mm(x);
  x.mm(half);
  w.exp();
  CHECK(amp::autocast_cache().entries == 0);
}

TEST_CASE("test_cache_disabled: without the cache every use casts", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind(), nullopt, true, /*cache_enabled=*/false);
  const amp::trace trace;
  x.mm(w), x.mm(w);
  CHECK(amp::autocast_cache().entries == 0);
  for (const amp::TraceRecord& record : trace.records())
    CHECK((record.inputs[1].is_cast() && !record.inputs[1].cached));
}

TEST_CASE("A2: a weight changed in place inside a region is seen", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind());
  x.mm(w);
  {
    const NoGradGuard no_grad;
    w.fill_(2);
  }
  CHECK(x.mm(w)[0][0].item<double>() == 2 * n);
  optim::SGD sgd({w}, 1.0);
  w.mutable_grad() = ones({n, n});
  sgd.step();
  CHECK(x.mm(w)[0][0].item<double>() == n);
  w.set_data(zeros({n, n}));
  CHECK(x.mm(w)[0][0].item<double>() == 0);
  CHECK(amp::autocast_cache().entries == 1);
}

TEST_CASE("a weight that is bound to another part of the same memory is seen", "[amp][cache]") {
  const Tensor both = stack({arange(n * n).reshape({n, n}).to(kFloat32), full({n, n}, 2.0)}), x = ones({n, n});
  const Tensor w = weight();
  const amp::autocast region(kind());
  for (const Tensor& part : {both[0], both[1], both[0].t(), both[0]}) {
    w.set_data(part);
    CHECK(x.mm(w).equal(x.mm(part)));
  }
}

TEST_CASE("frozen parameters of a module are cast once, whether ops are recorded or not", "[amp][cache]") {
  const nn::Linear net(n, n);
  net->to(get_default_device());
  net->requires_grad_(false);
  const Tensor x = ones({n, n});
  const amp::autocast region(kind());
  for (const bool record : {false, true}) {
    const AutoGradMode mode(record);
    for (int i = 0; i < 2; ++i) CHECK(!net(x).requires_grad());
  }
  CHECK(amp::autocast_cache().misses == 2);  // weight and bias
  CHECK(amp::autocast_cache().hits == 6);
  net->weight.fill_(1);
  net->bias.fill_(0);
  CHECK(net(x)[0][0].item<double>() == n);
}

TEST_CASE("a parameter that is frozen or unfrozen in a region is cast anew", "[amp][cache]") {
  const nn::Linear net(n, n);
  net->to(get_default_device());
  const Tensor x = ones({n, n});
  const amp::autocast region(kind());
  for (const bool trained : {false, true, false, true}) {
    net->requires_grad_(trained);
    const Tensor y = net(x);
    CHECK(y.requires_grad() == trained);
    if (trained) y.sum().backward();
  }
  CHECK(net->weight.grad()[0][0].item<double>() == 2 * n);
}

TEST_CASE("parameters stay parameters in conversions and copies of their module", "[amp][cache]") {
  const nn::Linear net(n, n);
  net->half();
  net->to(get_default_device(), kFloat32);
  const auto copy = std::dynamic_pointer_cast<nn::LinearImpl>(net->clone());
  const Tensor x = ones({n, n});
  for (nn::LinearImpl* const module : {net.get(), copy.get()}) {
    module->requires_grad_(false);
    const amp::autocast region(kind());
    module->forward(x), module->forward(x);
    CHECK(amp::autocast_cache().misses == 2);
    CHECK(amp::autocast_cache().hits == 2);
  }
}

TEST_CASE("A3: nested regions of different dtypes on one weight", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast outer(kind(), kBFloat16);
  CHECK(x.mm(w).dtype() == kBFloat16);
  {
    const amp::autocast inner(kind(), kFloat16);
    CHECK(x.mm(w).dtype() == kFloat16);
  }
  CHECK(x.mm(w).dtype() == kBFloat16);
  CHECK(amp::autocast_cache().entries == 2);
  CHECK(amp::autocast_cache().hits == 1);
}

TEST_CASE("A7: inner and other regions' ends keep the cache, the outermost one's clears it", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const WarningHandler before = set_warning_handler(&remember_warning);
  const std::int64_t alive = live_tensors();
  {
    const amp::autocast outer(kind());
    x.mm(w);
    { const amp::autocast off(kind(), nullopt, false); }
    { const amp::autocast other(kind() == kCPU ? kCUDA : kCPU); }
    { const amp::autocast inner(kind()); }
    CHECK(amp::autocast_cache().entries == 1);
    CHECK(live_tensors() > alive);
  }
  CHECK(live_tensors() == alive);
  set_warning_handler(before);
}

TEST_CASE("A9, test_autocast_cache_leak: iterations under no_grad in one region do not grow memory", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind());
  const NoGradGuard no_grad;
  x.mm(w);
  const std::int64_t alive = live_tensors();
  for (int i = 0; i < 3000; ++i) x.mm(w);
  CHECK(live_tensors() == alive);
  CHECK(amp::autocast_cache().hits == 3000);
}

TEST_CASE("A11: 1000 uses of one weight in a bfloat16 region give gradient 1000, cache on or off", "[amp][cache]") {
  for (const bool cached : {true, false}) {
    const Tensor w = ones({1, 1}).requires_grad_(), x = ones({1, 1});
    const amp::autocast region(kind(), kBFloat16, true, cached);
    Tensor total = zeros({1, 1});
    for (int i = 0; i < 1000; ++i) total = total + x.mm(w);
    total.backward();
    CHECK(w.grad().item<double>() == 1000);
  }
}

TEST_CASE(
    "test_autocast_nograd_caching_issue_158232: a first use under no_grad does not cost later ones their gradient",
    "[amp][cache]") {
  const Tensor w = weight(), b = weight({n}), x = ones({n, n});
  const amp::autocast region(kind());
  {
    const NoGradGuard no_grad;
    CHECK(!linear(x, w, b).requires_grad());
  }
  const Tensor y = linear(x, w, b);
  CHECK(y.requires_grad());
  y.sum().backward();
  CHECK(w.grad().defined());
  CHECK(b.grad().defined());
  CHECK(amp::autocast_cache().misses == 2);
}

TEST_CASE("test_autocast_caching_still_works_with_gradients: three graphs share the casts", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind());
  std::vector<Tensor> losses;
  for (int i = 0; i < 3; ++i) losses.push_back(x.mm(w).sum());
  for (int i = 0; i < 3; ++i) losses[static_cast<std::size_t>(i)].backward({}, i < 2);
  CHECK(w.grad()[0][0].item<double>() == 3 * n);
  CHECK(amp::autocast_cache().hits == 2);
  x.mm(w).sum().backward();
  x.mm(w).sum().backward();  // a freed graph does not take the cast with it
  CHECK(w.grad()[0][0].item<double>() == 5 * n);
}

TEST_CASE("test_autocast_mixed_grad_contexts: recording on and off in one region", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind());
  Tensor sum = zeros({});
  for (const bool record : {false, true, false, true}) {
    const AutoGradMode mode(record);
    const Tensor y = x.mm(w);
    CHECK(y.requires_grad() == record);
    sum = sum + y.sum();
  }
  // The third round added to a sum made with recording off, which forgets the second.
  sum.backward();
  CHECK(w.grad()[0][0].item<double>() == n);
}

TEST_CASE("test_autocast_prioritize: a promote op in a region, with backward inside it", "[amp]") {
  const Tensor w = weight({n, 1}), x = ones({n, n});
  const amp::autocast region(kind());
  const Tensor y = x.mm(w).flatten();
  index_put(y, {TensorIndex(labels())}, ones({n}), true).sum().backward();
  CHECK(w.grad().dtype() == kFloat32);
  CHECK(w.grad()[0][0].item<double>() == n);
}

TEST_CASE("test_autocast_checkpointing: a captured state runs a forward again as it ran first", "[amp]") {
  const Tensor w = weight(), x = ones({n, n});
  amp::AutocastState state;
  {
    const amp::autocast region(kind(), kFloat16, true, false);
    state = amp::AutocastState::current();
  }
  CHECK(x.mm(w).dtype() == kFloat32);
  const amp::autocast again(state);
  CHECK(!amp::is_autocast_cache_enabled());
  const Tensor y = x.mm(w);
  CHECK(y.dtype() == kFloat16);
  CHECK(y.requires_grad());
}

TEST_CASE("backward runs with autocast off, also inside a region", "[amp]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind());
  bool seen = true;
  const Tensor y = x.mm(w);
  y.register_hook([&](Tensor) { seen = amp::is_autocast_enabled(kind()); });
  y.sum().backward();
  CHECK(!seen);
  CHECK(amp::is_autocast_enabled(kind()));
}

// ---------------------------------------------------------------- a user's ops

namespace {

struct DoubleRule {
  Tensor forward(const Tensor& x) const { return x + x; }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {g * 2}; }
};

}  // namespace

TEST_CASE("an op of the user has the policy it was registered with", "[amp]") {
  struct Row {
    Precision precision;
    Dtype result;
  };
  for (const Row& row :
       {Row{Precision::lower, kBFloat16}, Row{Precision::full, kFloat32}, Row{Precision::any, kFloat16}}) {
    const OpInfo& info = amp::register_policy("my_double", row.precision);
    CHECK(find_op("my_double") == &info);
    const Tensor x = ones({2}, kFloat16).requires_grad_();
    const amp::autocast region(kind(), kBFloat16);
    const Tensor y = apply(info, DoubleRule{}, std::array{x});
    CHECK(y.dtype() == row.result);
    y.sum().backward();
    CHECK(x.grad().dtype() == kFloat16);
  }
  amp::register_policy("my_double", Precision::banned);
  const amp::autocast region(kind());
  CHECK_THROWS_WITH(apply(*find_op("my_double"), DoubleRule{}, std::array{ones({2})}),
                    ContainsSubstring("my_double is unsafe to autocast") && ContainsSubstring("enabled=*/false"));
  CHECK_THROWS_WITH(amp::register_policy("matmul", Precision::full), ContainsSubstring("matmul is an op of halftone"));
  CHECK_THROWS_AS(amp::register_policy("", Precision::full), ValueError);
  CHECK(find_op("no such op") == nullptr);
}

// ---------------------------------------------------------------- threads

TEST_CASE("a new thread starts without a region", "[amp][threads]") {
  const amp::autocast region(kind());
  std::thread([] { CHECK(!amp::is_autocast_enabled(kind())); }).join();
}

TEST_CASE("A8: threads that inherit the context run in the region, each with a cache of its own", "[amp][threads]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kind(), kFloat16);
  x.mm(w);
  const Context here = context;
  std::vector<std::thread> workers;
  std::atomic<int> right{0};
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&] {
      const ContextScope scope(here);
      for (int j = 0; j < 200; ++j) right += x.mm(w).dtype() == kFloat16;
      right += amp::autocast_cache().misses == 1;
      const amp::autocast own(amp::AutocastState::current());
      right += amp::get_autocast_dtype(kind()) == kFloat16;
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(right == 4 * 202);
  CHECK(amp::autocast_cache().misses == 1);
}

TEST_CASE("A10: a region left on one thread does not disturb another", "[amp][threads]") {
  const Tensor w = weight(), x = ones({n, n});
  std::atomic<bool> stop{false};
  std::thread opens_and_leaves([&] {
    while (!stop) {
      const amp::autocast region(kind(), kFloat16);
      x.mm(w);
    }
  });
  {
    const amp::autocast region(kind(), kBFloat16);
    bool all = true;
    for (int i = 0; i < 500; ++i) all = all && x.mm(w).dtype() == kBFloat16;
    CHECK(all);
    CHECK(amp::autocast_cache().misses == 1);
  }
  stop = true;
  opens_and_leaves.join();
}

TEST_CASE("ops are registered from several threads", "[amp][threads]") {
  std::vector<std::thread> workers;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&wrong] {
      for (int j = 0; j < 100; ++j) {
        const std::string op = str("op_", j);
        const OpInfo& mine = register_op(op, Precision::lower);
        if (find_op(op) != &mine || mine.name != op) ++wrong;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(wrong == 0);
}
