// Limits on gradients, between backward and the optimizer's step. Under a GradScaler call unscale_() first: a limit on
// scaled gradients is not the limit you mean.
#pragma once

#include <vector>

#include "core/tensor.h"

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
