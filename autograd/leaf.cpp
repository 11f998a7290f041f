#include "autograd/leaf.h"

#include <mutex>

#include "autograd/apply.h"
#include "autograd/ops.h"
#include "autograd/ops/views.h"
#include "kernels/backend.h"
#include "kernels/distinct.h"

namespace halftone {
namespace {

constexpr OpInfo kAccumulate{"accumulate_grad", Precision::any, "adds to a leaf's gradient"};
constexpr OpInfo kCopySlices{"copy_slices", Precision::any, "a write through a view, as the viewed tensor sees it"};

// Adds what arrives to the leaf's gradient.
class LeafNode final : public Node {
 public:
  explicit LeafNode(const Tensor& leaf) : Node(kAccumulate), leaf_(leaf.impl()), target_(leaf) {}

  std::string name() const override { return "torch::autograd::AccumulateGrad"; }
  std::vector<Tensor> backward(std::span<const Tensor> grads) override {
    const std::shared_ptr<TensorImpl> leaf = leaf_.lock();
    if (!leaf || !grads[0].defined()) return {};
    const std::scoped_lock lock(mutex_);  // two threads may run backward into one leaf
    accumulate(*leaf->leaf, grads[0], Tensor(leaf));
    return {};
  }
  std::span<Edge> edges() override { return {}; }
  std::span<const GradTarget> targets() const override {
    // Module::half() and set_data() change the leaf under its node. Two threads may ask at once: write only what
    // changed.
    if (const std::shared_ptr<TensorImpl> leaf = leaf_.lock()) {
      const bool same =
          leaf->dtype == target_.dtype && leaf->sizes == target_.sizes && leaf->storage->device() == target_.device;
      if (!same) target_ = GradTarget(Tensor(leaf));
    }
    return {&target_, 1};
  }

 private:
  // The leaf owns its gradient: what others hold too is copied.
  static void accumulate(LeafState& state, const Tensor& g, const Tensor& leaf) {
    if (state.grad.defined()) {
      if (context.record) {
        state.grad = state.grad + g;
      } else {
        state.grad.add_(g);
      }
      return;
    }
    const bool alone = g.use_count() == 1 && g.storage().use_count() == 1 && !g.is_view();
    if (alone && g.strides().equals(leaf.strides())) {
      state.grad = g;
    } else if (context.record) {
      state.grad = g.clone();
    } else {
      Tensor copy = empty_like(leaf, TensorOptions(g.dtype()));
      backend(leaf).copy(g, copy);
      state.grad = std::move(copy);  // last: a copy that fails leaves none
    }
  }

  std::weak_ptr<TensorImpl> leaf_;
  mutable GradTarget target_;
  std::mutex mutex_;
};

// A write through a view, as the viewed tensor sees it: its gradient goes to the old values outside the view's region
// and to the written ones inside.
class CopySlicesNode final : public Node {
 public:
  CopySlicesNode(const Tensor& base, const Tensor& view, Edge written)
      : Node(kCopySlices),
        edges_{edge_of(base), std::move(written)},
        target_(base),
        base_(geometry(base)),
        view_(geometry(view)) {
    view_.offset -= base_.offset;
  }
  ~CopySlicesNode() override { bury(edges_); }

  std::string name() const override { return "CopySlices"; }
  std::vector<Tensor> backward(std::span<const Tensor> grads) override {
    const Tensor& g = grads[0];
    if (!g.defined()) return {};
    Tensor outside = in_memory_order(context.record ? ones_like(g) : g);
    Tensor inside = context.record ? as_strided(in_memory_order(g), view_.sizes, view_.strides, view_.offset)
                                   : alias(outside, view_.sizes, view_.strides, view_.offset).clone();
    Tensor region = alias(outside, view_.sizes, view_.strides, view_.offset);
    backend(g).fill(region, 0);
    return {context.record ? g * outside : outside, inside};
  }
  std::span<Edge> edges() override { return edges_; }
  std::span<const GradTarget> targets() const override { return {&target_, 1}; }

 private:
  struct Geometry {
    Dims sizes, strides;
    std::int64_t offset;
  };
  static Geometry geometry(const Tensor& t) { return {dims(t.sizes()), dims(t.strides()), t.storage_offset()}; }

  // A copy of g laid out as the base is.
  Tensor in_memory_order(const Tensor& g) const {
    Tensor copy = empty_strided(base_.sizes, base_.strides, g.options());
    copy.copy_(g);
    return copy;
  }

  std::array<Edge, 2> edges_;
  GradTarget target_;
  Geometry base_, view_;
};

void rebase(const Tensor& self, const Edge& edge) {
  TensorImpl& impl = *self.impl();
  if (impl.view_base) {
    const Tensor base(impl.view_base);
    auto node = std::make_shared<CopySlicesNode>(base, self, edge);
    base.impl()->edge = {std::move(node), 0};
    impl.rebases_seen = ++base.impl()->rebases;
  } else {
    ++impl.rebases;
  }
  impl.edge = edge;
}

}  // namespace

std::shared_ptr<Node> make_leaf_node(const Tensor& leaf) { return std::make_shared<LeafNode>(leaf); }

bool is_leaf_node(const Node& node) { return &node.op() == &kAccumulate; }

void refresh_view(TensorImpl& view) {
  TensorImpl& base = *view.view_base;
  if (view.rebases_seen == base.rebases) return;
  view.rebases_seen = base.rebases;
  view.edge = {};
  const Tensor source(view.view_base);
  if (!source.requires_grad()) return;
  // The geometry of the view, recorded anew on the base.
  const Tensor fresh = as_strided_recorded(source, view.sizes, view.strides, view.offset);
  view.edge = fresh.impl()->edge;
}

void check_has_places(const OpInfo& info, const Tensor& self) {
  check(!has_shared_places(self), info.name, "_: more than one element of ", describe(self),
        " refers to a single memory location. Please clone() the tensor before writing to it");
}

bool must_record_write(const OpInfo& info, const Tensor& self, std::span<const Tensor> others) {
  if (!context.record) return false;
  const TensorImpl& impl = *self.impl();
  const TensorImpl& base = impl.view_base ? *impl.view_base : impl;
  const auto is_leaf = [](const TensorImpl& t) { return t.requires_grad && !t.edge.node; };
  check(!is_leaf(base) && !is_leaf(impl), info.name, "_: ", is_leaf(impl) ? "" : "a view of ",
        "a leaf Variable that requires grad is being used in an in-place operation: ", describe(self));
  const bool has_history = self.requires_grad();
  check(has_history || !impl.view_base || !base.edge.node, info.name, "_: ", describe(self),
        " is a view that was made under NoGradGuard of a tensor with history, which would not see the write. Make the "
        "view with recording on, or write to it under NoGradGuard");
  return has_history || any_needs_grad(others);
}

Tensor before_write(const Tensor& self) {
  Tensor old = alias(self);
  old.impl()->edge = edge_of(self);
  return old;
}

Tensor apart_from(const Tensor& written, const Tensor& operand) {
  if (!overlaps(operand, written)) return operand;
  Tensor copy = empty(operand.sizes(), operand.options());
  backend(copy).copy(operand, copy);
  return copy;
}

Tensor apart_in_graph(const Tensor& written, const Tensor& operand) {
  return operand.defined() && operand.is_alias_of(written) ? operand.clone() : operand;
}

void finish_recorded_write(const OpInfo& info, const Tensor& self, const Tensor& result) {
  check(result.sizes().equals(self.sizes()), info.name, "_: the result ", describe(result), " does not fit into ",
        describe(self));
  const Tensor converted = result.dtype() == self.dtype() ? result : result.to(self.dtype());
  Tensor target = self;
  backend(self).copy(apart_from(target, converted), target);
  self.storage()->bump_version();
  rebase(self, edge_of(converted));
}

}  // namespace halftone
