#include "optim/clip.h"

#include <algorithm>
#include <cmath>

#include "autograd/context.h"
#include "autograd/ops.h"
#include "kernels/backend.h"
#include "optim/optimizer.h"

namespace halftone::nn::utils {
namespace {

using optim::ByDevice;

const auto kPlain = [](Context& c) { c = {.record = false}; };

ByDevice gradients(const std::vector<Tensor>& parameters) {
  ByDevice lists;
  for (const Tensor& p : parameters) {
    if (p.defined() && p.grad().defined()) optim::append(lists, p.grad());
  }
  return lists;
}

Tensor scalar_like(const Tensor& t, bool wide) {
  return empty({}, TensorOptions(wide ? kFloat64 : kFloat32).device(t.device()));
}

struct Norm {
  Tensor value, factor;  // factor: what clips gradients of this norm to the limit
};

Norm list_norm(const std::vector<Tensor>& tensors, double p, double max_norm) {
  const bool wide = std::ranges::any_of(tensors, [](const Tensor& t) { return t.dtype() == kFloat64; });
  Norm norm{scalar_like(tensors[0], wide), scalar_like(tensors[0], wide)};
  backend(tensors[0]).list_norm(tensors, p, norm.value, {max_norm, norm.factor});
  return norm;
}

// The norm of the devices' norms, on the first device.
Norm total_norm(const ByDevice& lists, double p, double max_norm) {
  if (lists.empty()) return {zeros({}), ones({})};
  if (lists.size() == 1) return list_norm(lists[0].second, p, max_norm);
  std::vector<Tensor> norms;
  for (const auto& [device, list] : lists) norms.push_back(list_norm(list, p, max_norm).value.to(lists[0].first));
  return list_norm(norms, p, max_norm);
}

void limit(const ByDevice& lists, const Tensor& factor) {
  for (const auto& [device, list] : lists) {
    backend(list[0]).list_scale(list, factor.to(device));
    for (const Tensor& g : list) g.storage()->bump_version();
  }
}

}  // namespace

Tensor clip_grad_norm_on_device_(const std::vector<Tensor>& parameters, double max_norm, double norm_type) {
  const ContextScope scope(kPlain);
  const ByDevice lists = gradients(parameters);
  const Norm norm = total_norm(lists, norm_type, max_norm);
  limit(lists, norm.factor);
  return norm.value;
}

double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type,
                       bool error_if_nonfinite) {
  const ContextScope scope(kPlain);
  const ByDevice lists = gradients(parameters);
  const Norm norm = total_norm(lists, norm_type, max_norm);
  const double value = norm.value.item().toDouble();
  check(!error_if_nonfinite || std::isfinite(value), "The total norm of order ", norm_type,
        " for gradients from `parameters` is ", value,
        ", so it cannot be clipped. To scale the gradients with the non-finite norm anyway, set "
        "error_if_nonfinite=false");
  limit(lists, norm.factor);
  return value;
}

double clip_grad_norm_(const Tensor& parameter, double max_norm, double norm_type, bool error_if_nonfinite) {
  return clip_grad_norm_(std::vector{parameter}, max_norm, norm_type, error_if_nonfinite);
}

void clip_grad_value_(const std::vector<Tensor>& parameters, double clip_value) {
  check<ValueError>(clip_value >= 0, "clip_grad_value_: the limit must not be negative, it is ", clip_value);
  const ContextScope scope(kPlain);
  for (const auto& [device, list] : gradients(parameters)) {
    for (const Tensor& g : list) g.clamp_(-clip_value, clip_value);
  }
}

void clip_grad_value_(const Tensor& parameter, double clip_value) {
  clip_grad_value_(std::vector{parameter}, clip_value);
}

}  // namespace halftone::nn::utils
