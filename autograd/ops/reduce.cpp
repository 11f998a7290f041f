// Reductions over axes, and their gradients: mostly g given back its axes, times something.
#include <limits>

#include "autograd/ops/indexing.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

using plain::at;

// Where a reduction was: enough to give a gradient its axes back.
struct Reduced {
  Dims sizes;  // of x
  unsigned mask = 0;
  bool keepdim = false;

  Reduced() = default;
  Reduced(std::string_view op, const Tensor& x, IntArrayRef axes, bool keep)
      : sizes(dims(x.sizes())), mask(dim_mask(op, axes, x.dim())), keepdim(keep) {}

  Dims result_sizes() const { return reduced_sizes(sizes, mask, keepdim); }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (std::size_t i = 0; i < sizes.size(); ++i) n *= (mask >> i) & 1u ? sizes[i] : 1;
    return n;
  }
  std::vector<std::int64_t> axes() const {
    std::vector<std::int64_t> list;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if ((mask >> i) & 1u) list.push_back(static_cast<std::int64_t>(i));
    }
    return list;
  }
  /// A result with its axes of size 1 in place.
  Tensor keep(const Tensor& t) const { return keepdim ? t : t.reshape(reduced_sizes(sizes, mask, true)); }
  /// A result repeated along the reduced axes, without copying.
  Tensor spread(const Tensor& t) const { return keep(t).expand(sizes); }
};

// The kernel; a 0-dim tensor is a list of one.
Tensor run(const Reduce& kind, const Tensor& x, const Reduced& r, Dtype dtype) {
  Tensor y = empty(r.result_sizes(), x.options().dtype(dtype));
  if (x.dim() == 0) {
    backend(x).reduce(kind, plain::reshaped(x, {1}), 1, y);
    return y;
  }
  Tensor flat = r.keepdim ? plain::reshaped(y, reduced_sizes(r.sizes, r.mask, false)) : y;
  backend(x).reduce(kind, x, r.mask, flat);
  return y;
}

// x in the dtype that the caller or autocast asks the result to have.
Tensor in_wanted_dtype(const OpInfo& info, const Tensor& x, optional<Dtype> dtype) {
  const optional<Dtype> wanted = wanted_dtype(info, x, dtype);
  return wanted && *wanted != x.dtype() ? x.to(*wanted) : x;
}

// Sums and products of integers and bools are int64.
Dtype sum_dtype(const Tensor& x) { return x.is_floating_point() ? x.dtype() : kInt64; }

IntArrayRef all_axes() { return {}; }

// ------------------------------------------------------------------------------------------------ sum, mean

// Overload 0 is over all elements, 1 over axes: the numbers in PyTorch's SumBackward0 and SumBackward1.
template <int Overload>
struct SumRule {
  static constexpr int overload = Overload;
  Reduced r;
  Dtype dtype;

  // Sums are wide inside, so 16-bit x need not be cast to give a float32 sum.
  Tensor forward(const Tensor& x) const { return run({ReduceKind::sum}, x, r, dtype); }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {r.spread(g)}; }
};

template <int Overload>
struct MeanRule {
  static constexpr int overload = Overload;
  Reduced r;
  Dtype dtype;

  Tensor forward(const Tensor& x) const { return run({ReduceKind::mean}, x, r, dtype); }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {r.spread(g / static_cast<double>(r.count()))};
  }
};

template <int Overload>
Tensor sum_over(const Tensor& x, IntArrayRef axes, bool keepdim, optional<Dtype> dtype) {
  const OpInfo& info = op("sum");
  const Dtype wanted = wanted_dtype(info, x, dtype).value_or(sum_dtype(x));
  const bool widens = is_floating_point(wanted) && x.is_floating_point() && element_size(wanted) >= x.element_size();
  const Tensor in = widens || wanted == sum_dtype(x) ? x : x.to(wanted);
  return apply(info, SumRule<Overload>{Reduced(info.name, x, axes, keepdim), wanted}, std::array{in});
}

template <int Overload>
Tensor mean_over(const Tensor& x, IntArrayRef axes, bool keepdim, optional<Dtype> dtype) {
  const OpInfo& info = op("mean");
  const Dtype wanted = dtype.value_or(x.dtype());
  check(is_floating_point(wanted), info.name, ": input dtype must be floating point, got ", wanted);
  const bool widens = x.is_floating_point() && element_size(wanted) >= x.element_size();
  return apply(info, MeanRule<Overload>{Reduced(info.name, x, axes, keepdim), wanted},
               std::array{widens ? x : x.to(wanted)});
}

}  // namespace

Tensor sum(const Tensor& x, optional<Dtype> dtype) { return sum_over<0>(x, all_axes(), false, dtype); }
Tensor sum(const Tensor& x, IntArrayRef dims, bool keepdim, optional<Dtype> dtype) {
  return sum_over<1>(x, dims, keepdim, dtype);
}
Tensor mean(const Tensor& x, optional<Dtype> dtype) { return mean_over<0>(x, all_axes(), false, dtype); }
Tensor mean(const Tensor& x, IntArrayRef dims, bool keepdim, optional<Dtype> dtype) {
  return mean_over<1>(x, dims, keepdim, dtype);
}

Tensor sum_to_size(const Tensor& x, IntArrayRef sizes) {
  if (x.sizes().equals(sizes)) return x;
  const std::size_t rank = at(x.dim());
  check<ValueError>(sizes.size() <= rank, "sum_to_size: ", x.sizes(), " does not come from broadcasting ", sizes);
  const std::size_t lead = rank - sizes.size();
  std::vector<std::int64_t> axes;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t wanted = i < lead ? 1 : sizes[i - lead];
    check<ValueError>(wanted == 1 || wanted == x.sizes()[i], "sum_to_size: ", x.sizes(), " does not come from broadcasting ",
                      sizes);
    if (i < lead || wanted != x.sizes()[i]) axes.push_back(static_cast<std::int64_t>(i));
  }
  const Tensor summed = axes.empty() ? x : sum(x, axes, true, x.dtype());
  return summed.reshape(sizes);
}

// ------------------------------------------------------------------------------------------------ products

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
    Tensor out = run({ReduceKind::prod}, input, r, sum_dtype(input));
    x = input;
    y = out;
    return out;
  }

  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    const Tensor input = *x;
    if (!has_zero(input)) return {r.spread(g * *y) / input};
    if (!context.record) return {first_product_grad(g, input, r)};
    const bool one_axis = r.axes().size() == 1;
    const Tensor others = one_axis ? products_of_others(input, r.axes()[0])
                                   : products_of_others(input.reshape(-1), 0).reshape(r.sizes);
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

// ------------------------------------------------------------------------------------------------ extremes

namespace {

void check_not_empty(const OpInfo& info, const Reduced& r) {
  const bool nothing = r.count() == 0;
  check<IndexError>(!nothing, info.name,
                    "(): Expected reduction dim to be specified for input.numel() == 0, or of a size that is not 0: got ",
                    r.sizes);
}

// Equal largest elements share the gradient.
struct ExtremeValueRule {
  const OpInfo* info;
  ReduceKind kind;
  Reduced r;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  Tensor forward(const Tensor& input) {
    check_not_empty(*info, r);
    Tensor out = run({kind}, input, r, input.dtype());
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

std::tuple<Tensor, Tensor> extreme_along(const OpInfo& info, Extreme which, const Tensor& x, std::int64_t dim, bool keepdim) {
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
    return keepdim && !dim ? f.indices.reshape(Dims(at(input.dim()), 1)) : f.indices;
  });
}

Tensor logical(const OpInfo& info, ReduceKind kind, const Tensor& x, IntArrayRef axes, bool keepdim) {
  return apply_plain(info, std::array{x}, [&](const Tensor& input) {
    return run({kind}, input, Reduced(info.name, input, axes, keepdim), kBool);
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
Tensor all(const Tensor& x, std::int64_t dim, bool keepdim) { return logical(op("all"), ReduceKind::all, x, dim, keepdim); }
Tensor any(const Tensor& x) { return logical(op("any"), ReduceKind::any, x, all_axes(), false); }
Tensor any(const Tensor& x, std::int64_t dim, bool keepdim) { return logical(op("any"), ReduceKind::any, x, dim, keepdim); }

// ------------------------------------------------------------------------------------------------ spread

namespace {

Tensor variance_grad(const Tensor& g, const Tensor& x, const Reduced& r, double correction) {
  const double divisor = static_cast<double>(r.count()) - correction;
  return (x - x.mean(r.axes(), true)) * (r.keep(g) * (2 / divisor));
}

struct VarRule {
  Reduced r;
  double correction;
  Saved x;
  auto saved() { return std::tie(x); }

  Tensor forward(const Tensor& input) {
    check_floating(op("var"), input);
    x = input;
    return run({.kind = ReduceKind::variance, .correction = correction}, input, r, input.dtype());
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {variance_grad(g, *x, r, correction)}; }
};

// At deviation 0 the gradient counts as 0.
struct StdRule {
  Reduced r;
  double correction;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  Tensor forward(const Tensor& input) {
    check_floating(op("std"), input);
    Tensor out = run({.kind = ReduceKind::variance, .correction = correction}, input, r, plain::wide(input.dtype()));
    backend(out).unary(fn::Sqrt{}, out, out, out.dtype());
    out = plain::cast(out, input.dtype());
    x = input;
    y = out;
    return out;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    const Tensor deviation = *y;
    const Tensor of_variance = masked_fill(g / (deviation * 2), eq(deviation, 0), 0);
    return {variance_grad(of_variance, *x, r, correction)};
  }
};

double correction_of(bool unbiased) { return unbiased ? 1 : 0; }

template <class Rule>
Rule spread_rule(const OpInfo& info, const Tensor& x, IntArrayRef dims, bool unbiased, bool keepdim) {
  Rule rule{};
  rule.r = Reduced(info.name, x, dims, keepdim);
  rule.correction = correction_of(unbiased);
  return rule;
}

}  // namespace

Tensor var(const Tensor& x, IntArrayRef dims, bool unbiased, bool keepdim) {
  return apply(op("var"), spread_rule<VarRule>(op("var"), x, dims, unbiased, keepdim), std::array{x});
}
Tensor std(const Tensor& x, IntArrayRef dims, bool unbiased, bool keepdim) {
  return apply(op("std"), spread_rule<StdRule>(op("std"), x, dims, unbiased, keepdim), std::array{x});
}
Tensor var(const Tensor& x, bool unbiased) { return var(x, all_axes(), unbiased, false); }
Tensor std(const Tensor& x, bool unbiased) { return halftone::std(x, all_axes(), unbiased, false); }

// ------------------------------------------------------------------------------------------------ norms

namespace {

// Where the norm has no derivative, 0 is taken.
struct NormRule {
  Reduced r;
  double p;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  Tensor forward(const Tensor& input) {
    check_floating(op("norm"), input);
    Tensor out = run({.kind = ReduceKind::norm, .p = p}, input, r, input.dtype());
    x = input;
    y = out;
    return out;
  }

  std::array<Tensor, 1> backward(const Tensor& given, Wants) const {
    const Tensor g = r.keep(given), input = *x, length = r.keep(*y);
    if (p == 0) return {zeros_like(input)};
    if (p == 1) return {sign(input) * g};
    if (std::isinf(p)) return {shared_by_extremes(g, input, length)};
    if (p == 2) return {input * masked_fill(g / length, eq(length, 0), 0)};
    const Tensor scale = masked_fill(g / pow(length, p - 1), eq(length, 0), 0);
    const Tensor slope = sign(input) * pow(abs(input), p - 1);
    return {masked_fill(slope, eq(input, 0), 0) * scale};
  }

  Tensor shared_by_extremes(const Tensor& g, const Tensor& input, const Tensor& length) const {
    const Tensor is_it = eq(abs(input.detach()), length.detach()).to(input.dtype());
    return sign(input) * is_it * (g / is_it.sum(r.axes(), true));
  }
};

}  // namespace

Tensor norm(const Tensor& x, const Scalar& p, IntArrayRef dims, bool keepdim, optional<Dtype> dtype) {
  const OpInfo& info = op("norm");
  const Tensor in = in_wanted_dtype(info, x, dtype);
  NormRule rule{Reduced(info.name, in, dims, keepdim), p.toDouble(), {}, {}};
  const bool needs_elements = p.toDouble() == -std::numeric_limits<double>::infinity();
  if (needs_elements) check_not_empty(info, rule.r);
  return apply(info, std::move(rule), std::array{in});
}
Tensor norm(const Tensor& x, const Scalar& p) { return norm(x, p, all_axes()); }

namespace {

struct LogSumExpRule {
  Reduced r;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  // The largest element is taken out before the exponential, which then cannot overflow.
  Tensor forward(const Tensor& input) {
    check_floating(op("logsumexp"), input);
    const plain::Scope scope;
    if (input.numel() == 0) return full(r.result_sizes(), -std::numeric_limits<double>::infinity(), input.options());
    Tensor largest = run({ReduceKind::max}, input, kept(), input.dtype());
    largest.masked_fill_(largest.isinf(), 0);
    const Tensor sums = (input - largest).exp().sum(r.axes(), true);
    const Tensor out = (sums.log() + largest).reshape(r.result_sizes());
    x = input;
    y = out;
    return out;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {r.keep(g) * exp(*x - r.keep(*y))}; }

  Reduced kept() const {
    Reduced all = r;
    all.keepdim = true;
    return all;
  }
};

}  // namespace

Tensor logsumexp(const Tensor& x, IntArrayRef dims, bool keepdim) {
  const OpInfo& info = op("logsumexp");
  return apply(info, LogSumExpRule{Reduced(info.name, x, dims, keepdim), {}, {}}, std::array{x});
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
