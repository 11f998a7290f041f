#include "optim/optimizer.h"

#include <algorithm>
#include <typeinfo>
#include <unordered_set>

#include "autograd/context.h"

namespace halftone::optim {
namespace {

std::string group_prefix(std::size_t group) { return str("param_groups.", group, "."); }
std::string state_prefix(std::size_t param) { return str("state.", param, "."); }

}  // namespace

void append(ByDevice& lists, const Tensor& tensor) {
  auto list = std::ranges::find(lists, tensor.device(), [](const auto& entry) { return entry.first; });
  if (list == lists.end()) list = lists.insert(list, {tensor.device(), {}});
  list->second.push_back(tensor);
}

Optimizer::Optimizer(std::vector<OptimizerParamGroup> groups, std::unique_ptr<OptimizerOptions> defaults)
    : defaults_(std::move(defaults)) {
  check<ValueError>(!groups.empty(), "optimizer got an empty list of parameter groups");
  defaults_->validate();
  for (OptimizerParamGroup& group : groups) add_param_group(std::move(group));
}

Optimizer::Optimizer(std::vector<Tensor> params, std::unique_ptr<OptimizerOptions> defaults)
    : Optimizer(std::vector{OptimizerParamGroup(std::move(params))}, std::move(defaults)) {}

void Optimizer::add_param_group(OptimizerParamGroup group) {
  check_new_params(group.params());
  if (!group.has_options()) group.set_options(defaults_->clone());
  const OptimizerOptions &options = group.options(), &defaults = *defaults_;
  check<TypeError>(typeid(options) == typeid(defaults), "the options of parameter group ", param_groups_.size(),
                   " belong to another optimizer");
  options.validate();
  param_groups_.push_back(std::move(group));
}

void Optimizer::check_new_params(const std::vector<Tensor>& params) const {
  check<ValueError>(!params.empty(), "optimizer got an empty parameter list in group ", param_groups_.size());
  std::unordered_set<const TensorImpl*> known;
  for (const OptimizerParamGroup& group : param_groups_) {
    for (const Tensor& p : group.params()) known.insert(p.unsafeGetTensorImpl());
  }
  for (std::size_t i = 0; i < params.size(); ++i) {
    const Tensor& p = params[i];
    const std::string where = str("parameter ", i, " of group ", param_groups_.size());
    check<ValueError>(p.defined(), "optimizer: ", where, " is undefined");
    check<ValueError>(p.is_leaf(), "can't optimize a non-leaf Tensor: ", where, ", ", describe(p),
                      ", was computed from others, and its gradient goes to them");
    check<ValueError>(p.is_floating_point(), "optimizer: ", where, ", ", describe(p), ", is not of a floating dtype");
    check<ValueError>(known.insert(p.unsafeGetTensorImpl()).second,
                      "some parameters appear in more than one parameter group, or twice in one: ", where, ", ",
                      describe(p), ", would be updated twice a step");
  }
}

void Optimizer::zero_grad(bool set_to_none) {
  const ContextScope plain([](Context& c) { c = {.record = false}; });
  for (const OptimizerParamGroup& group : param_groups_) {
    for (const Tensor& p : group.params()) {
      Tensor& grad = p.mutable_grad();
      if (!grad.defined()) continue;
      if (set_to_none) {
        grad.reset();
      } else {
        grad = grad.detach();
        grad.zero_();
      }
    }
  }
}

std::string Optimizer::describe_parameter(const Tensor& param) const {
  const auto named = names_.find(param.unsafeGetTensorImpl());
  if (named != names_.end()) return "'" + named->second + "'";
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    const std::vector<Tensor>& params = param_groups_[g].params();
    for (std::size_t i = 0; i < params.size(); ++i) {
      if (params[i].is_same(param)) return str("parameter ", i, " of group ", g);
    }
  }
  return "a tensor that is no parameter of this optimizer";
}

Tensor Optimizer::compute_loss(const LossClosure& closure) {
  if (!closure) return {};
  const AutoGradMode recording(true);
  return closure();
}

std::unique_ptr<OptimizerParamState> Optimizer::make_state() const {
  fail<NotImplementedError>(
      "load_state_dict: this optimizer does not override make_state(), which makes the state to load");
}

StateDict Optimizer::state_dict() const {
  StateDict out;
  std::size_t index = 0;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    StateDict options;
    param_groups_[g].options().save(options);
    options.set("params", param_groups_[g].params().size());
    out.put(group_prefix(g), options);
    for (const Tensor& p : param_groups_[g].params()) {
      StateDict state;
      const auto found = state_.find(p.unsafeGetTensorImpl());
      if (found != state_.end()) found->second->save(state);
      out.put(state_prefix(index++), state);
    }
  }
  return out;
}

void Optimizer::load_state_dict(const StateDict& saved) {
  std::vector<std::unique_ptr<OptimizerOptions>> options;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    const StateDict part = saved.part(group_prefix(g));
    check<ValueError>(!part.empty(), "load_state_dict: parameter group ", g,
                      " of the optimizer is not in the saved state");
    const auto params = part.get<std::size_t>("params");
    check<ValueError>(params == param_groups_[g].params().size(), "load_state_dict: parameter group ", g, " has ",
                      param_groups_[g].params().size(), " parameters but was saved with ", params);
    options.push_back(param_groups_[g].options().clone());
    options.back()->load(part);
    options.back()->validate();
  }
  check<ValueError>(saved.part(group_prefix(options.size())).empty(), "load_state_dict: the optimizer has ",
                    options.size(), " parameter groups but more were saved");
  State loaded = load_states(saved);
  check_loaded(loaded);
  const ContextScope plain([](Context& c) { c = {.record = false}; });
  for (auto& [param, state] : loaded) {
    if (const auto old = state_.find(param); old != state_.end() && old->second->in_graph) state->adopt(*old->second);
  }
  state_ = std::move(loaded);
  for (std::size_t g = 0; g < options.size(); ++g) param_groups_[g].set_options(std::move(options[g]));
}

Optimizer::State Optimizer::load_states(const StateDict& saved) const {
  State states;
  std::size_t index = 0;
  for (const OptimizerParamGroup& group : param_groups_) {
    for (const Tensor& p : group.params()) {
      StateDict part = saved.part(state_prefix(index++));
      if (part.empty()) continue;
      for (auto& [key, tensor] : part.tensors) {
        check<ValueError>(tensor.sizes().equals(p.sizes()), "load_state_dict: ", key, " of ", describe_parameter(p),
                          " was saved as ", describe(tensor), " but the parameter is ", describe(p));
        tensor = tensor.to(p.device(), tensor.dtype());
      }
      std::unique_ptr<OptimizerParamState> state = make_state();
      state->load(part);
      states[p.unsafeGetTensorImpl()] = std::move(state);
    }
  }
  return states;
}

}  // namespace halftone::optim
