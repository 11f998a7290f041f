// A user's autograd::Function in a region: which dtypes its forward gets, and in which region its backward runs.
//
//   static Tensor forward(AutogradContext* ctx, Tensor a, Tensor b) {
//     return amp::custom_fwd(ctx, kCUDA, kFloat32, [&](Tensor x, Tensor y) { return fused(x, y); }, a, b);
//   }
//   static tensor_list backward(AutogradContext* ctx, tensor_list g) {
//     return amp::custom_bwd(ctx, [&] { return tensor_list{...}; });
//   }
#pragma once

#include <tuple>

#include "amp/autocast.h"
#include "autograd/function.h"

namespace halftone::amp {

/// Every castable tensor on that kind of device, at any depth of vectors, arrays, optionals, tuples, pairs and maps, in
/// another dtype; anything else as it is.
template <class T> T cast_all(const T& value, DeviceType type, Dtype dtype) {
  const auto cast = [&](const auto&... items) { return T{cast_all(items, type, dtype)...}; };
  if constexpr (std::is_same_v<T, Tensor>) {
    const bool eligible = value.defined() && value.device().type() == type && castable(value.dtype());
    return eligible ? value.to(dtype) : value;
  } else if constexpr (requires { std::tuple_size<T>::value; }) {
    return std::apply(cast, value);
  } else if constexpr (requires { typename T::mapped_type; }) {
    T result;
    for (const auto& [key, item] : value) result.emplace(key, cast_all(item, type, dtype));
    return result;
  } else if constexpr (!std::is_convertible_v<T, std::string_view> && requires(T v) { v.begin(), v.clear(); }) {
    T result = value;
    for (auto& item : result) item = cast_all(item, type, dtype);
    return result;
  } else if constexpr (requires { value.value_or(Tensor()); }) {
    return value ? T(cast_all(*value, type, dtype)) : value;
  } else {
    return value;
  }
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
