// Pure functions on shapes: wrapping of dimensions, broadcasting, views.
#pragma once

#include <optional>
#include <string_view>

#include "core/array_ref.h"
#include "core/tensor_impl.h"

namespace halftone {

/// A dimension counted from the end when negative. Throws IndexError with the legal range; a 0-dim tensor counts as
/// 1-dim.
std::int64_t wrap_dim(std::int64_t dim, std::int64_t rank);

/// The shape two operands are expanded to. Throws naming the op and both shapes.
Dims broadcast_shapes(std::string_view op, IntArrayRef a, IntArrayRef b);

/// Strides that make a tensor of `sizes` look like `target` (0 along expanded axes). `sizes` must be broadcastable.
Dims expanded_strides(IntArrayRef sizes, IntArrayRef strides, IntArrayRef target);

/// Replaces a single -1 by what is left of `numel`; throws when it does not divide or the sizes do not fit.
Dims infer_size(std::string_view op, IntArrayRef sizes, std::int64_t numel);

/// The strides with which memory laid out as (sizes, strides) can be seen as `target`; nothing if it would take a copy.
std::optional<Dims> view_strides(IntArrayRef sizes, IntArrayRef strides, IntArrayRef target);

/// The set of dimensions to reduce as a bit mask; an empty list means all. Throws on duplicates.
unsigned dim_mask(std::string_view op, IntArrayRef dims, std::int64_t rank);
/// `sizes` without the dimensions of the mask, or with 1 in their place.
Dims reduced_sizes(IntArrayRef sizes, unsigned mask, bool keepdim);

bool is_contiguous(IntArrayRef sizes, IntArrayRef strides);
bool is_channels_last(IntArrayRef sizes, IntArrayRef strides);
/// No gaps and no overlaps, in any order of axes.
bool is_dense(IntArrayRef sizes, IntArrayRef strides);
/// Strides of a dense tensor with the axes in the same order as in (sizes, strides); contiguous if that one overlaps.
Dims preserved_strides(IntArrayRef sizes, IntArrayRef strides);

/// Axes of an elementwise loop merged where memory allows, smallest stride last. All operands have the shape `sizes`.
struct Loop {
  Dims sizes;
  std::array<Dims, 5> strides;  // one per operand
  int operands = 0;
};
Loop coalesce(IntArrayRef sizes, std::initializer_list<IntArrayRef> operand_strides);

}  // namespace halftone
