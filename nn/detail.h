// What the layers' sources share. Not for users.
#pragma once

#include "autograd/context.h"
#include "nn/module.h"

namespace halftone::nn::detail {

inline const char* text(bool value) { return value ? "true" : "false"; }

/// The ops would complain too, but they do not know the layer's name. Under autocast the dtypes may differ.
inline void check_matches(const Module& layer, const Tensor& x, const Tensor& weight) {
  check(x.device() == weight.device(), layer.label(), ": the input is on ", x.device(), " but the weight is on ",
        weight.device());
  check<TypeError>(x.dtype() == weight.dtype() || context.filter, layer.label(), ": the input is ", x.dtype(),
                   " but the weight is ", weight.dtype(),
                   "; convert one of them, or call the model under amp::autocast");
}

/// Replaces x by f(x) in its memory. The function gets a copy, so that what it saves for backward is not overwritten.
template <class F> Tensor in_place(const Tensor& x, F f) { return x.copy_(f(x.clone())); }

}  // namespace halftone::nn::detail
