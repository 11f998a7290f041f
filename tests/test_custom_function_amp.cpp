// User-defined functions in a region: custom_fwd and custom_bwd.
#include <array>
#include <map>
#include <set>
#include <unordered_map>

#include "amp/amp.h"
#include "autograd/ops.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;
using namespace halftone::autograd;
using Catch::Matchers::ContainsSubstring;
using test::kind;

namespace {

// What the last calls saw.
struct Seen {
  Dtype a = kBool, nested = kBool, low = kBool;
  bool forward_on = false, backward_on = false;
};
Seen seen;

struct MyMM : Function<MyMM> {
  static Tensor forward(AutogradContext* ctx, Tensor a, Tensor b) {
    return amp::custom_fwd(
        ctx, kind(),
        [&](const Tensor& x, const Tensor& y) {
          seen.a = x.dtype();
          seen.forward_on = amp::is_autocast_enabled(kind());
          ctx->save_for_backward({x, y});
          return x.mm(y);
        },
        a, b);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    return amp::custom_bwd(ctx, [&] {
      seen.backward_on = amp::is_autocast_enabled(kind());
      seen.low = amp::get_autocast_dtype(kind());
      const auto saved = ctx->get_saved_variables();
      const Tensor da = g[0].mm(saved[1].t());
      CHECK(da.dtype() == (seen.backward_on ? seen.low : kFloat32));
      return tensor_list{da, saved[0].t().mm(g[0])};
    });
  }
};

using Nested = std::map<std::string, std::tuple<Tensor, std::vector<Tensor>>>;

struct MyMMInFloat32 : Function<MyMMInFloat32> {
  static Tensor forward(AutogradContext* ctx, Tensor a, Nested nested, Tensor b, std::string text, Tensor integers) {
    const auto body = [&](const Tensor& x, const Nested& container, const Tensor& y, const std::string& word,
                          const Tensor& whole) {
      seen.a = x.dtype();
      const auto& [one, list] = container.at("key");
      CHECK(one.dtype() == x.dtype());
      seen.nested = list[1].dtype();
      CHECK(word == "text");
      CHECK(whole.dtype() == kInt64);
      seen.forward_on = amp::is_autocast_enabled(kind());
      ctx->save_for_backward({x, y});
      return x.mm(y);
    };
    return amp::custom_fwd(ctx, kind(), kFloat32, body, a, nested, b, text, integers);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    return amp::custom_bwd(ctx, [&] {
      seen.backward_on = amp::is_autocast_enabled(kind());
      const auto saved = ctx->get_saved_variables();
      return tensor_list{g[0].mm(saved[1].t()), {}, saved[0].t().mm(g[0]), {}, {}};
    });
  }
};

struct NoForward : Function<NoForward> {
  static Tensor forward(AutogradContext*, Tensor x) { return x * 1; }
  static tensor_list backward(AutogradContext* ctx, tensor_list g) {
    return amp::custom_bwd(ctx, [&] { return g; });
  }
};

}  // namespace

TEST_CASE("test_autocast_custom_enabled: without cast_inputs forward and backward run in forward's region", "[amp]") {
  for (const Dtype low : {kBFloat16, kFloat16}) {
    const Tensor x = randn({8, 8}).requires_grad_(), y = randn({8, 8}).requires_grad_();
    Tensor loss;
    {
      const amp::autocast region(kind(), low);
      const Tensor output = MyMM::apply(x, y);
      CHECK(output.dtype() == low);
      loss = output.sum();
    }
    CHECK(seen.a == kFloat32);
    CHECK(seen.forward_on);
    loss.backward();
    CHECK(seen.backward_on);
    CHECK(seen.low == low);
    CHECK(x.grad().dtype() == kFloat32);
    MyMM::apply(x, y).sum().backward();
    CHECK(!seen.forward_on);
    CHECK(!seen.backward_on);
  }
}

TEST_CASE("test_autocast_custom_cast_inputs: cast at any depth, autocast off in forward and backward", "[amp]") {
  const Tensor x = randn({8, 8}, kFloat16).requires_grad_(), y = randn({8, 8}, kFloat16).requires_grad_();
  const Nested nested{{"key", {y, {Tensor(), y}}}};
  const Tensor whole = arange(3);
  Tensor loss;
  {
    const amp::autocast region(kind());
    const Tensor output = MyMMInFloat32::apply(x, nested, y, "text", whole);
    CHECK(output.dtype() == kFloat32);
    loss = output.sum();
  }
  CHECK(seen.a == kFloat32);
  CHECK(seen.nested == kFloat32);
  CHECK(!seen.forward_on);
  {
    const amp::autocast around_backward(kind());
    loss.backward();
  }
  CHECK(!seen.backward_on);
  CHECK(x.grad().dtype() == kFloat16);
  const Tensor outside = MyMMInFloat32::apply(x, nested, y, "text", whole);
  CHECK(outside.dtype() == kFloat16);
  CHECK(seen.nested == kFloat16);
}

TEST_CASE("cast_inputs reaches tensors in every kind of container, and leaves the rest", "[amp]") {
  const Tensor x = ones({2});
  const auto to_half = [](const auto& value) { return amp::cast_all(value, kind(), kFloat16); };
  const auto is_half = [](const Tensor& t) { return t.dtype() == kFloat16; };
  struct Opaque {
    int number;
  };

  using Dict = OrderedDict<std::string, Tensor>;
  const Dict dict = to_half(Dict{{"b", x}, {"a", x}});
  CHECK(dict.keys() == std::vector<std::string>{"b", "a"});
  CHECK((is_half(dict["a"]) && is_half(dict["b"])));

  using Deep = std::map<std::string, std::vector<std::pair<int, optional<OrderedDict<std::string, Tensor>>>>>;
  const Deep deep = to_half(Deep{{"key", {{1, Dict{{"a", x}}}, {2, nullopt}}}});
  CHECK(is_half((*deep.at("key")[0].second)["a"]));
  CHECK(!deep.at("key")[1].second);

  CHECK(is_half(*to_half(optional<Tensor>(x))));
  CHECK(is_half(to_half(std::unordered_map<int, Tensor>{{1, x}}).at(1)));
  CHECK(is_half(to_half(std::array<Tensor, 2>{x, x})[1]));
  const std::vector<Tensor> list{x, x}, halves = to_half(TensorList(list));
  CHECK((is_half(halves[0]) && is_half(halves[1])));

  const auto mixed = to_half(std::tuple{Opaque{3}, std::vector<bool>{true}, std::set<int>{4}, std::string("text"), x});
  CHECK(std::get<0>(mixed).number == 3);
  CHECK(std::get<1>(mixed)[0]);
  CHECK(std::get<2>(mixed).contains(4));
  CHECK(std::get<3>(mixed) == "text");
  CHECK(is_half(std::get<4>(mixed)));
  CHECK(!to_half(Tensor()).defined());
  CHECK(to_half(ones({2}, kInt64)).dtype() == kInt64);
}

TEST_CASE("custom_bwd without custom_fwd is an error", "[amp]") {
  CHECK_THROWS_WITH(NoForward::apply(ones({1}).requires_grad_()).backward(),
                    ContainsSubstring("forward did not go through custom_fwd"));
}

TEST_CASE("backward of a custom function runs with autocast off unless custom_bwd says otherwise", "[amp]") {
  struct Plain : Function<Plain> {
    static Tensor forward(AutogradContext* ctx, Tensor x) {
      ctx->save_for_backward({x});
      return x.mm(x);
    }
    static tensor_list backward(AutogradContext* ctx, tensor_list g) {
      CHECK(!amp::is_autocast_enabled(kind()));
      const Tensor x = ctx->get_saved_variables()[0];
      return {g[0].to(kFloat32).mm(x.t())};
    }
  };
  const Tensor x = randn({4, 4}).requires_grad_();
  const amp::autocast region(kind());
  Plain::apply(x).sum().backward();
  CHECK(x.grad().dtype() == kFloat32);
}
