#include "nn/module.h"

#include <cxxabi.h>

#include <cstdlib>
#include <mutex>
#include <ostream>
#include <typeinfo>
#include <unordered_set>

namespace halftone::nn {

namespace {

/// "halftone::nn::LinearImpl" is shown as "Linear".
std::string short_name(std::string name) {
  if (const auto colons = name.rfind("::", name.find('<')); colons != std::string::npos) name.erase(0, colons + 2);
  if (name.size() > 4 && name.ends_with("Impl")) name.resize(name.size() - 4);
  return name;
}

}  // namespace

std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 ? text.get() : type.name();
}

Module::Module() = default;
Module::Module(std::string name) : name_(std::move(name)) {}
Module::Module(const Module&) = default;
Module::Module(Module&&) noexcept = default;
Module& Module::operator=(const Module&) = default;
Module& Module::operator=(Module&&) noexcept = default;
Module::~Module() = default;

std::string join_names(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + '.' + name;
}

const std::string& Module::name() const noexcept {
  static std::mutex filling;  // threads may share a module
  const std::lock_guard lock(filling);
  if (name_.empty()) name_ = type_name(typeid(*this));
  return name_;
}

std::string Module::display_name() const {
  return path_.empty() ? short_name(name()) : short_name(name()) + " '" + path_ + "'";
}

// ------------------------------------------------------------------------------------------------ traversal

void Module::collect_tensors(OrderedDict<std::string, Tensor> Module::*registry, const std::string& prefix,
                             bool recurse, OrderedDict<std::string, Tensor>& out) const {
  for (const auto& item : this->*registry) {
    if (item.value().defined()) out.insert(join_names(prefix, item.key()), item.value());
  }
  if (!recurse) return;
  for (const auto& child : children_)
    child.value()->collect_tensors(registry, join_names(prefix, child.key()), true, out);
}

namespace {

OrderedDict<std::string, Tensor> without_repetitions(const OrderedDict<std::string, Tensor>& all) {
  OrderedDict<std::string, Tensor> result(all.key_description());
  result.reserve(all.size());
  std::unordered_set<const TensorImpl*> seen;
  for (const auto& item : all) {
    if (seen.insert(item.value().unsafeGetTensorImpl()).second) result.insert(item.key(), item.value());
  }
  return result;
}

}  // namespace

OrderedDict<std::string, Tensor> Module::named_parameters(bool recurse) const {
  OrderedDict<std::string, Tensor> all("Parameter");
  collect_tensors(&Module::parameters_, "", recurse, all);
  return without_repetitions(all);
}

OrderedDict<std::string, Tensor> Module::named_buffers(bool recurse) const {
  OrderedDict<std::string, Tensor> all("Buffer");
  collect_tensors(&Module::buffers_, "", recurse, all);
  return without_repetitions(all);
}

std::vector<Tensor> Module::parameters(bool recurse) const { return named_parameters(recurse).values(); }
std::vector<Tensor> Module::buffers(bool recurse) const { return named_buffers(recurse).values(); }

std::vector<std::shared_ptr<Module>> Module::children() const { return children_.values(); }
OrderedDict<std::string, std::shared_ptr<Module>> Module::named_children() const { return children_; }

std::vector<std::shared_ptr<Module>> Module::modules(bool include_self) const {
  return named_modules("", include_self).values();
}

OrderedDict<std::string, std::shared_ptr<Module>> Module::named_modules(const std::string& prefix,
                                                                        bool include_self) const {
  OrderedDict<std::string, std::shared_ptr<Module>> all("Module");
  if (include_self) all.insert(prefix, shared_self());
  collect_modules(prefix, all);
  return all;
}

void Module::collect_modules(const std::string& prefix, OrderedDict<std::string, std::shared_ptr<Module>>& out) const {
  for (const auto& child : children_) {
    const std::string name = join_names(prefix, child.key());
    out.insert(name, child.value());
    child.value()->collect_modules(name, out);
  }
}

std::shared_ptr<Module> Module::shared_self() const {
  auto self = std::const_pointer_cast<Module>(weak_from_this().lock());
  check(self != nullptr, "It looks like you attempted to retrieve your top-level module as a shared_ptr, but ", name(),
        " is not stored in a shared_ptr. Use std::make_shared<", name(),
        "> instead of creating it on the stack, or do not ask for the top-level module: pass include_self = false to "
        "modules() or named_modules()");
  return self;
}

// ------------------------------------------------------------------------------------------------ mode

void Module::train(bool on) {
  for (const auto& child : children_) child.value()->train(on);
  is_training_ = on;
}

void Module::zero_grad(bool set_to_none) {
  if (is_replica_) {
    warn("zero_grad: " + display_name() +
         " is a replica made by nn::DataParallel, whose parameters have no gradients of their own: zero_grad() has no "
         "effect on it");
  }
  for (const Tensor& parameter : parameters()) {
    if (!parameter.grad().defined()) continue;
    Tensor& grad = parameter.mutable_grad();
    if (set_to_none) {
      grad.reset();
    } else {
      grad.detach_();
      grad.zero_();
    }
  }
}

void Module::requires_grad_(bool on) {
  for (const Tensor& parameter : parameters()) parameter.requires_grad_(on);
}

// ------------------------------------------------------------------------------------------------ copies

std::shared_ptr<Module> Module::clone(const optional<Device>&) const {
  fail<NotImplementedError>("clone() has not been implemented for ", name(), ". Subclass torch::nn::Cloneable<", name(),
                            "> instead of torch::nn::Module to inherit the ability to clone.");
}

void Module::clone_(Module& other, const optional<Device>&) {
  check<NotImplementedError>(other.parameters().empty() && other.buffers().empty(), "clone: ", other.label(),
                             " has parameters or buffers and no way to be copied; derive its class from Cloneable "
                             "instead of Module");
}

// ------------------------------------------------------------------------------------------------ hooks

void Module::remove_hook(std::size_t handle) {
  const auto is_it = [&](const auto& hook) { return hook.handle == handle; };
  const std::size_t removed = std::erase_if(pre_hooks_, is_it) + std::erase_if(hooks_, is_it);
  check<ValueError>(removed > 0, "remove_hook: ", label(), " has no hook ", handle);
}

void Module::run_pre_hooks(std::vector<Tensor>& inputs) {
  const auto hooks = pre_hooks_;  // a hook may remove itself
  for (const auto& hook : hooks) {
    std::vector<Tensor> result = hook.run(*this, inputs);
    check(result.size() == inputs.size(), "a forward pre-hook of ", label(), " returned ", result.size(),
          " tensors for ", inputs.size());
    inputs = std::move(result);
  }
}

void Module::run_hooks(const std::vector<Tensor>& inputs, Tensor& output) {
  const auto hooks = hooks_;
  check<NotImplementedError>(hooks.empty() || output.defined(), "forward hooks see one Tensor as output, but ", label(),
                             " returns something else");
  for (const auto& hook : hooks) {
    Tensor result = hook.run(*this, inputs, output);
    if (result.defined()) output = std::move(result);
  }
}

// ------------------------------------------------------------------------------------------------ registration

void Module::check_name(const char* kind, const std::string& name) const {
  check<ValueError>(!name.empty(), kind, " name must not be empty");
  check<ValueError>(name.find('.') == std::string::npos, kind, " name must not contain a dot (got '", name, "')");
  check<ValueError>(!parameters_.contains(name) && !buffers_.contains(name) && !children_.contains(name), kind, " '",
                    name, "' already defined");
}

Tensor& Module::register_parameter(std::string name, Tensor tensor, bool requires_grad) {
  check_name("Parameter", name);
  if (!tensor.defined()) {
    if (requires_grad) {
      warn("An undefined tensor cannot require grad. Ignoring the `requires_grad=true` function parameter of '" + name +
           "'.");
    }
  } else {
    check<TypeError>(!requires_grad || tensor.is_floating_point(),
                     "Only Tensors of floating point dtype can require gradients, but the parameter '", name, "' is ",
                     tensor.dtype(), "; register it with requires_grad = false, or as a buffer");
    tensor.requires_grad_(requires_grad);
    tensor.impl()->is_parameter = true;
  }
  return parameters_.insert(std::move(name), std::move(tensor));
}

Tensor& Module::register_buffer(std::string name, Tensor tensor) {
  check_name("Buffer", name);
  return buffers_.insert(std::move(name), std::move(tensor));
}

void Module::add_child(std::string name, std::shared_ptr<Module> module) {
  check_name("Submodule", name);
  check<ValueError>(module != nullptr, "Submodule '", name, "' is a null pointer");
  module->set_path(join_names(path_, name));
  children_.insert(std::move(name), std::move(module));
}

void Module::put_child(const std::string& name, std::shared_ptr<Module> module) {
  check<ValueError>(module != nullptr, "Submodule '", name, "' is a null pointer");
  std::shared_ptr<Module>& place = children_[name];
  module->set_path(join_names(path_, name));
  place = std::move(module);
}

void Module::unregister_module(const std::string& name) {
  check<ValueError>(children_.contains(name), "No Module with name `", name, "` is registered");
  children_[name]->set_path("");
  children_.erase(name);
}

void Module::set_path(std::string path) {
  path_ = std::move(path);
  for (const auto& child : children_) child.value()->set_path(join_names(path_, child.key()));
}

// ------------------------------------------------------------------------------------------------ printing

void Module::print_tree(std::ostream& out, const std::string& indentation) const {
  pretty_print(out);
  if (children_.is_empty()) return;
  out << "(\n";
  for (const auto& child : children_) {
    out << indentation << "  (" << child.key() << "): ";
    child.value()->print_tree(out, indentation + "  ");
    out << '\n';
  }
  out << indentation << ')';
}

std::ostream& operator<<(std::ostream& out, const Module& module) {
  module.print_tree(out, "");
  return out;
}

}  // namespace halftone::nn
