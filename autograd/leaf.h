// Leaves and views: where history begins, and how it follows writes through views.
#pragma once

#include "autograd/node.h"

namespace halftone {

/// The leaf state of `t`, made when there is none.
LeafState& leaf_state(const Tensor& t);

/// The node that accumulates into the leaf's gradient.
std::shared_ptr<Node> make_leaf_node(const Tensor& leaf);

/// True for the node of a leaf.
bool is_leaf_node(const Node& node);

/// Gives a view a new edge if its base was written to, through another view or directly, since the view's own was made.
void refresh_view(TensorImpl& view);

/// The gradient a leaf holds; undefined when there is none.
inline const Tensor& grad_of(const Tensor& t) {
  static const Tensor none;
  return t.impl()->leaf ? t.impl()->leaf->grad : none;
}

}  // namespace halftone
