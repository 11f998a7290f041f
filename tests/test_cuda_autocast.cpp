// Regions on GPUs: PyTorch's tests of the same names, on every device there is. test_autocast.cpp has the rest of the
// contract, which is the same for every kind of device.
#include "halftone.h"
#include "tests/autocast_cases.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::int64_t n = kAutocastSize;
constexpr Dtype kLow[] = {kFloat16, kBFloat16};

/// Runs f on every GPU, as the device of factories.
template <class F> void on_each_gpu(F f) {
  for (const Device device : cuda_devices()) {
    INFO("on " << device);
    const DefaultDevice scope(device);
    f();
  }
}

void check_low(Dtype low) {
  on_each_gpu([low] {
    for (const Dtype came : {kFloat32, kBFloat16, kFloat16})
      check_ops(Precision::lower, std::array{came}, low, low, low);
    check_ops(Precision::lower, std::array{kFloat32, kFloat16, kBFloat16}, low, low, low);
  });
}

}  // namespace

// ---------------------------------------------------------------- lists of ops

TEST_CASE("test_autocast_torch_fp16", "[cuda][amp]") { check_low(kFloat16); }

TEST_CASE("test_autocast_torch_bf16", "[cuda][amp]") { check_low(kBFloat16); }

TEST_CASE("test_autocast_torch_fp32 on CUDA", "[cuda][amp]") {
  on_each_gpu([] {
    for (const Dtype low : kLow) {
      for (const Dtype came : {kFloat32, kBFloat16, kFloat16}) {
        check_ops(Precision::full, std::array{came}, low, kFloat32, kFloat32);
        check_outputs_full(came, low);
      }
      check_ops(Precision::full, std::array{kFloat16, kFloat32, kBFloat16}, low, kFloat32, kFloat32);
    }
  });
}

TEST_CASE("test_autocast_torch_need_autocast_promote on CUDA: in either order", "[cuda][amp]") {
  on_each_gpu([] {
    for (const Dtype low : kLow) {
      check_ops(Precision::promote, std::array{low, kFloat32}, low, kFloat32, kFloat32);
      check_ops(Precision::promote, std::array{kFloat32, low}, low, kFloat32, kFloat32);
      check_ops(Precision::promote, std::array{kFloat16, kBFloat16}, low, kFloat32, kFloat32);
      check_ops(Precision::promote, std::array{low, low}, low, low, low);
    }
  });
}

TEST_CASE("test_autocast_torch_expect_builtin_promote and _methods_expect_builtin_promote on CUDA", "[cuda][amp]") {
  on_each_gpu([] {
    for (const Dtype low : kLow) {
      const Tensor a = ones({n}), b = full({n}, 2.0, low);
      const amp::autocast region(kCUDA, low);
      for (const Tensor& y : {a == b, a >= b, a > b, a <= b, a < b, a != b}) CHECK(y.dtype() == kBool);
      for (const Tensor& y : {eq(a, b), ge(a, b), gt(a, b), le(a, b), lt(a, b), ne(a, b)}) CHECK(y.dtype() == kBool);
      for (const Tensor& y : {a + b, b + a, a * b, a / b, a.add(b), a.mul(b), a.div(b), cat({a, b}), stack({a, b})}) {
        CHECK(y.dtype() == kFloat32);
      }
      CHECK((b + b).dtype() == low);
      const Tensor wide = b.to(kFloat32);
      CHECK((a + b).equal(a + wide));
      CHECK((a / b).equal(a / wide));
      CHECK(cat({a, b}).equal(cat({a, wide})));
      CHECK((a < b).equal(a < wide));
    }
  });
}

namespace {

/// What the call gives in a region has the dtype, and is bit for bit what it gives outside on arguments cast by hand.
template <class F> void check_call(Dtype low, Dtype result, const Tensor& by_hand, F call) {
  const amp::autocast region(kCUDA, low);
  const Tensor out = call();
  CHECK(out.dtype() == result);
  CHECK(out.equal(by_hand));
}

}  // namespace

TEST_CASE("test_autocast_nn_fp16, _nn_bf16 and _methods_fp16: modules and operators give the low dtype",
          "[cuda][amp]") {
  on_each_gpu([] {
    nn::Linear dense(n, n);
    nn::Conv2d conv(nn::Conv2dOptions(2, 4, 3));
    dense->to(get_default_device()), conv->to(get_default_device());
    const Tensor x = randn({n, n}), image = randn({1, 2, n, n});
    for (const Dtype low : kLow) {
      const Tensor x_low = x.to(low), w = dense->weight.to(low), b = dense->bias.to(low);
      const Tensor image_low = image.to(low), filter = conv->weight.to(low), offset = conv->bias.to(low);
      check_call(low, low, linear(x_low, w, b), [&] { return dense(x); });
      check_call(low, low, linear(x_low, w, b), [&] { return nn::functional::linear(x, dense->weight, dense->bias); });
      check_call(low, low, conv2d(image_low, filter, offset), [&] { return conv(image); });
      check_call(low, low, x_low.matmul(x_low), [&] { return x.matmul(x); });
    }
  });
}

TEST_CASE("test_autocast_nn_fp32 and _methods_fp32: losses, powers and norms run in float32", "[cuda][amp]") {
  nn::LayerNorm norm(nn::LayerNormOptions({n}));
  using Call = std::function<Tensor(const Tensor& x, const Tensor& y)>;
  const std::pair<const char*, Call> calls[] = {
      {"MSELoss", [](const Tensor& x, const Tensor& y) { return nn::MSELoss()(x, y); }},
      {"L1Loss", [](const Tensor& x, const Tensor& y) { return nn::L1Loss()(x, y); }},
      {"SmoothL1Loss", [](const Tensor& x, const Tensor& y) { return nn::SmoothL1Loss()(x, y); }},
      {"HuberLoss", [](const Tensor& x, const Tensor& y) { return nn::HuberLoss()(x, y); }},
      {"KLDivLoss", [](const Tensor& x, const Tensor& y) { return nn::KLDivLoss()(x, y); }},
      {"BCEWithLogitsLoss", [](const Tensor& x, const Tensor& y) { return nn::BCEWithLogitsLoss()(x, y); }},
      {"CrossEntropyLoss", [](const Tensor& x, const Tensor&) { return nn::CrossEntropyLoss()(x, arange(n)); }},
      {"NLLLoss", [](const Tensor& x, const Tensor&) { return nn::NLLLoss()(x, arange(n)); }},
      {"LayerNorm", [norm](const Tensor& x, const Tensor&) mutable { return norm(x); }},
      {"pow", [](const Tensor& x, const Tensor&) { return x.pow(1.7); }},
      {"pow of a tensor", [](const Tensor& x, const Tensor& y) { return x.pow(y); }},
      {"softmax", [](const Tensor& x, const Tensor&) { return x.softmax(1); }},
      {"norm", [](const Tensor& x, const Tensor&) { return x.norm(); }},
  };
  on_each_gpu([&] {
    norm->to(get_default_device());
    const Tensor x = rand({n, n}) + 0.1, y = rand({n, n});
    for (const Dtype low : kLow) {
      const Tensor x_low = x.to(low), y_low = y.to(low);
      for (const auto& [name, call] : calls) {
        INFO(name << " of " << low);
        const Tensor by_hand = call(x_low.to(kFloat32), y_low.to(kFloat32));
        check_call(low, kFloat32, by_hand, [&] { return call(x_low, y_low); });
      }
    }
  });
}

TEST_CASE("test_autocast_banned on CUDA", "[cuda][amp]") {
  on_each_gpu([] {
    const Tensor x = full({n}, 0.5), y = ones({n});
    const amp::autocast region(kCUDA);
    for (const Dtype dtype : {kFloat32, kFloat16}) {
      CHECK_THROWS_WITH(binary_cross_entropy(x.to(dtype), y),
                        ContainsSubstring("binary_cross_entropy is unsafe to autocast"));
    }
    const amp::autocast off(kCUDA, nullopt, false);
    CHECK_NOTHROW(binary_cross_entropy(x, y));
  });
}

TEST_CASE("test_autocast_ignored_types on CUDA", "[cuda][amp]") {
  on_each_gpu([] {
    const Tensor d = ones({n, n}, kFloat64), h = ones({n, n}, kFloat16), i = ones({n, n}, kInt32);
    const amp::autocast region(kCUDA);
    CHECK_THROWS_WITH(d.mm(h), ContainsSubstring("float64") && ContainsSubstring("float16"));
    CHECK(d.mm(d).dtype() == kFloat64);
    for (const Tensor& y : {d.pow(2), d.sum(), d.norm()}) CHECK(y.dtype() == kFloat64);
    CHECK(i.pow(2).dtype() == kInt32);
    CHECK(i.sum().dtype() == kInt64);
  });
}

TEST_CASE("a region is for tensors of its kind of device alone", "[cuda][amp]") {
  on_each_gpu([] {
    const Tensor here = ones({n, n}), host = ones({n, n}, kCPU);
    {
      const amp::autocast region(kCUDA);
      CHECK(here.mm(here).dtype() == kFloat16);
      CHECK(host.mm(host).dtype() == kFloat32);
      const amp::autocast both(kCPU);
      CHECK(here.mm(here).dtype() == kFloat16);
      CHECK(host.mm(host).dtype() == kBFloat16);
    }
    const amp::autocast region(kCPU);
    CHECK(here.mm(here).dtype() == kFloat32);
  });
}

TEST_CASE("a CUDA region takes any floating dtype without a word", "[cuda][amp]") {
  static bool warned = false;
  const WarningHandler before = set_warning_handler([](const std::string&) { warned = true; });
  on_each_gpu([] {
    const Tensor h = ones({n, n}, kFloat16);
    const amp::autocast region(kCUDA, kFloat32);
    CHECK(h.mm(h).dtype() == kFloat32);
  });
  set_warning_handler(before);
  CHECK(!warned);
}

// ---------------------------------------------------------------- the user's functions

namespace {

// What the last calls saw.
struct Seen {
  Dtype input = kBool, nested = kBool, low = kBool;
  bool forward_on = false, backward_on = false;
};
Seen seen;

struct MyMM : autograd::Function<MyMM> {
  static Tensor forward(autograd::AutogradContext* ctx, Tensor a, Tensor b) {
    const auto body = [ctx](const Tensor& x, const Tensor& y) {
      seen.input = x.dtype();
      seen.forward_on = amp::is_autocast_enabled(kCUDA);
      ctx->save_for_backward({x, y});
      return x.mm(y);
    };
    return amp::custom_fwd(ctx, kCUDA, body, a, b);
  }
  static autograd::tensor_list backward(autograd::AutogradContext* ctx, autograd::tensor_list g) {
    return amp::custom_bwd(ctx, [&] {
      seen.backward_on = amp::is_autocast_enabled(kCUDA);
      seen.low = amp::get_autocast_dtype(kCUDA);
      const auto saved = ctx->get_saved_variables();
      return autograd::tensor_list{g[0].mm(saved[1].t()), saved[0].t().mm(g[0])};
    });
  }
};

using Nested = std::map<std::string, std::tuple<Tensor, std::vector<Tensor>>>;

struct MyMMInFloat32 : autograd::Function<MyMMInFloat32> {
  static Tensor forward(autograd::AutogradContext* ctx, Tensor a, Nested nested, Tensor b) {
    const auto body = [ctx](const Tensor& x, const Nested& container, const Tensor& y) {
      seen.input = x.dtype();
      seen.nested = std::get<1>(container.at("key"))[0].dtype();
      seen.forward_on = amp::is_autocast_enabled(kCUDA);
      ctx->save_for_backward({x, y});
      return x.mm(y);
    };
    return amp::custom_fwd(ctx, kCUDA, kFloat32, body, a, nested, b);
  }
  static autograd::tensor_list backward(autograd::AutogradContext* ctx, autograd::tensor_list g) {
    return amp::custom_bwd(ctx, [&] {
      seen.backward_on = amp::is_autocast_enabled(kCUDA);
      const auto saved = ctx->get_saved_variables();
      return autograd::tensor_list{g[0].mm(saved[1].t()), {}, saved[0].t().mm(g[0])};
    });
  }
};

// A checkpoint as a user writes one: the forward runs again in backward, in the region it ran in first.
struct CheckpointedLinear : autograd::Function<CheckpointedLinear> {
  static Tensor forward(autograd::AutogradContext* ctx, Tensor x, Tensor w) {
    ctx->save_for_backward({x, w});
    state = amp::AutocastState::current();
    first = linear(x, w);
    return first;
  }
  static autograd::tensor_list backward(autograd::AutogradContext* ctx, autograd::tensor_list g) {
    const AutoGradMode recording(true);
    const auto saved = ctx->get_saved_variables();
    const Tensor x = saved[0].detach().requires_grad_(), w = saved[1].detach().requires_grad_();
    const amp::autocast again(state);
    const Tensor y = linear(x, w);
    CHECK(y.equal(first));
    return autograd::grad({y}, {x, w}, {g[0]});
  }
  static inline amp::AutocastState state;
  static inline Tensor first;
};

}  // namespace

TEST_CASE("test_autocast_custom_enabled on CUDA", "[cuda][amp]") {
  on_each_gpu([] {
    for (const Dtype low : kLow) {
      const Tensor x = randn({n, n}).requires_grad_(), y = randn({n, n}).requires_grad_();
      Tensor loss;
      {
        const amp::autocast region(kCUDA, low);
        const Tensor output = MyMM::apply(x, y);
        CHECK(output.dtype() == low);
        loss = output.sum();
      }
      CHECK(seen.input == kFloat32);
      CHECK(seen.forward_on);
      loss.backward();
      CHECK(seen.backward_on);
      CHECK(seen.low == low);
      CHECK(x.grad().dtype() == kFloat32);
    }
  });
}

TEST_CASE("test_autocast_custom_cast_inputs on CUDA; tensors of the host stay as they are", "[cuda][amp]") {
  on_each_gpu([] {
    const Tensor x = randn({n, n}, kFloat16).requires_grad_(), y = randn({n, n}, kFloat16).requires_grad_();
    Tensor loss;
    {
      const amp::autocast region(kCUDA);
      MyMMInFloat32::apply(x, Nested{{"key", {y, {y.cpu()}}}}, y);
      CHECK(seen.nested == kFloat16);
      const Tensor output = MyMMInFloat32::apply(x, Nested{{"key", {y, {y}}}}, y);
      CHECK(output.dtype() == kFloat32);
      CHECK(seen.input == kFloat32);
      CHECK(seen.nested == kFloat32);
      CHECK(!seen.forward_on);
      output.sum().backward();
    }
    CHECK(!seen.backward_on);
    CHECK(x.grad().dtype() == kFloat16);
    CHECK(MyMMInFloat32::apply(x, Nested{{"key", {y, {y}}}}, y).dtype() == kFloat16);
    CHECK(seen.input == kFloat16);
  });
}

TEST_CASE("test_autocast_checkpointing on CUDA: a forward runs again in backward as it ran first", "[cuda][amp]") {
  on_each_gpu([] {
    for (const Dtype low : kLow) {
      const Tensor w = randn({n, n}).requires_grad_(), x = randn({n, n});
      Tensor y;
      {
        const amp::autocast region(kCUDA, low);
        y = CheckpointedLinear::apply(x, w);
      }
      CHECK(y.dtype() == low);
      CHECK(y.requires_grad());
      y.sum().backward();
      CHECK(w.grad().dtype() == kFloat32);
    }
    CheckpointedLinear::first.reset();
  });
}

// ---------------------------------------------------------------- the cache

TEST_CASE("test_autocast_cache_leak on CUDA: memory does not grow over forwards without recording",
          "[cuda][amp][cache]") {
  on_each_gpu([] {
    const Device device = get_default_device();
    nn::Linear linear(n, n);
    linear->to(device);
    const Tensor x = randn({n, n});
    const amp::autocast region(kCUDA);
    const NoGradGuard no_grad;
    linear(x);
    const std::int64_t held = memory_stats(device).current;
    for (int i = 0; i < 20; ++i) {
      linear(x);
      CHECK(memory_stats(device).current == held);
    }
    CHECK(amp::autocast_cache().misses == 2);
  });
}

TEST_CASE("one region serves all GPUs, each weight cast where it lives", "[cuda][amp][cache]") {
  const amp::autocast region(kCUDA, kFloat16, cuda::is_available());
  for (const Device device : cuda_devices()) {
    const Tensor x = ones({n, n}, device), w = full({n, n}, 0.5, TensorOptions(device).requires_grad(true));
    const Tensor y = x.mm(w) + x.mm(w);
    CHECK(y.device() == device);
    CHECK(y.dtype() == kFloat16);
    y.sum().backward();
    CHECK(w.grad().device() == device);
    CHECK(w.grad().equal(full({n, n}, 2.0 * n, TensorOptions(kFloat32).device(device))));
  }
  const std::size_t gpus = cuda_devices().size();
  CHECK(amp::autocast_cache().misses == gpus);
  CHECK(amp::autocast_cache().hits == gpus);
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("casts never make the host wait", "[cuda][amp][launches]") {
  need_gpus(1);
  const DefaultDevice scope(Device(kCUDA, 0));
  const Tensor x = randn({n, n}), w = randn({n, n}).requires_grad_();
  const auto train = [&] {
    const amp::autocast region(kCUDA);
    x.mm(w).softmax(1).sum().backward();
  };
  train();
  cudasim::reset_counters();
  train();
  for (const cudasim::Counters& device : cudasim::counters()) CHECK(device.host_waits == 0);
}

#endif
