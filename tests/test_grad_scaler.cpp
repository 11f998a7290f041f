// The gradient scaler: its rule, the order of its calls, its errors, and what a disabled one does.
// test_grad_scaler_scenarios.cpp has PyTorch's scenarios.
#include <array>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "core/runtime.h"
#include "kernels/backend.h"
#include "tests/scaler_scenarios.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

// ---------------------------------------------------------------- the rule, decided at compile time

namespace {

constexpr ScaleRule kRule{.growth_factor = 2, .backoff_factor = 0.25, .growth_interval = 2};
static_assert(next({4, 0}, false, kRule) == ScaleState{4, 1});
static_assert(next({4, 1}, false, kRule) == ScaleState{8, 0});
static_assert(next({8, 1}, true, kRule) == ScaleState{2, 0, 1, 1});
static_assert(next({2, 0, 1, 1}, true, kRule) == ScaleState{0.5f, 0, 2, 2});
static_assert(next({2, 0, 2, 2}, false, kRule) == ScaleState{2, 1, 2, 0});
// G3: a tracker beyond an interval that was lowered still lets the scale grow.
static_assert(next({4, 100}, false, kRule) == ScaleState{8, 0});
// Never infinite, never zero.
static_assert(next({3e38f, 1}, false, kRule) == ScaleState{3e38f, 0});
static_assert(next({FLT_MIN, 0}, true, kRule) == ScaleState{FLT_MIN, 0, 1, 1});
constexpr ScaleRule kBounded{.growth_interval = 1, .min_scale = 128, .max_scale = 1000};
static_assert(next({600, 0}, false, kBounded).scale == 1000);
static_assert(next({200, 0}, true, kBounded).scale == 128);

// G4: all pairs of a stage and a call.
using amp::Call;
using amp::objection;
using amp::Stage;
static_assert(!objection(Stage::ready, Call::unscale) && !objection(Stage::ready, Call::step));
static_assert(objection(Stage::unscaled, Call::unscale) && !objection(Stage::unscaled, Call::step));
static_assert(objection(Stage::stepped, Call::unscale) && objection(Stage::stepped, Call::step));

}  // namespace

// ---------------------------------------------------------------- scale

TEST_CASE("test_grad_scaling_scale: tensors at any depth are scaled, containers keep their type", "[amp][scaler]") {
  GradScaler scaler = scaler_of(2);
  const Tensor t = full({}, 4.0, kFloat32), elsewhere = full({}, 4.0, TensorOptions(kFloat32).device(another_device()));
  CHECK(first(scaler.scale(t)) == 8);
  using Nested = std::tuple<Tensor, std::vector<Tensor>, std::map<std::string, std::pair<Tensor, Tensor>>>;
  const Nested nested{t, {elsewhere, t}, {{"key", {t, elsewhere}}}};
  const Nested scaled = scaler.scale(nested);
  CHECK(first(std::get<0>(scaled)) == 8);
  CHECK(first(std::get<1>(scaled)[0]) == 8);
  CHECK(std::get<1>(scaled)[0].device() == another_device());
  CHECK(first(std::get<2>(scaled).at("key").second) == 8);
  CHECK_THROWS_WITH(scaler.scale(Tensor()),
                    ContainsSubstring("outputs must be floating tensors, got an undefined tensor"));
  CHECK_THROWS_WITH(scaler.scale(ones({2}, kInt64)), ContainsSubstring("int64[2]"));
}

TEST_CASE("test_grad_scaling_scale: the scale lives on the first tensor's device", "[amp][scaler]") {
  for (const Device device : {canonical(get_default_device()), canonical(another_device())}) {
    GradScaler scaler = scaler_of(2);
    const Tensor p = parameter(), first_scaled = full({}, 4.0, TensorOptions(kFloat32).device(device));
    optim::SGD sgd({p}, 1.0);
    scaler.scale(std::vector{first_scaled, p.sum()})[1].backward();
    CHECK(scaler.step(sgd).flag().device() == first_scaled.device());
    scaler.update();
    CHECK(scaler.scale(first_scaled).item<double>() == 16);
  }
}

TEST_CASE("every kind of container is scaled; what is no tensor in it stays", "[amp][scaler]") {
  GradScaler scaler = scaler_of(2), disabled(kind(), {.enabled = false});
  const Tensor t = full({}, 4.0);
  using Dict = OrderedDict<std::string, Tensor>;
  const Dict dict = scaler.scale(Dict{{"b", t}, {"a", t}});
  CHECK(dict.keys() == std::vector<std::string>{"b", "a"});
  CHECK(first(dict["a"]) == 8);
  CHECK(first(*scaler.scale(optional<Tensor>(t))) == 8);
  CHECK(!scaler.scale(optional<Tensor>()));
  CHECK(first(scaler.scale(std::array<Tensor, 2>{t, t})[1]) == 8);
  CHECK(first(scaler.scale(std::unordered_map<int, std::vector<Dict>>{{1, {dict}}}).at(1)[0]["b"]) == 16);
  const std::vector<Tensor> list{t, t};
  CHECK(first(scaler.scale(TensorList(list))[1]) == 8);
  const auto [loss, count, name] = scaler.scale(std::tuple{t, 3, std::string("text")});
  CHECK(first(loss) == 8);
  CHECK(count == 3);
  CHECK(name == "text");
  CHECK(disabled.scale(Dict{{"a", t}})["a"].is_same(t));
}

TEST_CASE("G1: a float16 loss is scaled in float32, with one axis too", "[amp][scaler]") {
  GradScaler scaler = scaler_of(65536);
  for (const Dims& shape : {Dims{}, Dims{1}, Dims{3}}) {
    const Tensor scaled = scaler.scale(ones(shape, kFloat16));
    CHECK(scaled.dtype() == kFloat32);
    CHECK(first(scaled) == 65536);
  }
  CHECK(scaler.scale(ones({3}, kBFloat16)).dtype() == kBFloat16);
  CHECK(scaler.scale(ones({3}, kFloat64)).dtype() == kFloat64);
}

// ---------------------------------------------------------------- unscale_, step and update

TEST_CASE("test_grad_scaling_unscale: kernel and driver, layouts, dtypes, infinities and NaN", "[amp][scaler]") {
  const Tensor scale = full({}, 4, kFloat32);
  const auto unscale = [&](const std::vector<Tensor>& grads) {
    Tensor flag = zeros({}, kFloat32);
    backend(kind()).unscale(grads, scale, flag);
    return flag.item<float>();
  };
  for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64}) {
    for (const double bad : {0.0, static_cast<double>(kInf), std::nan("")}) {
      const Tensor plain = full({4, 6}, 4.0, dtype), transposed = full({6, 4}, 4.0, dtype).t();
      const Tensor sliced = full({4, 12}, 4.0, dtype).slice(1, 0, nullopt, 2);
      for (const Tensor& g : {plain, transposed, sliced}) {
        if (bad != 0) g[2][3].fill_(bad);
        CHECK(unscale({ones({2}), g, ones({3}, kFloat16)}) == (bad == 0 ? 0.0f : 1.0f));
        CHECK(g[0][0].item<double>() == 1);
      }
    }
  }
  CHECK(unscale({full({1}, 1e300, kFloat64)}) == 0);  // finite in its own dtype
  const Tensor elsewhere = ones({2}, TensorOptions(kFloat32).device(another_device()));
  CHECK_THROWS_WITH(unscale({ones({2}), elsewhere}), ContainsSubstring("unscale: tensor 1 of the list is on "));
}

TEST_CASE("an inf in any one gradient, on any device, skips the whole step", "[amp][scaler]") {
  for (std::size_t bad = 0; bad < 4; ++bad) {
    GradScaler scaler = scaler_of(4);
    const Tensor there = full({2}, 1.0, TensorOptions(kFloat32).device(another_device())).requires_grad_();
    const std::vector<Tensor> params{parameter(), parameter(1, kFloat64), parameter(1, kBFloat16), there};
    optim::SGD sgd(params, 1.0);
    scaler.scale(ones({}));
    for (const Tensor& p : params) p.mutable_grad() = full_like(p, 4);
    params[bad].grad()[1].fill_(kInf);
    CHECK(scaler.step(sgd).found_inf());
    for (const Tensor& p : params) CHECK(first(p) == 1);
    scaler.update();
    CHECK(scaler.get_scale() == 2);
  }
}

TEST_CASE("test_grad_scaling_update_scale: the device follows the rule", "[amp][scaler]") {
  GradScaler scaler(kind(), {.init_scale = 4, .growth_factor = 2, .backoff_factor = 0.25, .growth_interval = 2});
  const Tensor p = parameter();
  optim::SGD sgd({p}, 0.0);
  const auto iterate = [&](float grad) {
    scaler.scale(ones({}));
    p.mutable_grad() = full({3}, grad, kFloat32);
    scaler.step(sgd);
    scaler.update();
    return std::pair{scaler.get_scale(), scaler.get_growth_tracker()};
  };
  using State = std::pair<double, std::int64_t>;
  CHECK(iterate(1) == State{4, 1});
  CHECK(iterate(1) == State{8, 0});
  CHECK(iterate(kInf) == State{2, 0});
  scaler.set_growth_interval(1);
  CHECK(iterate(1) == State{4, 0});
}

TEST_CASE("G3: an interval that is lowered below the count of clean steps lets the scale grow at once",
          "[amp][scaler]") {
  GradScaler scaler = scaler_of(4, 100);
  const Tensor p = parameter();
  optim::SGD sgd({p}, 0.0);
  const auto iterate = [&] {
    scaler.scale(ones({}));
    p.mutable_grad() = ones({3});
    scaler.step(sgd);
    scaler.update();
  };
  for (int i = 0; i < 5; ++i) iterate();
  CHECK(scaler.get_growth_tracker() == 5);
  scaler.set_growth_interval(3);
  iterate();
  CHECK(scaler.get_scale() == 8);
  CHECK(scaler.get_growth_tracker() == 0);
}

TEST_CASE("test_grad_scale_will_not_overflow: a scale that cannot grow stays", "[amp][scaler]") {
  GradScaler scaler(kind(), {.init_scale = 1e38, .growth_factor = 16, .growth_interval = 1});
  const Tensor p = parameter();
  optim::SGD sgd({p}, 1.0);
  scaler.scale((p * 0).sum()).backward();
  scaler.step(sgd);
  scaler.update();
  CHECK(scaler.get_scale() == Catch::Approx(1e38));
}

TEST_CASE("update takes a new scale, as a number or as a tensor", "[amp][scaler]") {
  GradScaler scaler = scaler_of(4);
  scaler.scale(ones({}));
  scaler.update(32);
  CHECK(scaler.get_scale() == 32);
  const Tensor given = full({1}, 64.0, kFloat64);
  scaler.update(given);
  given.fill_(5);
  CHECK(scaler.get_scale() == 64);
  CHECK(first(scaler.scale(ones({}))) == 64);
  CHECK_THROWS_WITH(scaler.update(ones({2})), ContainsSubstring("a tensor of one element that requires no gradient"));
  CHECK_THROWS_AS(scaler.update(parameter()[0]), ValueError);
  CHECK_THROWS_WITH(scaler.update(0), ContainsSubstring("positive float32 number, not 0"));
}

TEST_CASE("a new scale leaves the growth tracker and begins an iteration", "[amp][scaler]") {
  GradScaler scaler = scaler_of(4, 100);
  const Tensor p = parameter();
  optim::SGD sgd({p}, 0.0);
  scaler.scale(p.sum()).backward();
  scaler.step(sgd);
  scaler.update();
  scaler.unscale_(sgd);
  CHECK_THROWS_AS(scaler.unscale_(sgd), Error);
  scaler.update(32);
  CHECK(scaler.get_growth_tracker() == 1);
  CHECK_NOTHROW(scaler.unscale_(sgd));
}

TEST_CASE("test_grad_scaler_pass_itself: an optimizer that takes part sees the scale and the flag", "[amp][scaler]") {
  struct Watcher : optim::ScaledOptimizer {
    explicit Watcher(const Tensor& p) : ScaledOptimizer(std::vector{p}, std::make_unique<PlainOptions>(1.0)) {}
    void update(const optim::Scaling& scaling) override { seen = scaling; }
    optim::Scaling seen;
  };
  const Tensor p = parameter();
  Watcher watcher(p);
  GradScaler scaler = scaler_of(128);
  scaler.scale(p.sum()).backward();
  scaler.step(watcher);
  CHECK(watcher.seen.grad_scale.item<float>() == 128);
  CHECK(watcher.seen.found_inf.item<float>() == 0);
  CHECK(first(p.grad()) == 128);
  scaler.update();
  scaler.scale(ones({}));
  p.grad().fill_(kInf);
  scaler.unscale_(watcher);
  scaler.step(watcher);
  CHECK(!watcher.seen.grad_scale.defined());
  CHECK(watcher.seen.found_inf.item<float>() == 1);
  scaler.update();
  scaler.scale(ones({}));
  p.grad().fill_(256);
  CHECK(scaler.step(watcher, amp::MaxNorm(1, kInf)).norm.item<float>() == 2);
  CHECK(watcher.seen.grad_scale.item<double>() == Catch::Approx(256));
  watcher.step();
  CHECK(!watcher.seen.found_inf.defined());
}

TEST_CASE("test_grad_scaling_device_as_key: devices are equal by value", "[amp][scaler]") {
  std::unordered_map<Device, int> map;
  map[Device("cuda:1")] = 1;
  map[Device(kCUDA, 1)] = 2;
  CHECK(map.size() == 1);
}

TEST_CASE("G7: gradients in bfloat16 and float64 are unscaled; float16 ones only by an optimizer that divides itself",
          "[amp][scaler]") {
  for (const Dtype dtype : {kBFloat16, kFloat32, kFloat64}) {
    GradScaler scaler = scaler_of(1024);
    const Tensor p = parameter(1, dtype);
    optim::SGD sgd({p}, 0.5);
    scaler.scale(p.sum()).backward();
    scaler.unscale_(sgd);
    CHECK(p.grad().dtype() == dtype);
    CHECK(first(p.grad()) == 1);
    scaler.step(sgd);
    CHECK(first(p) == 0.5);
  }
  GradScaler scaler = scaler_of(1024);
  const Tensor p = parameter(1, kFloat16);
  optim::SGD sgd({p}, 0.5);
  scaler.scale(p.sum()).backward();
  scaler.step(sgd);
  CHECK(first(p) == 0.5);
  CHECK(first(p.grad()) == 1);
  scaler.update();
  p.grad().fill_(1024);
  CHECK_THROWS_WITH(scaler.clip_grad_norm_(sgd, 1), ContainsSubstring("Attempting to unscale FP16 gradients"));
  scaler.step(sgd, amp::MaxNorm(0.25, kInf));
  CHECK(first(p.grad()) == 0.25);
  CHECK(first(p) == 0.375);
}

// ---------------------------------------------------------------- order of calls and errors

TEST_CASE("G4: each call in each stage is allowed or names what is wrong", "[amp][scaler]") {
  struct Row {
    std::string before;  // the calls so far: u, s or p for unscale_, step, update; c and m see below
    char call;
    const char* message;  // empty when it is allowed
  };
  const Row rows[] = {{"", 'u', ""},
                      {"", 's', ""},
                      {"", 'p', "No inf checks were recorded prior to update"},
                      {"u", 'u', "unscale_() has already been called on this optimizer since the last update()"},
                      {"u", 's', ""},
                      {"u", 'p', ""},
                      {"s", 'u', "unscale_() is being called after step()"},
                      {"s", 's', "step() has already been called since the last update()"},
                      {"s", 'p', ""},
                      {"us", 'u', "unscale_() is being called after step()"},
                      {"sp", 's', ""},
                      {"up", 'u', ""},
                      // c and m: clip_grad_norm_ and a step with a limit.
                      {"", 'c', ""},
                      {"", 'm', ""},
                      {"u", 'c', ""},
                      {"u", 'm', ""},
                      {"c", 'c', ""},
                      {"c", 'm', ""},
                      {"c", 's', ""},
                      {"c", 'u', "unscale_() has already been called on this optimizer since the last update()"},
                      {"s", 'c', "unscale_() is being called after step()"},
                      {"s", 'm', "step() has already been called since the last update()"},
                      {"m", 'c', "unscale_() is being called after step()"},
                      {"m", 's', "step() has already been called since the last update()"},
                      {"m", 'u', "unscale_() is being called after step()"},
                      {"m", 'p', ""},
                      {"mp", 'm', ""}};
  for (const char* const kind : {"SGD", "Adam", "plain"}) {
    for (const Row& row : rows) {
      INFO(kind << ": " << row.before << " then " << row.call);
      const Tensor p = parameter();
      const auto optimizer = optimizer_of(kind, {p});
      GradScaler scaler = scaler_of(4);
      scaler.scale(p.sum()).backward();
      const auto make = [&](char call) {
        if (call == 'u') scaler.unscale_(*optimizer);
        if (call == 's') scaler.step(*optimizer);
        if (call == 'c') scaler.clip_grad_norm_(*optimizer, 1);
        if (call == 'm') scaler.step(*optimizer, amp::MaxNorm(1));
        if (call == 'p') scaler.update();
      };
      for (const char call : row.before) make(call);
      if (*row.message) {
        CHECK_THROWS_WITH(make(row.call), ContainsSubstring(row.message));
      } else {
        CHECK_NOTHROW(make(row.call));
      }
    }
  }
}

TEST_CASE("nothing works before the first scale()", "[amp][scaler]") {
  GradScaler scaler = scaler_of(4);
  const Tensor p = parameter();
  optim::SGD sgd({p}, 1.0);
  const auto message = ContainsSubstring("scale() was never called");
  CHECK_THROWS_WITH(scaler.unscale_(sgd), message);
  CHECK_THROWS_WITH(scaler.step(sgd), message);
  CHECK_THROWS_WITH(scaler.step(sgd, amp::MaxNorm(1)), message);
  CHECK_THROWS_WITH(scaler.clip_grad_norm_(sgd, 1), message);
  CHECK_THROWS_WITH(scaler.update(), message);
  CHECK_THROWS_WITH(scaler.update(8), message);
  CHECK(scaler.get_scale() == 4);
  CHECK(scaler.get_growth_tracker() == 0);
}

TEST_CASE("G2: a closure is refused while the scaler is enabled", "[amp][scaler]") {
  const Tensor p = parameter();
  optim::SGD sgd({p}, 1.0);
  const auto closure = [&] { return p.sum(); };
  GradScaler scaler = scaler_of(4);
  scaler.scale(p.sum()).backward();
  CHECK_THROWS_WITH(scaler.step(sgd, closure), ContainsSubstring("closure use is not currently supported"));
  GradScaler disabled(kind(), {.enabled = false});
  CHECK(first(disabled.step(sgd, closure).value) == 3);
}

TEST_CASE("G5: a failure in unscale_ leaves the stage and the gradients as they were, and names the parameter",
          "[amp][scaler]") {
  const Tensor p = parameter(), half = parameter(1, kFloat16);
  PlainDescent descent({p, half});
  GradScaler scaler = scaler_of(4);
  scaler.scale(p.sum() + half.sum()).backward();
  for (int attempt = 0; attempt < 2; ++attempt) {
    CHECK_THROWS_WITH(scaler.unscale_(descent),
                      ContainsSubstring("Attempting to unscale FP16 gradients: parameter 1 of group 0 is float16[3]"));
    CHECK_THROWS_AS(scaler.unscale_(descent), ValueError);
  }
  OrderedDict<std::string, Tensor> named;
  named.insert("head.weight", half);
  descent.name_parameters(named);
  CHECK_THROWS_WITH(scaler.step(descent), ContainsSubstring("'head.weight'"));
  CHECK_THROWS_WITH(scaler.step(descent, amp::MaxNorm(1)), ContainsSubstring("'head.weight'"));
  CHECK_THROWS_WITH(scaler.clip_grad_norm_(descent, 1), ContainsSubstring("'head.weight'"));
  CHECK(first(p.grad()) == 4);
  half.mutable_grad().reset();
  CHECK(scaler.step(descent).stepped());
}

TEST_CASE("G6: an optimizer without any gradient is a clear error", "[amp][scaler]") {
  for (const char* const kind : {"SGD", "plain"}) {
    const Tensor p = parameter(), q = parameter();
    const auto optimizer = optimizer_of(kind, {p});
    GradScaler scaler = scaler_of(4);
    scaler.scale(q.sum()).backward();
    const auto none = ContainsSubstring("No inf checks were recorded for this optimizer, as none");
    CHECK_THROWS_WITH(scaler.step(*optimizer), none);
    CHECK_THROWS_WITH(scaler.step(*optimizer, amp::MaxNorm(1)), none);
    p.mutable_grad() = ones({3});
    CHECK_NOTHROW(scaler.step(*optimizer));
    scaler.update();
    p.mutable_grad().reset();
    scaler.unscale_(*optimizer);
    CHECK_THROWS_WITH(scaler.step(*optimizer), ContainsSubstring("when unscale_() was called"));
    CHECK_THROWS_WITH(scaler.step(*optimizer, amp::MaxNorm(1)), ContainsSubstring("when unscale_() was called"));
  }
}

TEST_CASE("construction checks its numbers, unless disabled", "[amp][scaler]") {
  struct Row {
    GradScalerOptions options;
    const char* message;
  };
  for (const Row& row : {Row{{.init_scale = 0}, "init_scale"}, Row{{.init_scale = 1e39}, "init_scale"},
                         Row{{.growth_factor = 1}, "the growth factor must be > 1.0, not 1"},
                         Row{{.backoff_factor = 1}, "the backoff factor must be between 0 and 1.0, not 1"},
                         Row{{.backoff_factor = 0}, "the backoff factor"},
                         Row{{.growth_interval = 0}, "the growth interval must be at least 1, not 0"},
                         Row{{.min_scale = 2, .max_scale = 1}, "min_scale and max_scale"}}) {
    CHECK_THROWS_WITH(GradScaler(kind(), row.options), ContainsSubstring(row.message));
    GradScalerOptions disabled = row.options;
    disabled.enabled = false;
    CHECK_NOTHROW(GradScaler(kind(), disabled));
  }
  CHECK_THROWS_WITH(GradScaler("gpu"), ContainsSubstring("unknown device type 'gpu'"));
}

TEST_CASE("factors and interval can be changed; numbers that make no sense are refused and change nothing",
          "[amp][scaler]") {
  GradScaler scaler(name(kind()));
  scaler.set_growth_factor(3);
  scaler.set_backoff_factor(0.25);
  scaler.set_growth_interval(7);
  const double nan = std::nan("");
  struct Row {
    std::function<void()> set;
    const char* message;
  };
  for (const Row& row : {
           Row{[&] { scaler.set_growth_factor(1); }, "GradScaler: the growth factor must be > 1.0, not 1"},
           Row{[&] { scaler.set_growth_factor(0.5); }, "GradScaler: the growth factor must be > 1.0, not 0.5"},
           Row{[&] { scaler.set_growth_factor(nan); }, "GradScaler: the growth factor must be > 1.0, not nan"},
           Row{[&] { scaler.set_backoff_factor(2); },
               "GradScaler: the backoff factor must be between 0 and 1.0, not 2"},
           Row{[&] { scaler.set_backoff_factor(1); },
               "GradScaler: the backoff factor must be between 0 and 1.0, not 1"},
           Row{[&] { scaler.set_backoff_factor(0); },
               "GradScaler: the backoff factor must be between 0 and 1.0, not 0"},
           Row{[&] { scaler.set_backoff_factor(nan); }, "the backoff factor must be between 0 and 1.0, not nan"},
           Row{[&] { scaler.set_growth_interval(0); }, "GradScaler: the growth interval must be at least 1, not 0"},
           Row{[&] { scaler.set_growth_interval(-4); }, "GradScaler: the growth interval must be at least 1, not -4"},
       }) {
    CHECK_THROWS_AS(row.set(), ValueError);
    CHECK_THROWS_WITH(row.set(), ContainsSubstring(row.message));
    CHECK(scaler.get_growth_factor() == 3);
    CHECK(scaler.get_backoff_factor() == 0.25);
    CHECK(scaler.get_growth_interval() == 7);
  }
}

TEST_CASE("changed factors hold from the next update on, also when the scale is on the device", "[amp][scaler]") {
  GradScaler scaler = scaler_of(4);
  const Tensor p = parameter();
  optim::SGD sgd({p}, 0.0);
  const auto scale_after = [&](float grad) {
    scaler.scale(ones({}));
    p.mutable_grad() = full({3}, grad, kFloat32);
    scaler.step(sgd);
    scaler.update();
    return scaler.get_scale();
  };
  CHECK(scale_after(1) == 8);
  scaler.set_growth_factor(3);
  CHECK(scale_after(1) == 24);
  scaler.set_backoff_factor(0.25);
  CHECK(scale_after(kInf) == 6);
  scaler.set_growth_interval(2);
  CHECK(scale_after(1) == 6);
  CHECK(scale_after(1) == 18);
}

TEST_CASE("a disabled scaler returns what it was made with, and changes nothing", "[amp][scaler]") {
  GradScaler scaler(
      kind(), {.init_scale = 8, .growth_factor = 3, .backoff_factor = 0.25, .growth_interval = 7, .enabled = false});
  const Tensor p = parameter();
  optim::SGD sgd({p}, 1.0);
  const Tensor loss = p.sum();
  CHECK(scaler.scale(loss).is_same(loss));
  loss.backward();
  scaler.unscale_(sgd);
  CHECK(first(p.grad()) == 1);
  const amp::StepResult result = scaler.step(sgd);
  CHECK(result.stepped());
  CHECK(!result.flag().defined());
  scaler.update();
  scaler.update(2);
  CHECK(scaler.get_scale() == 1);
  CHECK(scaler.get_growth_factor() == 3);
  CHECK(scaler.get_backoff_factor() == 0.25);
  CHECK(scaler.get_growth_interval() == 7);
  CHECK(scaler.get_growth_tracker() == 0);
  CHECK(scaler.skipped_steps() == 0);
  CHECK(scaler.history().empty());
}

TEST_CASE("a scaler for an absent CUDA warns and passes everything through", "[amp][scaler]") {
  if (cuda::is_available()) return;
  static std::string warning;
  const WarningHandler before = set_warning_handler([](const std::string& text) { warning = text; });
  GradScaler scaler;
  set_warning_handler(before);
  CHECK_THAT(warning, ContainsSubstring("CUDA is not available"));
  CHECK(!scaler.is_enabled());
  const Tensor p = parameter();
  optim::SGD sgd({p}, 1.0);
  const Tensor loss = p.sum();
  CHECK(scaler.scale(loss).is_same(loss));
  loss.backward();
  scaler.unscale_(sgd);
  CHECK(scaler.step(sgd).stepped());
  scaler.update();
  CHECK(first(p) == 0);
  CHECK(scaler.get_scale() == 1);
  CHECK(scaler.get_growth_interval() == 2000);
  CHECK(scaler.state_dict().empty());
  CHECK_NOTHROW(scaler.load_state_dict({}));
}

// ---------------------------------------------------------------- results, history, saving

TEST_CASE("step tells whether it was taken, and hands on what the optimizer returned", "[amp][scaler]") {
  const Tensor p = parameter();
  PlainDescent descent({p});
  GradScaler scaler = scaler_of(4);
  scaler.scale(p.sum()).backward();
  const amp::StepResult taken = scaler.step(descent);
  scaler.update();
  scaler.scale(ones({}));
  p.grad().fill_(std::nan(""));
  const amp::StepResult skipped = scaler.step(descent);
  scaler.update();
  CHECK(taken.stepped());
  CHECK(first(taken.value) == 42);
  CHECK(skipped.found_inf());
  CHECK(!skipped.value.defined());
  CHECK(first(p) == 0);
}

TEST_CASE("results read late are right, however many flags were handed out since", "[amp][scaler]") {
  const Tensor p = parameter();
  optim::SGD sgd({p}, 0.0);
  GradScaler scaler(kind(), {.init_scale = 4});
  std::vector<amp::StepResult> results;
  for (int i = 0; i < 300; ++i) {
    scaler.scale(ones({}));
    p.mutable_grad() = full({3}, i % 7 == 3 ? kInf : 1.0f, kFloat32);
    results.push_back(scaler.step(sgd));
    scaler.update();
  }
  for (int i = 0; i < 300; ++i) CHECK(results[static_cast<std::size_t>(i)].found_inf() == (i % 7 == 3));
  CHECK(scaler.skipped_steps() == 43);
}

TEST_CASE("history shows scales and skips, and a gradient that is not finite is named", "[amp][scaler]") {
  const Tensor p = parameter(), q = parameter();
  optim::SGD sgd({p, q}, 0.0);
  GradScaler scaler(kind(), {.init_scale = 4, .growth_interval = 1, .history = 3});
  for (const float grad : {1.0f, 1.0f, kInf, 1.0f}) {
    scaler.scale(ones({}));
    p.mutable_grad() = ones({3});
    q.mutable_grad() = full({3}, grad, kFloat32);
    scaler.step(sgd);
    CHECK(GradScaler::first_nonfinite(sgd).value_or("none") == (grad == kInf ? "parameter 1 of group 0" : "none"));
    scaler.update();
  }
  const auto history = scaler.history();
  REQUIRE(history.size() == 3);
  CHECK(history[0].update == 1);
  CHECK(history[0].scale == 8);
  CHECK(!history[0].overflowed);
  CHECK(history[1].scale == 16);
  CHECK(history[1].overflowed);
  CHECK(history[2].scale == 8);
  CHECK(scaler.skipped_steps() == 1);
}

TEST_CASE("a scaler can be told to give up after many skips in a row", "[amp][scaler]") {
  const Tensor p = parameter();
  optim::SGD sgd({p}, 0.0);
  GradScaler scaler(kind(), {.init_scale = 4, .max_skips_in_a_row = 3});
  const auto iterate = [&](float grad) {
    scaler.scale(ones({}));
    p.mutable_grad() = full({3}, grad, kFloat32);
    scaler.step(sgd);
    scaler.update();
  };
  iterate(kInf), iterate(kInf), iterate(1);
  iterate(kInf), iterate(kInf);
  CHECK_THROWS_WITH(iterate(kInf), ContainsSubstring("the last 3 steps were all skipped"));
}

TEST_CASE("the scale keeps within its bounds, below 1 too", "[amp][scaler]") {
  const Tensor p = parameter();
  optim::SGD sgd({p}, 0.0);
  const auto end_of = [&](GradScalerOptions options, float grad) {
    GradScaler scaler(kind(), options);
    for (int i = 0; i < 200; ++i) {
      scaler.scale(ones({}));
      p.mutable_grad() = full({3}, grad, kFloat32);
      scaler.step(sgd);
      scaler.update();
    }
    return scaler.get_scale();
  };
  CHECK(end_of({.init_scale = 1}, kInf) == FLT_MIN);
  CHECK(end_of({.init_scale = 1, .min_scale = 0.125}, kInf) == 0.125);
  CHECK(end_of({.init_scale = 1, .growth_interval = 1, .max_scale = 4096}, 1) == 4096);
}

TEST_CASE("test_grad_scaling_state_dict: all five fields arrive, before and after the first scale()", "[amp][scaler]") {
  for (const bool started : {false, true}) {
    GradScaler source(kind(), {.init_scale = 3, .growth_factor = 4, .backoff_factor = 0.5, .growth_interval = 5});
    const Tensor p = parameter();
    optim::SGD sgd({p}, 0.0);
    source.scale(p.sum()).backward();
    source.step(sgd);
    source.update();
    GradScaler target(kind(), {.init_scale = 6, .growth_factor = 7, .backoff_factor = 0.8, .growth_interval = 1});
    if (started) target.scale(ones({}));
    target.load_state_dict(source.state_dict());  // G8: also when the device has a scale already
    CHECK(target.get_scale() == 3);
    CHECK(target.get_growth_factor() == 4);
    CHECK(target.get_backoff_factor() == 0.5);
    CHECK(target.get_growth_interval() == 5);
    CHECK(target.get_growth_tracker() == 1);
    CHECK(first(target.scale(ones({}))) == 3);
  }
}

TEST_CASE("state that is empty, incomplete or senseless is refused, and changes nothing", "[amp][scaler]") {
  GradScaler scaler = scaler_of(4);
  CHECK_THROWS_WITH(scaler.load_state_dict({}),
                    ContainsSubstring("the source state dict is empty, possibly because it was "
                                      "saved from a disabled GradScaler"));
  StateDict state = scaler.state_dict();
  state.values.erase("backoff_factor");
  CHECK_THROWS_WITH(scaler.load_state_dict(state), ContainsSubstring("no value 'backoff_factor'"));
  state.set("backoff_factor", 3.0);
  CHECK_THROWS_WITH(scaler.load_state_dict(state), ContainsSubstring("the backoff factor"));
  CHECK(scaler.get_backoff_factor() == 0.5);
}
