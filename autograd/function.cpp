#include "autograd/function.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>

#include "autograd/apply.h"
#include "autograd/ops.h"

namespace halftone::autograd {

std::string short_type_name(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                         &std::free);
  std::string name = status == 0 ? text.get() : mangled;
  name.resize(std::min(name.find('<'), name.size()));
  const std::size_t last = name.rfind("::");
  return last == std::string::npos ? name : name.substr(last + 2);
}

tensor_list AutogradContext::get_saved_variables() const {
  if (saved_.empty()) return to_save_;  // still in forward
  tensor_list tensors;
  for (const Saved& s : saved_) tensors.push_back(*s);
  return tensors;
}

bool AutogradContext::needs_input_grad(std::size_t i) const {
  check<IndexError>(i < needs_grad_.size(), "needs_input_grad: there is no tensor argument ", i, " among ",
                    needs_grad_.size());
  return needs_grad_[i];
}

std::vector<Edge> edges_of(const tensor_list& inputs) {
  std::vector<Edge> edges;
  for (const Tensor& x : inputs) edges.push_back(context.record ? edge_of(x) : Edge());
  return edges;
}

FunctionNode::FunctionNode(const OpInfo& info, Backward rule, std::vector<Edge> edges, std::vector<bool> is_tensor)
    : Node(info), rule_(rule), edges_(std::move(edges)), is_tensor_(std::move(is_tensor)) {
  for (const Edge& edge : edges_) ctx_.needs_grad_.push_back(edge.node != nullptr);
  recorded_ = std::ranges::find(ctx_.needs_grad_, true) != ctx_.needs_grad_.end();
}

FunctionNode::~FunctionNode() {
  for (Saved& s : ctx_.saved_) bury(s.take());
  bury(edges_);
}

bool FunctionNode::among(const tensor_list& list, const Tensor& t) {
  return std::ranges::any_of(list, [&](const Tensor& other) { return other.defined() && other.is_same(t); });
}

bool FunctionNode::differentiable(const Tensor& output) const {
  return recorded_ && output.is_floating_point() && !among(ctx_.non_differentiable_, output);
}

void FunctionNode::check_dirty(const tensor_list& outputs, const tensor_list& inputs) const {
  for (const Tensor& t : ctx_.dirty_) {
    check(among(inputs, t), op().name, ": mark_dirty got ", describe(t), ", which is no argument of forward");
    check(among(outputs, t), op().name, ": forward changed ", describe(t), " in place, so it must return it too");
    check(!(context.record && t.is_leaf() && t.requires_grad()), op().name,
          ": a leaf Variable that requires grad is being used in an in-place operation: ", describe(t));
  }
}

void FunctionNode::adopt(tensor_list& outputs, const tensor_list& inputs) {
  check_dirty(outputs, inputs);
  const tensor_list returned = outputs;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& output = returned[i];
    output_defined_.push_back(output.defined());
    targets_.push_back(output.defined() ? GradTarget(output) : GradTarget());
    if (!output.defined()) continue;
    const tensor_list before(returned.begin(), returned.begin() + static_cast<std::ptrdiff_t>(i));
    outputs[i] = adopted(output, static_cast<std::uint32_t>(i), inputs, among(before, output));
  }
  if (recorded_) save(returned);
  ctx_.to_save_.clear();
  ctx_.dirty_.clear();
  ctx_.non_differentiable_.clear();
}

// What the caller gets for a result of forward. The argument's own handle, and a handle returned before, keep what they
// have: such a result is a view.
Tensor FunctionNode::adopted(const Tensor& output, std::uint32_t slot, const tensor_list& inputs, bool repeated) {
  const bool dirty = among(ctx_.dirty_, output);
  if (dirty && !repeated) {
    if (differentiable(output)) adopt_dirty(output, slot);
    return output;
  }
  Tensor result = output;
  if (repeated || among(inputs, output)) {
    result = alias(output);
    result.impl()->view_base = output.impl()->view_base ? output.impl()->view_base : output.impl();
    result.impl()->rebases_seen = result.impl()->view_base->rebases;
  }
  if (differentiable(output)) result.impl()->edge = {shared_from_this(), slot};
  return result;
}

void FunctionNode::adopt_dirty(const Tensor& input, std::uint32_t slot) {
  Tensor written = alias(input.is_view() ? input.detach().clone() : input);
  written.impl()->edge = {shared_from_this(), slot};
  if (input.is_view()) return finish_recorded_write(op(), input, written);  // changes the viewed tensor's history too
  input.storage()->bump_version();
  input.impl()->edge = written.impl()->edge;
  ++input.impl()->rebases;
}

void FunctionNode::save(const tensor_list& outputs) {
  for (const Tensor& t : ctx_.to_save_) {
    Saved& saved = ctx_.saved_.emplace_back();
    saved = t;
    const auto own = std::ranges::find_if(outputs, [&](const Tensor& o) { return o.defined() && saved.holds(o); });
    const bool has_our_history = own != outputs.end() && own->impl()->edge.node.get() == this;
    if (has_our_history) saved.become_output(static_cast<std::uint32_t>(own - outputs.begin()));
  }
}

bool FunctionNode::release() {
  const bool any = std::ranges::any_of(ctx_.saved_, [](const Saved& s) { return s.defined(); });
  for (Saved& s : ctx_.saved_) s = Saved();
  return any;
}

std::vector<Tensor> FunctionNode::backward(std::span<const Tensor> grads) {
  tensor_list incoming(grads.begin(), grads.end());
  for (std::size_t i = 0; ctx_.materialize_grads_ && i < incoming.size(); ++i) {
    if (incoming[i].defined() || !output_defined_[i]) continue;
    incoming[i] = zeros(targets_[i].sizes, TensorOptions(targets_[i].dtype).device(targets_[i].device));
  }
  tensor_list returned = rule_(&ctx_, std::move(incoming));
  while (returned.size() > is_tensor_.size() && !returned.back().defined()) returned.pop_back();
  check(returned.size() == is_tensor_.size(), name(), " returned an incorrect number of gradients (expected ",
        is_tensor_.size(), ", got ", returned.size(), ")");
  std::vector<Tensor> result;
  for (std::size_t i = 0; i < returned.size(); ++i) {
    if (is_tensor_[i]) {
      result.push_back(std::move(returned[i]));
    } else {
      check(!returned[i].defined(), name(), " returned a gradient at position ", i,
            ", but the corresponding forward input was not a tensor");
    }
  }
  return result;
}

}  // namespace halftone::autograd
