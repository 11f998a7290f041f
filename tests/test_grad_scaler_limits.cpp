// Gradients limited to a norm by the scaler: before the step and in it.
#include <array>

#include "tests/scaler_scenarios.h"

using namespace halftone;
using namespace halftone::test;

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
