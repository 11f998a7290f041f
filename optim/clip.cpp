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

Tensor list_norm(const std::vector<Tensor>& tensors, double p) {
  const bool wide = std::ranges::any_of(tensors, [](const Tensor& t) { return t.dtype() == kFloat64; });
  Tensor norm = empty({}, TensorOptions(wide ? kFloat64 : kFloat32).device(tensors[0].device()));
  backend(norm).list_norm(tensors, p, norm);
  return norm;
}

// The norm of the devices' norms, on the first device.
Tensor total_norm(const ByDevice& lists, double p) {
  if (lists.empty()) return zeros({});
  std::vector<Tensor> norms;
  for (const auto& [device, list] : lists) norms.push_back(list_norm(list, p).to(lists[0].first));
  return norms.size() == 1 ? norms[0] : list_norm(norms, p);
}

void limit(const ByDevice& lists, const Tensor& norm, double max_norm) {
  const Tensor factor = (max_norm / (norm + 1e-6)).clamp_max(1).to(kFloat32);
  for (const auto& [device, list] : lists) {
    backend(list[0]).list_scale(list, factor.to(device));
    for (const Tensor& g : list) g.storage()->bump_version();
  }
}

}  // namespace

Tensor clip_grad_norm_on_device_(const std::vector<Tensor>& parameters, double max_norm, double norm_type) {
  const ContextScope scope(kPlain);
  const ByDevice lists = gradients(parameters);
  Tensor norm = total_norm(lists, norm_type);
  limit(lists, norm, max_norm);
  return norm;
}

double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type,
                       bool error_if_nonfinite) {
  const ContextScope scope(kPlain);
  const ByDevice lists = gradients(parameters);
  const Tensor norm = total_norm(lists, norm_type);
  const double value = norm.item().toDouble();
  check(!error_if_nonfinite || std::isfinite(value), "The total norm of order ", norm_type,
        " for gradients from `parameters` is ", value,
        ", so it cannot be clipped. To scale the gradients with the non-finite norm anyway, set "
        "error_if_nonfinite=false");
  limit(lists, norm, max_norm);
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
