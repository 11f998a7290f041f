// Variance, norms and log-sum-exp.
#include <cmath>
#include <limits>

#include "autograd/ops/reduce.h"

namespace halftone {
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
    return reduce({.kind = ReduceKind::variance, .correction = correction}, input, r, input.dtype());
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
    Tensor out = reduce({.kind = ReduceKind::variance, .correction = correction}, input, r, plain::wide(input.dtype()));
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
    Tensor out = reduce({.kind = ReduceKind::norm, .p = p}, input, r, input.dtype());
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
    Tensor largest = reduce({ReduceKind::max}, input, kept(), input.dtype());
    largest.masked_fill_(largest.isinf(), 0);
    const Tensor sums = (input - largest).exp().sum(r.axes(), true);
    Tensor out = (sums.log() + largest).reshape(r.result_sizes());
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

}  // namespace halftone
