// Modules made of others that do not say in which order they are called, and Functional, a function as a module.
#pragma once

#include <functional>
#include <initializer_list>
#include <tuple>

#include "nn/any.h"
#include "nn/cloneable.h"

namespace halftone::nn {

// ------------------------------------------------------------------------------------------------ Functional

/// A function of a Tensor, with further arguments bound: `Functional(elu, 0.5)` calls elu(x, 0.5).
class FunctionalImpl : public Cloneable<FunctionalImpl> {
 public:
  using Function = std::function<Tensor(Tensor)>;

  explicit FunctionalImpl(Function function) : function_(std::move(function)) {}
  template <class F, class First, class... Rest>
  FunctionalImpl(F function, First&& first, Rest&&... rest)
      : function_([function = std::move(function),
                   bound = std::make_tuple(std::forward<First>(first), std::forward<Rest>(rest)...)](Tensor x) {
          return std::apply([&](const auto&... more) { return function(std::move(x), more...); }, bound);
        }) {}

  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(Tensor x) { return function_(std::move(x)); }
  Tensor operator()(Tensor x) { return forward(std::move(x)); }
  bool is_serializable() const override { return false; }

 private:
  Function function_;
};
HALFTONE_LAYER(Functional);

// ------------------------------------------------------------------------------------------------ ModuleList

/// Submodules by position, named "0", "1", ...
class ModuleListImpl : public Cloneable<ModuleListImpl> {
 public:
  using Modules = std::vector<std::shared_ptr<Module>>;
  using Iterator = Modules::iterator;
  using ConstIterator = Modules::const_iterator;

  ModuleListImpl() = default;
  template <NoneOf<ModuleListImpl> First, class... Rest> explicit ModuleListImpl(First&& first, Rest&&... rest) {
    push_back(std::forward<First>(first));
    (push_back(std::forward<Rest>(rest)), ...);
  }

  std::shared_ptr<Module> clone(const optional<Device>& device = nullopt) const override;
  void reset() override {}
  void pretty_print(std::ostream& out) const override;

  void push_back(std::shared_ptr<Module> module);
  template <class M> void push_back(const ModuleHolder<M>& holder) { push_back(holder.ptr()); }
  template <ModuleType M> void push_back(M&& module) {
    push_back(std::make_shared<std::decay_t<M>>(std::forward<M>(module)));
  }
  template <class Container> void extend(const Container& container) {
    for (const auto& module : container) push_back(module);
  }
  /// Those from `index` on move up.
  void insert(std::size_t index, std::shared_ptr<Module> module);
  template <class M> void insert(std::size_t index, const ModuleHolder<M>& holder) { insert(index, holder.ptr()); }
  template <ModuleType M> void insert(std::size_t index, M&& module) {
    insert(index, std::make_shared<std::decay_t<M>>(std::forward<M>(module)));
  }

  Iterator begin() { return modules_.begin(); }
  Iterator end() { return modules_.end(); }
  ConstIterator begin() const { return modules_.begin(); }
  ConstIterator end() const { return modules_.end(); }
  std::size_t size() const noexcept { return modules_.size(); }
  bool is_empty() const noexcept { return modules_.empty(); }

  template <class M> M& at(std::size_t index) const { return *ptr<M>(index); }
  std::shared_ptr<Module> ptr(std::size_t index) const {
    check<IndexError>(index < size(), "Index out of range: ", index, " of ", size(), " modules");
    return modules_[index];
  }
  template <class M> std::shared_ptr<M> ptr(std::size_t index) const;
  std::shared_ptr<Module> operator[](std::size_t index) const { return ptr(index); }

 private:
  Modules modules_;
};
HALFTONE_LAYER(ModuleList);

// ------------------------------------------------------------------------------------------------ ModuleDict

/// Submodules by name, in the order of insertion.
class ModuleDictImpl : public Cloneable<ModuleDictImpl> {
 public:
  using Modules = OrderedDict<std::string, std::shared_ptr<Module>>;
  using Iterator = Modules::Iterator;
  using ConstIterator = Modules::ConstIterator;

  ModuleDictImpl() = default;
  explicit ModuleDictImpl(const Modules& modules) { update(modules); }
  explicit ModuleDictImpl(const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& modules) {
    update(modules);
  }

  std::shared_ptr<Module> clone(const optional<Device>& device = nullopt) const override;
  void reset() override {}
  void pretty_print(std::ostream& out) const override;

  /// Replaces a module of that name.
  std::shared_ptr<Module> insert(const std::string& key, std::shared_ptr<Module> module);
  template <class M> std::shared_ptr<Module> insert(const std::string& key, const ModuleHolder<M>& holder) {
    return insert(key, std::shared_ptr<Module>(holder.ptr()));
  }
  /// Takes the module out and returns it.
  std::shared_ptr<Module> pop(const std::string& key);
  void update(const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& modules);
  void update(const Modules& modules);
  void clear() { children_.clear(); }

  std::vector<std::pair<std::string, std::shared_ptr<Module>>> items() const;
  std::vector<std::string> keys() const;
  std::vector<std::shared_ptr<Module>> values() const;
  Iterator begin() { return children_.begin(); }
  Iterator end() { return children_.end(); }
  ConstIterator begin() const { return children_.begin(); }
  ConstIterator end() const { return children_.end(); }
  std::size_t size() const noexcept { return children_.size(); }
  bool empty() const noexcept { return children_.is_empty(); }
  bool contains(const std::string& key) const noexcept { return children_.contains(key); }

  template <class M> M& at(const std::string& key) const { return *ptr<M>(key); }
  std::shared_ptr<Module> ptr(const std::string& key) const;
  template <class M> std::shared_ptr<M> ptr(const std::string& key) const;
  std::shared_ptr<Module> operator[](const std::string& key) const { return ptr(key); }
};
HALFTONE_LAYER(ModuleDict);

// ------------------------------------------------------------------------------------------------ implementation

template <class M> std::shared_ptr<M> cast_module(const std::shared_ptr<Module>& module) {
  static_assert(ModuleType<M>, "a module's class is needed, not its holder");
  auto result = std::dynamic_pointer_cast<M>(module);
  check<TypeError>(result != nullptr, "Attempted to cast module of type ", module->name(), " to type ",
                   type_name(typeid(M)));
  return result;
}

template <class M> std::shared_ptr<M> ModuleListImpl::ptr(std::size_t index) const {
  return cast_module<M>(ptr(index));
}

template <class M> std::shared_ptr<M> ModuleDictImpl::ptr(const std::string& key) const {
  return cast_module<M>(ptr(key));
}

}  // namespace halftone::nn
