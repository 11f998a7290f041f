// DataParallel: a module that divides its batch among devices and runs a replica of another module on each.
//
//   nn::DataParallel parallel(net, {0, 1, 2, 3});
//   Tensor loss = cross_entropy(parallel(images), labels);
//   loss.backward();                                     // gradients are net's own
//
// The functions it is made of stand alone: see functions.h.
#pragma once

#include <atomic>

#include "core/arg.h"
#include "nn/any.h"
#include "nn/parallel/functions.h"
#include "nn/parallel/group.h"

namespace halftone::nn {

struct DataParallelOptions {
  /// Where replicas run; the module must be on the first. Empty: all CUDA devices. If there are none either, the module
  /// itself is called.
  TORCH_ARG(parallel::DeviceIds, device_ids);
  /// Where results are joined: the first of the devices unless given.
  TORCH_ARG(optional<parallel::DeviceId>, output_device);
  /// The axis of the batch.
  TORCH_ARG(std::int64_t, dim) = 0;
  TORCH_ARG(parallel::Split, split) = parallel::Split::Chunks;
  TORCH_ARG(parallel::Buffers, buffers) = parallel::Buffers::First;
  /// Makes replicas of modules that have no clone().
  TORCH_ARG(parallel::Replicas::Factory, replica_factory);
  /// Whether replicas stay from forward to forward, and with them what a forward assigns to plain fields; the module
  /// itself never sees that. In PyTorch every forward makes new replicas, so it is lost. Without this every forward
  /// does so here too, which costs a clone() of the module for each device.
  TORCH_ARG(bool, persistent) = true;
};

namespace parallel {

/// All of DataParallel that does not depend on types.
class Engine {
 public:
  Engine(std::shared_ptr<Module> module, DataParallelOptions options);

  /// Empty: the module is to be called itself.
  const std::vector<Device>& devices() const { return devices_; }
  const DataParallelOptions& options() const { return options_; }
  nested::Distribution distribution() const { return {devices_, options_.dim(), options_.split()}; }
  nested::Joint& joint() { return joint_; }
  void reset();
  void check_module() const { check_placement(*module_, devices_[0]); }
  /// Binds `count` replicas and runs forward(k, replica) for each. One call at a time: a second one throws.
  void run(std::size_t count, const std::function<void(std::size_t, Module&)>& forward);

 private:
  std::shared_ptr<Module> module_;
  DataParallelOptions options_;
  std::vector<Device> devices_;
  nested::Joint joint_{kCPU};
  Replicas replicas_;
  std::atomic<bool> runs_ = false;
};

/// Whether M's forward takes a share of such arguments.
template <class M, class... Args>
concept Callable = requires(M& module, nested::Share<Args>&... shares) {
  module.forward(shares...);
};

/// An Engine and the types: `Call<Net> f(net, options); Tensor y = f(x);`
template <class M> class Call {
 public:
  Call(std::shared_ptr<M> module, DataParallelOptions options)
      : module_(std::move(module)), engine_(module_, std::move(options)) {}

  Engine& engine() { return engine_; }
  const Engine& engine() const { return engine_; }

  template <class... Args> auto operator()(const Args&... args) {
    using Arguments = std::tuple<nested::Share<Args>...>;
    using Result = detail::Returned<M, Arguments>;
    const auto results = run<Result, Arguments>(std::tuple<const Args&...>(args...));
    if constexpr (!std::is_same_v<Result, std::monostate>) return joined<Result>(results);
  }

 private:
  template <class Result, class Arguments, class Given> std::vector<std::optional<Result>> run(const Given& args) {
    if (engine_.devices().empty()) return directly<Result, Arguments>(args);
    engine_.check_module();
    nested::Distribution parts = engine_.distribution();
    std::vector<Arguments> shares = nested::distribute(parts, args);
    if (std::tuple_size_v<Arguments> == 0) shares.resize(1);
    std::vector<std::optional<Result>> results(shares.size());
    if (engine_.devices().size() == 1) {
      results[0].emplace(detail::call_with(*module_, shares[0]));
    } else {
      engine_.run(shares.size(), [&](std::size_t k, Module& replica) {
        results[k].emplace(detail::call_with(dynamic_cast<M&>(replica), shares[k]));
      });
    }
    return results;
  }

  /// The module itself, with the arguments as they came.
  template <class Result, class Arguments, class Given> std::vector<std::optional<Result>> directly(const Given& args) {
    nested::KeepTensor keep;
    const nested::Path nowhere;
    Arguments same =
        std::apply([&](const auto&... arg) { return Arguments{nested::rebuild(arg, nowhere, keep)...}; }, args);
    std::vector<std::optional<Result>> results(1);
    results[0].emplace(detail::call_with(*module_, same));
    return results;
  }

  template <class Result> Result joined(const std::vector<std::optional<Result>>& results) {
    if (engine_.devices().empty()) return *results[0];
    std::vector<const Result*> parts;
    for (const std::optional<Result>& result : results) parts.push_back(&*result);
    return nested::join(parts, nested::Path{nullptr, "the output"}, engine_.joint());
  }

  std::shared_ptr<M> module_;
  Engine engine_;
};

/// How a Sequential calls a DataParallel: as the module.
template <class M> struct Signature {};
template <class M>
requires requires { any_detail::signature(&M::forward); }
struct Signature<M> {
  using ForwardSignature = std::remove_pointer_t<decltype(any_detail::signature(&M::forward))>;
};
template <class M>
requires(
    !requires { any_detail::signature(&M::forward); } &&
    requires { typename M::ForwardSignature; }) struct Signature<M> {
  using ForwardSignature = typename M::ForwardSignature;
};

}  // namespace parallel

/// Calls a module of type M in parallel. Parameters are the module's, named "module.<name>"; training mode, hooks and
/// requires_grad of the module hold for the replicas. Other fields are those of the module when the replicas were made:
/// after changing one, call reset_replicas(). One forward at a time.
template <class M> class DataParallelImpl : public Module, public parallel::Signature<M> {
 public:
  /// With exactly one device, the module is moved there.
  explicit DataParallelImpl(std::shared_ptr<M> wrapped, DataParallelOptions options = {})
      : module(register_module("module", std::move(wrapped))) {
    call_.emplace(module, std::move(options));
    if (devices().size() == 1) module->to(devices()[0]);
    parallel::warn_of_imbalance(devices());
  }

  /// Scatters the arguments, runs a replica on each share and gathers what they return: see scatter and gather. The
  /// caller's autocast region, grad mode and anomaly mode hold in every replica. Throws Error when a parameter or
  /// buffer is not on the first device; an error in a replica is thrown again when all have ended, with "replica k on
  /// <device>" before its message.
  template <class... Args>
  requires parallel::Callable<M, Args...>
  auto forward(const Args&... args) { return (*call_)(args...); }

  /// Another one with the same options and a copy of the module, which must have a clone().
  std::shared_ptr<Module> clone(const optional<Device>& device = nullopt) const override {
    auto copy = std::make_shared<DataParallelImpl>(copy_of(*module, device), options());
    copy->take_over(*this, copy->module);
    return copy;
  }

  void pretty_print(std::ostream& out) const override { out << kPrintPrefix << "DataParallel"; }
  const std::vector<Device>& devices() const { return call_->engine().devices(); }
  const DataParallelOptions& options() const { return call_->engine().options(); }
  /// The next forward makes new replicas.
  void reset_replicas() { call_->engine().reset(); }

  std::shared_ptr<M> module;

 private:
  static std::shared_ptr<M> copy_of(const M& original, const optional<Device>& device) {
    auto copy = std::dynamic_pointer_cast<M>(original.clone(device));
    check<TypeError>(copy != nullptr, "DataParallel: clone() of ", original.label(), " gives another type");
    return copy;
  }
  /// Mode, hooks and names of the other one.
  void take_over(const DataParallelImpl& other, std::shared_ptr<M> own) {
    static_cast<Module&>(*this) = other;
    module = replace_module("module", std::move(own));
  }
  void clone_(Module& other, const optional<Device>& device) override {
    const auto* const from = dynamic_cast<DataParallelImpl*>(&other);
    check<TypeError>(from != nullptr, "clone: the submodule is a ", type_name(typeid(other)), ", in the copy a ",
                     type_name(typeid(*this)));
    take_over(*from, copy_of(*from->module, device));
    call_.emplace(module, from->options());
  }

  std::optional<parallel::Call<M>> call_;
};

/// The holder: `DataParallel parallel(net)`, `DataParallel parallel(net, {0, 1})`, or with DataParallelOptions.
template <class M> class DataParallel : public ModuleHolder<DataParallelImpl<M>> {
 public:
  using Impl = DataParallelImpl<M>;

  DataParallel(std::nullptr_t) : ModuleHolder<Impl>(nullptr) {}                              // NOLINT: empty
  DataParallel(std::shared_ptr<Impl> parallel) : ModuleHolder<Impl>(std::move(parallel)) {}  // NOLINT: shares it
  explicit DataParallel(std::shared_ptr<M> module, DataParallelOptions options = {})
      : ModuleHolder<Impl>(std::make_shared<Impl>(std::move(module), std::move(options))) {}
  DataParallel(std::shared_ptr<M> module, parallel::DeviceIds device_ids,
               optional<parallel::DeviceId> output_device = nullopt, std::int64_t dim = 0)
      : DataParallel(std::move(module),
                     DataParallelOptions().device_ids(device_ids).output_device(output_device).dim(dim)) {}
  explicit DataParallel(const ModuleHolder<M>& module, DataParallelOptions options = {})
      : DataParallel(module.ptr(), std::move(options)) {}
  DataParallel(const ModuleHolder<M>& module, parallel::DeviceIds device_ids,
               optional<parallel::DeviceId> output_device = nullopt, std::int64_t dim = 0)
      : DataParallel(module.ptr(), std::move(device_ids), output_device, dim) {}
};

namespace parallel {

/// One forward of the module over the devices, with replicas made for it alone. `input` is the module's sole argument,
/// or a std::tuple of all of them. Without devices: all CUDA devices, or if there is none just the module.
template <class Holder, class Input>
auto data_parallel(const Holder& module, const Input& input, const optional<std::vector<Device>>& devices = nullopt,
                   const optional<Device>& output_device = nullopt, std::int64_t dim = 0) {
  DataParallelOptions options;
  options.device_ids(devices ? DeviceIds(*devices) : DeviceIds()).dim(dim);
  if (output_device) options.output_device(DeviceId(*output_device));
  Call<detail::Pointee<Holder>> call(detail::pointer(module), options);
  return std::apply([&](const auto&... args) { return call(args...); }, detail::as_arguments(input));
}

}  // namespace parallel
}  // namespace halftone::nn
