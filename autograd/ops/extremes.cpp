// Largest and smallest elements and where they are; all and any.
#include "autograd/ops/indexing.h"
#include "autograd/ops/reduce.h"

namespace halftone {
namespace {

// Equal largest elements share the gradient.
struct ExtremeValueRule {
  const OpInfo* info;
  ReduceKind kind;
  Reduced r;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  Tensor forward(const Tensor& input) {
    check_not_empty(*info, r);
    Tensor out = reduce({kind}, input, r, input.dtype());
    x = input;
    y = out;
    return out;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    const Tensor is_it = eq(*x, r.keep(y->detach())).to(g.dtype());
    return {is_it * (r.keep(g) / is_it.sum(r.axes(), true))};
  }
};

Tensor extreme_value(const OpInfo& info, ReduceKind kind, const Tensor& x, IntArrayRef axes, bool keepdim) {
  return apply(info, ExtremeValueRule{&info, kind, Reduced(info.name, x, axes, keepdim), {}, {}}, std::array{x});
}

// `indices` are made by the caller, who keeps them, and filled in the forward.
struct ExtremeAlongRule {
  const OpInfo* info;
  Extreme which;
  std::int64_t dim;
  bool keepdim;
  Dims sizes;
  Saved indices;
  auto saved() { return std::tie(indices); }

  Tensor forward(const Tensor& x) const {
    const Tensor at_places = *indices;
    Tensor values = empty(at_places.sizes(), x.options());
    find(x, values, at_places);
    return values;
  }
  void find(const Tensor& x, Tensor& values, const Tensor& at_places) const {
    if (x.dim() == 0) {  // a list of one
      backend(x).copy(x, values);
      Tensor zero = at_places;
      backend(x).fill(zero, 0);
      return;
    }
    const Dims flat = reduced_sizes(sizes, 1u << dim, false);
    Tensor v = values.defined() ? plain::reshaped(values, flat) : values, i = plain::reshaped(at_places, flat);
    backend(x).extreme(which, x, dim, v, i);
  }

  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    const bool is_scalar = sizes.empty();
    if (is_scalar) return {g};
    const Tensor places = keepdim ? *indices : indices->unsqueeze(dim);
    const Tensor values = keepdim ? g : g.unsqueeze(dim);
    return {scatter_to_zeros(sizes, dim, places, values)};
  }
};

struct Found {
  ExtremeAlongRule rule;
  Tensor indices;
};

Found prepare(const OpInfo& info, Extreme which, const Tensor& x, std::int64_t given, bool keepdim) {
  const std::int64_t dim = wrap_dim(given, x.dim());
  const Reduced r(info.name, x, dim, keepdim);
  check_not_empty(info, r);
  Found f{{&info, which, dim, keepdim, r.sizes, {}}, empty(r.result_sizes(), x.options().dtype(kInt64))};
  f.rule.indices = f.indices;
  return f;
}

std::tuple<Tensor, Tensor> extreme_along(const OpInfo& info, Extreme which, const Tensor& x, std::int64_t dim,
                                         bool keepdim) {
  Found f = prepare(info, which, x, dim, keepdim);
  Tensor values = apply(info, std::move(f.rule), std::array{x});
  return {values, f.indices};
}

Tensor extreme_place(const OpInfo& info, Extreme which, const Tensor& x, optional<std::int64_t> dim, bool keepdim) {
  return apply_plain(info, std::array{x}, [&](const Tensor& input) {
    const plain::Scope scope;
    const Tensor along = dim ? input : input.reshape(-1);
    const Found f = prepare(info, which, along, dim.value_or(0), keepdim && dim);
    Tensor values = along.dim() == 0 ? empty({}, along.options()) : Tensor{};
    f.rule.find(along, values, f.indices);
    return keepdim && !dim ? f.indices.reshape(Dims(plain::at(input.dim()), 1)) : f.indices;
  });
}

Tensor logical(const OpInfo& info, ReduceKind kind, const Tensor& x, IntArrayRef axes, bool keepdim) {
  return apply_plain(info, std::array{x}, [&](const Tensor& input) {
    return reduce({kind}, input, Reduced(info.name, input, axes, keepdim), kBool);
  });
}

}  // namespace

Tensor max(const Tensor& x) { return extreme_value(op("max"), ReduceKind::max, x, all_axes(), false); }
Tensor min(const Tensor& x) { return extreme_value(op("min"), ReduceKind::min, x, all_axes(), false); }
std::tuple<Tensor, Tensor> max(const Tensor& x, std::int64_t dim, bool keepdim) {
  return extreme_along(op("max"), Extreme::max, x, dim, keepdim);
}
std::tuple<Tensor, Tensor> min(const Tensor& x, std::int64_t dim, bool keepdim) {
  return extreme_along(op("min"), Extreme::min, x, dim, keepdim);
}
Tensor amax(const Tensor& x, IntArrayRef dims, bool keepdim) {
  return extreme_value(op("amax"), ReduceKind::max, x, dims, keepdim);
}
Tensor amin(const Tensor& x, IntArrayRef dims, bool keepdim) {
  return extreme_value(op("amin"), ReduceKind::min, x, dims, keepdim);
}
Tensor argmax(const Tensor& x, optional<std::int64_t> dim, bool keepdim) {
  return extreme_place(op("argmax"), Extreme::max, x, dim, keepdim);
}
Tensor argmin(const Tensor& x, optional<std::int64_t> dim, bool keepdim) {
  return extreme_place(op("argmin"), Extreme::min, x, dim, keepdim);
}
Tensor all(const Tensor& x) { return logical(op("all"), ReduceKind::all, x, all_axes(), false); }
Tensor all(const Tensor& x, std::int64_t dim, bool keepdim) {
  return logical(op("all"), ReduceKind::all, x, dim, keepdim);
}
Tensor any(const Tensor& x) { return logical(op("any"), ReduceKind::any, x, all_axes(), false); }
Tensor any(const Tensor& x, std::int64_t dim, bool keepdim) {
  return logical(op("any"), ReduceKind::any, x, dim, keepdim);
}

}  // namespace halftone
