// Analytic gradients against central differences, in float64. A weighted sum of the results is differentiated by every
// element of every floating input; gradgradcheck does so with the gradients themselves.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "tests/op_cases.h"

namespace halftone::test {

using Function = std::function<Tensor(In)>;

struct Steps {
  double size = 1e-6;
  double absolute = 1e-5;  // how far the two may be apart
  double relative = 1e-4;
};

/// Numbers that no symmetry of a formula cancels.
inline Tensor weights_like(const Tensor& t, std::size_t k = 50) {
  Tensor w = empty(t.sizes(), kFloat64);
  std::string word = "-";
  for (std::int64_t i = 0; i < t.dim(); ++i) word = (i == 0 ? "" : word + "x") + std::to_string(t.size(i));
  return t.defined() ? make_input(word, k) : w;
}

inline std::vector<Tensor> leaves_of(In inputs) {
  std::vector<Tensor> leaves;
  for (const Tensor& x : inputs) leaves.push_back(x.is_floating_point() ? x.detach().clone().requires_grad_() : x);
  return leaves;
}

inline std::vector<Tensor> floating(In inputs) {
  std::vector<Tensor> out;
  for (const Tensor& x : inputs) {
    if (x.is_floating_point()) out.push_back(x);
  }
  return out;
}

inline double weighted_sum(const Function& f, In inputs) {
  const NoGradGuard no_grad;
  const Tensor y = f(inputs);
  return (y * weights_like(y)).sum().item<double>();
}

/// Empty, or what differs where.
inline std::string gradcheck(const Function& f, In given, Steps steps = {}) {
  std::vector<Tensor> inputs = leaves_of(given);
  const Tensor y = f(inputs);
  if (!y.requires_grad()) return "the result does not require grad";
  const std::vector<Tensor> leaves = floating(inputs);
  const std::vector<Tensor> grads =
      autograd::grad({(y * weights_like(y)).sum()}, leaves, {}, nullopt, false, /*allow_unused=*/true);
  for (std::size_t k = 0, leaf = 0; k < inputs.size(); ++k) {
    if (!inputs[k].is_floating_point()) continue;
    const Tensor grad = grads[leaf].defined() ? grads[leaf].contiguous() : zeros_like(inputs[k]);
    ++leaf;
    const Tensor x = alias(inputs[k].detach(), {inputs[k].numel()}, {1}, 0);
    const Tensor values = x.cpu().clone(), slopes = grad.cpu();
    for (std::int64_t i = 0; i < inputs[k].numel(); ++i) {
      const double kept = values.data_ptr<double>()[i];
      const auto at = [&](double value) {
        x[i].fill_(value);
        return weighted_sum(f, inputs);
      };
      const double above = at(kept + steps.size), below = at(kept - steps.size);
      x[i].fill_(kept);
      const double numeric = (above - below) / (2 * steps.size), analytic = slopes.data_ptr<double>()[i];
      if (!(std::abs(numeric - analytic) <= steps.absolute + steps.relative * std::abs(numeric)))
        return str("input ", k, ", element ", i, ": backward gives ", analytic, ", differences ", numeric);
    }
  }
  return "";
}

/// The gradient of f, as a function of f's inputs and of the gradient of its result, is differentiable too.
inline std::string gradgradcheck(const Function& f, In given, Steps steps = {}) {
  const Tensor y = f(given);
  std::vector<Tensor> inputs = given;
  inputs.push_back(weights_like(y, 60));
  const Function gradients = [&f](In x) {
    const AutoGradMode on(true);
    std::vector<Tensor> own;  // under NoGradGuard the inputs have no history, and need one here
    for (const Tensor& t : x)
      own.push_back(t.is_floating_point() && !t.requires_grad() ? t.detach().requires_grad_() : t);
    const Tensor g = own.back();
    const std::vector<Tensor> arguments(own.begin(), own.end() - 1);
    std::vector<Tensor> flat;
    for (const Tensor& dx : autograd::grad({f(arguments)}, floating(arguments), {g}, nullopt, true, true)) {
      if (dx.defined()) flat.push_back(dx.reshape({dx.numel()}));
    }
    return cat(flat);
  };
  return gradcheck(gradients, inputs, steps);
}

}  // namespace halftone::test
