// What a Tensor handle points to. Users see Tensor; this is for the layers above core.
#pragma once

#include <memory>

#include "core/array_ref.h"
#include "core/dtype.h"
#include "core/storage.h"

namespace halftone {

class Node;
struct LeafState;

/// Where a gradient goes: an output of a node of the autograd graph.
struct Edge {
  std::shared_ptr<Node> node;
  std::uint32_t slot = 0;
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  Dims sizes;
  Dims strides;
  std::int64_t offset = 0;  // of the first element, in elements
  std::int64_t numel = 0;
  Dtype dtype = kFloat32;
  bool contiguous = true;      // row-major without gaps
  bool requires_grad = false;  // set by the user on a leaf; results of recorded ops have an edge instead
  bool retains_grad = false;
  bool is_parameter = false;  // of a module: autocast keeps its casts although it may require no gradient

  // Autograd's part. A view knows the tensor it looks into: a write through one of them changes the history of both.
  Edge edge;
  std::shared_ptr<LeafState> leaf;        // gradient and hooks, made when first needed
  std::shared_ptr<TensorImpl> view_base;  // never itself a view
  std::uint32_t rebases = 0;              // of a base: how often a write through a view gave it a new history
  std::uint32_t rebases_seen = 0;         // of a view: the base's count when `edge` was made

  TensorImpl();
  ~TensorImpl();
  TensorImpl(const TensorImpl&) = delete;
  TensorImpl& operator=(const TensorImpl&) = delete;

  void set_geometry(const Dims& new_sizes, const Dims& new_strides, std::int64_t new_offset);
  void* data() const { return static_cast<char*>(storage->data()) + offset * element_size(dtype); }
};

/// How many tensors are alive in the process; lets a test see a leak.
std::int64_t live_tensors();

std::int64_t count_elements(IntArrayRef sizes);
Dims contiguous_strides(IntArrayRef sizes);
/// Strides of [N, C, H, W] or [N, C, D, H, W] with channels innermost.
Dims channels_last_strides(IntArrayRef sizes);

}  // namespace halftone
