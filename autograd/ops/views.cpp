// Views: the same memory in another shape. A rule's forward makes the alias, its backward is the view's adjoint. All
// reshaping is three ops at heart: other sizes over the same elements (view), axes in another order (permute), and a
// part of an axis (slice, select); expand repeats.
#include "autograd/ops/views.h"

#include "autograd/ops.h"
#include "kernels/backend.h"

namespace halftone {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct ViewRule {
  Dims target, strides, source;
  Tensor forward(const Tensor& x) const { return alias(x, target, strides, x.storage_offset()); }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {g.reshape(source)}; }
};

struct PermuteRule {
  Dims order;
  Tensor forward(const Tensor& x) const {
    Dims sizes, strides;
    for (const std::int64_t axis : order) {
      sizes.push_back(x.sizes()[at(axis)]);
      strides.push_back(x.strides()[at(axis)]);
    }
    return alias(x, sizes, strides, x.storage_offset());
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    Dims inverse(order.size(), 0);
    for (std::size_t i = 0; i < order.size(); ++i) inverse[at(order[i])] = static_cast<std::int64_t>(i);
    return {g.permute(inverse)};
  }
};

struct ExpandRule {
  Dims target, source;
  Tensor forward(const Tensor& x) const {
    return alias(x, target, expanded_strides(x.sizes(), x.strides(), target), x.storage_offset());
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {sum_to_size(g, source)}; }
};

// Zeros of the source's shape with g in a part of them: the adjoint of taking the part. Recorded, it is linear in g.
struct EmbedRule {
  Dims sizes;
  std::int64_t dim, start, length, step;
  bool removed;  // select: the axis is gone

  Tensor part(const Tensor& whole) const {
    return removed ? whole.select(dim, start) : whole.slice(dim, start, start + (length - 1) * step + 1, step);
  }
  Tensor forward(const Tensor& g) const {
    Tensor whole = zeros(sizes, g.options());
    if (length > 0) {
      const NoGradGuard no_grad;
      Tensor target = part(whole);
      backend(g).copy(g, target);
    }
    return whole;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    if (length == 0) return {g.slice(dim, 0, 0)};
    return {part(g)};
  }
};

struct SliceRule {
  std::int64_t dim, start, length, step;
  Dims source;
  Tensor forward(const Tensor& x) const {
    Dims sizes = dims(x.sizes()), strides = dims(x.strides());
    sizes[at(dim)] = length;
    const std::int64_t offset = x.storage_offset() + start * strides[at(dim)];
    strides[at(dim)] *= step;
    return alias(x, sizes, strides, offset);
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {apply(op("slice"), EmbedRule{source, dim, start, length, step, false}, std::array{g})};
  }
};

struct SelectRule {
  std::int64_t dim, index;
  Dims source;
  Tensor forward(const Tensor& x) const {
    Dims sizes = dims(x.sizes()), strides = dims(x.strides());
    const std::int64_t offset = x.storage_offset() + index * strides[at(dim)];
    sizes.erase(at(dim));
    strides.erase(at(dim));
    return alias(x, sizes, strides, offset);
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {apply(op("select"), EmbedRule{source, dim, index, 1, 1, true}, std::array{g})};
  }
};

// The memory of a dense tensor as a row of elements, and places in it.
struct AsStridedRule {
  Dims sizes, strides;
  std::int64_t offset;  // absolute, in elements
  Dims source_sizes, source_strides;
  std::int64_t source_offset;

  Tensor forward(const Tensor& x) const { return alias(x, sizes, strides, offset); }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    check(is_dense(source_sizes, source_strides),
          "as_strided: the gradient needs an input without gaps or overlaps, got ", source_sizes, " with strides ",
          source_strides);
    // Elements may be seen several times, so gradients are added at their places in memory.
    const std::int64_t count = count_elements(source_sizes);
    const Tensor places =
        alias(arange(count, TensorOptions(kInt64).device(g.device())), sizes, strides, offset - source_offset);
    const Tensor row = index_add(zeros(count, g.options()), 0, places.reshape(-1), g.reshape(-1));
    return {row.as_strided(source_sizes, source_strides, 0)};
  }
};

AsStridedRule as_strided_rule(const Tensor& x, const Dims& sizes, const Dims& strides, std::int64_t offset) {
  return {sizes, strides, offset, dims(x.sizes()), dims(x.strides()), x.storage_offset()};
}

Tensor seen_as(const Tensor& x, const Dims& sizes, const Dims& strides) {
  return apply_view(op("view"), ViewRule{sizes, strides, dims(x.sizes())}, x);
}

}  // namespace

Tensor as_strided_recorded(const Tensor& x, const Dims& sizes, const Dims& strides, std::int64_t offset) {
  const AutoGradMode recording(true);
  return apply_view(op("as_strided"), as_strided_rule(x, sizes, strides, offset), x);
}

Tensor as_strided(const Tensor& x, IntArrayRef sizes, IntArrayRef strides, optional<std::int64_t> offset) {
  check<ValueError>(sizes.size() == strides.size(), "as_strided: sizes ", sizes, " and strides ", strides,
                    " differ in length");
  const std::int64_t first = offset.value_or(x.storage_offset());
  std::int64_t last = first;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    check<ValueError>(sizes[i] >= 0 && strides[i] >= 0, "as_strided: sizes and strides cannot be negative, got ", sizes,
                      " and ", strides);
    last += (sizes[i] - 1) * strides[i];
  }
  const auto available = static_cast<std::int64_t>(x.storage()->nbytes()) / x.element_size();
  check<ValueError>(first >= 0 && (count_elements(sizes) == 0 || last < available), "as_strided: sizes ", sizes,
                    ", strides ", strides, " and offset ", first, " reach element ", last, " of a storage of ",
                    available);
  return apply_view(op("as_strided"), as_strided_rule(x, dims(sizes), dims(strides), first), x);
}

Tensor Tensor::view(IntArrayRef sizes) const {
  const Dims target = infer_size("view", sizes, numel());
  const std::optional<Dims> strides = view_strides(this->sizes(), this->strides(), target);
  check(strides.has_value(), "view: size ", target, " is not compatible with input tensor's size ", this->sizes(),
        " and stride ", this->strides(),
        " (at least one dimension spans across two contiguous subspaces). Use reshape(...) instead");
  return seen_as(*this, target, *strides);
}

Tensor reshape(const Tensor& x, IntArrayRef sizes) {
  const Dims target = infer_size("reshape", sizes, x.numel());
  if (const std::optional<Dims> strides = view_strides(x.sizes(), x.strides(), target))
    return seen_as(x, target, *strides);
  const Tensor dense = x.contiguous();
  return seen_as(dense, target, contiguous_strides(target));
}

Tensor flatten(const Tensor& x, std::int64_t start_dim, std::int64_t end_dim) {
  const std::int64_t first = wrap_dim(start_dim, x.dim()), last = wrap_dim(end_dim, x.dim());
  check<ValueError>(first <= last, "flatten: start_dim ", start_dim, " comes after end_dim ", end_dim);
  if (x.dim() == 0) return x.reshape(1);
  if (first == last) return x;
  Dims sizes;
  for (std::int64_t i = 0; i < x.dim(); ++i) {
    if (i > first && i <= last) {
      sizes.back() *= x.size(i);
    } else {
      sizes.push_back(x.size(i));
    }
  }
  return reshape(x, sizes);
}

Tensor unflatten(const Tensor& x, std::int64_t dim, IntArrayRef sizes) {
  const std::int64_t axis = wrap_dim(dim, x.dim());
  const Dims inner = infer_size("unflatten", sizes, x.size(axis));
  Dims target;
  for (std::int64_t i = 0; i < x.dim(); ++i) {
    if (i != axis) {
      target.push_back(x.size(i));
    } else {
      for (const std::int64_t s : inner) target.push_back(s);
    }
  }
  return reshape(x, target);
}

Tensor squeeze(const Tensor& x) {
  Dims sizes, strides;
  for (std::size_t i = 0; i < x.sizes().size(); ++i) {
    if (x.sizes()[i] == 1) continue;
    sizes.push_back(x.sizes()[i]);
    strides.push_back(x.strides()[i]);
  }
  return seen_as(x, sizes, strides);
}

Tensor squeeze(const Tensor& x, std::int64_t dim) {
  const std::size_t axis = at(wrap_dim(dim, x.dim()));
  Dims sizes = dims(x.sizes()), strides = dims(x.strides());
  if (x.dim() > 0 && sizes[axis] == 1) {
    sizes.erase(axis);
    strides.erase(axis);
  }
  return seen_as(x, sizes, strides);
}

Tensor unsqueeze(const Tensor& x, std::int64_t dim) {
  const std::size_t axis = at(wrap_dim(dim, x.dim() + 1));
  Dims sizes = dims(x.sizes()), strides = dims(x.strides());
  strides.insert(axis, axis < sizes.size() ? sizes[axis] * strides[axis] : 1);
  sizes.insert(axis, 1);
  return seen_as(x, sizes, strides);
}

Tensor permute(const Tensor& x, IntArrayRef order) {
  check<ValueError>(static_cast<std::int64_t>(order.size()) == x.dim(), "permute: order ", order, " does not name the ",
                    x.dim(), " dimensions of ", describe(x));
  Dims axes;
  unsigned seen = 0;
  for (const std::int64_t d : order) {
    axes.push_back(wrap_dim(d, x.dim()));
    check<ValueError>((seen >> axes.back() & 1u) == 0, "permute: dimension ", d, " appears twice in ", order);
    seen |= 1u << axes.back();
  }
  return apply_view(op("permute"), PermuteRule{axes}, x);
}

Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1) {
  const std::int64_t a = wrap_dim(dim0, x.dim()), b = wrap_dim(dim1, x.dim());
  Dims order;
  for (std::int64_t i = 0; i < x.dim(); ++i) order.push_back(i == a ? b : (i == b ? a : i));
  return apply_view(op("permute"), PermuteRule{order}, x);
}

Tensor t(const Tensor& x) {
  check<ValueError>(x.dim() <= 2, "t: expects a tensor with at most 2 dimensions, but self is ", x.dim(),
                    "D: ", describe(x));
  return x.dim() < 2 ? seen_as(x, dims(x.sizes()), dims(x.strides())) : transpose(x, 0, 1);
}

Tensor movedim(const Tensor& x, std::int64_t from, std::int64_t to) {
  const std::int64_t source = wrap_dim(from, x.dim()), target = wrap_dim(to, x.dim());
  Dims order;
  for (std::int64_t i = 0; i < x.dim(); ++i) {
    if (i != source) order.push_back(i);
  }
  order.insert(at(target), source);
  return permute(x, order);
}

Tensor expand(const Tensor& x, IntArrayRef sizes) {
  check<ValueError>(static_cast<std::int64_t>(sizes.size()) >= x.dim(), "expand: ", sizes,
                    " has fewer dimensions than ", describe(x));
  Dims target = dims(sizes);
  const std::size_t lead = sizes.size() - x.sizes().size();
  for (std::size_t i = 0; i < target.size(); ++i) {
    const std::int64_t have = i < lead ? 1 : x.sizes()[i - lead];
    check<ValueError>(target[i] >= 0 || (target[i] == -1 && i >= lead), "expand: the size ", target[i],
                      " at dimension ", i, " of ", sizes, " is not allowed");
    if (target[i] == -1) target[i] = have;
    check<ValueError>(have == target[i] || have == 1, "expand: the expanded size of the tensor (", target[i],
                      ") must match the existing size (", have, ") at non-singleton dimension ", i, ": ", describe(x),
                      " to ", sizes);
  }
  return apply_view(op("expand"), ExpandRule{target, dims(x.sizes())}, x);
}

Tensor slice(const Tensor& x, std::int64_t dim, optional<std::int64_t> start, optional<std::int64_t> end,
             std::int64_t step) {
  check<IndexError>(x.dim() > 0, "slice: cannot be applied to a 0-dim tensor");
  check<ValueError>(step > 0, "slice: step must be positive, got ", step);
  const std::int64_t axis = wrap_dim(dim, x.dim()), size = x.size(axis);
  const auto clamped = [&](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + size : i, 0, size); };
  const std::int64_t first = clamped(start.value_or(0)), last = clamped(end.value_or(size));
  const std::int64_t length = last > first ? (last - first + step - 1) / step : 0;
  return apply_view(op("slice"), SliceRule{axis, first, length, step, dims(x.sizes())}, x);
}

Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length) {
  check<IndexError>(x.dim() > 0, "narrow: cannot be applied to a 0-dim tensor");
  const std::int64_t size = x.size(dim);
  const std::int64_t first = start < 0 ? start + size : start;
  check<IndexError>(first >= 0 && length >= 0 && first + length <= size, "narrow: start ", start, " and length ",
                    length, " exceed dimension size ", size);
  return slice(x, dim, first, first + length);
}

Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index) {
  check<IndexError>(x.dim() > 0, "select: cannot be applied to a 0-dim tensor");
  const std::int64_t axis = wrap_dim(dim, x.dim()), size = x.size(axis);
  check<IndexError>(-size <= index && index < size, "select: index ", index, " is out of bounds for dimension ", axis,
                    " with size ", size);
  return apply_view(op("select"), SelectRule{axis, index < 0 ? index + size : index, dims(x.sizes())}, x);
}

std::vector<Tensor> split_with_sizes(const Tensor& x, IntArrayRef sizes, std::int64_t dim) {
  std::int64_t total = 0;
  for (const std::int64_t s : sizes) total += s;
  check<ValueError>(total == x.size(dim), "split_with_sizes: sizes ", sizes, " do not add up to ", x.size(dim),
                    ", the size of dimension ", dim, " of ", describe(x));
  std::vector<Tensor> parts;
  std::int64_t start = 0;
  for (const std::int64_t s : sizes) {
    parts.push_back(narrow(x, dim, start, s));
    start += s;
  }
  return parts;
}

std::vector<Tensor> split(const Tensor& x, std::int64_t split_size, std::int64_t dim) {
  const std::int64_t size = x.size(dim);
  check<ValueError>(split_size > 0 || size == 0, "split: split_size must be positive, got ", split_size);
  std::vector<Tensor> parts;
  for (std::int64_t start = 0; start < size; start += split_size) {
    parts.push_back(narrow(x, dim, start, std::min(split_size, size - start)));
  }
  if (parts.empty()) parts.push_back(narrow(x, dim, 0, 0));
  return parts;
}

std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, std::int64_t dim) {
  check<ValueError>(chunks > 0, "chunk: expects chunks to be greater than 0, got ", chunks);
  const std::int64_t size = x.size(dim);
  if (size == 0) return std::vector<Tensor>(at(chunks), narrow(x, dim, 0, 0));
  return split(x, (size + chunks - 1) / chunks, dim);
}

std::vector<Tensor> unbind(const Tensor& x, std::int64_t dim) {
  const std::int64_t axis = wrap_dim(dim, x.dim());
  std::vector<Tensor> parts;
  for (std::int64_t i = 0; i < x.size(axis); ++i) parts.push_back(select(x, axis, i));
  return parts;
}

}  // namespace halftone
