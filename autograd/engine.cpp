#include "autograd/engine.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "autograd/leaf.h"
#include "autograd/ops.h"

namespace halftone::autograd {
namespace {

struct Pending {
  std::shared_ptr<Node> node;
  std::vector<Tensor> grads;  // one per output of the node; undefined is zero
};

// An edge whose gradient the caller wants, and where to put it.
struct Capture {
  Edge edge;
  Tensor grad;
};

// One backward pass.
class Pass {
 public:
  Pass(bool retain_graph, bool create_graph, std::span<Capture> captures, bool into_leaves)
      : retain_graph_(retain_graph), create_graph_(create_graph), captures_(captures), into_leaves_(into_leaves) {}

  void send(const Edge& edge, Tensor grad, const Node* from);
  void run();
  /// Leaves out the nodes from which no capture can be reached.
  void restrict_to_captures();

 private:
  Tensor validated(const Node& node, const GradTarget& target, Tensor grad, const Node* from) const;
  void add(Tensor& sum, Tensor grad, Dtype sum_dtype) const;
  void visit(Pending task);
  void run_hooks(Pending& task) const;
  void capture(const Pending& task);
  bool leads_to_capture(const Edge& edge) const;

  bool retain_graph_, create_graph_;
  std::span<Capture> captures_;
  bool into_leaves_;
  bool restricted_ = false;
  std::unordered_set<const Node*> needed_;
  std::map<std::uint64_t, Pending, std::greater<>> pending_;  // newest first
};

// Printed as the node's name, when it is printed.
struct Name {
  const Node* node;
  friend std::ostream& operator<<(std::ostream& out, Name n) { return out << (n.node ? n.node->name() : "backward"); }
};

// What every gradient goes through: its device, shape and dtype become those of the tensor it belongs to.
Tensor Pass::validated(const Node& node, const GradTarget& target, Tensor grad, const Node* from) const {
  check(grad.device() == target.device, Name{from}, " returned a gradient on ", grad.device(), " for an input on ",
        target.device);
  if (!grad.sizes().equals(target.sizes)) {
    // A gradient may have the shape that its input was broadcast to, nothing else.
    bool fits = grad.sizes().size() >= target.sizes.size();
    for (std::size_t i = 0; fits && i < target.sizes.size(); ++i) {
      const std::int64_t have = grad.sizes()[grad.sizes().size() - target.sizes.size() + i];
      fits = target.sizes[i] == have || target.sizes[i] == 1;
    }
    check(fits, Name{from}, " returned an invalid gradient: got ", grad.sizes(), " but expected shape compatible with ",
          target.sizes);
    grad = sum_to_size(grad, target.sizes);
  }
  return grad.dtype() == target.dtype || grad.dtype() == node.sum_dtype ? grad : grad.to(target.dtype);
}

// Adds in place only where nobody else can see the memory. A gradient that comes alone needs no wider dtype.
void Pass::add(Tensor& sum, Tensor grad, Dtype sum_dtype) const {
  if (!sum.defined()) {
    sum = std::move(grad);
    return;
  }
  if (sum_dtype != Dtype::Undefined) {
    sum = sum.to(sum_dtype);
    grad = grad.to(sum_dtype);
  }
  if (!create_graph_ && sum.use_count() == 1 && sum.storage().use_count() == 1 && !sum.is_view()) {
    sum.add_(grad);
  } else if (!create_graph_ && grad.use_count() == 1 && grad.storage().use_count() == 1 && !grad.is_view()) {
    grad.add_(sum);
    sum = std::move(grad);
  } else {
    sum = sum + grad;
  }
}

void Pass::send(const Edge& edge, Tensor grad, const Node* from) {
  if (!edge.node || !grad.defined() || (restricted_ && !leads_to_capture(edge))) return;
  const GradTarget& target = edge.node->targets()[edge.slot];
  grad = validated(*edge.node, target, std::move(grad), from);
  Pending& task = pending_[edge.node->number()];
  if (!task.node) {
    task.node = edge.node;
    task.grads.resize(edge.node->targets().size());
  }
  add(task.grads[edge.slot], std::move(grad), edge.node->sum_dtype);
}

void Pass::run() {
  while (!pending_.empty()) {
    const auto newest = pending_.begin();
    Pending task = std::move(newest->second);
    pending_.erase(newest);
    visit(std::move(task));
  }
}

void Pass::run_hooks(Pending& task) const {
  if (!task.node->hooks) return;
  const std::vector<Node::OutputHook> hooks = *task.node->hooks;  // a hook may add or remove hooks
  for (const Node::OutputHook& hook : hooks) {
    Tensor& grad = task.grads[hook.slot];
    Tensor replaced = hook.run(grad);
    if (!replaced.defined()) continue;
    const GradTarget& target = task.node->targets()[hook.slot];
    check(replaced.sizes().equals(target.sizes), "hook on the result of ", task.node->op().name,
          " has changed the size of its gradient from ", target.sizes, " to ", replaced.sizes());
    grad = std::move(replaced);
  }
}

void Pass::capture(const Pending& task) {
  for (Capture& c : captures_) {
    if (c.edge.node == task.node) c.grad = task.grads[c.edge.slot];
  }
}

void check_finite(const Node& node, std::span<const Tensor> grads) {
  for (std::size_t i = 0; i < grads.size(); ++i) {
    if (!grads[i].defined()) continue;
    check(!isnan(grads[i]).any().item<bool>(), "Function '", node.name(), "' returned nan values in its ", i,
          "th output. It was created by ", node.op().name, "(",
          node.created_by.empty() ? "recorded outside anomaly mode" : node.created_by, ")");
  }
}

void Pass::visit(Pending task) {
  Node& node = *task.node;
  run_hooks(task);
  if (!captures_.empty()) capture(task);
  if (is_leaf_node(node) && !into_leaves_) return;
  check(!node.released, Name{&node},
        ": Trying to backward through the graph a second time, but the saved tensors have "
        "already been freed. Specify retain_graph=true for the first backward");

  context.running = &node;
  std::vector<Tensor> grads = node.backward(task.grads);
  if (context.anomaly) check_finite(node, grads);
  if (!retain_graph_ && node.release()) node.released = true;  // threads share the nodes of leaves, which save nothing
  const std::span<Edge> edges = node.edges();
  check(grads.size() <= edges.size(), Name{&node}, " returned an incorrect number of gradients (expected ",
        edges.size(), ", got ", grads.size(), ")");
  task.grads.clear();
  for (std::size_t i = 0; i < grads.size(); ++i) send(edges[i], std::move(grads[i]), &node);
}

bool Pass::leads_to_capture(const Edge& edge) const {
  if (!edge.node || !needed_.contains(edge.node.get())) return false;
  const auto* const bundle = dynamic_cast<const Bundle*>(edge.node.get());
  const auto is_it = [&](const Capture& c) { return c.edge.node == edge.node && c.edge.slot == edge.slot; };
  if (!bundle || std::ranges::any_of(captures_, is_it)) return true;
  return leads_to_capture(edge.node->edges()[bundle->edge_behind(edge.slot)]);
}

void Pass::restrict_to_captures() {
  restricted_ = true;
  std::map<std::uint64_t, Node*> reachable;  // oldest first: what a node leads to is known before the node
  std::vector<Node*> unexplored;
  const auto discover = [&](Node* node) {
    if (node && reachable.emplace(node->number(), node).second) unexplored.push_back(node);
  };
  for (auto& [number, task] : pending_) discover(task.node.get());
  while (!unexplored.empty()) {
    Node* node = unexplored.back();
    unexplored.pop_back();
    for (const Edge& edge : node->edges()) discover(edge.node.get());
  }
  for (const Capture& c : captures_) needed_.insert(c.edge.node.get());
  for (auto& [number, node] : reachable) {
    const auto leads = [&](const Edge& edge) { return leads_to_capture(edge); };
    if (std::ranges::any_of(node->edges(), leads)) needed_.insert(node);
  }
}

Tensor initial_grad(const Tensor& output, const Tensor& given) {
  check(output.requires_grad(),
        "backward: element 0 of tensors does not require grad and does not have a grad_fn: nothing that led to ",
        describe(output), " requires a gradient, or it was computed under NoGradGuard");
  if (!given.defined()) {
    check(output.numel() == 1, "backward: grad can be implicitly created only for scalar outputs, this one is ",
          describe(output));
    return ones_like(output);
  }
  check(given.sizes().equals(output.sizes()), "backward: Mismatch in shape: grad_output has a shape of ", given.sizes(),
        " and output has a shape of ", output.sizes());
  return given;
}

void run_pass(TensorList outputs, TensorList grads, optional<bool> retain_graph, bool create_graph,
              std::span<Capture> captures, bool into_leaves) {
  check(grads.empty() || grads.size() == outputs.size(), "backward: got ", outputs.size(), " tensors and ",
        grads.size(), " gradients");
  Pass pass(retain_graph.value_or(create_graph), create_graph, captures, into_leaves);
  const ContextScope scope([&](Context& c) {
    c.record = create_graph;
    c.filter = nullptr;
    c.observer = nullptr;
  });
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor seed = initial_grad(outputs[i], i < grads.size() ? grads[i] : Tensor());
    pass.send(edge_of(outputs[i]), seed, nullptr);
  }
  if (!captures.empty()) pass.restrict_to_captures();
  pass.run();
}

std::vector<Capture> captures_for(const char* what, TensorList inputs) {
  std::vector<Capture> captures;
  for (const Tensor& x : inputs) {
    check(x.defined() && x.requires_grad(), what,
          ": One of the differentiated Tensors does not require grad: ", describe(x));
    captures.push_back({edge_of(x), {}});
  }
  return captures;
}

}  // namespace

void backward(TensorList outputs, TensorList grad_tensors, optional<bool> retain_graph, bool create_graph,
              TensorList inputs) {
  if (inputs.empty()) return run_pass(outputs, grad_tensors, retain_graph, create_graph, {}, true);
  for (const Tensor& x : inputs) {
    check(x.defined() && x.is_leaf(), "backward: an element of inputs is not a leaf: ", describe(x));
  }
  std::vector<Capture> captures = captures_for("backward", inputs);
  run_pass(outputs, grad_tensors, retain_graph, create_graph, captures, true);
}

std::vector<Tensor> grad(TensorList outputs, TensorList inputs, TensorList grad_outputs, optional<bool> retain_graph,
                         bool create_graph, bool allow_unused) {
  std::vector<Capture> captures = captures_for("grad", inputs);
  run_pass(outputs, grad_outputs, retain_graph, create_graph, captures, false);
  std::vector<Tensor> result;
  for (Capture& c : captures) {
    check(c.grad.defined() || allow_unused,
          "grad: One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=true "
          "if this "
          "is the desired behavior: ",
          describe(inputs[result.size()]));
    result.push_back(c.grad);
  }
  return result;
}

}  // namespace halftone::autograd
