// Limits on gradients, between backward and the optimizer's step. Under a GradScaler call unscale_() first, or the
// scaler's own clip_grad_norm_(): a limit on scaled gradients is not the limit you mean.
#pragma once

#include <vector>

#include "optim/optimizer.h"

namespace halftone::optim {

/// A limit for the norm over all gradients; `type` is the p of the p-norm, infinity included.
struct MaxNorm {
  explicit MaxNorm(double limit, double norm_type = 2) : most(limit), type(norm_type) {}
  double most, type;
};

/// The norm over all gradients, and the double that they are to be divided by so that it is within its limit. Both are
/// of one element, on the device of the first gradient.
struct LimitedNorm {
  Tensor norm, divisor;
};
/// For gradients that are multiplied by `scale`, if it is defined: the norm is that without it, and the divisor takes
/// it away. flags, if there are any, are one float a device, which becomes 1 if a gradient there is not finite.
LimitedNorm limit_norm(const ByDevice& gradients, const MaxNorm& limit, const Tensor& scale = {},
                       const std::vector<Tensor>& flags = {});
/// The same, and divides the gradients; returns the norm before.
Tensor clip_norm(const ByDevice& gradients, const MaxNorm& limit, const Tensor& scale = {},
                 const std::vector<Tensor>& flags = {});
/// Divides all gradients by one double, which is on any device.
void divide(const ByDevice& gradients, const Tensor& divisor);

}  // namespace halftone::optim

namespace halftone::nn::utils {

/// Scales the gradients so that the norm over all of them is at most max_norm; returns the norm before. norm_type is
/// the p of the p-norm, infinity included. Waits for the device.
double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type = 2,
                       bool error_if_nonfinite = false);
double clip_grad_norm_(const Tensor& parameter, double max_norm, double norm_type = 2, bool error_if_nonfinite = false);

/// The same without waiting: the norm comes back as a 0-dim tensor.
Tensor clip_grad_norm_on_device_(const std::vector<Tensor>& parameters, double max_norm, double norm_type = 2);

/// Limits every element of the gradients to [-clip_value, clip_value].
void clip_grad_value_(const std::vector<Tensor>& parameters, double clip_value);
void clip_grad_value_(const Tensor& parameter, double clip_value);

}  // namespace halftone::nn::utils
