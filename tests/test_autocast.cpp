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
#include "optim/optim.h"
#include "tests/catch.h"

using namespace halftone;
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

// ---------------------------------------------------------------- a case an op

struct Case {
  std::string op;  // the row of the op table
  std::vector<Dims> shapes;
  std::function<Tensor(const std::vector<Tensor>&)> run;
};
using Args = const std::vector<Tensor>&;

constexpr std::int64_t n = 8;

Tensor labels() { return arange(n).remainder(3); }
Tensor images(Args a) { return a[0].view({1, 2, 2, 2, n}); }

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"matmul", {{n, n}, {n, n}}, [](Args a) { return a[0].matmul(a[1]); }},
      {"mm", {{n, n}, {n, n}}, [](Args a) { return a[0].mm(a[1]); }},
      {"bmm", {{2, n, n}, {2, n, n}}, [](Args a) { return a[0].bmm(a[1]); }},
      {"mv", {{n, n}, {n}}, [](Args a) { return a[0].mv(a[1]); }},
      {"addmm", {{n, n}, {n, n}, {n, n}}, [](Args a) { return a[0].addmm(a[1], a[2]); }},
      {"linear", {{n, n}, {n, n}, {n}}, [](Args a) { return linear(a[0], a[1], a[2]); }},
      {"scaled_dot_product_attention",
       {{2, 4, n}, {2, 4, n}, {2, 4, n}},
       [](Args a) { return scaled_dot_product_attention(a[0], a[1], a[2]); }},
      {"einsum", {{n, n}, {n, n}}, [](Args a) { return einsum("ij,jk->ik", a); }},
      {"conv1d", {{1, n, n}, {n, n, 3}, {n}}, [](Args a) { return conv1d(a[0], a[1], a[2]); }},
      {"conv2d", {{1, 2, n, n}, {4, 2, 3, 3}, {4}}, [](Args a) { return conv2d(a[0], a[1], a[2]); }},
      {"conv3d", {{1, 2, 4, 4, 4}, {4, 2, 3, 3, 3}, {4}}, [](Args a) { return conv3d(a[0], a[1], a[2]); }},
      {"conv_transpose1d", {{1, n, n}, {n, n, 3}}, [](Args a) { return conv_transpose1d(a[0], a[1]); }},
      {"conv_transpose2d", {{1, 2, n, n}, {2, 4, 3, 3}}, [](Args a) { return conv_transpose2d(a[0], a[1]); }},
      {"conv_transpose3d", {{1, 2, 4, 4, 4}, {2, 4, 3, 3, 3}}, [](Args a) { return conv_transpose3d(a[0], a[1]); }},

      {"pow", {{n}}, [](Args a) { return a[0].pow(1.7); }},
      {"pow", {{n}, {n}}, [](Args a) { return a[0].pow(a[1]); }},
      {"pow", {{n}}, [](Args a) { return pow(1.7, a[0]); }},
      {"square", {{n}}, [](Args a) { return a[0].square(); }},
      {"exp", {{n}}, [](Args a) { return a[0].exp(); }},
      {"expm1", {{n}}, [](Args a) { return a[0].expm1(); }},
      {"log", {{n}}, [](Args a) { return a[0].log(); }},
      {"log1p", {{n}}, [](Args a) { return a[0].log1p(); }},
      {"log2", {{n}}, [](Args a) { return a[0].log2(); }},
      {"log10", {{n}}, [](Args a) { return a[0].log10(); }},
      {"rsqrt", {{n}}, [](Args a) { return a[0].rsqrt(); }},
      {"reciprocal", {{n}}, [](Args a) { return a[0].reciprocal(); }},
      {"tan", {{n}}, [](Args a) { return a[0].tan(); }},
      {"sinh", {{n}}, [](Args a) { return a[0].sinh(); }},
      {"cosh", {{n}}, [](Args a) { return a[0].cosh(); }},
      {"softplus", {{n}}, [](Args a) { return softplus(a[0]); }},
      {"logsumexp", {{n, n}}, [](Args a) { return a[0].logsumexp(1); }},
      {"cosine_similarity", {{n, n}, {n, n}}, [](Args a) { return cosine_similarity(a[0], a[1]); }},
      {"layer_norm", {{n, n}, {n}, {n}}, [](Args a) { return layer_norm(a[0], n, a[1], a[2]); }},
      {"group_norm", {{2, 4, n}, {4}, {4}}, [](Args a) { return group_norm(a[0], 2, a[1], a[2]); }},
      {"cross_entropy_loss", {{n, n}}, [](Args a) { return cross_entropy_loss(a[0], labels()); }},
      {"nll_loss", {{n, n}}, [](Args a) { return nll_loss(a[0], labels()); }},
      {"mse_loss", {{n}, {n}}, [](Args a) { return mse_loss(a[0], a[1]); }},
      {"l1_loss", {{n}, {n}}, [](Args a) { return l1_loss(a[0], a[1]); }},
      {"smooth_l1_loss", {{n}, {n}}, [](Args a) { return smooth_l1_loss(a[0], a[1]); }},
      {"huber_loss", {{n}, {n}}, [](Args a) { return huber_loss(a[0], a[1]); }},
      {"kl_div", {{n}, {n}}, [](Args a) { return kl_div(a[0], a[1]); }},
      {"binary_cross_entropy_with_logits",
       {{n}, {n}},
       [](Args a) { return binary_cross_entropy_with_logits(a[0], a[1]); }},
      {"max_pool3d", {{n, n}}, [](Args a) { return max_pool3d(images(a), 2); }},
      {"avg_pool3d", {{n, n}}, [](Args a) { return avg_pool3d(images(a), 2); }},

      {"sum", {{n, n}}, [](Args a) { return a[0].sum(); }},
      {"sum", {{n, n}}, [](Args a) { return a[0].sum(1); }},
      {"prod", {{n}}, [](Args a) { return a[0].prod(); }},
      {"prod", {{n, n}}, [](Args a) { return a[0].prod(std::int64_t{1}); }},
      {"norm", {{n, n}}, [](Args a) { return a[0].norm(); }},
      {"norm", {{n, n}}, [](Args a) { return a[0].norm(1, 1); }},
      {"cumsum", {{n, n}}, [](Args a) { return a[0].cumsum(0); }},
      {"cumprod", {{n, n}}, [](Args a) { return cumprod(a[0], 0); }},
      {"softmax", {{n, n}}, [](Args a) { return a[0].softmax(1); }},
      {"log_softmax", {{n, n}}, [](Args a) { return a[0].log_softmax(1); }},

      {"dot", {{n}, {n}}, [](Args a) { return a[0].dot(a[1]); }},
      {"atan2", {{n}, {n}}, [](Args a) { return atan2(a[0], a[1]); }},
      {"addcmul", {{n}, {n}, {n}}, [](Args a) { return a[0].addcmul(a[1], a[2]); }},
      {"addcdiv", {{n}, {n}, {n}}, [](Args a) { return a[0].addcdiv(a[1], a[2]); }},
      {"cat", {{n}, {n}}, [](Args a) { return cat(a); }},
      {"stack", {{n}, {n}}, [](Args a) { return stack(a); }},
      {"scatter_add", {{n}, {n}}, [](Args a) { return a[0].scatter_add(0, labels(), a[1]); }},
      {"index_put", {{n}, {n}}, [](Args a) { return index_put(a[0], {TensorIndex(labels())}, a[1], true); }},
  };
  return all;
}

std::vector<Tensor> arguments(const Case& c, std::span<const Dtype> dtypes) {
  std::vector<Tensor> args;
  for (std::size_t i = 0; i < c.shapes.size(); ++i) {
    const std::int64_t count = count_elements(c.shapes[i]);
    const Tensor x = ((arange(count, kFloat32) + static_cast<double>(i)).remainder(7) / 10 + 0.1).reshape(c.shapes[i]);
    args.push_back(x.to(dtypes[i % dtypes.size()]));
  }
  return args;
}

std::vector<Tensor> cast(const std::vector<Tensor>& args, Dtype dtype) {
  std::vector<Tensor> out;
  for (const Tensor& x : args) out.push_back(x.to(dtype));
  return out;
}

// PyTorch's "check op": the result has the dtype, and is bit for bit that of the op on arguments cast by hand.
void check_op(const Case& c, const std::vector<Tensor>& args, Dtype low, Dtype computed, Dtype result) {
  INFO(c.op << " on " << describe_all(args) << " in a region of " << low);
  CHECK(!amp::is_autocast_enabled(kCPU));
  {
    const amp::autocast region(kCPU, low);
    CHECK(amp::is_autocast_enabled(kCPU));
    const Tensor out = c.run(args);
    CHECK(out.dtype() == result);
    const amp::autocast off(kCPU, nullopt, /*enabled=*/false);
    CHECK(!amp::is_autocast_enabled(kCPU));
    CHECK(out.equal(c.run(cast(args, computed))));
  }
  CHECK(!amp::is_autocast_enabled(kCPU));
}

void check_ops(Precision precision, std::span<const Dtype> dtypes, Dtype low, Dtype computed, Dtype result) {
  for (const Case& c : cases()) {
    if (find_op(c.op)->precision == precision) check_op(c, arguments(c, dtypes), low, computed, result);
  }
}

std::string last_warning;
void remember_warning(const std::string& text) { last_warning = text; }

Tensor weight(Dims sizes = {n, n}) { return (ones(sizes) / 3).requires_grad_(); }

}  // namespace

TEST_CASE("every op with a policy has a case here", "[amp]") {
  std::set<std::string_view> covered{"binary_cross_entropy"};
  for (const Case& c : cases()) {
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
    for (const Dtype came : {kFloat32, kBFloat16, kFloat16}) {
      for (const Case& c : cases()) {
        if (find_op(c.op)->precision != Precision::full_if_unset) continue;
        INFO(c.op << " of " << came);
        const std::vector<Tensor> args = arguments(c, std::array{came});
        const amp::autocast region(kCPU, low);
        const Tensor out = c.run(args);
        CHECK(out.dtype() == kFloat32);
        const amp::autocast off(kCPU, nullopt, false);
        CHECK(out.allclose(c.run(cast(args, kFloat32)), 1e-6, 1e-6));
      }
    }
  }
}

TEST_CASE("a dtype that the caller names wins", "[amp]") {
  const Tensor x = ones({n}, kBFloat16);
  const amp::autocast region(kCPU);
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
    const Tensor a = ones({n}), b = full({n}, 2.0, low);
    const amp::autocast region(kCPU, low);
    for (const Binary f : comparisons) CHECK(f(a, b).dtype() == kBool);
    for (const Binary f : arithmetic) {
      CHECK(f(a, b).dtype() == kFloat32);
      CHECK(f(b, b).dtype() == low);
    }
  }
}

TEST_CASE("test_autocast_banned: binary_cross_entropy is refused, and the message names the way out", "[amp]") {
  const Tensor x = full({n}, 0.5), y = ones({n});
  CHECK_NOTHROW(binary_cross_entropy(x, y));
  const amp::autocast region(kCPU);
  for (const Dtype dtype : {kFloat32, kBFloat16}) {
    CHECK_THROWS_WITH(binary_cross_entropy(x.to(dtype), y),
                      ContainsSubstring("binary_cross_entropy is unsafe to autocast") &&
                          ContainsSubstring("binary_cross_entropy_with_logits"));
  }
  const amp::autocast off(kCPU, nullopt, false);
  CHECK_NOTHROW(binary_cross_entropy(x, y));
}

TEST_CASE("test_autocast_ignored_types: float64 and integers are left alone", "[amp]") {
  const Tensor d = ones({n, n}, kFloat64), f = ones({n, n}), i = ones({n, n}, kInt32);
  const amp::autocast region(kCPU);
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
  const amp::autocast region(kCPU);
  CHECK(a.mul_(b).dtype() == kFloat32);
  CHECK(a.addmm_(a.clone(), a.clone()).dtype() == kFloat32);
  CHECK_THROWS(a.addmm_(a.clone(), b));
}

TEST_CASE("gradients reach parameters in the parameters' dtype", "[amp]") {
  const Tensor w = weight(), b = weight({n}), x = ones({n, n});
  {
    const amp::autocast region(kCPU);
    linear(x, w, b).relu().sum().backward();
  }
  CHECK(w.grad().dtype() == kFloat32);
  CHECK(b.grad().dtype() == kFloat32);
  CHECK(w.grad()[0][0].item<double>() == n);
}

TEST_CASE("test_generic_autocast: two regions give equal results", "[amp]") {
  for (const Case& c : cases()) {
    const std::vector<Tensor> args = arguments(c, std::array{kFloat32});
    const auto run = [&] {
      const amp::autocast region(kCPU);
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
  amp::set_autocast_dtype(kCPU, kFloat16);
  CHECK(ones({2}).dtype() == kFloat32);
  {
    const amp::autocast region("cpu");
    CHECK(ones({n, n}).mm(ones({n, n})).dtype() == kFloat16);
  }
  amp::set_autocast_dtype(kCPU, kBFloat16);
  CHECK_THROWS_AS(amp::set_autocast_dtype(kCPU, kInt32), ValueError);
}

TEST_CASE("A6: a nested region without a dtype inherits", "[amp]") {
  const amp::autocast outer(kCPU, kFloat16);
  {
    const amp::autocast inner(kCPU);
    CHECK(amp::get_autocast_dtype(kCPU) == kFloat16);
    const amp::autocast off(kCPU, nullopt, false);
    const amp::autocast again(kCPU);
    CHECK(ones({n, n}).mm(ones({n, n})).dtype() == kFloat16);
  }
  CHECK(amp::is_autocast_enabled(kCPU));
}

TEST_CASE("A5: exceptions leave the state as it was", "[amp]") {
  const amp::autocast outer(kCPU, kFloat16);
  try {
    const amp::autocast inner(kCPU, kBFloat16, true, false);
    throw 1;
  } catch (int) {
  }
  CHECK(amp::get_autocast_dtype(kCPU) == kFloat16);
  CHECK(amp::is_autocast_cache_enabled());
}

TEST_CASE("A1: recursion of a guarded function leaves the state as before", "[amp]") {
  std::function<Tensor(int)> power;
  power = amp::with_autocast(kCPU, kBFloat16, [&](int depth) -> Tensor {
    CHECK(amp::is_autocast_enabled(kCPU));
    const Tensor x = ones({2, 2});
    return depth == 0 ? x : x.mm(power(depth - 1));
  });
  CHECK(power(5).dtype() == kBFloat16);
  CHECK(!amp::is_autocast_enabled(kCPU));
  CHECK(context.filter == nullptr);
}

TEST_CASE("regions of the CPU and of CUDA are independent", "[amp]") {
  const WarningHandler before = set_warning_handler(&remember_warning);
  {
    const amp::autocast cpu(kCPU, kFloat16);
    const amp::autocast gpu(kCUDA, kBFloat16);
    CHECK(amp::get_autocast_dtype(kCPU) == kFloat16);
    CHECK(amp::get_autocast_dtype(kCUDA) == kBFloat16);
    CHECK(ones({n, n}).mm(ones({n, n})).dtype() == kFloat16);
    CHECK(amp::is_autocast_enabled(kCUDA) == cuda::is_available());
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
    const amp::autocast region(kCPU, kFloat32, /*enabled=*/false);
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
  const amp::autocast region(kCPU);
  x.mm(w);
  {
    const amp::autocast nested(kCPU);
    x.mm(w);
  }
  CHECK(amp::autocast_cache().misses == 1);
  CHECK(amp::autocast_cache().hits == 1);
}

TEST_CASE("the cache tells its size and can be cleared", "[amp][cache]") {
  CHECK(amp::autocast_cache().entries == 0);
  const Tensor w = weight(), v = weight(), x = ones({n, n});
  const amp::autocast region(kCPU);
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
  const amp::autocast region(kCPU);
  x.mm(w.t());
  x.mm(w * 1);
  x.mm(x);
  x.mm(half);
  w.exp();
  CHECK(amp::autocast_cache().entries == 0);
}

TEST_CASE("test_cache_disabled: without the cache every use casts", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kCPU, nullopt, true, /*cache_enabled=*/false);
  const amp::trace trace;
  x.mm(w), x.mm(w);
  CHECK(amp::autocast_cache().entries == 0);
  for (const amp::TraceRecord& record : trace.records())
    CHECK((record.inputs[1].is_cast() && !record.inputs[1].cached));
}

TEST_CASE("A2: a weight changed in place inside a region is seen", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kCPU);
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

TEST_CASE("A3: nested regions of different dtypes on one weight", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast outer(kCPU, kBFloat16);
  CHECK(x.mm(w).dtype() == kBFloat16);
  {
    const amp::autocast inner(kCPU, kFloat16);
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
    const amp::autocast outer(kCPU);
    x.mm(w);
    { const amp::autocast off(kCPU, nullopt, false); }
    { const amp::autocast other(kCUDA); }
    { const amp::autocast inner(kCPU); }
    CHECK(amp::autocast_cache().entries == 1);
    CHECK(live_tensors() > alive);
  }
  CHECK(live_tensors() == alive);
  set_warning_handler(before);
}

TEST_CASE("A9, test_autocast_cache_leak: iterations under no_grad in one region do not grow memory", "[amp][cache]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kCPU);
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
    const amp::autocast region(kCPU, kBFloat16, true, cached);
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
  const amp::autocast region(kCPU);
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
  const amp::autocast region(kCPU);
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
  const amp::autocast region(kCPU);
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
  const amp::autocast region(kCPU);
  const Tensor y = x.mm(w).flatten();
  index_put(y, {TensorIndex(labels())}, ones({n}), true).sum().backward();
  CHECK(w.grad().dtype() == kFloat32);
  CHECK(w.grad()[0][0].item<double>() == n);
}

TEST_CASE("test_autocast_checkpointing: a captured state runs a forward again as it ran first", "[amp]") {
  const Tensor w = weight(), x = ones({n, n});
  amp::AutocastState state;
  {
    const amp::autocast region(kCPU, kFloat16, true, false);
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
  const amp::autocast region(kCPU);
  bool seen = true;
  const Tensor y = x.mm(w);
  y.register_hook([&](Tensor) { seen = amp::is_autocast_enabled(kCPU); });
  y.sum().backward();
  CHECK(!seen);
  CHECK(amp::is_autocast_enabled(kCPU));
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
    const amp::autocast region(kCPU, kBFloat16);
    const Tensor y = apply(info, DoubleRule{}, std::array{x});
    CHECK(y.dtype() == row.result);
    y.sum().backward();
    CHECK(x.grad().dtype() == kFloat16);
  }
  amp::register_policy("my_double", Precision::banned);
  const amp::autocast region(kCPU);
  CHECK_THROWS_WITH(apply(*find_op("my_double"), DoubleRule{}, std::array{ones({2})}),
                    ContainsSubstring("my_double is unsafe to autocast") && ContainsSubstring("enabled=*/false"));
  CHECK_THROWS_WITH(amp::register_policy("matmul", Precision::full), ContainsSubstring("matmul is an op of halftone"));
  CHECK_THROWS_AS(amp::register_policy("", Precision::full), ValueError);
  CHECK(find_op("no such op") == nullptr);
}

// ---------------------------------------------------------------- threads

TEST_CASE("a new thread starts without a region", "[amp][threads]") {
  const amp::autocast region(kCPU);
  std::thread([] { CHECK(!amp::is_autocast_enabled(kCPU)); }).join();
}

TEST_CASE("A8: threads that inherit the context run in the region, each with a cache of its own", "[amp][threads]") {
  const Tensor w = weight(), x = ones({n, n});
  const amp::autocast region(kCPU, kFloat16);
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
      right += amp::get_autocast_dtype(kCPU) == kFloat16;
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
      const amp::autocast region(kCPU, kFloat16);
      x.mm(w);
    }
  });
  {
    const amp::autocast region(kCPU, kBFloat16);
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
