// Module: a node of a model. It registers its parameters, buffers and submodules by name, and everything that walks a
// model goes by these registries: optimizers, to(), train(), saving, printing. The protocol is libtorch's.
//
// Registries keep handles. to() and load() change what is under a handle, so an optimizer built before goes on working.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "core/ordered_dict.h"
#include "core/tensor.h"

namespace halftone {

namespace serialize {
class OutputArchive;
class InputArchive;
}  // namespace serialize

namespace nn {

namespace parallel {
class Replicas;
}  // namespace parallel

/// What library modules print before their names. It is libtorch's, so that programs which compare such texts go on
/// working.
inline constexpr const char* kPrintPrefix = "torch::nn::";

/// What load_state_dict(..., strict = false) left alone.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     // of the module, not in the dict
  std::vector<std::string> unexpected_keys;  // of the dict, not in the module
};

class Module : public std::enable_shared_from_this<Module> {
 public:
  /// Sees the tensors that forward is called with; a list it returns replaces them.
  using ForwardPreHook = std::function<std::vector<Tensor>(Module&, const std::vector<Tensor>& inputs)>;
  /// Sees the result too; a defined tensor it returns replaces that.
  using ForwardHook = std::function<Tensor(Module&, const std::vector<Tensor>& inputs, const Tensor& output)>;

  Module();
  /// Without a name, name() gives the class's.
  explicit Module(std::string name);
  Module(const Module&);
  Module(Module&&) noexcept;
  Module& operator=(const Module&);
  Module& operator=(Module&&) noexcept;
  virtual ~Module();

  const std::string& name() const noexcept;
  /// The names under which this module and those above it were registered: "encoder.0.linear1". Empty at the top.
  const std::string& path() const noexcept { return path_; }
  /// For messages: "Linear 'encoder.0.linear1'", without the path at the top.
  std::string display_name() const;
  /// The same as a part of a check, which puts it together only if it fails.
  struct Label {
    const Module& module;
    friend std::ostream& operator<<(std::ostream& out, const Label& label) {
      return out << label.module.display_name();
    }
  };
  Label label() const { return {*this}; }

  // --- traversal: own entries first, then the children's with dotted names, all in the order of registration ---
  /// A parameter that is registered more than once comes once, under its first name. Undefined ones do not come.
  std::vector<Tensor> parameters(bool recurse = true) const;
  OrderedDict<std::string, Tensor> named_parameters(bool recurse = true) const;
  std::vector<Tensor> buffers(bool recurse = true) const;
  OrderedDict<std::string, Tensor> named_buffers(bool recurse = true) const;
  /// Modules that include this one must be owned by a shared_ptr.
  std::vector<std::shared_ptr<Module>> modules(bool include_self = true) const;
  OrderedDict<std::string, std::shared_ptr<Module>> named_modules(const std::string& prefix = {},
                                                                  bool include_self = true) const;
  std::vector<std::shared_ptr<Module>> children() const;
  OrderedDict<std::string, std::shared_ptr<Module>> named_children() const;
  /// Calls f for this module and all below it. f takes (Module&), (const std::string& name, Module&),
  /// (std::shared_ptr<Module>) or (const std::string& name, std::shared_ptr<Module>).
  template <class F> void apply(const F& f, const std::string& name_prefix = {});
  template <class F> void apply(const F& f, const std::string& name_prefix = {}) const;

  // --- mode ---
  virtual void train(bool on = true);
  void eval() { train(false); }
  virtual bool is_training() const noexcept { return is_training_; }
  virtual void zero_grad(bool set_to_none = true);
  void requires_grad_(bool on = true);

  // --- dtype and device ---
  /// Parameters, their gradients and buffers are converted under their live handles. A dtype changes floating tensors
  /// only: integer buffers stay what they are.
  virtual void to(Device device, Dtype dtype, bool non_blocking = false);
  virtual void to(Dtype dtype, bool non_blocking = false);
  virtual void to(Device device, bool non_blocking = false);
  /// Lays what has four or five dimensions out in this order of memory, as `module.to(memory_format=...)` of PyTorch
  /// does. Convolutions of channels-last images want channels-last weights; others are copied in each pass.
  virtual void to(MemoryFormat format);
  /// keep_norm_fp32: the parameters and statistics of normalisation layers stay in float32, where the running variance
  /// cannot overflow. These layers take 16-bit inputs then.
  void half(bool keep_norm_fp32 = false) { to_low_precision(kFloat16, keep_norm_fp32); }
  void bfloat16(bool keep_norm_fp32 = false) { to_low_precision(kBFloat16, keep_norm_fp32); }
  /// True for layers whose tensors half(keep_norm_fp32 = true) leaves in float32.
  virtual bool is_normalization() const { return false; }
  /// Whether products are what reads this layer's own parameters: in an autocast region they read them in 16 bits, and
  /// nn::DataParallel brings no more to other devices. A layer that writes to its parameters says no.
  virtual bool products_read_parameters() const { return !is_normalization(); }

  // --- copies ---
  /// A deep copy, with its tensors on `device` if one is given. Classes that derive from Cloneable have it.
  virtual std::shared_ptr<Module> clone(const optional<Device>& device = nullopt) const;
  /// This module as an M, or null when it is none. M is a module or its holder.
  template <class M> auto* as() noexcept { return as_pointer<M>(this); }
  template <class M> const auto* as() const noexcept { return as_pointer<M>(const_cast<Module*>(this)); }

  // --- persistence ---
  virtual void save(serialize::OutputArchive& archive) const;
  virtual void load(serialize::InputArchive& archive);
  virtual bool is_serializable() const { return true; }
  /// All parameters and buffers by their dotted names. The tensors share memory with the module and have no history.
  OrderedDict<std::string, Tensor> state_dict() const;
  /// Copies values in, converting them to the dtypes here. Throws one Error that lists every missing name, every
  /// unexpected one and every wrong shape, and then nothing has changed. Without `strict` only shapes must fit.
  IncompatibleKeys load_state_dict(const OrderedDict<std::string, Tensor>& state, bool strict = true);

  // --- hooks ---
  // They run when a module is called, as `layer(x)` or by a Sequential; `layer->forward(x)` is the bare computation.
  /// hook(Module&, const std::vector<Tensor>& inputs), returning nothing or std::vector<Tensor>. The result is for
  /// remove_hook.
  template <class Hook> std::size_t register_forward_pre_hook(Hook hook);
  /// hook(Module&, const std::vector<Tensor>& inputs, const Tensor& output), returning nothing or a Tensor.
  template <class Hook> std::size_t register_forward_hook(Hook hook);
  void remove_hook(std::size_t handle);
  bool has_hooks() const noexcept { return !pre_hooks_.empty() || !hooks_.empty(); }
  void run_pre_hooks(std::vector<Tensor>& inputs);
  void run_hooks(const std::vector<Tensor>& inputs, Tensor& output);

  /// Writes this module without its children; layers override it.
  virtual void pretty_print(std::ostream& out) const { out << name(); }

  // --- registration ---
  /// Names must not be empty, contain a dot or be taken. An undefined tensor may be registered: walks pass over it.
  Tensor& register_parameter(std::string name, Tensor tensor, bool requires_grad = true);
  Tensor& register_buffer(std::string name, Tensor tensor);
  template <class M> std::shared_ptr<M> register_module(const std::string& name, std::shared_ptr<M> module) {
    add_child(name, module);
    return module;
  }
  /// The same for a holder (see nn/holder.h): `fc = register_module("fc", Linear(2, 3))`.
  template <class Holder, class M = typename Holder::ContainedType>
  std::shared_ptr<M> register_module(const std::string& name, const Holder& holder) {
    return register_module(name, holder.ptr());
  }
  template <class M> std::shared_ptr<M> replace_module(const std::string& name, std::shared_ptr<M> module) {
    put_child(name, module);
    return module;
  }
  template <class Holder, class M = typename Holder::ContainedType>
  std::shared_ptr<M> replace_module(const std::string& name, const Holder& holder) {
    return replace_module(name, holder.ptr());
  }
  void unregister_module(const std::string& name);

 protected:
  OrderedDict<std::string, Tensor> parameters_{"Parameter"};
  OrderedDict<std::string, Tensor> buffers_{"Buffer"};
  OrderedDict<std::string, std::shared_ptr<Module>> children_{"Submodule"};

 private:
  template <class Derived> friend class Cloneable;
  friend class parallel::Replicas;
  friend std::ostream& operator<<(std::ostream& out, const Module& module);

  template <class HookType> struct Registered {
    std::size_t handle;
    HookType run;
  };

  template <class M> static auto* as_pointer(Module* module) noexcept {
    if constexpr (requires { typename M::ContainedType; }) {
      return dynamic_cast<typename M::ContainedType*>(module);
    } else {
      return dynamic_cast<M*>(module);
    }
  }
  template <class F, class M> static void visit_one(const F& f, const std::string& name, M& module);
  /// Own tensors, then those of the children.
  void collect_tensors(OrderedDict<std::string, Tensor> Module::*registry, const std::string& prefix, bool recurse,
                       OrderedDict<std::string, Tensor>& out) const;
  void collect_state(const std::string& prefix, OrderedDict<std::string, Tensor>& out) const;
  void collect_modules(const std::string& prefix, OrderedDict<std::string, std::shared_ptr<Module>>& out) const;
  std::shared_ptr<Module> shared_self() const;

  void check_name(const char* kind, const std::string& name) const;
  void add_child(std::string name, std::shared_ptr<Module> module);
  void put_child(const std::string& name, std::shared_ptr<Module> module);
  void set_path(std::string path);

  void to_low_precision(Dtype dtype, bool keep_norm_fp32);
  void check_target(Dtype dtype) const;
  void convert_own(const TensorOptions& options, bool non_blocking);
  /// Calls f for every parameter and buffer of its own.
  void visit_own(const std::function<void(const Tensor&)>& f) const;

  virtual void clone_(Module& other, const optional<Device>& device);
  void print_tree(std::ostream& out, const std::string& indentation) const;

  mutable std::string name_;  // filled when first asked for
  std::string path_;
  bool is_training_ = true;
  bool is_replica_ = false;  // its parameters are copies, whose gradients go to the originals
  std::vector<Registered<ForwardPreHook>> pre_hooks_;
  std::vector<Registered<ForwardHook>> hooks_;
  std::size_t hooks_made_ = 0;
};

/// Prints the tree of modules.
std::ostream& operator<<(std::ostream& out, const Module& module);

/// A type as it is written in C++.
std::string type_name(const std::type_info& type);
/// "a.b" from "a" and "b"; "b" when the prefix is empty.
std::string join_names(const std::string& prefix, const std::string& name);

template <class F, class M> void Module::visit_one(const F& f, const std::string& name, M& module) {
  if constexpr (std::is_invocable_v<F, M&>) {
    f(module);
  } else if constexpr (std::is_invocable_v<F, const std::string&, M&>) {
    f(name, module);
  } else if constexpr (std::is_invocable_v<F, const std::shared_ptr<Module>&>) {
    f(module.shared_self());
  } else {
    f(name, module.shared_self());
  }
}

template <class F> void Module::apply(const F& f, const std::string& name_prefix) {
  visit_one(f, name_prefix, *this);
  for (const auto& item : named_modules(name_prefix, false)) visit_one(f, item.key(), *item.value());
}

template <class F> void Module::apply(const F& f, const std::string& name_prefix) const {
  visit_one(f, name_prefix, *this);
  for (const auto& item : named_modules(name_prefix, false)) {
    visit_one(f, item.key(), static_cast<const Module&>(*item.value()));
  }
}

template <class Hook> std::size_t Module::register_forward_pre_hook(Hook hook) {
  using Result = std::invoke_result_t<Hook&, Module&, const std::vector<Tensor>&>;
  const std::size_t handle = hooks_made_++;
  if constexpr (std::is_void_v<Result>) {
    pre_hooks_.push_back({handle, [hook = std::move(hook)](Module& module, const std::vector<Tensor>& inputs) mutable {
                            hook(module, inputs);
                            return inputs;
                          }});
  } else {
    pre_hooks_.push_back({handle, std::move(hook)});
  }
  return handle;
}

template <class Hook> std::size_t Module::register_forward_hook(Hook hook) {
  using Result = std::invoke_result_t<Hook&, Module&, const std::vector<Tensor>&, const Tensor&>;
  const std::size_t handle = hooks_made_++;
  if constexpr (std::is_void_v<Result>) {
    hooks_.push_back({handle, [hook = std::move(hook)](Module& module, const std::vector<Tensor>& inputs,
                                                       const Tensor& output) mutable {
                        hook(module, inputs, output);
                        return Tensor();
                      }});
  } else {
    hooks_.push_back({handle, std::move(hook)});
  }
  return handle;
}

}  // namespace nn
}  // namespace halftone
