// ModuleHolder: a shared_ptr to a module that is made and used like a value. `TORCH_MODULE(Net)` defines the holder Net
// of the module NetImpl.
#pragma once

#include <memory>
#include <ostream>
#include <utility>

#include "nn/call.h"
#include "nn/module.h"

namespace halftone::nn {

struct ModuleHolderIndicator {};

template <class T>
concept HolderType = std::is_base_of_v<ModuleHolderIndicator, std::decay_t<T>>;
template <class T>
concept ModuleType = std::is_base_of_v<Module, std::decay_t<T>>;

/// Keeps a constructor that takes anything from taking the place of the copy constructor of C.
template <class T, class C>
concept NoneOf = !std::is_base_of_v<C, std::decay_t<T>>;

template <class Contained> class ModuleHolder : ModuleHolderIndicator {
  /// Not a holder of the same class, a pointer to it or nullptr: these the other constructors take.
  template <class T>
  static constexpr bool is_no_handle =
      !std::is_base_of_v<ModuleHolder, std::decay_t<T>> && !std::is_convertible_v<T, std::shared_ptr<Contained>>;

 public:
  using ContainedType = Contained;

  /// Makes a module with its default constructor. A module without one leaves the holder no default constructor either.
  ModuleHolder() requires std::is_default_constructible_v<Contained> : impl_(std::make_shared<Contained>()) {}
  /// Empty: `Linear fc{nullptr};`, to be assigned later.
  ModuleHolder(std::nullptr_t) {}  // NOLINT: nullptr is an empty holder
  /// Makes a module from the arguments: `Linear fc(3, 4)`.
  template <class Head, class... Tail, class = std::enable_if_t<is_no_handle<Head> || sizeof...(Tail) != 0>>
  explicit ModuleHolder(Head&& head, Tail&&... tail)
      : impl_(std::make_shared<Contained>(std::forward<Head>(head), std::forward<Tail>(tail)...)) {}
  /// Shares the module.
  ModuleHolder(std::shared_ptr<Contained> module) : impl_(std::move(module)) {}  // NOLINT

  explicit operator bool() const noexcept { return !is_empty(); }
  bool is_empty() const noexcept { return impl_ == nullptr; }
  Contained* operator->() const { return get(); }
  Contained& operator*() const { return *get(); }
  Contained* get() const {
    check(!is_empty(), "Accessing empty ModuleHolder");
    return impl_.get();
  }
  const std::shared_ptr<Contained>& ptr() const {
    check(!is_empty(), "Accessing empty ModuleHolder");
    return impl_;
  }

  /// Runs the module's hooks and forward.
  template <class... Args> decltype(auto) operator()(Args&&... args) const {
    return call(*get(), std::forward<Args>(args)...);
  }
  template <class Index> decltype(auto) operator[](Index&& index) const { return (*get())[std::forward<Index>(index)]; }

 protected:
  std::shared_ptr<Contained> impl_;
};

template <class Contained> std::ostream& operator<<(std::ostream& out, const ModuleHolder<Contained>& holder) {
  return out << *holder;
}

}  // namespace halftone::nn

/// Defines Name as the holder of ImplType. Its clone() is a deep copy in a holder of the same type; it is a template so
/// that only who calls it pays for its compilation.
#define TORCH_MODULE_IMPL(Name, ImplType)                                                            \
  class Name : public ::halftone::nn::ModuleHolder<ImplType> {                                       \
   public:                                                                                           \
    using ::halftone::nn::ModuleHolder<ImplType>::ModuleHolder;                                      \
    using Impl [[maybe_unused]] = ImplType;                                                          \
    template <int = 0>                                                                               \
    Name clone(const ::halftone::optional<::halftone::Device>& device = ::halftone::nullopt) const { \
      return Name(std::dynamic_pointer_cast<ImplType>(this->get()->clone(device)));                  \
    }                                                                                                \
  }
#define TORCH_MODULE(Name) TORCH_MODULE_IMPL(Name, Name##Impl)
