// Calling a module: its hooks run around forward.
#pragma once

#include "nn/module.h"

namespace halftone::nn {

/// The tensors among the arguments, in their order.
template <class... Args> std::vector<Tensor> tensors_of(const Args&... args) {
  std::vector<Tensor> tensors;
  [[maybe_unused]] const auto add = [&]<class Arg>(const Arg& arg) {
    if constexpr (std::is_same_v<Arg, Tensor>) tensors.push_back(arg);
  };
  (add(args), ...);
  return tensors;
}

/// `module.forward(args...)` with what the pre-hooks made of the tensors, and then the other hooks.
template <class M, class... Args> auto call_with_hooks(M& module, Args... args) {
  std::vector<Tensor> inputs = tensors_of(args...);
  module.run_pre_hooks(inputs);
  auto input = inputs.begin();
  [[maybe_unused]] const auto replace = [&]<class Arg>(Arg& arg) {
    if constexpr (std::is_same_v<Arg, Tensor>) arg = *input++;
  };
  (replace(args), ...);
  Tensor none;
  if constexpr (std::is_void_v<decltype(module.forward(args...))>) {
    module.forward(args...);
    module.run_hooks(inputs, none);
  } else {
    auto output = module.forward(args...);
    if constexpr (std::is_same_v<decltype(output), Tensor>) {
      module.run_hooks(inputs, output);
    } else {
      module.run_hooks(inputs, none);
    }
    return output;
  }
}

template <class M, class... Args> auto call(M& module, Args&&... args) {
  if constexpr (std::is_base_of_v<Module, M> && requires { module.forward(std::declval<std::decay_t<Args>&>()...); }) {
    if (module.has_hooks()) [[unlikely]]
      return call_with_hooks<M, std::decay_t<Args>...>(module, std::forward<Args>(args)...);
  }
  return module.forward(std::forward<Args>(args)...);
}

}  // namespace halftone::nn
