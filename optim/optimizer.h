// The parts every optimizer is made of: options, groups of parameters that share them, state kept for each parameter,
// and the step. The protocol is libtorch's; an optimizer of your own derives from Optimizer and overrides step().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/arg.h"
#include "core/state_dict.h"

namespace halftone::optim {

/// Saves the fields that `object.visit_fields(visit)` names by calling visit("name", field) for each.
template <class T> void save_fields(const T& object, StateDict& out) {
  const_cast<T&>(object).visit_fields([&](const char* key, auto& field) {  // reads only
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(field)>, Tensor>) {
      if (field.defined()) out.tensors[key] = field;
    } else {
      out.set(key, field);
    }
  });
}

/// Fills them from what save_fields() saved.
template <class T> void load_fields(T& object, const StateDict& in) {
  object.visit_fields([&]<class Field>(const char* key, Field& field) {
    if constexpr (std::is_same_v<Field, Tensor>) {
      field = in.tensors.contains(key) ? in.tensor(key).detach().clone() : Tensor();
    } else {
      field = in.get<Field>(key);
    }
  });
}

/// Moves what the tensors of one object hold into those of another where they fit, and takes these: whoever knows the
/// old ones sees the new values.
template <class T> void adopt_fields(T& object, T& old) {
  std::unordered_map<std::string, Tensor> tensors;
  old.visit_fields([&]<class Field>(const char* key, Field& field) {
    if constexpr (std::is_same_v<Field, Tensor>) tensors[key] = field;
  });
  object.visit_fields([&]<class Field>(const char* key, Field& field) {
    if constexpr (std::is_same_v<Field, Tensor>) {
      const Tensor& place = tensors[key];
      const bool fits = field.defined() && place.defined() && place.device() == field.device() &&
                        place.dtype() == field.dtype() && place.sizes().equals(field.sizes());
      if (!fits) return;
      place.copy_(field);
      field = place;
    }
  });
}

/// Tensors by the device they live on, in the order in which the devices occur.
using ByDevice = std::vector<std::pair<Device, std::vector<Tensor>>>;
/// Adds a tensor to its device's list.
void append(ByDevice& lists, const Tensor& tensor);

/// What an optimizer remembers of one parameter.
class OptimizerParamState {
 public:
  OptimizerParamState() = default;
  OptimizerParamState(const OptimizerParamState&) = default;
  OptimizerParamState& operator=(const OptimizerParamState&) = default;
  virtual ~OptimizerParamState() = default;
  virtual std::unique_ptr<OptimizerParamState> clone() const = 0;
  virtual void save(StateDict& out) const = 0;
  virtual void load(const StateDict& in) = 0;
  /// Called on a state that was just loaded, with the one that it is to replace: a captured cuda::Graph knows the
  /// tensors of the old one, and goes on with the loaded values if they are copied there.
  virtual void adopt(OptimizerParamState&) {}

  bool in_graph = false;  // a captured cuda::Graph knows the tensors
};

/// Settings of a group of parameters.
class OptimizerOptions {
 public:
  OptimizerOptions() = default;
  OptimizerOptions(const OptimizerOptions&) = default;
  OptimizerOptions& operator=(const OptimizerOptions&) = default;
  virtual ~OptimizerOptions() = default;
  virtual std::unique_ptr<OptimizerOptions> clone() const = 0;
  virtual double get_lr() const = 0;
  virtual void set_lr(double lr) = 0;
  /// Throws ValueError naming the setting that is out of its range.
  virtual void validate() const {}
  virtual void save(StateDict& out) const = 0;
  virtual void load(const StateDict& in) = 0;
};

/// Derives clone(), save() and load(); the last two need `template <class Visit> void visit_fields(Visit visit)`.
template <class Base, class Derived> class Cloneable : public Base {
 public:
  std::unique_ptr<Base> clone() const override { return std::make_unique<Derived>(self()); }
  void save(StateDict& out) const override {
    if constexpr (kHasFields<Derived>) return save_fields(self(), out);
    fail<NotImplementedError>(typeid(Derived).name(), " cannot be saved: give it visit_fields(), or override save()");
  }
  void load(const StateDict& in) override {
    if constexpr (kHasFields<Derived>) return load_fields(static_cast<Derived&>(*this), in);
    fail<NotImplementedError>(typeid(Derived).name(), " cannot be loaded: give it visit_fields(), or override load()");
  }

 protected:
  template <class T> static constexpr bool kHasFields = requires(T& t) {
    t.visit_fields([](const char*, auto&) {});
  };

 private:
  const Derived& self() const { return static_cast<const Derived&>(*this); }
};

template <class Derived> class OptimizerCloneableParamState : public Cloneable<OptimizerParamState, Derived> {
 public:
  void adopt(OptimizerParamState& old) override {
    auto* const same = dynamic_cast<Derived*>(&old);
    if constexpr (OptimizerCloneableParamState::template kHasFields<Derived>) {
      if (same) adopt_fields(static_cast<Derived&>(*this), *same);
    }
  }
};
template <class Derived> class OptimizerCloneableOptions : public Cloneable<OptimizerOptions, Derived> {};

/// Parameters that share options. A group made without options takes the optimizer's defaults.
class OptimizerParamGroup {
 public:
  OptimizerParamGroup(std::vector<Tensor> params) : params_(std::move(params)) {}  // NOLINT: a list is a group
  OptimizerParamGroup(std::vector<Tensor> params, std::unique_ptr<OptimizerOptions> options)
      : params_(std::move(params)), options_(std::move(options)) {}
  OptimizerParamGroup(const OptimizerParamGroup& other)
      : params_(other.params_), options_(other.options_ ? other.options_->clone() : nullptr) {}
  OptimizerParamGroup(OptimizerParamGroup&&) noexcept = default;
  OptimizerParamGroup& operator=(const OptimizerParamGroup& other) { return *this = OptimizerParamGroup(other); }
  OptimizerParamGroup& operator=(OptimizerParamGroup&&) noexcept = default;
  ~OptimizerParamGroup() = default;

  std::vector<Tensor>& params() { return params_; }
  const std::vector<Tensor>& params() const { return params_; }
  bool has_options() const { return options_ != nullptr; }
  /// Changes made here hold from the next step on.
  OptimizerOptions& options() { return required_options(); }
  const OptimizerOptions& options() const { return required_options(); }
  void set_options(std::unique_ptr<OptimizerOptions> options) { options_ = std::move(options); }

 private:
  OptimizerOptions& required_options() const {
    check(has_options(), "this parameter group has no options: it gets them when it is added to an optimizer");
    return *options_;
  }

  std::vector<Tensor> params_;
  std::unique_ptr<OptimizerOptions> options_;
};

/// Changes parameters by their gradients.
class Optimizer {
 public:
  using LossClosure = std::function<Tensor()>;
  using State = std::unordered_map<void*, std::unique_ptr<OptimizerParamState>>;

  Optimizer(std::vector<OptimizerParamGroup> groups, std::unique_ptr<OptimizerOptions> defaults);
  Optimizer(std::vector<Tensor> params, std::unique_ptr<OptimizerOptions> defaults);
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer() = default;

  /// Updates every parameter that has a gradient. A closure computes the loss and the gradients first, with recording
  /// on; its loss is returned.
  virtual Tensor step(LossClosure closure = nullptr) = 0;
  /// Drops the gradients, or zeroes them in place, which keeps their memory.
  void zero_grad(bool set_to_none = true);

  /// Takes the defaults where the group has no options. Throws ValueError for parameters that it cannot update.
  void add_param_group(OptimizerParamGroup group);
  std::vector<OptimizerParamGroup>& param_groups() { return param_groups_; }
  const std::vector<OptimizerParamGroup>& param_groups() const { return param_groups_; }
  OptimizerOptions& defaults() { return *defaults_; }
  const OptimizerOptions& defaults() const { return *defaults_; }
  /// Keyed by `parameter.unsafeGetTensorImpl()`.
  State& state() { return state_; }
  const State& state() const { return state_; }

  /// Names for messages, from anything that lists them as `module->named_parameters()` does.
  template <class Named> void name_parameters(const Named& named) {
    for (const auto& item : named) names_[item.value().unsafeGetTensorImpl()] = item.key();
  }
  /// "'fc.weight'" if it was named, else "parameter 2 of group 0".
  std::string describe_parameter(const Tensor& param) const;

  /// Options of the groups and state of the parameters, by the position of each: the tensors are the live ones.
  StateDict state_dict() const;
  /// Takes copies. Groups and parameters must be as many as when it was saved; on an error nothing has changed. State
  /// that a captured cuda::Graph knows keeps its place: the graph goes on with what was loaded.
  void load_state_dict(const StateDict& saved);

 protected:
  /// A fresh state for load_state_dict() to fill.
  virtual std::unique_ptr<OptimizerParamState> make_state() const;
  /// Throws where states that were loaded cannot take the place of those that a graph knows.
  virtual void check_loaded(const State&) const {}
  /// Calls the closure, if there is one, with recording on.
  static Tensor compute_loss(const LossClosure& closure);
  /// The state of a parameter, made when it has none.
  template <class S> S& state_of(const Tensor& param) {
    std::unique_ptr<OptimizerParamState>& state = state_[param.unsafeGetTensorImpl()];
    if (!state) state = std::make_unique<S>();
    return static_cast<S&>(*state);
  }

  std::vector<OptimizerParamGroup> param_groups_;
  State state_;
  std::unique_ptr<OptimizerOptions> defaults_;

 private:
  void check_new_params(const std::vector<Tensor>& params) const;
  State load_states(const StateDict& saved) const;

  std::unordered_map<void*, std::string> names_;
};

}  // namespace halftone::optim
