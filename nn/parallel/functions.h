// The steps of data parallelism, each a function of its own: scatter, replicate, parallel_apply, gather.
#pragma once

#include <type_traits>
#include <variant>

#include "nn/call.h"
#include "nn/holder.h"
#include "nn/parallel/devices.h"
#include "nn/parallel/nested.h"
#include "nn/parallel/replicas.h"
#include "nn/parallel/workers.h"

namespace halftone::nn::parallel {

/// The value of each device: tensors cut along dim in at most as many pieces as there are devices (see Split), inside
/// tuples, vectors, maps and optionals too; what is marked by broadcast() whole; everything else copied. Pieces are
/// differentiable, and fewer than the devices when there are fewer rows. Throws ValueError, naming the place in the
/// value, when tensors differ in length along dim or have no such dimension.
template <class T>
auto scatter(const T& value, const std::vector<Device>& devices, std::int64_t dim = 0, Split split = Split::Chunks) {
  check<ValueError>(!devices.empty(), "scatter: there are no devices to scatter to");
  nested::Distribution parts(devices, dim, split);
  std::vector<nested::Share<T>> values;
  for (auto& share : nested::distribute<T>(parts, std::tie(value))) values.push_back(std::move(std::get<0>(share)));
  return values;
}

/// What replicas returned, as one value on `device`: tensors joined along dim (those without dimensions make a vector,
/// with a warning), containers rebuilt, everything else as it is if all agree. Differentiable. Throws ValueError,
/// naming the place, when lengths, keys or shapes differ.
template <class T> T gather(const std::vector<T>& values, Device device, std::int64_t dim = 0) {
  check<ValueError>(!values.empty(), "gather: there is nothing to gather");
  std::vector<const T*> parts;
  for (const T& value : values) parts.push_back(&value);
  nested::Joint how{canonical(device), dim};
  return nested::join(parts, nested::Path{nullptr, "the output"}, how);
}

/// A replica of the module on each device, bound to the module's tensors: gradients go there, and the first shares its
/// memory. Their parameters() are the bound copies, so that a forward may use them; zero_grad() on them warns. Throws
/// when a tensor of the module is not on the first device.
template <class M>
std::vector<std::shared_ptr<M>> replicate(const std::shared_ptr<M>& module, const std::vector<Device>& devices) {
  check<ValueError>(module != nullptr, "replicate: the module is a null pointer");
  std::vector<std::shared_ptr<M>> made;
  if (devices.empty()) return made;
  const std::vector<Device> resolved = DeviceIds(devices).resolve(*module);
  check_placement(*module, resolved[0]);
  Replicas replicas(module, resolved);
  replicas.bind(resolved.size(), /*in_region=*/false);
  for (std::size_t k = 0; k < resolved.size(); ++k) made.push_back(std::dynamic_pointer_cast<M>(replicas[k]));
  return made;
}
template <class M>
std::vector<std::shared_ptr<M>> replicate(const ModuleHolder<M>& module, const std::vector<Device>& devices) {
  return replicate(module.ptr(), devices);
}

namespace detail {

template <class T> const std::shared_ptr<T>& pointer(const std::shared_ptr<T>& module) { return module; }
template <class T> const std::shared_ptr<T>& pointer(const ModuleHolder<T>& module) { return module.ptr(); }
template <class M> using Pointee = std::remove_cvref_t<decltype(*pointer(std::declval<const M&>()))>;

template <class T> std::tuple<T> as_arguments(const T& input) { return {input}; }
template <class... Args> const std::tuple<Args...>& as_arguments(const std::tuple<Args...>& input) { return input; }

/// The device of the first tensor among the arguments.
template <class Arguments> Device device_of(const Arguments& arguments) {
  Tensor first;
  auto look = [&](const Tensor& t, const nested::Path&, bool) {
    if (!first.defined() && t.defined()) first = t;
    return t;
  };
  nested::rebuild(arguments, nested::Path{}, look);
  check<ValueError>(first.defined(),
                    "parallel_apply: without devices, each input needs a tensor that says where to run");
  return first.device();
}

/// What a module returns for a tuple of arguments, nothing as std::monostate.
template <class M, class Arguments> auto call_with(M& module, Arguments& arguments) {
  return std::apply(
      [&](auto&... args) {
        if constexpr (std::is_void_v<decltype(call(module, args...))>) {
          call(module, args...);
          return std::monostate();
        } else {
          return call(module, args...);
        }
      },
      arguments);
}
template <class M, class Arguments>
using Returned = decltype(call_with(std::declval<M&>(), std::declval<Arguments&>()));

template <class T> std::vector<T> unwrapped(std::vector<std::optional<T>>&& values) {
  std::vector<T> out;
  for (std::optional<T>& value : values) out.push_back(std::move(*value));
  return out;
}

/// Throws when there are not as many inputs and devices as modules.
void check_counts(std::size_t modules, std::size_t inputs, std::size_t devices);

}  // namespace detail

/// modules[i] called with inputs[i], a tuple of arguments or a sole argument, all at once: see run_replicas for what
/// the threads inherit and how errors come out. Without devices each runs on that of the first tensor in its input.
template <class Modules, class Input>
auto parallel_apply(const Modules& modules, std::vector<Input> inputs,
                    const optional<std::vector<Device>>& on = nullopt) {
  using M = detail::Pointee<typename Modules::value_type>;
  using Arguments = std::decay_t<decltype(detail::as_arguments(inputs[0]))>;
  detail::check_counts(modules.size(), inputs.size(), on ? on->size() : modules.size());
  for (const auto& module : modules)
    check<ValueError>(detail::pointer(module) != nullptr, "parallel_apply: a module is a null pointer");
  std::vector<Device> devices = on.value_or(std::vector<Device>());
  for (std::size_t i = devices.size(); i < inputs.size(); ++i) devices.push_back(detail::device_of(inputs[i]));
  std::vector<std::optional<detail::Returned<M, Arguments>>> outputs(modules.size());
  run_replicas(devices, [&](std::size_t k) {
    Arguments arguments = detail::as_arguments(inputs[k]);
    outputs[k].emplace(detail::call_with(*detail::pointer(modules[k]), arguments));
  });
  return detail::unwrapped(std::move(outputs));
}

}  // namespace halftone::nn::parallel
