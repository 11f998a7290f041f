// Products over axes, and running sums and products.
#include "autograd/ops/reduce.h"

namespace halftone {
namespace {

// The product of all elements before each one along an axis, by a loop over the axis: exact with zeros, and
// differentiable.
std::vector<Tensor> products_before(const std::vector<Tensor>& places) {
  std::vector<Tensor> before{ones_like(places[0])};
  for (std::size_t i = 1; i < places.size(); ++i) before.push_back(before.back() * places[i - 1]);
  return before;
}

// The product of all elements but each one along axis `dim`.
Tensor products_of_others(const Tensor& x, std::int64_t dim) {
  std::vector<Tensor> places = unbind(x, dim);
  std::vector<Tensor> others = products_before(places);
  std::reverse(places.begin(), places.end());
  const std::vector<Tensor> after = products_before(places);
  for (std::size_t i = 0; i < others.size(); ++i) others[i] = others[i] * after[others.size() - 1 - i];
  return stack(others, dim);
}

bool has_zero(const Tensor& x) {
  const plain::Scope scope;
  return eq(x, 0).any().item<bool>();
}

// With zeros y / x is not defined: of one zero the gradient is the product of the rest, of two it is nothing.
Tensor first_product_grad(const Tensor& g, const Tensor& x, const Reduced& r) {
  const Tensor is_zero = eq(x, 0);
  const Tensor rest = where(is_zero, ones_like(x), x);
  const Tensor zeros = r.spread(is_zero.sum(r.axes(), r.keepdim));
  Tensor product = rest;
  for (const std::int64_t axis : r.axes()) product = prod(product, axis, true);
  const Tensor of_rest = product.expand(r.sizes);
  const Tensor others = where(is_zero, of_rest * eq(zeros, 1), of_rest / rest * eq(zeros, 0));
  return r.spread(g) * others;
}

struct ProdRule {
  Reduced r;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  Tensor forward(const Tensor& input) {
    Tensor out = reduce({ReduceKind::prod}, input, r, sum_dtype(input));
    x = input;
    y = out;
    return out;
  }

  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    const Tensor input = *x;
    if (!has_zero(input)) return {r.spread(g * *y) / input};
    if (!context.record) return {first_product_grad(g, input, r)};
    const bool one_axis = r.axes().size() == 1;
    const Tensor others =
        one_axis ? products_of_others(input, r.axes()[0]) : products_of_others(input.reshape(-1), 0).reshape(r.sizes);
    return {r.spread(g) * others};
  }
};

Tensor prod_over(const Tensor& x, IntArrayRef axes, bool keepdim, optional<Dtype> dtype) {
  const OpInfo& info = op("prod");
  const Tensor in = in_wanted_dtype(info, x, dtype);
  return apply(info, ProdRule{Reduced(info.name, in, axes, keepdim), {}, {}}, std::array{in});
}

}  // namespace

Tensor prod(const Tensor& x, optional<Dtype> dtype) { return prod_over(x, all_axes(), false, dtype); }
Tensor prod(const Tensor& x, std::int64_t dim, bool keepdim, optional<Dtype> dtype) {
  return prod_over(x, dim, keepdim, dtype);
}

// ------------------------------------------------------------------------------------------------ running sums

namespace {

Tensor scan(Scan kind, const Tensor& x, std::int64_t dim) {
  Tensor y = empty(x.sizes(), x.options().dtype(sum_dtype(x)));
  if (x.dim() == 0) {
    backend(x).copy(x, y);
  } else {
    backend(x).scan(kind, x, dim, y);
  }
  return y;
}

Tensor reversed(const Tensor& x, std::int64_t dim) {
  const TensorOptions options = TensorOptions(kInt64).device(x.device());
  return x.index_select(dim, arange(x.size(dim) - 1, -1, -1, options));
}

struct CumsumRule {
  std::int64_t dim;

  Tensor forward(const Tensor& x) const { return scan(Scan::sum, x, dim); }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    if (g.dim() == 0 || g.numel() == 0) return {g};
    return {reversed(cumsum(reversed(g, dim), dim, g.dtype()), dim)};
  }
};

struct CumprodRule {
  std::int64_t dim;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  Tensor forward(const Tensor& input) {
    Tensor out = scan(Scan::prod, input, dim);
    x = input;
    y = out;
    return out;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    if (g.dim() == 0 || g.numel() == 0) return {g};
    const Tensor input = *x;
    if (has_zero(input)) return {by_recurrence(g, input)};
    const Tensor products = g * *y;
    return {reversed(cumsum(reversed(products, dim), dim, g.dtype()), dim) / input};
  }

  // dx_k = (x_0 .. x_{k-1}) r_k with r_k = g_k + x_{k+1} r_{k+1}: no division, so zeros do no harm.
  Tensor by_recurrence(const Tensor& g, const Tensor& input) const {
    const std::vector<Tensor> values = unbind(input, dim), grads = unbind(g, dim);
    const std::vector<Tensor> before = products_before(values);
    std::vector<Tensor> result(values.size());
    Tensor rest = grads.back();
    for (std::size_t k = values.size(); k-- > 0;) {
      if (k + 1 < values.size()) rest = grads[k] + values[k + 1] * rest;
      result[k] = before[k] * rest;
    }
    return stack(result, dim);
  }
};

}  // namespace

Tensor cumsum(const Tensor& x, std::int64_t dim, optional<Dtype> dtype) {
  const OpInfo& info = op("cumsum");
  return apply(info, CumsumRule{wrap_dim(dim, x.dim())}, std::array{in_wanted_dtype(info, x, dtype)});
}
Tensor cumprod(const Tensor& x, std::int64_t dim, optional<Dtype> dtype) {
  const OpInfo& info = op("cumprod");
  return apply(info, CumprodRule{wrap_dim(dim, x.dim()), {}, {}}, std::array{in_wanted_dtype(info, x, dtype)});
}

}  // namespace halftone
