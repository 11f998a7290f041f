// A node of the graph that backward walks: one call of an op, its rule with what the rule saved, and edges to the
// nodes of its inputs. Nodes are numbered as they are made, inputs before outputs.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "autograd/context.h"
#include "autograd/op_table.h"
#include "core/tensor.h"

namespace halftone {

using Hook = std::function<Tensor(Tensor)>;

/// What a gradient sent to a node's output must look like.
struct GradTarget {
  Dims sizes;
  Dtype dtype = kFloat32;
  Device device = kCPU;

  GradTarget() = default;
  explicit GradTarget(const Tensor& t) : sizes(dims(t.sizes())), dtype(t.dtype()), device(t.device()) {}
};

class Node : public std::enable_shared_from_this<Node> {
 public:
  explicit Node(const OpInfo& info);
  virtual ~Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  std::uint64_t number() const { return number_; }
  const OpInfo& op() const { return *op_; }
  /// PyTorch's name for it: "MulBackward0".
  virtual std::string name() const;

  /// Gradients for the node's edges, from those for its outputs; an undefined one means zero.
  virtual std::vector<Tensor> backward(std::span<const Tensor> grads) = 0;
  /// Forgets saved tensors. Returns true when there were any, so that a second backward must be refused.
  virtual bool release() { return false; }

  virtual std::span<Edge> edges() = 0;
  virtual std::span<const GradTarget> targets() const = 0;
  /// Graph walking for lessons.
  const Edge& next_edge(std::size_t i) { return edges()[i]; }
  std::size_t num_outputs() { return edges().size(); }
  std::size_t num_inputs() const { return targets().size(); }

  /// The dtype in which two or more gradients sent here are summed, when that is wider than the target's: the cast of a
  /// weight that a region uses many times.
  Dtype sum_dtype = Dtype::Undefined;
  bool released = false;
  /// Hooks by output, run on the whole gradient before backward. Null until there is one.
  struct OutputHook {
    std::uint32_t slot;
    unsigned position;
    Hook run;
  };
  std::unique_ptr<std::vector<OutputHook>> hooks;
  /// In anomaly mode: the inputs' descriptions.
  std::string created_by;

 protected:
  int overload_ = 0;

 private:
  const OpInfo* op_;
  std::uint64_t number_;
};

/// Drops handles without recursion: destroying a long graph node by node would overflow the stack.
void bury(std::span<Edge> edges);
void bury(Tensor&& tensor);

/// Which gradients a rule has to compute.
class Wants {
 public:
  explicit Wants(std::span<const Edge> edges) : edges_(edges) {}
  bool operator[](std::size_t i) const { return edges_[i].node != nullptr; }

 private:
  std::span<const Edge> edges_;
};

/// A tensor kept for backward, with the version of its memory: backward refuses it if it was written to since.
class Saved {
 public:
  Saved() = default;
  Saved& operator=(const Tensor& t) {
    tensor_ = t;
    if (t.defined()) version_ = t._version();
    return *this;
  }
  bool defined() const { return tensor_.defined(); }
  /// The tensor; checks the version. A saved result has its history again when backward itself is recorded.
  Tensor operator*() const;
  struct Arrow {
    Tensor tensor;
    const Tensor* operator->() const { return &tensor; }
  };
  Arrow operator->() const { return {**this}; }

  bool holds(const Tensor& t) const { return tensor_.is_same(t); }
  /// A node must not own its own result: keeps the memory, drops the history.
  void become_output(std::uint32_t slot);
  Tensor take() { return std::move(tensor_); }

 private:
  Tensor tensor_;
  std::uint32_t version_ = 0;
  std::int32_t output_slot_ = -1;
};

/// The tensors a rule saved, as it lists them in saved(); a rule that owns memory must list it.
template <class Rule, class Visit> void for_each_saved(Rule& rule, Visit visit) {
  if constexpr (requires { rule.saved(); }) {
    std::apply(
        [&](auto&... fields) {
          [[maybe_unused]] const auto one = [&]<class Field>(Field& field) {
            if constexpr (std::is_same_v<Field, Saved>) {
              visit(field);
            } else {
              for (Saved& s : field) visit(s);
            }
          };
          (one(fields), ...);
        },
        rule.saved());
  } else {
    static_assert(std::is_trivially_destructible_v<Rule>, "a rule with saved tensors lists them in saved()");
  }
}

/// Rules have `backward(const Tensor& g, Wants)`, which returns an array or a vector of gradients, one per input.
/// Edges is std::array<Edge, N> or std::vector<Edge>.
template <class Rule, class Edges> class RuleNode final : public Node {
 public:
  RuleNode(const OpInfo& info, Rule&& rule, Edges&& edges, const Tensor& out)
      : Node(info), rule_(std::move(rule)), edges_(std::move(edges)), target_(out) {
    if constexpr (requires { rule_.overload; }) overload_ = rule_.overload;
  }
  ~RuleNode() override {
    for_each_saved(rule_, [](Saved& s) { bury(s.take()); });
    bury(edges_);
  }

  std::vector<Tensor> backward(std::span<const Tensor> grads) override {
    auto result = rule_.backward(grads[0], Wants(edges_));
    return {std::make_move_iterator(result.begin()), std::make_move_iterator(result.end())};
  }
  bool release() override {
    bool any = false;
    for_each_saved(rule_, [&](Saved& s) {
      any = any || s.defined();
      s = Saved();
    });
    return any;
  }
  std::span<Edge> edges() override { return edges_; }
  std::span<const GradTarget> targets() const override { return {&target_, 1}; }
  Rule& rule() { return rule_; }

 private:
  Rule rule_;
  Edges edges_;
  GradTarget target_;
};

/// A leaf's gradient and the node that accumulates it; the node knows its tensor weakly.
struct LeafState {
  Tensor grad;
  std::shared_ptr<Node> node;
};

/// Where the gradient of `t` is to be sent; no node when it needs none.
Edge edge_of(const Tensor& t);
/// Like t.requires_grad(), for a tensor that may be undefined.
inline bool needs_grad(const Tensor& t) { return t.defined() && t.requires_grad(); }

}  // namespace halftone
