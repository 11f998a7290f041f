// Sequential: modules called one after the other, each with what the one before returned.
#pragma once

#include <initializer_list>

#include "nn/any.h"
#include "nn/cloneable.h"

namespace halftone::nn {

/// Takes holders, shared pointers, module objects and AnyModules in any mix. They are named "0", "1", ... unless names
/// are given.
class SequentialImpl : public Cloneable<SequentialImpl> {
 public:
  using Iterator = std::vector<AnyModule>::iterator;
  using ConstIterator = std::vector<AnyModule>::const_iterator;
  using ForwardSignature = Tensor(Tensor);  // how a Sequential calls a Sequential in it

  SequentialImpl() = default;
  template <NoneOf<SequentialImpl> First, class... Rest> explicit SequentialImpl(First&& first, Rest&&... rest) {
    push_back(std::forward<First>(first));
    (push_back(std::forward<Rest>(rest)), ...);
  }
  explicit SequentialImpl(OrderedDict<std::string, AnyModule>&& modules) {
    for (auto& item : modules) push_back(item.key(), std::move(item.value()));
  }
  explicit SequentialImpl(std::initializer_list<NamedAnyModule> modules) {
    for (const NamedAnyModule& item : modules) push_back(item.name(), item.module());
  }

  std::shared_ptr<Module> clone(const optional<Device>& device = nullopt) const override;
  void reset() override {}
  void pretty_print(std::ostream& out) const override;

  /// The first module may take any number of arguments. Ask for another type than Tensor as `forward<T>(...)`.
  template <class Return = Tensor, class... Args> Return forward(Args&&... args) {
    check(!is_empty(), "Cannot call forward() on an empty Sequential");
    AnyValue value = modules_.front().any_forward(std::forward<Args>(args)...);
    for (std::size_t i = 1; i < size(); ++i) value = modules_[i].any_forward(std::move(value));
    Return* result = value.template try_get<Return>();
    check<TypeError>(result != nullptr, "The type of the return value is ", type_name(value.type_info()),
                     ", but you asked for type ", type_name(typeid(Return)));
    return std::move(*result);
  }

  template <class M> void push_back(M&& module) { push_back(std::to_string(size()), std::forward<M>(module)); }
  template <class M> void push_back(const std::string& name, M&& module) {
    push_back(name, AnyModule(std::forward<M>(module)));
  }
  void push_back(const std::string& name, AnyModule module) {
    register_module(name, module.ptr());
    modules_.push_back(std::move(module));
  }
  /// Appends everything of another container.
  template <class Container> void extend(const Container& container) {
    for (const auto& module : container) push_back(module);
  }

  Iterator begin() { return modules_.begin(); }
  Iterator end() { return modules_.end(); }
  ConstIterator begin() const { return modules_.begin(); }
  ConstIterator end() const { return modules_.end(); }
  std::size_t size() const noexcept { return modules_.size(); }
  bool is_empty() const noexcept { return modules_.empty(); }

  /// The module at a position as an M.
  template <class M> M& at(std::size_t index) const { return any(index).get<M>(); }
  std::shared_ptr<Module> ptr(std::size_t index) const { return any(index).ptr(); }
  template <class M> std::shared_ptr<M> ptr(std::size_t index) const { return any(index).ptr<M>(); }
  std::shared_ptr<Module> operator[](std::size_t index) const { return ptr(index); }

 private:
  const AnyModule& any(std::size_t index) const {
    check<IndexError>(index < size(), "Index out of range: ", index, " of ", size(), " modules");
    return modules_[index];
  }

  std::vector<AnyModule> modules_;
};

extern template class Cloneable<SequentialImpl>;

class Sequential : public ModuleHolder<SequentialImpl> {
 public:
  using ModuleHolder<SequentialImpl>::ModuleHolder;
  using Impl = SequentialImpl;

  Sequential() = default;
  /// Sequential({{"fc", Linear(2, 3)}, {"act", ReLU()}}).
  Sequential(std::initializer_list<NamedAnyModule> modules) : ModuleHolder(std::make_shared<SequentialImpl>(modules)) {}
  template <int = 0> Sequential clone(const optional<Device>& device = nullopt) const {
    return Sequential(std::dynamic_pointer_cast<SequentialImpl>(get()->clone(device)));
  }
};

}  // namespace halftone::nn
