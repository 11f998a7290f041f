// Cloneable: gives a module a deep copy.
#pragma once

#include "autograd/context.h"
#include "nn/holder.h"

namespace halftone::nn {

/// `struct NetImpl : Cloneable<NetImpl> { void reset() override { ... } }`. reset() registers everything and gives the
/// parameters their first values. clone() copies the fields, calls reset() on the copy, and then copies the values.
template <class Derived> class Cloneable : public Module {
 public:
  using Module::Module;

  virtual void reset() = 0;

  std::shared_ptr<Module> clone(const optional<Device>& device = nullopt) const override {
    const NoGradGuard no_grad;
    auto copy = std::make_shared<Derived>(static_cast<const Derived&>(*this));
    copy->parameters_.clear();
    copy->buffers_.clear();
    copy->children_.clear();
    copy->reset();
    copy_tensors(parameters_, copy->parameters_, "parameters", "register_parameter()", device);
    copy_tensors(buffers_, copy->buffers_, "buffers", "register_buffer()", device);
    check_count(children_.size(), copy->children_.size(), "child modules", "register_module()");
    for (const auto& child : children_) copy->children_[child.key()]->clone_(*child.value(), device);
    copy->set_path(path());
    return copy;
  }

 private:
  using Tensors = OrderedDict<std::string, Tensor>;

  static void check_count(std::size_t own, std::size_t copied, const char* what, const char* function) {
    check(own == copied, "The cloned module does not have the same number of ", what,
          " as the original module after calling reset(). Are you sure you called ", function,
          " inside reset() and not the constructor?");
  }

  static void copy_tensors(const Tensors& from, Tensors& to, const char* what, const char* function,
                           const optional<Device>& device) {
    check_count(from.size(), to.size(), what, function);
    for (const auto& item : from) {
      const Tensor& source = item.value();
      Tensor& target = to[item.key()];
      if (!source.defined()) continue;
      const bool moves = device && canonical(*device) != source.device();
      const Tensor copy = moves ? source.detach().to(TensorOptions(*device)) : source.detach().clone();
      if (target.defined()) {
        target.set_data(copy);
        target.requires_grad_(source.requires_grad());
      } else {
        target = copy;
      }
    }
  }

  /// Makes this child, which reset() built, a copy of `other`.
  void clone_(Module& other, const optional<Device>& device) final {
    auto clone = std::dynamic_pointer_cast<Derived>(other.clone(device));
    check(clone != nullptr,
          "Attempted to clone submodule, but it is of a different type than the submodule it was to be "
          "cloned into");
    static_cast<Derived&>(*this) = *clone;
  }
};

}  // namespace halftone::nn

/// TORCH_MODULE for the library's own layers: Cloneable's members are compiled once, in the layer's source file.
#define HALFTONE_LAYER(Name) \
  TORCH_MODULE(Name);        \
  extern template class Cloneable<Name##Impl>
