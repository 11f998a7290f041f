// In-place updates over lists of tensors: the arithmetic of optimizer steps, unscaling with its overflow check and
// clipping, written once per element. State is float (or double beside float64 parameters); loads widen, stores round.
#pragma once

#include <cmath>
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

  template <class T>
  HD void operator()(T& p, T g, T& v) const {
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
/// likewise.
struct AdamStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double bias1 = 1, bias2 = 1;
  bool decoupled = false;
  bool amsgrad = false;
  bool maximize = false;

  template <class T>
  HD void operator()(T& p, T g, T& m, T& v, T& v_max) const {
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

}  // namespace halftone
