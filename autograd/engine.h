// The engine: visits pending nodes newest first. Inputs are numbered before outputs, so that is a topological order,
// without recursion and without counting dependencies.
#pragma once

#include <vector>

#include "autograd/node.h"

namespace halftone::autograd {

using tensor_list = std::vector<Tensor>;
using variable_list = std::vector<Tensor>;
using Variable = Tensor;

/// A node of independent parts: what is sent to one of its outputs concerns one edge alone. Who asks for the gradients
/// of some tensors is spared the parts of others.
class Bundle {
 public:
  virtual ~Bundle() = default;
  /// The edge, by its place among the node's, behind this output.
  virtual std::size_t edge_behind(std::uint32_t slot) const = 0;
};

/// Adds d sum(outputs . grad_tensors) / d leaf to the gradient of every leaf the outputs depend on, or only of
/// `inputs`. A one-element output needs no grad_tensor. The graph is freed unless `retain_graph` (which defaults to
/// `create_graph`); with `create_graph` backward itself is recorded. Runs in the caller's thread with autocast off.
void backward(TensorList outputs, TensorList grad_tensors = {}, optional<bool> retain_graph = nullopt,
              bool create_graph = false, TensorList inputs = {});

/// The gradients of the outputs with respect to `inputs`, without touching any leaf's gradient. An input that the
/// outputs do not depend on is an error, or with `allow_unused` an undefined result.
std::vector<Tensor> grad(TensorList outputs, TensorList inputs, TensorList grad_outputs = {},
                         optional<bool> retain_graph = nullopt, bool create_graph = false, bool allow_unused = false);

}  // namespace halftone::autograd
