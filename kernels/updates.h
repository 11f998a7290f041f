// In-place updates over lists of tensors: the arithmetic of optimizer steps, unscaling with its overflow check and
// clipping, written once per element. State is float (or double beside float64 parameters); loads widen, stores round.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <variant>

#include "core/host_device.h"

namespace halftone {

/// Stochastic gradient descent with PyTorch's momentum: v = momentum v + (1 - dampening) g, p -= lr (nesterov ? g +
/// momentum v : v).
struct SgdStep {
  double lr = 0, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  bool maximize = false;
  bool first = false;  // the momentum buffer is empty: v = g

  template <class T> HD void operator()(T& p, T g, T& v) const {
    if (maximize) g = -g;
    if (weight_decay != 0) g += T(weight_decay) * p;
    if (momentum != 0) {
      v = first ? g : T(momentum) * v + T(1 - dampening) * g;
      g = nesterov ? g + T(momentum) * v : v;
    }
    p -= T(lr) * g;
  }
};

/// Adam (Kingma and Ba, 2015); with `decoupled`, AdamW (Loshchilov and Hutter, 2019). bias1 = 1 - beta1^t, bias2
/// likewise, where t counts the steps taken.
struct AdamStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double bias1 = 1, bias2 = 1;
  double steps = 1;  // this one included, and those that were skipped: only the device knows how many those are
  bool decoupled = false;
  bool amsgrad = false;
  bool maximize = false;
  bool replayed = false;  // the step is part of a captured graph: the host does not count it, however often it runs

  /// What corrects the bias of a mean that forgets by `beta` after `taken` steps. A power: once a block, not once an
  /// element.
  HD static double bias(double beta, double taken) {
    using std::pow;
    return 1 - pow(beta, taken);
  }
  /// The step with the bias corrections that belong to `taken` steps.
  HD AdamStep corrected(double taken) const {
    AdamStep f = *this;
    f.bias1 = bias(beta1, taken);
    f.bias2 = bias(beta2, taken);
    return f;
  }

  template <class T> HD void operator()(T& p, T g, T& m, T& v, T& v_max) const {
    using std::sqrt;
    if (maximize) g = -g;
    if (decoupled) {
      p *= T(1 - lr * weight_decay);
    } else if (weight_decay != 0) {
      g += T(weight_decay) * p;
    }
    // Two forms of the same mean: each is exact at its own end, beta1 = 1 and beta1 = 0.
    m = beta1 > 0.5 ? m + T(1 - beta1) * (g - m) : g - T(beta1) * (g - m);
    v = T(beta2) * v + T(1 - beta2) * g * g;
    if (amsgrad) v_max = v_max < v || v != v ? v : v_max;  // a NaN stays
    const T second = amsgrad ? v_max : v;
    p -= T(lr / bias1) * m / (sqrt(second) / T(std::sqrt(bias2)) + T(eps));
  }
};

/// What gradients of this norm are divided by so that it is at most `most`, as in torch.nn.utils.clip_grad_norm_, if in
/// memory they are `scale` times themselves. NaN stays NaN.
HD constexpr double clip_divisor(double norm, double most, double scale) {
  const double factor = most / (norm + 1e-6);
  return factor > 1 ? scale : scale / factor;
}

/// How the scale of a gradient scaler follows overflows.
struct ScaleRule {
  double growth_factor = 2, backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;
  float min_scale = FLT_MIN, max_scale = FLT_MAX;
};

struct ScaleState {
  float scale = 65536;
  std::int32_t clean_steps = 0;       // since the scale last changed
  std::int32_t skipped = 0;           // steps in all
  std::int32_t skipped_in_a_row = 0;  // up to now

  constexpr bool operator==(const ScaleState&) const = default;
};

/// The state after a step: an overflow shrinks the scale, growth_interval steps without one let it grow. It never grows
/// to infinity, nor shrinks to zero, which no later step could repair.
HD constexpr ScaleState next(const ScaleState& s, bool overflowed, const ScaleRule& rule) {
  if (overflowed) {
    const double smaller = s.scale * rule.backoff_factor;
    const float scale = smaller < rule.min_scale ? rule.min_scale : static_cast<float>(smaller);
    return {scale, 0, s.skipped + 1, s.skipped_in_a_row + 1};
  }
  if (s.clean_steps + 1 < rule.growth_interval) return {s.scale, s.clean_steps + 1, s.skipped, 0};
  const double larger = s.scale * rule.growth_factor;
  if (larger > FLT_MAX) return {s.scale, 0, s.skipped, 0};
  return {larger > rule.max_scale ? rule.max_scale : static_cast<float>(larger), 0, s.skipped, 0};
}

}  // namespace halftone
