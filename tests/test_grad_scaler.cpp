// The gradient scaler: its rule, the order of its calls, its errors, and PyTorch's scenarios under their names.
#include <array>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "amp/amp.h"
#include "autograd/engine.h"
#include "autograd/ops.h"
#include "core/random.h"
#include "core/runtime.h"
#include "core/serialize.h"
#include "kernels/backend.h"
#include "optim/optim.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;
using amp::GradScaler;
using amp::GradScalerOptions;
using Catch::Matchers::ContainsSubstring;
using test::another_device;
using test::kind;

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

const float kInf = std::numeric_limits<float>::infinity();

GradScaler scaler_of(double init_scale, std::int64_t growth_interval = 1) {
  return GradScaler(kind(), {.init_scale = init_scale, .growth_interval = growth_interval});
}

Tensor parameter(double value = 1, Dtype dtype = kFloat32) { return full({3}, value, dtype).requires_grad_(); }

double first(const Tensor& t) { return t.detach().reshape({-1})[0].item<double>(); }

// Plain descent as a user writes it, without any part in scaling.
struct PlainOptions : optim::OptimizerCloneableOptions<PlainOptions> {
  PlainOptions(double rate) : lr(rate) {}  // NOLINT
  double get_lr() const override { return lr; }
  void set_lr(double value) override { lr = value; }
  template <class Visit> void visit_fields(Visit visit) { visit("lr", lr); }
  double lr;
};
struct PlainDescent : optim::Optimizer {
  explicit PlainDescent(std::vector<Tensor> params, double lr = 1)
      : Optimizer(std::move(params), std::make_unique<PlainOptions>(lr)) {}
  Tensor step(LossClosure closure = nullptr) override {
    compute_loss(closure);
    const NoGradGuard no_grad;
    for (const Tensor& p : param_groups_[0].params()) {
      if (p.grad().defined()) p.sub_(p.grad(), param_groups_[0].options().get_lr());
    }
    return scalar_tensor(42.0);
  }
};

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
  const Tensor inverse = full({}, 0.25, kFloat32);
  const auto unscale = [&](const std::vector<Tensor>& grads) {
    Tensor flag = zeros({}, kFloat32);
    backend(kind()).unscale(grads, inverse, flag);
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

// ---------------------------------------------------------------- PyTorch's scenarios

namespace {

// Two layers with a copy, so that a run with the scaler is compared with one that skips the same step by hand.
struct Net {
  Tensor w1, b1, w2, b2;

  static Net make(Device device = get_default_device()) {
    manual_seed(54);
    const auto leaf = [&](IntArrayRef sizes) { return ((rand(sizes) - 0.5) / 2).to(device).requires_grad_(); };
    return {leaf({8, 8}), leaf(8), leaf({8, 8}), leaf(8)};
  }
  Tensor forward(const Tensor& x) const { return linear(linear(x, w1, b1), w2, b2); }
  std::vector<Tensor> params() const { return {w1, b1, w2, b2}; }
};

std::unique_ptr<optim::Optimizer> optimizer_of(const std::string& kind, const std::vector<Tensor>& params) {
  if (kind == "SGD") return std::make_unique<optim::SGD>(params, 1.0);
  if (kind == "SGD with momentum") return std::make_unique<optim::SGD>(params, optim::SGDOptions(0.1).momentum(0.9));
  if (kind == "SGD with dampening") {
    return std::make_unique<optim::SGD>(params, optim::SGDOptions(0.1).momentum(0.9).dampening(0.5));
  }
  if (kind == "Adam") return std::make_unique<optim::Adam>(params, optim::AdamOptions(0.01));
  if (kind == "AdamW") return std::make_unique<optim::AdamW>(params, optim::AdamWOptions(0.01).amsgrad(true));
  return std::make_unique<PlainDescent>(params);
}

constexpr int kBatches = 4, kSkipped = 2;
constexpr double kFinalScale = 128 * 8 * 0.5;  // of a run with a skipped batch

struct Scenario {
  std::string optimizer = "SGD";
  bool enabled = true;
  int skipped = kSkipped;  // the batch in which an inf is planted
  // From the scaled loss to the step; the inf is planted by `spoil` after backward.
  std::function<void(const Net&, optim::Optimizer&, GradScaler&, const std::function<void()>& spoil,
                     const Tensor& loss)>
      scaled_step;
  // What is done to the control's gradients before its step.
  std::function<void(const Net&)> prepare_control = [](const Net&) {};
  std::function<void(GradScaler&)> between = [](GradScaler&) {};
  bool autocast = false;
  double tolerance = 1e-6;
};

void plain_step(const Net&, optim::Optimizer& optimizer, GradScaler& scaler, const std::function<void()>& spoil,
                const Tensor& loss) {
  scaler.scale(loss).backward();
  spoil();
  scaler.step(optimizer);
  scaler.update();
}

void unscaled_step(const Net&, optim::Optimizer& optimizer, GradScaler& scaler, const std::function<void()>& spoil,
                   const Tensor& loss) {
  scaler.scale(loss).backward();
  spoil();
  scaler.unscale_(optimizer);
  scaler.step(optimizer);
  scaler.update();
}

void check_close(const Tensor& a, const Tensor& b, double tolerance) {
  CHECK(a.allclose(b, tolerance, tolerance));
  CHECK(a.dtype() == b.dtype());
}

void check_nets_agree(const Net& control, const Net& scaled, double tolerance) {
  for (std::size_t i = 0; i < 4; ++i) check_close(control.params()[i], scaled.params()[i], tolerance);
}

void check_gradients_agree(const Net& control, const Net& scaled, double tolerance) {
  for (std::size_t i = 0; i < 4; ++i) check_close(control.params()[i].grad(), scaled.params()[i].grad(), tolerance);
}

void check_states_agree(const optim::Optimizer& control, const optim::Optimizer& scaled, double tolerance) {
  const StateDict a = control.state_dict(), b = scaled.state_dict();
  CHECK(a.values == b.values);  // options, and how many steps were taken
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (const auto& [key, tensor] : a.tensors) {
    INFO(key);
    check_close(tensor, b.tensors.at(key), tolerance);
  }
}

void run(const Scenario& s) {
  INFO(s.optimizer << (s.enabled ? "" : ", disabled"));
  const Net control = Net::make(), net = Net::make();
  const auto control_optimizer = optimizer_of(s.optimizer, control.params()),
             optimizer = optimizer_of(s.optimizer, net.params());
  GradScaler scaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = s.enabled});
  for (int batch = 0; batch < kBatches; ++batch) {
    const Tensor x = rand({8, 8}), y = rand({8, 8});
    mse_loss(control.forward(x), y).backward();
    s.prepare_control(control);
    const bool skip = s.enabled && batch == s.skipped;
    if (!skip) control_optimizer->step();

    Tensor loss;
    {
      const amp::autocast region(kind(), kFloat16, s.autocast);
      loss = mse_loss(net.forward(x), y);
    }
    const auto spoil = [&] {
      if (skip) net.w2.grad()[3][3].fill_(kInf);
    };
    s.scaled_step(net, *optimizer, scaler, spoil, loss);
    if (!skip) check_gradients_agree(control, net, s.tolerance);
    control_optimizer->zero_grad(), optimizer->zero_grad();
    s.between(scaler);
  }
  check_nets_agree(control, net, s.tolerance);
  check_states_agree(*control_optimizer, *optimizer, s.tolerance);
  CHECK(scaler.get_scale() == (s.enabled ? kFinalScale : 1.0));
}

void run_enabled_and_not(Scenario s) {
  for (const bool enabled : {true, false}) {
    s.enabled = enabled;
    run(s);
  }
}

// In a float16 region against float32, with the scaler as it is and saved and restored after every batch.
void run_in_region(const char* optimizer, decltype(Scenario::scaled_step) step, double tolerance) {
  Scenario s{.optimizer = optimizer, .scaled_step = std::move(step)};
  s.autocast = true;
  s.tolerance = tolerance;
  run_enabled_and_not(s);
  s.between = [](GradScaler& scaler) {
    std::stringstream file;
    save(scaler, file);
    const std::int64_t interval = scaler.get_growth_interval();
    scaler = GradScaler(kind(), {.init_scale = 77, .growth_interval = 99, .enabled = scaler.is_enabled()});
    load(scaler, file);
    if (scaler.is_enabled()) CHECK(scaler.get_growth_interval() == interval);
  };
  run_enabled_and_not(s);
}

// SGD's steps are as near as its gradients. Adam's are of the size of lr whatever the gradient, so a small one whose
// sign is uncertain moves its parameter to either side.
constexpr double kNearSgd = 1e-3, kNearAdam = 0.1;

const char* const kOptimizers[] = {"SGD", "SGD with momentum", "SGD with dampening", "Adam", "AdamW", "plain"};

}  // namespace

TEST_CASE("a scaled run equals a plain one that skips the same step, for every optimizer", "[amp][scaler]") {
  for (const char* const optimizer : kOptimizers) {
    for (const int skipped : {0, 1, 3}) {
      Scenario s{.optimizer = optimizer, .skipped = skipped, .scaled_step = plain_step};
      run_enabled_and_not(s);
    }
  }
}

TEST_CASE("test_grad_scaling_autocast_fused_optimizers: explicit unscale_ or not, the run is the same",
          "[amp][scaler]") {
  for (const char* const optimizer : kOptimizers) {
    Scenario s;
    s.optimizer = optimizer;
    s.scaled_step = [](const Net& net, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                       const Tensor& loss) {
      scaler.scale(loss).backward();
      const Tensor before = net.w1.grad().clone();
      const double scale = scaler.get_scale();
      spoil();
      scaler.unscale_(o);
      CHECK(net.w1.grad().allclose(before / scale));
      scaler.step(o);
      scaler.update();
    };
    run_enabled_and_not(s);
  }
}

TEST_CASE("test_grad_scaling_autocast: a float16 region against float32", "[amp][scaler]") {
  run_in_region("plain", plain_step, kNearSgd);  // the scaler divides, and waits
}

TEST_CASE("test_grad_scaling_autocast_foreach: the division is a pass of its own", "[amp][scaler]") {
  run_in_region("SGD", unscaled_step, kNearSgd);
  for (const char* const adam : {"Adam", "AdamW"}) run_in_region(adam, unscaled_step, kNearAdam);
}

TEST_CASE("test_grad_scaling_autocast_fused: the step divides", "[amp][scaler]") {
  run_in_region("SGD", plain_step, kNearSgd);
  for (const char* const adam : {"Adam", "AdamW"}) run_in_region(adam, plain_step, kNearAdam);
}

TEST_CASE("test_grad_scaling_clipping: scaled gradients are clipped at the limit times the scale", "[amp][scaler]") {
  Scenario s;
  s.tolerance = 1e-5;
  s.prepare_control = [](const Net& net) { nn::utils::clip_grad_norm_(net.params(), 0.2); };
  s.scaled_step = [](const Net& net, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                     const Tensor& loss) {
    scaler.scale(loss).backward();
    nn::utils::clip_grad_norm_(net.params(), 0.2 * scaler.get_scale());
    spoil();
    scaler.step(o);
    scaler.update();
  };
  run_enabled_and_not(s);
}

TEST_CASE("test_grad_scaling_clipping_separate_unscale: unscale_, then the true limit", "[amp][scaler]") {
  Scenario s;
  s.tolerance = 1e-5;
  s.prepare_control = [](const Net& net) { nn::utils::clip_grad_norm_(net.params(), 0.2); };
  s.scaled_step = [](const Net& net, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                     const Tensor& loss) {
    scaler.scale(loss).backward();
    spoil();
    scaler.unscale_(o);
    nn::utils::clip_grad_norm_(net.params(), 0.2);
    scaler.step(o);
    scaler.update();
  };
  run_enabled_and_not(s);
  s.scaled_step = [](const Net&, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                     const Tensor& loss) {
    scaler.scale(loss).backward();
    spoil();
    scaler.clip_grad_norm_(o, 0.2);
    scaler.step(o);
    scaler.update();
  };
  run_enabled_and_not(s);
}

namespace {

/// The three ways to limit the norm of an optimizer's gradients.
enum class Limiting { clip_then_step, in_step, unscale_then_in_step };

amp::StepResult limited_step(Limiting way, GradScaler& scaler, optim::Optimizer& optimizer, const amp::MaxNorm& limit) {
  if (way == Limiting::unscale_then_in_step) scaler.unscale_(optimizer);
  if (way != Limiting::clip_then_step) return scaler.step(optimizer, limit);
  Tensor norm = scaler.clip_grad_norm_(optimizer, limit.most, limit.type);
  amp::StepResult result = scaler.step(optimizer);
  result.norm = std::move(norm);
  return result;
}
constexpr Limiting kWays[] = {Limiting::clip_then_step, Limiting::in_step, Limiting::unscale_then_in_step};

std::vector<Tensor> gradients_of(const std::vector<Tensor>& params) {
  std::vector<Tensor> grads;
  for (const Tensor& p : params) grads.push_back(p.grad().clone());
  return grads;
}

}  // namespace

TEST_CASE("gradients limited by the scaler are those unscaled, then clipped, for every optimizer and norm",
          "[amp][scaler]") {
  for (const char* const optimizer : kOptimizers) {
    for (const double type : {2.0, 1.0, 0.5, 3.0, static_cast<double>(kInf)}) {
      for (const Limiting way : kWays) {
        INFO("norm " << type << ", way " << static_cast<int>(way));
        const amp::MaxNorm limit(0.02, type);
        double norm = 0;
        std::vector<Tensor> clipped;
        Scenario s;
        s.optimizer = optimizer;
        s.tolerance = 1e-5;
        s.prepare_control = [&](const Net& net) {
          norm = nn::utils::clip_grad_norm_(net.params(), limit.most, limit.type);
          CHECK(norm > limit.most);
          clipped = gradients_of(net.params());
        };
        s.scaled_step = [&](const Net& net, optim::Optimizer& o, GradScaler& scaler, const std::function<void()>& spoil,
                            const Tensor& loss) {
          scaler.scale(loss).backward();
          spoil();
          const amp::StepResult result = limited_step(way, scaler, o, limit);
          scaler.update();
          if (result.found_inf()) return;
          CHECK(result.norm.item<double>() == Catch::Approx(norm).epsilon(1e-4));
          for (std::size_t i = 0; i < clipped.size(); ++i) {
            CHECK(net.params()[i].grad().allclose(clipped[i], 1e-4, 1e-7));
          }
        };
        run_enabled_and_not(s);
      }
    }
  }
}

TEST_CASE("a limit that is not reached changes no bit", "[amp][scaler]") {
  for (const char* const optimizer : kOptimizers) {
    const auto end_of = [&](bool limited) {
      const Net net = Net::make();
      const auto o = optimizer_of(optimizer, net.params());
      GradScaler scaler = scaler_of(128);
      for (int i = 0; i < 3; ++i) {
        o->zero_grad();
        scaler.scale(mse_loss(net.forward(ones({8, 8})), zeros({8, 8}))).backward();
        limited ? scaler.step(*o, amp::MaxNorm(1e9)) : scaler.step(*o);
        scaler.update();
      }
      return net;
    };
    const Net plain = end_of(false), limited = end_of(true);
    for (std::size_t i = 0; i < 4; ++i) CHECK(plain.params()[i].equal(limited.params()[i]));
  }
}

TEST_CASE("a skipped step with a limit leaves no trace, and the gradient to blame can be named", "[amp][scaler]") {
  for (const char* const name : {"SGD with momentum", "Adam"}) {
    for (const double bad : {static_cast<double>(kInf), std::nan("")}) {
      const Tensor p = parameter(), q = parameter();
      const auto optimizer = optimizer_of(name, {p, q});
      GradScaler scaler = scaler_of(4);
      const auto iterate = [&](double grad) {
        scaler.scale(ones({}));
        p.mutable_grad() = full({3}, 4.0, kFloat32);
        q.mutable_grad() = full({3}, grad, kFloat32);
        amp::StepResult result = scaler.step(*optimizer, amp::MaxNorm(1));
        scaler.update();
        return result;
      };
      iterate(4);
      const Tensor p1 = p.detach().clone();
      const auto before = optimizer->state_dict().tensors;
      std::map<std::string, Tensor> copies;
      for (const auto& [key, tensor] : before) copies[key] = tensor.clone();
      const amp::StepResult skipped = iterate(bad);
      CHECK(skipped.found_inf());
      CHECK(!std::isfinite(skipped.norm.item<double>()));
      CHECK(GradScaler::first_nonfinite(*optimizer) == "parameter 1 of group 0");
      CHECK(first(p.grad()) == 4);
      CHECK(p.detach().equal(p1));
      CHECK(q.detach().equal(p1));
      for (const auto& [key, tensor] : copies) {
        if (tensor.is_floating_point()) CHECK(optimizer->state_dict().tensors.at(key).equal(tensor));
      }
    }
  }
}

TEST_CASE("a limit over gradients of several dtypes and devices, some of them empty", "[amp][scaler]") {
  for (const Device other : {get_default_device(), another_device()}) {
    for (const double type : {2.0, 1.0, 0.0, static_cast<double>(kInf)}) {
      for (const Limiting way : kWays) {
        for (const char* const name : {"SGD", "plain"}) {
          INFO(name << " norm " << type << ", way " << static_cast<int>(way));
          const TensorOptions there = TensorOptions(kFloat32).device(other);
          const std::vector<Tensor> params{parameter(),
                                           parameter(1, kFloat64),
                                           ones({0}).requires_grad_(),
                                           parameter(1, kBFloat16),
                                           ones({2}, there).requires_grad_(),
                                           ones({0}, there).requires_grad_()};
          const auto optimizer = optimizer_of(name, params);
          GradScaler scaler = scaler_of(4);
          scaler.scale(ones({}));
          for (const Tensor& p : params) p.mutable_grad() = full_like(p, 4.0 * 2.0);  // eleven times 2
          const amp::StepResult result = limited_step(way, scaler, *optimizer, amp::MaxNorm(1, type));
          scaler.update();
          const double norm = type == 0 ? 11 : type == 1 ? 22 : type == 2 ? std::sqrt(44.0) : 2;
          CHECK(result.stepped());
          CHECK(result.norm.item<double>() == Catch::Approx(norm));
          for (const Tensor& p : params) {
            if (p.numel() == 0) continue;
            const double tolerance = p.dtype() == kBFloat16 ? 1e-2 : 1e-5;
            CHECK(first(p.grad()) == Catch::Approx(2 / norm).epsilon(tolerance));
            CHECK(first(p) == Catch::Approx(1 - 2 / norm).margin(tolerance));
          }
        }
      }
    }
  }
}

TEST_CASE("gradients that are all empty are limited and stepped", "[amp][scaler]") {
  for (const Limiting way : kWays) {
    const Tensor p = ones({0}).requires_grad_();
    optim::SGD sgd({p}, 1.0);
    GradScaler scaler = scaler_of(4);
    scaler.scale(p.sum()).backward();
    const amp::StepResult result = limited_step(way, scaler, sgd, amp::MaxNorm(1));
    CHECK(result.stepped());
    CHECK(result.norm.item<double>() == 0);
    scaler.update();
  }
}

TEST_CASE("huge gradients in float64 are limited, and are no overflow", "[amp][scaler]") {
  for (const Limiting way : kWays) {
    for (const char* const name : {"SGD", "plain"}) {
      const auto gradient_after = [&](double grad, const amp::MaxNorm& limit) {
        const Tensor p = parameter(1, kFloat64);
        const auto optimizer = optimizer_of(name, {p});
        GradScaler scaler = scaler_of(4);
        scaler.scale(ones({}));
        p.mutable_grad() = full_like(p, grad);
        CHECK(limited_step(way, scaler, *optimizer, limit).stepped());
        return first(p.grad());
      };
      CHECK(gradient_after(1e200, amp::MaxNorm(3, kInf)) == Catch::Approx(3));
      CHECK(gradient_after(1e100, amp::MaxNorm(std::sqrt(3.0))) == Catch::Approx(1));
      CHECK(gradient_after(1e200, amp::MaxNorm(3)) == 0);  // the norm of order 2 is infinite
    }
  }
}

TEST_CASE("test_grad_scaling_penalty: a penalty on gradients, with double backward", "[amp][scaler]") {
  const auto penalty_loss = [](const Net& net, const Tensor& loss, double scale) {
    const std::vector<Tensor> grads = autograd::grad({loss * scale}, net.params(), {}, nullopt, /*create_graph=*/true);
    Tensor norm = zeros({});
    for (const Tensor& g : grads) norm = norm + (g * (1 / scale)).pow(2).sum();
    return loss + norm.sqrt();
  };
  for (const bool enabled : {true, false}) {
    const Net control = Net::make(), net = Net::make();
    optim::SGD control_sgd(control.params(), 0.1), sgd(net.params(), 0.1);
    GradScaler scaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = enabled});
    for (int batch = 0; batch < kBatches; ++batch) {
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      const bool skip = enabled && batch == kSkipped;
      penalty_loss(control, mse_loss(control.forward(x), y), 1).backward();
      if (!skip) control_sgd.step();
      scaler.scale(penalty_loss(net, mse_loss(net.forward(x), y), scaler.get_scale())).backward();
      if (skip) net.w2.grad()[0][0].fill_(kInf);
      scaler.step(sgd);
      scaler.update();
      if (!skip) check_gradients_agree(control, net, 1e-5);
      control_sgd.zero_grad(), sgd.zero_grad();
    }
    check_nets_agree(control, net, 1e-5);
    CHECK(scaler.get_scale() == (enabled ? kFinalScale : 1.0));
  }
}

TEST_CASE("test_grad_scaling_accumulation: two micro-batches a step, one update", "[amp][scaler]") {
  for (const bool enabled : {true, false}) {
    const Net control = Net::make(), net = Net::make();
    optim::SGD control_sgd(control.params(), 1.0), sgd(net.params(), 1.0);
    GradScaler scaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = enabled});
    for (int batch = 0; batch < kBatches; ++batch) {
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      (mse_loss(control.forward(x), y) / 2).backward();
      scaler.scale(mse_loss(net.forward(x), y) / 2).backward();
      if (batch % 2 == 0) continue;
      control_sgd.step();
      scaler.step(sgd);
      scaler.update();
      check_gradients_agree(control, net, 1e-6);
      control_sgd.zero_grad(), sgd.zero_grad();
    }
    check_nets_agree(control, net, 1e-6);
    CHECK(scaler.get_scale() == (enabled ? 128 * 4 : 1));
  }
}

TEST_CASE("test_grad_scaling_multiple: two optimizers share a scale, and skip each for itself", "[amp][scaler]") {
  const bool enabled = GENERATE(true, false);
  for (const Device other : {get_default_device(), another_device()}) {  // test_grad_scaling_multigpu
    const Net control0 = Net::make(), control1 = Net::make(other), net0 = Net::make(), net1 = Net::make(other);
    optim::SGD c0(control0.params(), 1.0), c1(control1.params(), 1.0), o0(net0.params(), 1.0), o1(net1.params(), 1.0);
    GradScaler scaler(kind(), {.init_scale = 128, .growth_interval = 1, .enabled = enabled});
    for (int batch = 0; batch < kBatches; ++batch) {
      const bool skip = enabled && batch == kSkipped;
      const Tensor x = rand({8, 8}), y = rand({8, 8});
      const auto losses = [&](const Net& a, const Net& b) {
        const Tensor out0 = a.forward(x), out1 = b.forward(x.to(other)).to(get_default_device());
        return std::pair{mse_loss(out0 * 0.3 + out1 * 0.7, y), mse_loss(out0 * 0.6 - out1 * 0.4, y)};
      };
      const auto [a0, a1] = losses(control0, control1);
      a0.backward({}, true);
      a1.backward();
      c0.step();
      if (!skip) c1.step();

      const auto [b0, b1] = losses(net0, net1);
      scaler.scale(b0).backward({}, true);
      scaler.scale(b1).backward();
      if (skip) net1.w2.grad()[2][2].fill_(kInf);
      scaler.unscale_(o0);
      CHECK(scaler.step(o0).stepped());
      CHECK(scaler.step(o1).found_inf() == skip);
      scaler.update();
      check_gradients_agree(control0, net0, 1e-6);
      if (!skip) check_gradients_agree(control1, net1, 1e-6);
      c0.zero_grad(), c1.zero_grad(), o0.zero_grad(), o1.zero_grad();
    }
    check_nets_agree(control0, net0, 1e-6);
    check_nets_agree(control1, net1, 1e-6);
    CHECK(scaler.get_scale() == (enabled ? kFinalScale : 1.0));
  }
}

TEST_CASE("test_params_invalidated_with_grads_invalidated_between_unscale_and_step: what comes later is applied",
          "[amp][scaler]") {
  for (const char* const kind : kOptimizers) {
    for (const double bad : {static_cast<double>(kInf), std::nan("")}) {
      const Tensor p = parameter();
      const auto optimizer = optimizer_of(kind, {p});
      GradScaler scaler = scaler_of(128);
      scaler.scale(p.sum()).backward();
      scaler.unscale_(*optimizer);
      p.grad().fill_(bad);
      CHECK(scaler.step(*optimizer).stepped());
      CHECK(!isfinite(p).any().item<bool>());
    }
  }
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
  GradScaler scaler(name(kind()));
  CHECK_THROWS_WITH(scaler.set_backoff_factor(2), ContainsSubstring("not 2"));
  CHECK(scaler.get_backoff_factor() == 0.5);
  CHECK_THROWS_WITH(GradScaler("gpu"), ContainsSubstring("unknown device type 'gpu'"));
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
