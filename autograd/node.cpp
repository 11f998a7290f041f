#include "autograd/node.h"

#include <atomic>
#include <cctype>

#include "autograd/leaf.h"

namespace halftone {
namespace {

std::atomic<std::uint64_t> nodes_made{0};

// "batch_norm" becomes "BatchNorm".
std::string pascal_case(std::string_view snake) {
  std::string out;
  bool upper = true;
  for (const char c : snake) {
    if (c == '_') {
      upper = true;
    } else {
      out += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
      upper = false;
    }
  }
  return out;
}

// Handles waiting to be dropped. The outermost bury() drops them one after another; a node that dies meanwhile only
// adds its own, so the depth of the stack does not grow with the graph.
struct Graveyard {
  std::vector<std::shared_ptr<void>> waiting;
  bool draining = false;

  void add(std::shared_ptr<void> handle) {
    waiting.push_back(std::move(handle));
    if (draining) return;
    draining = true;
    while (!waiting.empty()) {
      const std::shared_ptr<void> next = std::move(waiting.back());
      waiting.pop_back();
    }
    draining = false;
  }
};

thread_local Graveyard graveyard;  // of this thread's dying nodes; it decides nothing

}  // namespace

Node::Node(const OpInfo& info) : op_(&info), number_(nodes_made.fetch_add(1, std::memory_order_relaxed)) {}

std::string Node::name() const { return pascal_case(op_->name) + "Backward" + std::to_string(overload_); }

void bury(std::span<Edge> edges) {
  for (Edge& edge : edges) {
    // A node that others still hold does not die here.
    if (edge.node.use_count() == 1) graveyard.add(std::move(edge.node));
    edge.node.reset();
  }
}

void bury(Tensor&& tensor) {
  if (tensor.defined() && tensor.use_count() == 1 && tensor.impl()->edge.node) graveyard.add(tensor.impl());
}

Tensor Saved::operator*() const {
  if (!tensor_.defined()) return {};
  const std::uint32_t now = tensor_._version();
  if (now != version_) [[unlikely]] {
    fail(context.running ? context.running->name() : "backward",
         ": one of the variables needed for gradient computation has been modified by an inplace operation: ",
         describe(tensor_), ", ", output_slot_ >= 0 ? "the op's result" : "an input", ", is at version ", now,
         "; expected version ", version_, " instead");
  }
  if (output_slot_ < 0 || !context.record || !context.running) return tensor_;
  Tensor with_history = alias(tensor_);
  with_history.impl()->edge = {context.running->shared_from_this(), static_cast<std::uint32_t>(output_slot_)};
  return with_history;
}

void Saved::become_output(std::uint32_t slot) {
  tensor_ = alias(tensor_);
  output_slot_ = static_cast<std::int32_t>(slot);
}

std::string describe_all(std::span<const Tensor> inputs) {
  std::string out;
  for (const Tensor& x : inputs) out += (out.empty() ? "" : ", ") + std::string(describe(x));
  return out;
}

LeafState& leaf_state(const Tensor& t) {
  std::shared_ptr<LeafState>& leaf = t.impl()->leaf;
  if (!leaf) leaf = std::make_shared<LeafState>();
  return *leaf;
}

Edge edge_of(const Tensor& t) {
  if (!t.defined()) return {};
  TensorImpl& impl = *t.impl();
  if (impl.view_base) refresh_view(impl);
  if (impl.edge.node) return impl.edge;
  if (!impl.requires_grad) return {};
  LeafState& leaf = leaf_state(t);
  if (!leaf.node) leaf.node = make_leaf_node(t);
  return {leaf.node, 0};
}

}  // namespace halftone
