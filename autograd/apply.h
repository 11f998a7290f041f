// The gate: every op call is these three steps.
#pragma once

#include "autograd/node.h"

namespace halftone {

/// Tells the observer, if there is one, of the op that runs while it lives.
class Observation {
 public:
  Observation(const OpInfo& info, std::span<const Tensor> inputs) : info_(info) {
    if (context.observer) [[unlikely]]
      came_.assign(inputs.begin(), inputs.end());
  }
  void done(std::span<const Tensor> ran, const Tensor& out) {
    if (context.observer) [[unlikely]]
      context.observer->observe(info_, came_, ran, out);
  }

 private:
  const OpInfo& info_;
  std::vector<Tensor> came_;
};

std::string describe_all(std::span<const Tensor> inputs);

/// Gives `out` a node that holds the rule.
template <class Rule, class Inputs>
void record(const OpInfo& info, Rule rule, const Inputs& inputs, const Tensor& out) {
  for_each_saved(rule, [&](Saved& s) {
    if (s.holds(out)) s.become_output(0);
  });
  auto edges = [&] {
    if constexpr (requires { inputs.capacity(); }) {
      std::vector<Edge> list;
      list.reserve(inputs.size());
      for (const Tensor& x : inputs) list.push_back(edge_of(x));
      return list;
    } else {
      return std::apply([](const auto&... x) { return std::array{edge_of(x)...}; }, inputs);
    }
  }();
  auto node = std::make_shared<RuleNode<Rule, decltype(edges)>>(info, std::move(rule), std::move(edges), out);
  if (context.anomaly) [[unlikely]]
    node->created_by = describe_all(inputs);
  out.impl()->edge = {std::move(node), 0};
}

template <class Inputs> bool any_needs_grad(const Inputs& inputs) {
  for (const Tensor& x : inputs) {
    if (needs_grad(x)) return true;
  }
  return false;
}

/// `rule.forward(inputs...)` computes, saving what backward needs in the rule's fields.
template <class Rule, std::size_t N> Tensor apply(const OpInfo& info, Rule rule, std::array<Tensor, N> inputs) {
  Observation observation(info, inputs);
  if (context.filter) (*context.filter)(info, inputs);  // 1. autocast

  Tensor out = std::apply([&](const auto&... x) { return rule.forward(x...); }, inputs);  // 2. compute
  observation.done(inputs, out);

  if (context.record && any_needs_grad(inputs)) record(info, std::move(rule), inputs, out);  // 3. record
  return out;
}

/// The same for an op with any number of inputs: `rule.forward(inputs)`.
template <class Rule> Tensor apply(const OpInfo& info, Rule rule, std::vector<Tensor> inputs) {
  Observation observation(info, inputs);
  if (context.filter) (*context.filter)(info, inputs);
  Tensor out = rule.forward(inputs);
  observation.done(inputs, out);
  if (context.record && any_needs_grad(inputs)) record(info, std::move(rule), inputs, out);
  return out;
}

/// An op without a derivative: `compute(inputs...)` is never recorded.
template <class Compute, std::size_t N>
Tensor apply_plain(const OpInfo& info, std::array<Tensor, N> inputs, Compute compute) {
  Observation observation(info, inputs);
  if (context.filter) (*context.filter)(info, inputs);
  Tensor out = std::apply([&](const auto&... x) { return compute(x...); }, inputs);
  observation.done(inputs, out);
  return out;
}

/// An op made of other ops: its own precision decides, then `compose(inputs...)` runs with the filter off. The parts
/// record.
template <class Compose, std::size_t N>
Tensor apply_composite(const OpInfo& info, std::array<Tensor, N> inputs, Compose compose) {
  Observation observation(info, inputs);
  if (context.filter) (*context.filter)(info, inputs);
  Tensor out = [&] {
    const ContextScope parts([](Context& c) {
      c.filter = nullptr;
      c.observer = nullptr;
    });
    return std::apply([&](const auto&... x) { return compose(x...); }, inputs);
  }();
  observation.done(inputs, out);
  return out;
}

/// The dtype of a result whose caller may have named one; autocast fills it in where the op asks for it.
inline std::optional<Dtype> wanted_dtype(const OpInfo& info, const Tensor& x, std::optional<Dtype> given) {
  if (given || !context.filter) return given;
  return context.filter->output_dtype(info, x);
}

/// A view: `rule.forward(x)` returns an alias of x. The result knows the tensor it looks into.
template <class Rule> Tensor apply_view(const OpInfo& info, Rule rule, const Tensor& x) {
  Observation observation(info, {&x, 1});
  Tensor out = rule.forward(x);
  const std::shared_ptr<TensorImpl>& base = x.impl()->view_base ? x.impl()->view_base : x.impl();
  out.impl()->view_base = base;
  out.impl()->rebases_seen = base->rebases;
  if (context.record && needs_grad(x)) record(info, std::move(rule), std::array{x}, out);
  observation.done({&x, 1}, out);
  return out;
}

/// Where an in-place op writes. `self` keeps its identity; when the write is recorded, its history becomes that of the
/// result, and that of the tensor it views is changed likewise.
bool must_record_write(const OpInfo& info, const Tensor& self, std::span<const Tensor> others);
/// Throws where elements share memory, as those of an expanded tensor do: each would be written several times.
void check_has_places(const OpInfo& info, const Tensor& self);
/// `self` as it was before a recorded write: the same memory and history under a handle of its own.
Tensor before_write(const Tensor& self);
/// Copies the recorded result into self's memory and takes over its history.
void finish_recorded_write(const OpInfo& info, const Tensor& self, const Tensor& result);

/// `operand`, or a copy of it if it overlaps with the tensor that is written: elements must not change before they are
/// read.
Tensor apart_from(const Tensor& written, const Tensor& operand);
/// `operand`, or a recorded copy of it if it lies in the memory of the tensor that is written, whose history the graph
/// becomes: a node that kept such an operand would keep itself.
Tensor apart_in_graph(const Tensor& written, const Tensor& operand);

/// An in-place op: `recorded(old)` is the op out of place, `direct(self)` writes with no thought of gradients. In-place
/// ops are not subject to autocast.
template <std::size_t N, class Recorded, class Direct>
const Tensor& write_in_place(const OpInfo& info, const Tensor& self, const std::array<Tensor, N>& others,
                             Recorded recorded, Direct direct) {
  const ContextScope no_filter([](Context& c) { c.filter = nullptr; });
  check_has_places(info, self);
  if (must_record_write(info, self, others)) {
    finish_recorded_write(info, self, recorded(before_write(self)));
  } else {
    self.storage()->bump_version();  // before: who copies the memory in another thread is to see that a write began
    direct(self);
  }
  return self;
}

}  // namespace halftone
