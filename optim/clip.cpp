#include "optim/clip.h"

#include <algorithm>
#include <cmath>

#include "autograd/context.h"
#include "autograd/ops.h"
#include "kernels/backend.h"
#include "optim/scaled_optimizer.h"

namespace halftone {
namespace optim {
namespace {

Tensor number_on(Device device, Dtype dtype) { return empty({}, TensorOptions(dtype).device(device)); }

LimitedNorm norm_on_device(const std::vector<Tensor>& tensors, const MaxNorm& limit, const Tensor& scale,
                           const Tensor& flag) {
  const Device device = tensors[0].device();
  const bool wide = std::ranges::any_of(tensors, [](const Tensor& t) { return t.dtype() == kFloat64; });
  LimitedNorm result{number_on(device, wide ? kFloat64 : kFloat32), number_on(device, kFloat64)};
  const Tensor scale_here = scale.defined() ? scale.to(device) : scale;
  backend(device.type()).list_norm(tensors, limit.type, result.norm, {limit.most, result.divisor, scale_here, flag});
  return result;
}

// The norm of norms; numbers of elements, which norms of order 0 are, add up.
MaxNorm over_norms(const MaxNorm& limit) { return MaxNorm(limit.most, limit.type == 0 ? 1 : limit.type); }

}  // namespace

LimitedNorm limit_norm(const ByDevice& gradients, const MaxNorm& limit, const Tensor& scale,
                       const std::vector<Tensor>& flags) {
  if (gradients.empty()) return {zeros({}), ones({}, kFloat64)};
  const Device first = gradients[0].first;
  std::vector<Tensor> norms;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    LimitedNorm part = norm_on_device(gradients[i].second, limit, scale, flags.empty() ? Tensor() : flags[i]);
    if (gradients.size() == 1) return part;
    norms.push_back(part.norm.to(first));
  }
  LimitedNorm total = norm_on_device(norms, over_norms(limit), {}, {});
  if (scale.defined()) total.divisor = total.divisor * scale.to(first);
  return total;
}

Tensor clip_norm(const ByDevice& gradients, const MaxNorm& limit, const Tensor& scale,
                 const std::vector<Tensor>& flags) {
  const LimitedNorm limited = limit_norm(gradients, limit, scale, flags);
  divide(gradients, limited.divisor);
  return limited.norm;
}

void divide(const ByDevice& gradients, const Tensor& divisor) {
  for (const auto& [device, list] : gradients) {
    backend(device.type()).list_divide(list, divisor.to(device));
    bump_versions(list);
  }
}

}  // namespace optim

namespace nn::utils {
namespace {

using optim::ByDevice;
using optim::clip_norm;
using optim::divide;
using optim::limit_norm;
using optim::LimitedNorm;
using optim::MaxNorm;

const auto kPlain = [](Context& c) { c = {.record = false}; };

ByDevice gradients(const std::vector<Tensor>& parameters) {
  ByDevice lists;
  for (const Tensor& p : parameters) {
    if (p.defined() && p.grad().defined()) optim::append(lists, p.grad());
  }
  return lists;
}

}  // namespace

Tensor clip_grad_norm_on_device_(const std::vector<Tensor>& parameters, double max_norm, double norm_type) {
  const ContextScope scope(kPlain);
  return optim::clip_norm(gradients(parameters), MaxNorm(max_norm, norm_type));
}

double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type,
                       bool error_if_nonfinite) {
  const ContextScope scope(kPlain);
  const ByDevice lists = gradients(parameters);
  const optim::LimitedNorm limited = optim::limit_norm(lists, MaxNorm(max_norm, norm_type));
  const double value = limited.norm.item().toDouble();
  check(!error_if_nonfinite || std::isfinite(value), "clip_grad_norm_: The total norm of order ", norm_type,
        " for gradients from `parameters` is ", value,
        ", so it cannot be clipped. To scale the gradients with the non-finite norm anyway, set "
        "error_if_nonfinite=false");
  optim::divide(lists, limited.divisor);
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

}  // namespace nn::utils
}  // namespace halftone
