// Optimizers against PyTorch's trajectories (rows of tests/golden/optim.inc), and the rules of groups, options and
// state.
#include <cmath>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "core/serialize.h"
#include "optim/optim.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::optim;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Settings {
  double lr = 0, momentum = 0, dampening = 0;
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool amsgrad = false, maximize = false;
};

struct Trajectory {
  std::string kind;
  Dtype dtype;
  Settings settings;
  std::vector<double> values;  // of the parameter after each step
};

const std::vector<Trajectory> kTrajectories = {
#include "tests/golden/optim.inc"
};

constexpr std::int64_t kSize = 5;

Tensor vector_of(std::int64_t size, Dtype dtype, const std::function<double(double)>& f) {
  Tensor t = empty({size}, TensorOptions(kFloat64).device(kCPU));
  for (std::int64_t i = 0; i < size; ++i) t.data_ptr<double>()[i] = f(static_cast<double>(i));
  return t.to(get_default_device(), dtype);
}

Tensor parameter(Dtype dtype = kFloat32) {
  return vector_of(kSize, dtype, [](double i) { return 0.5 * i - 1; }).requires_grad_();
}

Tensor gradient(int step, Dtype dtype = kFloat32) {
  return vector_of(kSize, dtype, [step](double i) { return std::sin(0.7 * i + 0.9 * step) * (1 + step) / 3; });
}

std::vector<double> to_vector(const Tensor& t) {
  const Tensor wide = t.detach().cpu().to(kFloat64).contiguous();
  return {wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel()};
}

SGDOptions sgd_options(const Settings& s) {
  return SGDOptions(s.lr)
      .momentum(s.momentum)
      .dampening(s.dampening)
      .weight_decay(s.weight_decay)
      .nesterov(s.nesterov)
      .maximize(s.maximize);
}

template <class Options> Options adam_options(const Settings& s) {
  return Options(s.lr)
      .betas({s.beta1, s.beta2})
      .eps(s.eps)
      .weight_decay(s.weight_decay)
      .amsgrad(s.amsgrad)
      .maximize(s.maximize);
}

std::unique_ptr<ScaledOptimizer> make(const Trajectory& row, const std::vector<Tensor>& params) {
  if (row.kind == "SGD") return std::make_unique<SGD>(params, sgd_options(row.settings));
  if (row.kind == "Adam") return std::make_unique<Adam>(params, adam_options<AdamOptions>(row.settings));
  return std::make_unique<AdamW>(params, adam_options<AdamWOptions>(row.settings));
}

void check_close(const Tensor& t, const double* wanted, Dtype dtype) {
  const double tolerance = dtype == kFloat64 ? 1e-13 : 1e-6;
  const std::vector<double> got = to_vector(t);
  for (std::size_t i = 0; i < got.size(); ++i)
    CHECK(std::abs(got[i] - wanted[i]) <= tolerance * (1 + std::abs(wanted[i])));
}

Tensor flag(float value) { return full({}, value, kFloat32); }

// The largest element is enough to see that nothing moved.
bool same(const Tensor& a, const Tensor& b) { return a.detach().equal(b.detach()); }

}  // namespace

TEST_CASE("optimizers follow PyTorch's trajectories", "[optim]") {
  for (const Trajectory& row : kTrajectories) {
    INFO(row.kind << " " << row.dtype << " momentum " << row.settings.momentum << " amsgrad " << row.settings.amsgrad);
    const Tensor p = parameter(row.dtype);
    const auto optimizer = make(row, {p});
    for (int step = 0; step < 6; ++step) {
      p.mutable_grad() = gradient(step, row.dtype);
      optimizer->step();
      check_close(p, &row.values[static_cast<std::size_t>(step * kSize)], row.dtype);
    }
  }
}

TEST_CASE("scaled steps and skipped ones give the same trajectories", "[optim]") {
  const Tensor scale = flag(1024), overflow = flag(1), fine = flag(0);
  for (const Trajectory& row : kTrajectories) {
    INFO(row.kind << " " << row.dtype << " dampening " << row.settings.dampening << " amsgrad "
                  << row.settings.amsgrad);
    const Tensor p = parameter(row.dtype);
    const auto optimizer = make(row, {p});
    for (int step = 0; step < 6; ++step) {
      for (int skip = 0; skip < (step * 7 + 2) % 3; ++skip) {
        const Tensor before = p.detach().clone();
        p.mutable_grad() = full({kSize}, std::nan(""), row.dtype);
        optimizer->step_scaled({scale, overflow});
        REQUIRE(same(p, before));
      }
      p.mutable_grad() = gradient(step, row.dtype) * 1024;
      optimizer->step_scaled({scale, fine});
      check_close(p, &row.values[static_cast<std::size_t>(step * kSize)], row.dtype);
      check_close(p.grad(), to_vector(gradient(step, row.dtype)).data(), row.dtype);
    }
  }
}

TEST_CASE("a skipped step does not advance Adam's counter, for the parameters that took part", "[optim]") {
  const Tensor a = parameter(), b = parameter();
  Adam adam({a, b}, AdamOptions(0.1));
  const auto steps = [&](const Tensor& p) {
    return static_cast<AdamParamState&>(*adam.state().at(p.unsafeGetTensorImpl())).step();
  };
  a.mutable_grad() = gradient(0), b.mutable_grad() = gradient(0);
  adam.step_scaled({{}, flag(0)});
  adam.step_scaled({{}, flag(1)});
  b.mutable_grad().reset();
  adam.step_scaled({{}, flag(1)});
  adam.step_scaled({{}, flag(0)});
  CHECK(steps(a) == 2);
  CHECK(steps(b) == 1);
  adam.step();
  CHECK(steps(a) == 3);
  b.mutable_grad() = gradient(1);
  adam.step_scaled({{}, flag(1)});
  CHECK(steps(a) == 3);
  CHECK(steps(b) == 1);
}

TEST_CASE("state of 16-bit parameters is float32, so Adam's eps does not vanish", "[optim]") {
  for (const Dtype dtype : {kFloat16, kBFloat16}) {
    const Tensor p = parameter(dtype);
    Adam adam({p}, AdamOptions(0.1));
    p.mutable_grad() = zeros({kSize}, dtype);  // 0 / (0 + eps) must be 0
    adam.step();
    CHECK(p.dtype() == dtype);
    CHECK(isfinite(p).all().item<bool>());
    const auto& state = static_cast<AdamParamState&>(*adam.state().at(p.unsafeGetTensorImpl()));
    CHECK(state.exp_avg().dtype() == kFloat32);
    CHECK(state.exp_avg_sq().dtype() == kFloat32);
  }
}

TEST_CASE("master weights keep steps that 16 bits would lose", "[optim]") {
  const auto run = [](bool master) {
    const Tensor p = ones({1}, kBFloat16).requires_grad_();
    SGD sgd({p}, SGDOptions(1e-3).master_weights(master));
    for (int i = 0; i < 100; ++i) {
      p.mutable_grad() = ones({1}, kBFloat16);
      sgd.step();
    }
    return p.item<double>();
  };
  CHECK(run(false) == 1.0);  // 1 - 0.001 rounds to 1
  CHECK(run(true) == Catch::Approx(0.9).epsilon(0.01));
}

TEST_CASE("a parameter that others write to overrides its master copy", "[optim]") {
  const Tensor p = ones({2}, kFloat16).requires_grad_();
  AdamW adam({p}, AdamWOptions(0.5).weight_decay(0).master_weights(true));
  p.mutable_grad() = ones({2}, kFloat16);
  adam.step();
  CHECK(p[0].item<double>() == Catch::Approx(0.5).epsilon(1e-3));
  {
    const NoGradGuard no_grad;
    p.fill_(10);
  }
  adam.step();
  CHECK(p[0].item<double>() == Catch::Approx(9.5).epsilon(1e-3));
}

TEST_CASE("a master copy that was loaded gives way where others wrote to the parameter since", "[optim]") {
  const Tensor p = full({2}, 1.0, kBFloat16).requires_grad_();
  const SGDOptions options = SGDOptions(1e-3).master_weights(true);
  SGD first({p}, options);
  p.mutable_grad() = ones({2}, kBFloat16);
  first.step();  // the copy is 0.999, rounded to 1
  const StateDict saved = first.state_dict();
  SGD second({p}, options);
  second.load_state_dict(saved);
  {
    const NoGradGuard plain;
    p[1].fill_(5);
  }
  p.mutable_grad() = zeros({2}, kBFloat16);
  second.step();
  const Tensor master = second.state_dict().tensor("state.0.master");
  CHECK(master[0].item<double>() == Catch::Approx(0.999));
  CHECK(master[1].item<double>() == 5);
}

TEST_CASE("small steps add up where 16-bit parameters share a storage", "[optim]") {
  const Tensor flat = ones({2}, kBFloat16);
  const Tensor a = flat.slice(0, 0, 1).detach().requires_grad_(), b = flat.slice(0, 1, 2).detach().requires_grad_();
  SGD optimizer({a, b}, SGDOptions(1e-3).master_weights(true));
  for (int i = 0; i < 20; ++i) {
    a.mutable_grad() = ones({1}, kBFloat16);
    b.mutable_grad() = ones({1}, kBFloat16);
    optimizer.step();
  }
  CHECK(flat[0].item<double>() == Catch::Approx(0.98).margin(4e-3));
  CHECK(flat[1].item<double>() == Catch::Approx(0.98).margin(4e-3));
}

TEST_CASE("loading leaves alone what was saved before", "[optim]") {
  const Tensor p = parameter();
  Adam optimizer({p}, AdamOptions(0.5));
  p.mutable_grad() = gradient(0);
  optimizer.step();
  const StateDict first = optimizer.state_dict();  // the live tensors
  const Tensor moment = first.tensor("state.0.exp_avg").clone();
  Adam other({p}, AdamOptions(0.5));
  other.step();
  other.step();
  optimizer.load_state_dict(other.state_dict());
  CHECK(equal(first.tensor("state.0.exp_avg"), moment));
  optimizer.load_state_dict(first);
  CHECK(equal(optimizer.state_dict().tensor("state.0.exp_avg"), moment));
  CHECK(optimizer.state_dict().get<std::int64_t>("state.0.step") == 1);
}

TEST_CASE("parameters without a gradient are left alone, and steps count as writes", "[optim]") {
  const Tensor a = parameter(), b = parameter();
  SGD sgd({a, b}, 0.1);
  a.mutable_grad() = ones({kSize});
  const auto version = a._version();
  const Tensor before = b.detach().clone();
  sgd.step();
  CHECK(a._version() > version);
  CHECK(same(b, before));
}

TEST_CASE("a closure computes the loss with recording on, and step returns it", "[optim]") {
  const Tensor p = parameter();
  SGD sgd({p}, 0.1);
  const NoGradGuard no_grad;
  const Tensor loss = sgd.step([&] {
    sgd.zero_grad();
    Tensor l = (p * p).sum();
    l.backward();
    return l;
  });
  CHECK(loss.item<float>() == Catch::Approx(2.5));
  CHECK(p[0].item<float>() == Catch::Approx(-0.8));
  CHECK(!sgd.step().defined());
}

TEST_CASE("zero_grad drops gradients, or zeroes them where they are", "[optim]") {
  const Tensor p = parameter();
  SGD sgd({p}, 0.1);
  p.mutable_grad() = gradient(0);
  const Tensor held = p.grad();
  sgd.zero_grad(/*set_to_none=*/false);
  CHECK(p.grad().is_alias_of(held));
  CHECK(!held.any().item<bool>());
  sgd.zero_grad();
  CHECK(!p.grad().defined());
}

TEST_CASE("groups take the defaults unless they bring options, which can be changed", "[optim]") {
  const Tensor a = parameter(), b = parameter();
  std::vector<OptimizerParamGroup> groups;
  groups.emplace_back(std::vector{a});
  groups.emplace_back(std::vector{b}, std::make_unique<SGDOptions>(SGDOptions(1.0).momentum(0.5)));
  SGD sgd(std::move(groups), SGDOptions(0.1).weight_decay(0.2));
  const auto options = [&](std::size_t i) -> SGDOptions& {
    return static_cast<SGDOptions&>(sgd.param_groups()[i].options());
  };
  CHECK(options(0).lr() == 0.1);
  CHECK(options(0).weight_decay() == 0.2);
  CHECK(options(1).momentum() == 0.5);
  options(0).lr(0);
  sgd.param_groups()[1].options().set_lr(2);
  CHECK(options(1).get_lr() == 2);
  CHECK(static_cast<SGDOptions&>(sgd.defaults()).lr() == 0.1);
  a.mutable_grad() = ones({kSize}), b.mutable_grad() = ones({kSize});
  const Tensor old_a = a.detach().clone(), old_b = b.detach().clone();
  sgd.step();
  CHECK(same(a, old_a));
  CHECK(same(b, old_b - 2));
  sgd.add_param_group(std::vector{parameter()});
  CHECK(sgd.param_groups().size() == 3);
  CHECK(options(2).lr() == 0.1);
}

TEST_CASE("an optimizer refuses parameters that it cannot update", "[optim]") {
  const Tensor p = parameter(), q = parameter();
  const auto made_of = [](std::vector<Tensor> params) { SGD sgd(std::move(params), 0.1); };
  CHECK_THROWS_WITH(made_of({}), ContainsSubstring("empty parameter list"));
  CHECK_THROWS_WITH(SGD(std::vector<OptimizerParamGroup>{}, 0.1), ContainsSubstring("empty list of parameter groups"));
  CHECK_THROWS_WITH(made_of({p, q, p}),
                    ContainsSubstring("more than one parameter group, or twice in one: parameter 2 of"));
  CHECK_THROWS_WITH(made_of({p * 2}), ContainsSubstring("can't optimize a non-leaf Tensor: parameter 0 of group 0"));
  CHECK_THROWS_WITH(made_of({p, Tensor()}), ContainsSubstring("parameter 1 of group 0 is undefined"));
  CHECK_THROWS_WITH(made_of({zeros({2}, kInt64)}), ContainsSubstring("not of a floating dtype"));
  SGD sgd({p}, 0.1);
  CHECK_THROWS_WITH(sgd.add_param_group(std::vector{p}), ContainsSubstring("parameter 0 of group 1"));
  CHECK_THROWS_WITH(sgd.add_param_group(OptimizerParamGroup({q}, std::make_unique<AdamOptions>())),
                    ContainsSubstring("belong to another optimizer"));
  CHECK(sgd.param_groups().size() == 1);
}

TEST_CASE("options out of their range are errors that name the value", "[optim]") {
  const auto sgd = [](const SGDOptions& o) { SGD made({parameter()}, o); };
  const auto adam = [](const AdamOptions& o) { Adam made({parameter()}, o); };
  CHECK_THROWS_WITH(sgd(SGDOptions(-1)), ContainsSubstring("Invalid learning rate: -1"));
  CHECK_THROWS_WITH(sgd(SGDOptions(1).momentum(-2)), ContainsSubstring("Invalid momentum value: -2"));
  CHECK_THROWS_WITH(sgd(SGDOptions(1).weight_decay(-3)), ContainsSubstring("Invalid weight_decay value: -3"));
  CHECK_THROWS_WITH(sgd(SGDOptions(1).nesterov(true)), ContainsSubstring("Nesterov momentum requires a momentum"));
  CHECK_THROWS_WITH(adam(AdamOptions(std::nan(""))), ContainsSubstring("Invalid learning rate: nan"));
  CHECK_THROWS_WITH(adam(AdamOptions().eps(-1)), ContainsSubstring("Invalid epsilon value: -1"));
  CHECK_THROWS_WITH(adam(AdamOptions().betas({1.0, 0.9})), ContainsSubstring("Invalid beta parameter at index 0: 1"));
  CHECK_THROWS_WITH(adam(AdamOptions().betas({0.9, -1.0})), ContainsSubstring("Invalid beta parameter at index 1: -1"));
  CHECK_THROWS_WITH(adam(AdamOptions().weight_decay(-1)), ContainsSubstring("Invalid weight_decay value: -1"));
}

TEST_CASE("an optimizer's state survives saving and loading, and training goes on as if nothing had happened",
          "[optim]") {
  for (const Trajectory& row : kTrajectories) {
    INFO(row.kind << " " << row.dtype << " momentum " << row.settings.momentum << " amsgrad " << row.settings.amsgrad);
    Tensor p = parameter(row.dtype);
    auto optimizer = make(row, {p});
    for (int step = 0; step < 6; ++step) {
      p.mutable_grad() = full({kSize}, std::nan(""), row.dtype);
      optimizer->step_scaled({{}, flag(1)});
      p.mutable_grad() = gradient(step, row.dtype);
      optimizer->step();
      check_close(p, &row.values[static_cast<std::size_t>(step * kSize)], row.dtype);
      std::stringstream file;
      save(*optimizer, file);
      p = p.detach().clone().requires_grad_();
      Trajectory fresh = row;
      fresh.settings.lr = 55;
      optimizer = make(fresh, {p});
      load(*optimizer, file);
      CHECK(optimizer->param_groups()[0].options().get_lr() == row.settings.lr);
    }
  }
}

TEST_CASE("loading state that does not fit is an error, and changes nothing", "[optim]") {
  const auto adam_of = [](std::vector<OptimizerParamGroup> groups) {
    return std::make_unique<Adam>(std::move(groups), AdamOptions(0.5));
  };
  const Tensor p = parameter(), q = parameter();
  p.mutable_grad() = gradient(0);
  const auto one = adam_of({std::vector{p}}), two = adam_of({std::vector{p}, std::vector{q}}),
             wide = adam_of({std::vector{p, q}});
  one->step();
  const StateDict saved = one->state_dict();
  CHECK_THROWS_WITH(two->load_state_dict(saved),
                    ContainsSubstring("parameter group 1 of the optimizer is not in the saved"));
  CHECK_THROWS_WITH(one->load_state_dict(two->state_dict()),
                    ContainsSubstring("has 1 parameter groups but more were saved"));
  CHECK_THROWS_WITH(wide->load_state_dict(saved), ContainsSubstring("has 2 parameters but was saved with 1"));
  SGD sgd({q}, 0.1);
  CHECK_THROWS_WITH(sgd.load_state_dict(saved), ContainsSubstring("no value 'momentum'"));
  CHECK_THROWS_WITH(one->load_state_dict(sgd.state_dict()), ContainsSubstring("no value 'beta1'"));
  const Tensor other = zeros({2, 2}).requires_grad_();
  Adam differently_shaped({other}, AdamOptions(0.25));
  CHECK_THROWS_WITH(differently_shaped.load_state_dict(saved),
                    ContainsSubstring("exp_avg of parameter 0 of group 0 was saved as"));
  CHECK(differently_shaped.defaults().get_lr() == 0.25);
  CHECK(differently_shaped.param_groups()[0].options().get_lr() == 0.25);
  CHECK(differently_shaped.state().empty());
}

TEST_CASE("messages name parameters once names are given", "[optim]") {
  const Tensor p = parameter(), q = parameter();
  SGD sgd({p, q}, 0.1);
  CHECK(sgd.describe_parameter(q) == "parameter 1 of group 0");
  OrderedDict<std::string, Tensor> named;
  named.insert("fc.weight", q);
  sgd.name_parameters(named);
  CHECK(sgd.describe_parameter(q) == "'fc.weight'");
  CHECK_THAT(sgd.describe_parameter(parameter()), ContainsSubstring("no parameter of this optimizer"));
}

namespace {

// An optimizer as a user writes one.
struct SignOptions : OptimizerCloneableOptions<SignOptions> {
  SignOptions(double lr) : lr_(lr) {}  // NOLINT
  TORCH_ARG(double, lr);

 public:
  double get_lr() const override { return lr(); }
  void set_lr(double value) override { lr(value); }
};

class SignDescent : public Optimizer {
 public:
  SignDescent(std::vector<Tensor> params, SignOptions options)
      : Optimizer(std::move(params), std::make_unique<SignOptions>(options)) {}
  Tensor step(LossClosure closure = nullptr) override {
    const Tensor loss = compute_loss(closure);
    const NoGradGuard no_grad;
    for (OptimizerParamGroup& group : param_groups()) {
      for (const Tensor& p : group.params()) p.sub_(p.grad().sign(), group.options().get_lr());
    }
    return loss;
  }
};

}  // namespace

TEST_CASE("a user's optimizer needs options and a step; saving it says what else", "[optim]") {
  const Tensor p = parameter();
  SignDescent optimizer({p}, 0.5);
  p.mutable_grad() = full({kSize}, 7.0);
  optimizer.step();
  CHECK(p[0].item<double>() == -1.5);
  CHECK_THROWS_AS(optimizer.state_dict(), NotImplementedError);
  CHECK_THROWS_WITH(optimizer.state_dict(), ContainsSubstring("visit_fields"));
}

// ---------------------------------------------------------------- clipping

TEST_CASE("clip_grad_norm_ limits the norm over all gradients and returns the one before", "[optim]") {
  struct Row {
    double p, norm;
  };
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Row& row : {Row{2, 13}, Row{1, 19}, Row{infinity, 12}}) {
    const Tensor a = zeros({2}).requires_grad_(), b = zeros({1}, kFloat64).requires_grad_(), unused = parameter();
    a.mutable_grad() = vector_of(2, kFloat32, [](double i) { return 3 + i; });  // 3, 4
    b.mutable_grad() = full({1}, 12.0, kFloat64);
    CHECK(nn::utils::clip_grad_norm_({a, b, unused}, 6.5, row.p) == Catch::Approx(row.norm));
    CHECK(a.grad()[0].item<double>() == Catch::Approx(3 * 6.5 / row.norm));
    CHECK(b.grad()[0].item<double>() == Catch::Approx(12 * 6.5 / row.norm));
    const Tensor norm = nn::utils::clip_grad_norm_on_device_({a, b, unused}, 100, row.p);
    CHECK(norm.dim() == 0);
    CHECK(norm.item<double>() == Catch::Approx(6.5));
    CHECK(a.grad()[0].item<double>() == Catch::Approx(3 * 6.5 / row.norm));  // below the limit nothing changes
  }
  CHECK(nn::utils::clip_grad_norm_(parameter(), 1) == 0);
}

TEST_CASE("a norm that is not finite is an error if asked for", "[optim]") {
  const Tensor p = parameter();
  p.mutable_grad() = full({kSize}, std::numeric_limits<double>::infinity(), kFloat32);
  CHECK_THROWS_WITH(nn::utils::clip_grad_norm_(p, 1, 2, true),
                    ContainsSubstring("The total norm of order 2") && ContainsSubstring("error_if_nonfinite=false"));
  CHECK(std::isinf(nn::utils::clip_grad_norm_(p, 1)));
  CHECK(isnan(p.grad()).all().item<bool>());
}

TEST_CASE("clip_grad_value_ limits each element", "[optim]") {
  const Tensor p = parameter();
  p.mutable_grad() = vector_of(kSize, kFloat32, [](double i) { return 2 * i - 4; });
  nn::utils::clip_grad_value_(p, 1.5);
  CHECK(to_vector(p.grad()) == std::vector<double>{-1.5, -1.5, 0, 1.5, 1.5});
  CHECK_THROWS_AS(nn::utils::clip_grad_value_({p}, -1), ValueError);
}
