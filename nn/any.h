// AnyModule: a module whose class is forgotten, with a forward that takes and gives anything. Sequential is made of
// them. Arguments must have exactly the types that the module's forward declares; defaults of forward may be left out.
#pragma once

#include <any>
#include <string>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

#include "nn/call.h"
#include "nn/holder.h"

namespace halftone::nn {

class AnyValue {
 public:
  template <NoneOf<AnyValue> T> explicit AnyValue(T&& value) : content_(std::forward<T>(value)) {}

  /// Null when the value is of another type.
  template <class T> T* try_get() noexcept { return std::any_cast<T>(&content_); }
  template <class T> T get() {
    T* value = try_get<T>();
    check<TypeError>(value != nullptr, "Attempted to cast AnyValue to ", type_name(typeid(T)),
                     ", but its actual type is ", type_name(type_info()));
    return std::move(*value);
  }
  const std::type_info& type_info() const noexcept { return content_.type(); }

 private:
  std::any content_;
};

class AnyModule {
 public:
  AnyModule() = default;
  template <ModuleType M> explicit AnyModule(std::shared_ptr<M> module);
  template <class M> explicit AnyModule(const ModuleHolder<M>& holder) : AnyModule(holder.ptr()) {}
  /// Copies or moves a module object.
  template <ModuleType M>
  explicit AnyModule(M&& module) : AnyModule(std::make_shared<std::decay_t<M>>(std::forward<M>(module))) {}
  template <class M> AnyModule& operator=(std::shared_ptr<M> module) { return *this = AnyModule(std::move(module)); }

  bool is_empty() const noexcept { return content_ == nullptr; }
  /// A deep copy.
  AnyModule clone(optional<Device> device = nullopt) const;

  template <class Return = Tensor, class... Args> Return forward(Args&&... args) const {
    return any_forward(std::forward<Args>(args)...).template get<Return>();
  }
  /// Arguments may be AnyValues themselves.
  template <class... Args> AnyValue any_forward(Args&&... args) const {
    std::vector<AnyValue> values;
    values.reserve(sizeof...(Args));
    (values.emplace_back(std::forward<Args>(args)), ...);
    return content("forward").forward(std::move(values));
  }

  /// The module as an M&, or as a holder. Throws when it is of another class.
  template <ModuleType M> M& get() const {
    auto* module = dynamic_cast<M*>(content("get").pointer.get());
    check_cast(module != nullptr, typeid(M));
    return *module;
  }
  template <HolderType Holder> Holder get() const { return Holder(ptr<typename Holder::ContainedType>()); }
  std::shared_ptr<Module> ptr() const { return content("ptr").pointer; }
  template <class M> std::shared_ptr<M> ptr() const {
    auto module = std::dynamic_pointer_cast<M>(content("ptr").pointer);
    check_cast(module != nullptr, typeid(M));
    return module;
  }
  const std::type_info& type_info() const {
    const Module& module = *content("type_info").pointer;
    return typeid(module);
  }

 private:
  struct Content {
    explicit Content(std::shared_ptr<Module> module) : pointer(std::move(module)) {}
    virtual ~Content() = default;
    virtual AnyValue forward(std::vector<AnyValue>&& args) = 0;
    virtual AnyModule wrap(std::shared_ptr<Module> module) const = 0;

    std::shared_ptr<Module> pointer;
  };
  template <class M, class... Parameters> struct TypedContent;
  template <class M, class Return, class... Parameters>
  static std::shared_ptr<Content> typed(std::shared_ptr<M> module, Return (*)(Parameters...)) {
    return std::make_shared<TypedContent<M, Parameters...>>(std::move(module));
  }

  Content& content(const char* method) const {
    check(content_ != nullptr, "Cannot call ", method, "() on an empty AnyModule");
    return *content_;
  }
  void check_cast(bool ok, const std::type_info& wanted) const {
    check<TypeError>(ok, "Attempted to cast module of type ", content("get").pointer->name(), " to type ",
                     type_name(wanted));
  }

  std::shared_ptr<Content> content_;
};

/// A module with the name it is to have in a Sequential.
class NamedAnyModule {
 public:
  template <class M>
  NamedAnyModule(std::string name, M&& module) : name_(std::move(name)), module_(std::forward<M>(module)) {}

  const std::string& name() const noexcept { return name_; }
  AnyModule& module() noexcept { return module_; }
  const AnyModule& module() const noexcept { return module_; }

 private:
  std::string name_;
  AnyModule module_;
};

// ------------------------------------------------------------------------------------------------ implementation

namespace any_detail {

template <class C, class R, class... P> auto signature(R (C::*)(P...)) -> R (*)(P...);
template <class C, class R, class... P> auto signature(R (C::*)(P...) const) -> R (*)(P...);
template <class C, class R, class... P> auto signature(R (C::*)(P...) noexcept) -> R (*)(P...);
template <class C, class R, class... P> auto signature(R (C::*)(P...) const noexcept) -> R (*)(P...);

/// forward's return and parameter types, as a null pointer to such a function. A class whose forward is a template says
/// in ForwardSignature how it is to be called.
template <class M> constexpr auto forward_signature() {
  if constexpr (requires { signature(&M::forward); }) {
    return decltype(signature(&M::forward)){nullptr};
  } else {
    static_assert(
        requires { typename M::ForwardSignature; },
        "a module in an AnyModule or a Sequential needs one forward(), neither overloaded nor a template");
    return static_cast<typename M::ForwardSignature*>(nullptr);
  }
}

[[noreturn]] void fail_argument(const Module& module, std::size_t index, const std::type_info& wanted,
                                const std::type_info& given);
[[noreturn]] void fail_count(const Module& module, std::size_t wanted, std::size_t given);

}  // namespace any_detail

template <class M, class... Parameters> struct AnyModule::TypedContent : Content {
  static constexpr std::size_t kCount = sizeof...(Parameters);
  template <std::size_t I> using Parameter = std::tuple_element_t<I, std::tuple<Parameters...>>;

  explicit TypedContent(std::shared_ptr<M> m) : Content(m), module(m.get()) {}

  AnyValue forward(std::vector<AnyValue>&& args) override { return with_count<kCount>(args); }
  AnyModule wrap(std::shared_ptr<Module> other) const override {
    return AnyModule(std::dynamic_pointer_cast<M>(std::move(other)));
  }

  /// Calls with the first N parameters, or fewer if the others have defaults.
  template <std::size_t N> AnyValue with_count(std::vector<AnyValue>& args) {
    if (args.size() == N) return invoke(args, std::make_index_sequence<N>());
    if constexpr (N > 0) {
      if constexpr (can_invoke(std::make_index_sequence<N - 1>())) return with_count<N - 1>(args);
    }
    any_detail::fail_count(*module, kCount, args.size());
  }
  template <std::size_t... I> static constexpr bool can_invoke(std::index_sequence<I...>) {
    return requires(M & m) { m.forward(std::declval<Parameter<I>>()...); };
  }
  template <std::size_t... I> AnyValue invoke(std::vector<AnyValue>& args, std::index_sequence<I...>) {
    return AnyValue(call(*module, static_cast<Parameter<I>&&>(argument<I>(args))...));
  }
  template <std::size_t I> std::decay_t<Parameter<I>>& argument(std::vector<AnyValue>& args) {
    using Value = std::decay_t<Parameter<I>>;
    Value* value = args[I].template try_get<Value>();
    if (!value) any_detail::fail_argument(*module, I, typeid(Value), args[I].type_info());
    return *value;
  }

  M* module;
};

template <ModuleType M> AnyModule::AnyModule(std::shared_ptr<M> module) {
  check<ValueError>(module != nullptr, "AnyModule: the module is a null pointer");
  content_ = typed(std::move(module), any_detail::forward_signature<M>());
}

}  // namespace halftone::nn
