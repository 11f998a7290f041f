// A user's autograd::Function in a region: which dtypes its forward gets, and in which region its backward runs.
//
//   static Tensor forward(AutogradContext* ctx, Tensor a, Tensor b) {
//     return amp::custom_fwd(ctx, kCUDA, kFloat32, [&](Tensor x, Tensor y) { return fused(x, y); }, a, b);
//   }
//   static tensor_list backward(AutogradContext* ctx, tensor_list g) {
//     return amp::custom_bwd(ctx, [&] { return tensor_list{...}; });
//   }
#pragma once

#include "amp/autocast.h"
#include "autograd/function.h"
#include "core/map_tensors.h"

namespace halftone::amp {

/// Every castable tensor on that kind of device, at any depth of vectors, arrays, optionals, tuples, pairs and maps, in
/// another dtype; anything else as it is.
template <class T> auto cast_all(const T& value, DeviceType type, Dtype dtype) {
  return map_tensors(value, [type, dtype](const Tensor& t) {
    const bool eligible = t.defined() && t.device().type() == type && castable(t.dtype());
    return eligible ? t.to(dtype) : t;
  });
}

namespace detail {

/// Notes the region in which backward is to run.
inline void remember(autograd::AutogradContext* ctx, DeviceType type, bool enabled) {
  ctx->saved_data["autocast.device"] = static_cast<int>(type);
  ctx->saved_data["autocast.dtype"] = static_cast<int>(get_autocast_dtype(type));
  ctx->saved_data["autocast.enabled"] = enabled;
}

}  // namespace detail

/// Runs `body(args...)` in the region as it is, and notes it for backward. Nothing is cast but by the ops in the body.
template <class Body, class... Args>
auto custom_fwd(autograd::AutogradContext* ctx, DeviceType type, Body body, const Args&... args) {
  detail::remember(ctx, type, is_autocast_enabled(type));
  return body(args...);
}

/// In a region: casts the tensors among the arguments to `cast_inputs`, and runs the body, and later backward, with
/// autocast off. Outside of one nothing changes.
template <class Body, class... Args>
auto custom_fwd(autograd::AutogradContext* ctx, DeviceType type, Dtype cast_inputs, Body body, const Args&... args) {
  detail::remember(ctx, type, false);
  if (!is_autocast_enabled(type)) return body(args...);
  const autocast off(type, nullopt, /*enabled=*/false);
  return body(cast_all(args, type, cast_inputs)...);
}

/// Runs `body()` in the region that custom_fwd noted, wherever backward was called.
template <class Body> auto custom_bwd(autograd::AutogradContext* ctx, Body body) {
  check(ctx->saved_data.contains("autocast.device"), "custom_bwd: forward did not go through custom_fwd");
  const autocast region(static_cast<DeviceType>(ctx->saved_data["autocast.device"].toInt()),
                        static_cast<Dtype>(ctx->saved_data["autocast.dtype"].toInt()),
                        ctx->saved_data["autocast.enabled"].toBool());
  return body();
}

}  // namespace halftone::amp
