// The methods of Tensor that are about gradients and history.
#include "autograd/apply.h"
#include "autograd/engine.h"
#include "autograd/leaf.h"
#include "autograd/ops.h"

namespace halftone {

// NOLINTNEXTLINE(bugprone-unhandled-self-assignment): it writes elements, and copy_ knows its own memory
const Tensor& Tensor::operator=(const Tensor& x) const&& { return copy_(x); }
const Tensor& Tensor::operator=(Tensor&& x) const&& { return copy_(x); }
const Tensor& Tensor::operator=(const Scalar& value) const&& { return fill_(value); }

void Tensor::backward(const Tensor& gradient, optional<bool> retain_graph, bool create_graph,
                      optional<TensorList> inputs) const {
  autograd::backward(*this, gradient.defined() ? TensorList(gradient) : TensorList(), retain_graph, create_graph,
                     inputs.value_or(TensorList()));
}

const Tensor& Tensor::grad() const {
  ref();
  return grad_of(*this);
}

Tensor& Tensor::mutable_grad() const { return leaf_state(*this).grad; }

bool Tensor::requires_grad() const {
  TensorImpl& i = ref();
  if (i.view_base) refresh_view(i);
  return i.requires_grad || i.edge.node != nullptr;
}

const Tensor& Tensor::requires_grad_(bool on) const {
  check(!on || is_floating_point(), "requires_grad_: only Tensors of floating point dtype can require gradients, not ",
        dtype());
  check(on || is_leaf(),
        "requires_grad_: you can only change requires_grad flags of leaf variables. If you want to use a computed "
        "variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach()");
  if (is_leaf()) ref().requires_grad = on;
  if (on) edge_of(*this);  // a leaf's node is made now: threads that share a parameter must not race to make it
  return *this;
}

bool Tensor::is_leaf() const { return grad_fn() == nullptr; }

std::shared_ptr<Node> Tensor::grad_fn() const {
  TensorImpl& i = ref();
  if (i.view_base) refresh_view(i);
  return i.edge.node;
}

Tensor Tensor::detach() const { return alias(*this); }

const Tensor& Tensor::detach_() const {
  TensorImpl& i = ref();
  check(!i.view_base || !requires_grad(), "detach_: can't detach views in-place. Use detach() instead");
  i.edge = {};
  i.requires_grad = false;
  return *this;
}

void Tensor::set_data(const Tensor& other) const {
  check(!requires_grad() || other.is_floating_point(), "set_data: a tensor that requires a gradient cannot become ",
        describe(other));
  TensorImpl& i = ref();
  i.storage = other.storage();
  i.dtype = other.dtype();
  i.set_geometry(dims(other.sizes()), dims(other.strides()), other.storage_offset());
}

void Tensor::retain_grad() const {
  check(requires_grad(), "retain_grad: can't retain_grad on Tensor that has requires_grad=false");
  TensorImpl& i = ref();
  if (is_leaf() || i.retains_grad) return;
  i.retains_grad = true;
  leaf_state(*this);
  register_hook([weak = std::weak_ptr<TensorImpl>(impl_)](const Tensor& g) {
    if (const std::shared_ptr<TensorImpl> self = weak.lock(); self && g.defined()) {
      Tensor& kept = self->leaf->grad;
      kept = kept.defined() ? kept + g : g.clone();
    }
  });
}

Tensor Tensor::_base() const {
  check(is_view(), "_base: can't get base of non-view tensor");
  return Tensor(ref().view_base);
}

unsigned Tensor::add_hook(std::function<Tensor(Tensor)> hook) const {
  check(requires_grad(), "register_hook: cannot register a hook on a tensor that doesn't require gradient");
  const Edge edge = edge_of(*this);
  auto& hooks = edge.node->hooks;
  if (!hooks) hooks = std::make_unique<std::vector<Node::OutputHook>>();
  unsigned position = 0;
  for (const Node::OutputHook& h : *hooks) {
    if (h.slot == edge.slot) position = std::max(position, h.position + 1);
  }
  hooks->push_back({edge.slot, position, std::move(hook)});
  return position;
}

void Tensor::remove_hook(unsigned position) const {
  const Edge edge = edge_of(*this);
  const bool found = edge.node && edge.node->hooks && std::erase_if(*edge.node->hooks, [&](const Node::OutputHook& h) {
                       return h.slot == edge.slot && h.position == position;
                     });
  check<IndexError>(found, "remove_hook: there is no hook at position ", position);
}

}  // namespace halftone
