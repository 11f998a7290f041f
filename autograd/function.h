// Differentiable functions of the user's own, as in libtorch:
//
//   struct Square : autograd::Function<Square> {
//     static Tensor forward(AutogradContext* ctx, Tensor x) {
//       ctx->save_for_backward({x});
//       return x * x;
//     }
//     static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
//       return {grads[0] * 2 * ctx->get_saved_variables()[0]};
//     }
//   };
//   Tensor y = Square::apply(x);
//
// forward runs unrecorded; backward returns a gradient for every argument of apply(), undefined ones for numbers and
// the like. An argument that is returned unchanged comes back as a view of itself, a tensor returned twice as two
// views.
#pragma once

#include <map>
#include <string>
#include <unordered_set>
#include <variant>

#include "autograd/engine.h"

namespace halftone::autograd {

/// A small value kept from forward to backward.
class Value {
 public:
  Value() = default;
  Value(bool value) : value_(value) {}  // NOLINT: ctx->saved_data["k"] = true
  template <std::integral T> Value(T value) : value_(static_cast<std::int64_t>(value)) {}  // NOLINT
  template <std::floating_point T> Value(T value) : value_(static_cast<double>(value)) {}  // NOLINT
  Value(const char* value) : value_(std::string(value)) {}                                 // NOLINT
  Value(std::string value) : value_(std::move(value)) {}                                   // NOLINT
  Value(Tensor value) : value_(std::move(value)) {}                                        // NOLINT
  Value(std::vector<std::int64_t> value) : value_(std::move(value)) {}                     // NOLINT
  Value(IntArrayRef value) : value_(value.vec()) {}                                        // NOLINT
  Value(std::vector<double> value) : value_(std::move(value)) {}                           // NOLINT
  Value(std::vector<Tensor> value) : value_(std::move(value)) {}                           // NOLINT

  bool isNone() const { return std::holds_alternative<std::monostate>(value_); }
  /// These throw TypeError when the value is of another type.
  bool toBool() const { return as<bool>("a bool"); }
  std::int64_t toInt() const { return as<std::int64_t>("an integer"); }
  double toDouble() const { return as<double>("a floating number"); }
  const std::string& toStringRef() const { return as<std::string>("a string"); }
  const Tensor& toTensor() const { return as<Tensor>("a tensor"); }
  const std::vector<std::int64_t>& toIntVector() const { return as<std::vector<std::int64_t>>("a list of integers"); }
  const std::vector<double>& toDoubleVector() const { return as<std::vector<double>>("a list of floating numbers"); }
  const std::vector<Tensor>& toTensorVector() const { return as<std::vector<Tensor>>("a list of tensors"); }

 private:
  template <class T> const T& as(const char* what) const {
    const T* found = std::get_if<T>(&value_);
    check<TypeError>(found != nullptr, "this saved value is not ", what);
    return *found;
  }

  std::variant<std::monostate, bool, std::int64_t, double, std::string, Tensor, std::vector<std::int64_t>,
               std::vector<double>, std::vector<Tensor>>
      value_;
};

class FunctionNode;

/// What forward leaves for backward.
class AutogradContext {
 public:
  /// Small values by name.
  std::map<std::string, Value> saved_data;

  /// Keeps inputs, results or any other tensors; undefined ones may be among them. In-place writes to them are noticed.
  void save_for_backward(tensor_list tensors) { to_save_ = std::move(tensors); }
  tensor_list get_saved_variables() const;
  /// Says that forward wrote to these inputs. Each must be among the results.
  void mark_dirty(const tensor_list& inputs) { dirty_ = inputs; }
  /// Says that these results do not depend on the inputs smoothly. Integer results never do.
  void mark_non_differentiable(const tensor_list& outputs) { non_differentiable_ = outputs; }
  /// Whether gradients that are not there arrive in backward as zeros (the default) or undefined.
  void set_materialize_grads(bool on) { materialize_grads_ = on; }
  /// Does the i-th tensor argument need a gradient? Valid in forward and in backward.
  bool needs_input_grad(std::size_t i) const;

 private:
  friend class FunctionNode;
  tensor_list to_save_, dirty_, non_differentiable_;
  std::vector<Saved> saved_;
  std::vector<bool> needs_grad_;
  bool materialize_grads_ = true;
};

/// One call of a Function. Knows nothing of its type but the name and the backward.
class FunctionNode final : public Node {
 public:
  using Backward = tensor_list (*)(AutogradContext*, tensor_list);
  /// An edge for every tensor among the arguments; `is_tensor` tells which arguments those are.
  FunctionNode(const OpInfo& info, Backward rule, std::vector<Edge> edges, std::vector<bool> is_tensor);
  ~FunctionNode() override;

  std::string name() const override { return std::string(op().name) + "Backward"; }
  std::vector<Tensor> backward(std::span<const Tensor> grads) override;
  bool release() override;
  std::span<Edge> edges() override { return edges_; }
  std::span<const GradTarget> targets() const override { return targets_; }

  AutogradContext& ctx() { return ctx_; }
  /// Makes the results of forward the function's: gives them this node where they need it.
  void adopt(tensor_list& outputs, const tensor_list& inputs);

 private:
  static bool among(const tensor_list& list, const Tensor& t);
  Tensor adopted(const Tensor& output, std::uint32_t slot, const tensor_list& inputs, bool repeated);
  void adopt_dirty(const Tensor& input, std::uint32_t slot);
  void check_dirty(const tensor_list& outputs, const tensor_list& inputs) const;
  void save(const tensor_list& outputs);
  bool differentiable(const Tensor& output) const;

  Backward rule_;
  std::vector<Edge> edges_;
  std::vector<GradTarget> targets_;
  std::vector<bool> is_tensor_, output_defined_;
  bool recorded_;
  AutogradContext ctx_;
};

/// Where the gradients of the tensors go; nowhere while nothing is recorded.
std::vector<Edge> edges_of(const tensor_list& inputs);

/// "MyFunction" for a type of that name in any namespace.
std::string short_type_name(const char* mangled);

template <class T> struct Function {
  /// Calls T::forward with a context, and records it.
  template <class F = T, class... Args> static auto apply(Args&&... args);
};

namespace detail {

inline bool append_tensor(tensor_list& list, const Tensor& t) {
  list.push_back(t);
  return true;
}
inline bool append_tensor(tensor_list& list, const optional<Tensor>& t) {
  list.push_back(t.value_or(Tensor()));
  return true;
}
template <class T> bool append_tensor(tensor_list&, const T&) { return false; }

template <class T> const OpInfo& function_info() {
  static const std::string name = short_type_name(typeid(T).name());
  static const OpInfo info{name, Precision::any, "a function of the user"};
  return info;
}

}  // namespace detail

template <class T> template <class F, class... Args> auto Function<T>::apply(Args&&... args) {
  tensor_list inputs;
  std::vector<bool> is_tensor;
  (is_tensor.push_back(detail::append_tensor(inputs, args)), ...);
  const auto backward = [](AutogradContext* ctx, tensor_list grads) -> tensor_list {
    return F::backward(ctx, std::move(grads));
  };
  auto node =
      std::make_shared<FunctionNode>(detail::function_info<F>(), backward, edges_of(inputs), std::move(is_tensor));
  auto result = [&] {
    const NoGradGuard unrecorded;
    return F::forward(&node->ctx(), std::forward<Args>(args)...);
  }();
  if constexpr (std::is_same_v<decltype(result), Tensor>) {
    tensor_list outputs{std::move(result)};
    node->adopt(outputs, inputs);
    return Tensor(std::move(outputs[0]));
  } else {
    tensor_list outputs(std::move(result));
    node->adopt(outputs, inputs);
    return outputs;
  }
}

}  // namespace halftone::autograd
