// Advanced indexing with the basic parts worked off: index tensors for some axes of a tensor, and the two ops, reading
// and writing there, that are each the other's derivative.
#pragma once

#include <algorithm>
#include <vector>

#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {

/// Index tensors of one shape, and the axes of x they are for.
struct IndexPlace {
  std::vector<Saved> indices;  // int64, contiguous
  std::vector<std::int64_t> axes;
  Dims index_sizes;
  Dims sizes;                // of x
  std::size_t put = 0;       // where the index's axes are among those that stay
  bool from_end = true;      // negative indices count from the end
  const char* op = nullptr;  // a literal: the name that errors say, if not index's own

  bool is_indexed(std::int64_t axis) const { return std::find(axes.begin(), axes.end(), axis) != axes.end(); }

  Dims rest(IntArrayRef of_x) const {
    Dims out;
    for (std::size_t i = 0; i < of_x.size(); ++i) {
      if (!is_indexed(static_cast<std::int64_t>(i))) out.push_back(of_x[i]);
    }
    return out;
  }
  Dims of_axes(IntArrayRef of_x) const {
    Dims out;
    for (const std::int64_t axis : axes) out.push_back(of_x[plain::at(axis)]);
    return out;
  }
  Dims result_sizes() const {
    Dims out = rest(sizes);
    for (std::size_t i = 0; i < index_sizes.size(); ++i) out.insert(put + i, index_sizes[i]);
    return out;
  }

  // A result, or values for it, with the index's axes in front: as kernels want them.
  Tensor index_first(const Tensor& t) const {
    Dims new_sizes, new_strides;
    const auto take = [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) {
        new_sizes.push_back(t.sizes()[i]);
        new_strides.push_back(t.strides()[i]);
      }
    };
    take(put, put + index_sizes.size());
    take(0, put);
    take(put + index_sizes.size(), t.sizes().size());
    return alias(t, new_sizes, new_strides, t.storage_offset());
  }

  // Calls f with the plan for a tensor of x's sizes.
  template <class F> void with_plan(const Tensor& x, F f) const {
    std::vector<Tensor> tensors;
    for (const Saved& s : indices) tensors.push_back(*s);
    f(IndexPlan{tensors, of_axes(x.sizes()), of_axes(x.strides()), rest(x.sizes()), rest(x.strides()), from_end, op});
  }
};

/// `tensors` has an int64 tensor for each indexed axis of x, undefined ones for the others.
IndexPlace make_place(const Tensor& x, const std::vector<Tensor>& tensors);
/// The numbers of slices along an axis, which unlike an index never count from the end. `op` is a literal.
IndexPlace place_along(const char* op, const Tensor& x, std::int64_t dim, const Tensor& index);
Tensor int64_index(std::string_view op, const Tensor& index);

/// The elements of x at a place; differentiable.
Tensor read_at(const IndexPlace& place, const Tensor& x);
/// Zeros of x's sizes to which values are added at a place: the adjoint of read_at.
Tensor add_to_zeros(const IndexPlace& place, const Tensor& values);
/// x with values, which broadcast, written over the place's elements or added to them; differentiable.
Tensor put_at(const IndexPlace& place, Write mode, const Tensor& x, const Tensor& values);
/// The same in x's memory, with no thought of gradients.
void write_at(const IndexPlace& place, Write mode, const Tensor& values, Tensor& x);

}  // namespace halftone
