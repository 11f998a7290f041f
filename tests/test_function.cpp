// User-defined differentiable functions: what forward may return, what backward may return, what the context keeps.
#include "autograd/function.h"
#include "autograd/ops.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::autograd;
using Catch::Matchers::ContainsSubstring;

namespace {

Tensor leaf(double value = 3) { return full({2}, value, kFloat64).requires_grad_(); }
double first(const Tensor& t) { return t.detach().reshape({-1})[0].item<double>(); }

struct LinearFunction : Function<LinearFunction> {
  static Tensor forward(AutogradContext* ctx, Tensor input, Tensor weight, Tensor bias = Tensor()) {
    ctx->save_for_backward({input, weight, bias});
    Tensor output = input.mm(weight.t());
    if (bias.defined()) output += bias.unsqueeze(0).expand_as(output);
    return output;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor& g = grads[0];
    return {g.mm(saved[1]), g.t().mm(saved[0]), saved[2].defined() ? g.sum(0) : Tensor()};
  }
};

struct MulConstant : Function<MulConstant> {
  static Tensor forward(AutogradContext* ctx, Tensor x, double constant) {
    ctx->saved_data["constant"] = constant;
    return x * constant;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    return {grads[0] * ctx->saved_data["constant"].toDouble(), Tensor()};
  }
};

}  // namespace

TEST_CASE("a function of tensors differentiates, with and without its optional argument", "[function]") {
  const Tensor x = ones({4, 3}, kFloat64).requires_grad_(), w = full({2, 3}, 2.0, kFloat64).requires_grad_();
  const Tensor b = zeros({2}, kFloat64).requires_grad_();
  const Tensor y = LinearFunction::apply(x, w, b);
  CHECK(y.grad_fn()->name() == "LinearFunctionBackward");
  y.sum().backward();
  CHECK(first(x.grad()) == 4);
  CHECK(first(w.grad()) == 4);
  CHECK(first(b.grad()) == 4);
  LinearFunction::apply(x, w).sum().backward();
  CHECK(first(w.grad()) == 8);
  CHECK(first(b.grad()) == 4);
}

TEST_CASE("numbers may be among the arguments, and small values are kept for backward", "[function]") {
  const Tensor x = leaf();
  MulConstant::apply(x, 5.5).sum().backward();
  CHECK(first(x.grad()) == 5.5);
}

TEST_CASE("saved values know their type", "[function]") {
  std::map<std::string, Value> data;
  data["int"] = 3;
  data["bool"] = true;
  data["double"] = 2.5;
  data["text"] = "hello";
  data["tensor"] = leaf();
  data["ints"] = std::vector<std::int64_t>{1, 2};
  data["shape"] = IntArrayRef({4, 5});
  CHECK(data["int"].toInt() == 3);
  CHECK(data["bool"].toBool());
  CHECK(data["double"].toDouble() == 2.5);
  CHECK(data["text"].toStringRef() == "hello");
  CHECK(first(data["tensor"].toTensor()) == 3);
  CHECK(data["ints"].toIntVector()[1] == 2);
  CHECK(data["shape"].toIntVector() == std::vector<std::int64_t>{4, 5});
  CHECK(data["absent"].isNone());
  CHECK_THROWS_WITH(data["int"].toTensor(), ContainsSubstring("this saved value is not a tensor"));
}

namespace {

struct SumAndProduct : Function<SumAndProduct> {
  static tensor_list forward(AutogradContext* ctx, Tensor a, Tensor b) {
    ctx->save_for_backward({a, b});
    return {a + b, a * b};
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    const auto saved = ctx->get_saved_variables();
    seen_undefined = !g[0].defined();
    return {g[0] + g[1] * saved[1], g[0] + g[1] * saved[0]};
  }
  static inline bool seen_undefined = false;
};

struct OnlySecond : Function<OnlySecond> {
  static tensor_list forward(AutogradContext* ctx, Tensor a) {
    ctx->set_materialize_grads(false);
    return {a * 2, a * 3};
  }
  static tensor_list backward(AutogradContext*, tensor_list g) {
    CHECK(!g[0].defined());
    return {g[1] * 3};
  }
};

}  // namespace

TEST_CASE("a function has several results; a gradient that does not come is zero, or undefined if asked for",
          "[function]") {
  const Tensor a = leaf(3), b = leaf(4);
  auto y = SumAndProduct::apply(a, b);
  (y[0] + y[1]).sum().backward();
  CHECK(first(a.grad()) == 5);
  CHECK(first(b.grad()) == 4);
  SumAndProduct::apply(a, b)[1].sum().backward();
  CHECK(!SumAndProduct::seen_undefined);
  CHECK(first(a.grad()) == 9);
  OnlySecond::apply(a)[1].sum().backward();
  CHECK(first(a.grad()) == 12);
}

TEST_CASE("backward written in ops is differentiated again", "[function]") {
  const Tensor a = leaf(3), b = leaf(4);
  const Tensor y = SumAndProduct::apply(a, b)[1].sum();
  const Tensor g = autograd::grad({y}, {a}, {}, nullopt, /*create_graph=*/true)[0];
  CHECK(autograd::grad({g.sum()}, {b})[0].equal(ones({2}, kFloat64)));
}

namespace {

struct SavesResult : Function<SavesResult> {
  static Tensor forward(AutogradContext* ctx, Tensor x) {
    Tensor y = x.exp();
    ctx->save_for_backward({y, Tensor()});
    return y;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    const auto saved = ctx->get_saved_variables();
    CHECK(!saved[1].defined());
    return {g[0] * saved[0]};
  }
};

}  // namespace

TEST_CASE("a saved result has its history in double backward, and does not keep itself alive", "[function]") {
  const std::int64_t before = live_tensors();
  {
    const Tensor x = leaf(1);
    const Tensor y = SavesResult::apply(x);
    const Tensor g = autograd::grad({y.sum()}, {x}, {}, nullopt, /*create_graph=*/true)[0];
    CHECK(first(autograd::grad({g.sum()}, {x})[0]) == Catch::Approx(std::exp(1.0)));
  }
  CHECK(live_tensors() == before);
}

TEST_CASE("in-place writes to saved tensors are noticed, and so is a second backward", "[function]") {
  const Tensor a = leaf(3), b = leaf(4) * 1;
  const Tensor y = SumAndProduct::apply(a, b)[1].sum();
  {
    const NoGradGuard no_grad;
    b.add_(1);
  }
  CHECK_THROWS_WITH(y.backward(), ContainsSubstring("modified by an inplace operation") &&
                                      ContainsSubstring("SumAndProductBackward"));
  const Tensor z = SumAndProduct::apply(a, a)[1].sum();
  z.backward();
  CHECK_THROWS_WITH(z.backward(), ContainsSubstring("already been freed"));
}

namespace {

struct Identity : Function<Identity> {
  static Tensor forward(AutogradContext*, Tensor x) { return x; }
  static tensor_list backward(AutogradContext*, tensor_list g) { return {g[0] * 2}; }
};

struct Twice : Function<Twice> {
  static tensor_list forward(AutogradContext*, Tensor x) {
    const Tensor y = x * 2;
    return {y, y};
  }
  static tensor_list backward(AutogradContext*, tensor_list g) { return {g[0] * 10 + g[1]}; }
};

struct WithUndefined : Function<WithUndefined> {
  static tensor_list forward(AutogradContext*, Tensor x) { return {Tensor(), x * 2}; }
  static tensor_list backward(AutogradContext*, tensor_list g) {
    CHECK(!g[0].defined());
    return {g[1] * 2};
  }
};

struct ViewOf : Function<ViewOf> {
  static Tensor forward(AutogradContext*, Tensor x) { return x.view({2, 1}); }
  static tensor_list backward(AutogradContext*, tensor_list g) { return {g[0].view({2}) * 7}; }
};

}  // namespace

TEST_CASE("an argument that is returned comes back as a view of itself", "[function]") {
  const Tensor x = leaf();
  const Tensor y = Identity::apply(x);
  CHECK(!y.is_same(x));
  CHECK(y.is_alias_of(x));
  CHECK(x.is_leaf());
  y.sum().backward();
  CHECK(first(x.grad()) == 2);
  const Tensor plain = ones({2});
  CHECK(!Identity::apply(plain).requires_grad());
  ViewOf::apply(x).sum().backward();
  CHECK(first(x.grad()) == 9);
}

TEST_CASE("a tensor returned twice is two results with gradients of their own", "[function]") {
  const Tensor x = leaf();
  const auto y = Twice::apply(x);
  CHECK(y[0].is_alias_of(y[1]));
  y[0].sum().backward({}, true);
  CHECK(first(x.grad()) == 10);
  y[1].sum().backward();
  CHECK(first(x.grad()) == 11);
}

TEST_CASE("a result may be undefined", "[function]") {
  const Tensor x = leaf();
  const auto y = WithUndefined::apply(x);
  CHECK(!y[0].defined());
  y[1].sum().backward();
  CHECK(first(x.grad()) == 2);
}

namespace {

struct DoubleInPlace : Function<DoubleInPlace> {
  static Tensor forward(AutogradContext* ctx, Tensor x) {
    x.mul_(2);
    ctx->mark_dirty({x});
    return x;
  }
  static tensor_list backward(AutogradContext*, tensor_list g) { return {g[0] * 2}; }
};

struct ForgetsToReturn : Function<ForgetsToReturn> {
  static Tensor forward(AutogradContext* ctx, Tensor x) {
    ctx->mark_dirty({x});
    return x * 1;
  }
  static tensor_list backward(AutogradContext*, tensor_list g) { return g; }
};

struct SortsOut : Function<SortsOut> {
  static tensor_list forward(AutogradContext* ctx, Tensor x) {
    const Tensor sign = x.sign(), places = arange(2);
    ctx->mark_non_differentiable({sign});
    return {x * 1, sign, places};
  }
  static tensor_list backward(AutogradContext*, tensor_list g) { return {g[0]}; }
};

}  // namespace

TEST_CASE("a function may write to its argument, if it says so and the argument is no leaf", "[function]") {
  const Tensor x = leaf();
  const Tensor h = x * 1;
  const Tensor y = DoubleInPlace::apply(h);
  CHECK(y.is_same(h));
  CHECK(first(h) == 6);
  (y * h).sum().backward();  // 4 x^2
  CHECK(first(x.grad()) == 24);
  CHECK_THROWS_WITH(DoubleInPlace::apply(leaf()), ContainsSubstring("leaf Variable that requires grad"));
  CHECK_THROWS_WITH(ForgetsToReturn::apply(leaf() * 1), ContainsSubstring("it must return it too"));
}

TEST_CASE("writing to a view changes the history of what it views", "[function]") {
  const Tensor x = full({2, 2}, 3.0, kFloat64).requires_grad_();
  const Tensor h = x * 1;
  DoubleInPlace::apply(h[0]);
  h.sum().backward();
  CHECK(x.grad()[0][0].item<double>() == 2);
  CHECK(x.grad()[1][0].item<double>() == 1);
}

TEST_CASE("integer results and those marked so are not differentiable", "[function]") {
  const Tensor x = leaf();
  const auto y = SortsOut::apply(x);
  CHECK(y[0].requires_grad());
  CHECK(!y[1].requires_grad());
  CHECK(!y[2].requires_grad());
  y[0].sum().backward();
  CHECK(first(x.grad()) == 1);
}

namespace {

struct Returns : Function<Returns> {
  static Tensor forward(AutogradContext* ctx, Tensor x, int mode) {
    ctx->saved_data["mode"] = mode;
    return x * 1;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    switch (ctx->saved_data["mode"].toInt()) {
      case 0: return {};
      case 1: return {g[0], g[0]};
      case 2: return {g[0], Tensor(), g[0]};
      case 3: return {ones({3, 2}, kFloat64), Tensor()};
      case 4: return {ones({5}, kFloat64), Tensor()};
      case 5: return {g[0].to(kFloat32), Tensor(), Tensor(), Tensor()};
      default: return {Tensor(), Tensor()};
    }
  }
};

}  // namespace

TEST_CASE("gradients that are too many, or of a wrong shape, are errors; a wrong dtype is converted", "[function]") {
  struct Row {
    int mode;
    const char* message;
  };
  for (const Row& row :
       {Row{0, "incorrect number of gradients (expected 2, got 0)"},
        Row{1, "returned a gradient at position 1, but the corresponding forward input was not a tensor"},
        Row{2, "incorrect number of gradients (expected 2, got 3)"},
        Row{4, "ReturnsBackward returned an invalid gradient: got [5]"}}) {
    INFO("mode " << row.mode);
    CHECK_THROWS_WITH(Returns::apply(leaf(), row.mode).sum().backward(), ContainsSubstring(row.message));
  }
  const Tensor x = leaf();
  Returns::apply(x, 3).sum().backward();  // broadcast axes are summed
  CHECK(first(x.grad()) == 3);
  Returns::apply(x, 5).sum().backward();
  CHECK(x.grad().dtype() == kFloat64);
  CHECK(first(x.grad()) == 4);
  Returns::apply(x, 6).sum().backward();
  CHECK(first(x.grad()) == 4);
}

namespace {

struct AsksWhatIsNeeded : Function<AsksWhatIsNeeded> {
  static Tensor forward(AutogradContext* ctx, Tensor a, double, Tensor b) {
    CHECK(ctx->needs_input_grad(0) != ctx->needs_input_grad(1));
    CHECK_THROWS_AS(ctx->needs_input_grad(2), IndexError);
    return a * b;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    return {ctx->needs_input_grad(0) ? g[0] : Tensor(), Tensor(), ctx->needs_input_grad(1) ? g[0] : Tensor()};
  }
};

struct CallsBackward : Function<CallsBackward> {
  static Tensor forward(AutogradContext* ctx, Tensor x) {
    ctx->save_for_backward({x});
    return x * x;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    const AutoGradMode recording(true);
    const Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_();
    (x * x).sum().backward();
    return {g[0] * x.grad()};
  }
};

}  // namespace

TEST_CASE("the context tells which tensor arguments need a gradient", "[function]") {
  const Tensor a = leaf(), b = ones({2}, kFloat64);
  AsksWhatIsNeeded::apply(a, 1.0, b).sum().backward();
  CHECK(first(a.grad()) == 1);
  AsksWhatIsNeeded::apply(b, 1.0, a).sum().backward();
  CHECK(first(a.grad()) == 2);
}

TEST_CASE("a backward may call backward", "[function]") {
  const Tensor x = leaf();
  CallsBackward::apply(x).sum().backward();
  CHECK(first(x.grad()) == 6);
}

TEST_CASE("nothing is recorded under NoGradGuard or for plain tensors", "[function]") {
  const NoGradGuard no_grad;
  CHECK(!MulConstant::apply(leaf(), 2.0).requires_grad());
  CHECK(!DoubleInPlace::apply(leaf()).grad_fn());
}
