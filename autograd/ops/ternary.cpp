// Ops of three operands: one kernel forward; backward is composed of ops, so it is differentiable.
#include "autograd/ops.h"
#include "autograd/ops/plain.h"
#include "autograd/ops/pointwise.h"
#include "kernels/backend.h"

namespace halftone {
namespace {

void check_one_device(std::string_view name, const Tensor& a, const Tensor& b, const Tensor& c) {
  check(a.device() == b.device() && a.device() == c.device(), name, ": expected all tensors on one device, got ",
        describe(a), " on ", a.device(), ", ", describe(b), " on ", b.device(), " and ", describe(c), " on ",
        c.device());
}

std::array<Tensor, 3> met(std::array<Tensor, 3> operands) {
  for (Tensor& a : operands) {
    for (Tensor& b : operands) meet(a, b);
  }
  return operands;
}

// The kernel over three broadcast operands.
Tensor run(const Ternary& f, const Tensor& a, const Tensor& b, const Tensor& c, Dtype dtype, std::string_view name) {
  check_one_device(name, a, b, c);
  const Dims sizes = broadcast_shapes(name, broadcast_shapes(name, a.sizes(), b.sizes()), c.sizes());
  const Tensor& like = b.sizes().equals(sizes) ? b : a;
  const TensorOptions options = TensorOptions(dtype).device(a.device());
  Tensor out = like.sizes().equals(sizes) ? empty_like(like, options) : empty(sizes, options);
  backend(out).ternary(f, a, b, c, out, dtype);
  return out;
}

struct WhereRule {
  Dtype dtype;
  Saved condition;
  auto saved() { return std::tie(condition); }
  Tensor forward(const Tensor& c, const Tensor& a, const Tensor& b) {
    condition = c;
    return run(fn::Where{}, c, a, b, dtype, "where");
  }
  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    const Tensor zero = zeros({}, g.options());
    return {Tensor{}, want[1] ? where(*condition, g, zero) : Tensor{}, want[2] ? where(*condition, zero, g) : Tensor{}};
  }
};

struct LerpRule {
  Dtype dtype;
  Saved start, end, weight;
  auto saved() { return std::tie(start, end, weight); }
  Tensor forward(const Tensor& a, const Tensor& b, const Tensor& w) {
    start = a, end = b, weight = w;
    return run(fn::Lerp{}, a, b, w, dtype, "lerp");
  }
  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    return {want[0] ? g * (1 - *weight) : Tensor{}, want[1] ? g * *weight : Tensor{},
            want[2] ? g * (*end - *start) : Tensor{}};
  }
};

struct AddcmulRule {
  Dtype dtype;
  fn::AddProduct f;
  Saved a, b;
  auto saved() { return std::tie(a, b); }
  Tensor forward(const Tensor& x, const Tensor& p, const Tensor& q) {
    a = p, b = q;
    return run(f, x, p, q, dtype, "addcmul");
  }
  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    return {g, want[1] ? g * *b * f.value.real : Tensor{}, want[2] ? g * *a * f.value.real : Tensor{}};
  }
};

struct AddcdivRule {
  Dtype dtype;
  fn::AddQuotient f;
  Saved a, b;
  auto saved() { return std::tie(a, b); }
  Tensor forward(const Tensor& x, const Tensor& p, const Tensor& q) {
    a = p, b = q;
    return run(f, x, p, q, dtype, "addcdiv");
  }
  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    return {g, want[1] ? g / *b * f.value.real : Tensor{}, want[2] ? -g * *a / (*b * *b) * f.value.real : Tensor{}};
  }
};

Dtype common(const Tensor& a, const Tensor& b, const Tensor& c) {
  const Dtype ab = result_type(a, b);
  return promote_types(ab, result_type(a, c));
}

// The common dtype is that of the inputs as they run: autocast may have cast them.
template <class Rule> Tensor apply_common(const OpInfo& info, Rule rule, std::array<Tensor, 3> inputs) {
  Observation observation(info, inputs);
  if (context.filter) (*context.filter)(info, inputs);
  rule.dtype = common(inputs[0], inputs[1], inputs[2]);
  if (!is_floating_point(rule.dtype) && std::is_same_v<Rule, AddcdivRule>) rule.dtype = get_default_dtype();
  Tensor out = rule.forward(inputs[0], inputs[1], inputs[2]);
  observation.done(inputs, out);
  if (context.record && any_needs_grad(inputs)) record(info, std::move(rule), inputs, out);
  return out;
}

// What is written in place keeps its shape, and its kind of numbers.
void check_written(const OpInfo& info, const Tensor& self, std::initializer_list<Tensor> others, Dtype computed) {
  Dims sizes = dims(self.sizes());
  for (const Tensor& other : others) {
    check_same_device(info, "all tensors", self, other);
    sizes = broadcast_shapes(info.name, sizes, other.sizes());
  }
  check<ValueError>(self.sizes().equals(sizes), info.name, "_: output with shape ", self.sizes(),
                    " doesn't match the broadcast shape ", sizes);
  check_result_fits(info, self, computed);
}

// `other`, on self's device if it is a number on the CPU.
Tensor beside(const Tensor& self, Tensor other) {
  Tensor lead = self;
  meet(lead, other);
  return other;
}

void check_lerp(const Tensor& start, const Tensor& end) {
  check(start.dtype() == end.dtype() && start.is_floating_point(),
        "lerp: expected both tensors in one floating dtype, got ", describe(start), " and ", describe(end));
}

// A number as a 0-dim tensor that does not widen `like`.
Tensor number_beside(const Scalar& value, const Tensor& like) {
  return full({}, value, TensorOptions(result_type(like, value)).device(like.device()));
}

}  // namespace

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check<TypeError>(condition.dtype() == kBool, "where: expected condition to be a boolean tensor, but got ",
                   describe(condition));
  return apply(op("where"), WhereRule{result_type(a, b), {}}, met({condition, a, b}));
}
Tensor where(const Tensor& condition, const Tensor& a, const Scalar& b) {
  return where(condition, a, number_beside(b, a));
}
Tensor where(const Tensor& condition, const Scalar& a, const Tensor& b) {
  return where(condition, number_beside(a, b), b);
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, const Scalar& value) {
  check<TypeError>(mask.dtype() == kBool, "masked_fill: expected a boolean mask, but got ", describe(mask));
  const Tensor filler = full({}, value, x.options());
  return apply(op("masked_fill"), WhereRule{x.dtype(), {}}, std::array{beside(x, mask), filler, x});
}

Tensor lerp(const Tensor& a, const Tensor& end, const Tensor& weight) {
  check_lerp(a, end);
  return apply_common(op("lerp"), LerpRule{}, met({a, end, weight}));
}
Tensor lerp(const Tensor& a, const Tensor& end, const Scalar& weight) { return lerp(a, end, number_beside(weight, a)); }

Tensor addcmul(const Tensor& x, const Tensor& a, const Tensor& b, const Scalar& value) {
  AddcmulRule rule{};
  rule.f.value = value;
  return apply_common(op("addcmul"), std::move(rule), met({x, a, b}));
}
Tensor addcdiv(const Tensor& x, const Tensor& a, const Tensor& b, const Scalar& value) {
  AddcdivRule rule{};
  rule.f.value = value;
  return apply_common(op("addcdiv"), std::move(rule), met({x, a, b}));
}

const Tensor& Tensor::masked_fill_(const Tensor& mask, const Scalar& value) const {
  check<TypeError>(mask.dtype() == kBool, "masked_fill_: expected a boolean mask, but got ", describe(mask));
  const Tensor there = beside(*this, mask);
  check_written(op("masked_fill"), *this, {there}, dtype());
  return write_in_place(
      op("masked_fill"), *this, std::array{there},
      [&](const Tensor& old) { return halftone::masked_fill(old, there, value); },
      [&](Tensor to) {
        const Tensor filler = full({}, value, to.options());
        backend(to).ternary(fn::Where{}, apart_from(to, there), filler, to, to, to.dtype());
      });
}
const Tensor& Tensor::addcmul_(const Tensor& a, const Tensor& b, const Scalar& value) const {
  fn::AddProduct f;
  f.value = value;
  const Tensor p = beside(*this, a), q = beside(*this, b);
  const Dtype compute = common(*this, p, q);
  check_written(op("addcmul"), *this, {p, q}, compute);
  return write_in_place(
      op("addcmul"), *this, std::array{p, q},
      [&](const Tensor& old) {
        return halftone::addcmul(old, apart_in_graph(*this, p), apart_in_graph(*this, q), value);
      },
      [&](Tensor to) { backend(to).ternary(f, to, apart_from(to, p), apart_from(to, q), to, compute); });
}
const Tensor& Tensor::addcdiv_(const Tensor& a, const Tensor& b, const Scalar& value) const {
  fn::AddQuotient f;
  f.value = value;
  const Tensor p = beside(*this, a), q = beside(*this, b);
  Dtype compute = common(*this, p, q);
  if (!halftone::is_floating_point(compute)) compute = get_default_dtype();
  check_written(op("addcdiv"), *this, {p, q}, compute);
  return write_in_place(
      op("addcdiv"), *this, std::array{p, q},
      [&](const Tensor& old) {
        return halftone::addcdiv(old, apart_in_graph(*this, p), apart_in_graph(*this, q), value);
      },
      [&](Tensor to) { backend(to).ternary(f, to, apart_from(to, p), apart_from(to, q), to, compute); });
}
const Tensor& Tensor::lerp_(const Tensor& given, const Scalar& weight) const {
  check_lerp(*this, given);
  const Tensor end = beside(*this, given);
  check_written(op("lerp"), *this, {end}, dtype());
  return write_in_place(
      op("lerp"), *this, std::array{end},
      [&](const Tensor& old) { return halftone::lerp(old, apart_in_graph(*this, end), weight); },
      [&](Tensor to) {
        const Tensor share = full({}, weight, to.options());
        backend(to).ternary(fn::Lerp{}, to, apart_from(to, end), share, to, to.dtype());
      });
}

}  // namespace halftone
