// Tensors without history, for the forwards of rules: what happens inside an op is neither recorded nor cast nor
// observed.
#pragma once

#include "autograd/apply.h"
#include "kernels/backend.h"

namespace halftone::plain {

/// While it lives, ops are their kernels alone.
struct Scope {
  ContextScope scope{[](Context& c) {
    c.record = false;
    c.filter = nullptr;
    c.observer = nullptr;
  }};
};

constexpr std::size_t at(std::int64_t axis) { return static_cast<std::size_t>(axis); }

/// x itself, or a copy in the asked order of memory.
inline Tensor dense(const Tensor& x, MemoryFormat format = MemoryFormat::Contiguous) {
  if (x.is_contiguous(format)) return x;
  Tensor out = empty(x.sizes(), x.options().memory_format(format));
  backend(x).copy(x, out);
  return out;
}

/// x itself, or a copy in the asked dtype.
inline Tensor cast(const Tensor& x, Dtype dtype) {
  if (!x.defined() || x.dtype() == dtype) return x;
  Tensor out = empty_like(x, dtype);
  backend(x).copy(x, out);
  return out;
}

/// The same elements in another shape: x itself if it has that one, a copy where strides do not allow a view.
inline Tensor reshaped(const Tensor& x, const Dims& sizes) {
  if (x.sizes() == sizes) return x;
  const std::optional<Dims> strides = view_strides(x.sizes(), x.strides(), sizes);
  if (strides) return alias(x, sizes, *strides, x.storage_offset());
  return alias(dense(x), sizes, contiguous_strides(sizes), 0);
}

/// x repeated without copying until it has the sizes, to which it broadcasts.
inline Tensor expanded(const Tensor& x, IntArrayRef sizes) {
  return alias(x, dims(sizes), expanded_strides(x.sizes(), x.strides(), sizes), x.storage_offset());
}

/// The last two axes exchanged.
inline Tensor transposed(const Tensor& x) {
  Dims sizes = dims(x.sizes()), strides = dims(x.strides());
  std::swap(sizes[sizes.size() - 1], sizes[sizes.size() - 2]);
  std::swap(strides[strides.size() - 1], strides[strides.size() - 2]);
  return alias(x, sizes, strides, x.storage_offset());
}

/// `length` places of an axis, from `start` on.
inline Tensor narrowed(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length) {
  Dims sizes = dims(x.sizes());
  sizes[at(dim)] = length;
  return alias(x, sizes, dims(x.strides()), x.storage_offset() + start * x.strides()[at(dim)]);
}

inline Tensor filled(IntArrayRef sizes, const Scalar& value, const TensorOptions& options) {
  Tensor out = empty(sizes, options);
  backend(out).fill(out, value);
  return out;
}

/// The dtype that sums and losses of x are kept in.
inline Dtype wide(Dtype d) { return d == kFloat64 ? kFloat64 : kFloat32; }

}  // namespace halftone::plain

namespace halftone {

/// Whether an op is to save what the gradient of `t` takes: only while it is recorded. An unrecorded op, one of a
/// backward pass above all, leaves the history of `t` alone, which another thread may be changing.
inline bool saves_for(const Tensor& t) { return context.record && needs_grad(t); }

/// Errors name the op, and both tensors.
inline void check_same_dtype(const OpInfo& info, std::string_view what, const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return;
  check(a.dtype() == b.dtype(), info.name, ": expected ", what, " in one dtype, got ", describe(a), " and ",
        describe(b));
}
inline void check_same_device(const OpInfo& info, std::string_view what, const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return;
  check(a.device() == b.device(), info.name, ": expected ", what, " on one device, got ", describe(a), " on ",
        a.device(), " and ", describe(b), " on ", b.device());
}
inline void check_floating(const OpInfo& info, const Tensor& x) {
  check(x.is_floating_point(), info.name, ": input dtype must be floating point, got ", describe(x));
}

/// An op of a list made of other ops: see apply_composite of an array.
template <class Compose> Tensor apply_composite(const OpInfo& info, std::vector<Tensor> inputs, Compose compose) {
  Observation observation(info, inputs);
  if (context.filter) (*context.filter)(info, inputs);
  Tensor out = [&] {
    const ContextScope parts([](Context& c) {
      c.filter = nullptr;
      c.observer = nullptr;
    });
    return compose(inputs);
  }();
  observation.done(inputs, out);
  return out;
}

}  // namespace halftone
