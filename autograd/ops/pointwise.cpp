// The gate of every pointwise op, and its rule. Not recording, a derivative is one kernel; recording, the formula's own
// derivative is written in tensors.
#include "autograd/ops/pointwise.h"

#include "autograd/ops.h"
#include "kernels/backend.h"

namespace halftone {

// What the derivatives in functors.h call for tensors.
Tensor select(const Tensor& condition, const Tensor& a, const Tensor& b) { return where(condition, a, b); }
Tensor select(bool condition, const Tensor& a, const Tensor& b) { return condition ? a : b; }
Tensor operator&&(const Tensor& a, const Tensor& b) { return logical_and(a, b); }
Tensor operator&&(const Tensor& a, bool b) { return b ? a : zeros_like(a); }
Tensor operator&&(bool a, const Tensor& b) { return b && a; }
Tensor nearbyint(const Tensor& x) { return round(x); }

namespace {

constexpr bool reads_x(Needs n) { return n == Needs::x || n == Needs::x_and_y; }
constexpr bool reads_y(Needs n) { return n == Needs::y || n == Needs::x_and_y; }

template <class Formula> Needs needs_of(const Formula& f) {
  return std::visit([]<class F>(const F&) { return F::needs; }, f);
}

template <class Formula> bool is_differentiable(const Formula& f) {
  return std::visit([]<class F>(const F&) { return F::differentiable; }, f);
}

template <class Formula> bool takes_integers(const Formula& f) {
  return std::visit([]<class F>(const F&) { return on_integers<F>; }, f);
}

// A gradient of the shape and dtype that g has.
Tensor like_gradient(const Tensor& g) { return empty_like(g); }

// PyTorch numbers the overload with a number 1: "AddBackward1".
template <class F> constexpr int overload_of = 0;
template <class F> constexpr int overload_of<fn::BindSecond<F>> = 1;
template <class F> constexpr int overload_of<fn::BindFirst<F>> = 1;

struct UnaryRule {
  Unary f;
  Dtype compute, result;
  int overload = 0;
  Saved x, y;
  auto saved() { return std::tie(x, y); }

  Tensor forward(const Tensor& in) {
    Tensor out = empty_like(in, TensorOptions(result));
    backend(in).unary(f, in, out, compute);
    const Needs needs = needs_of(f);
    if (reads_x(needs)) x = in;
    if (reads_y(needs)) y = out;
    return out;
  }

  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    if (context.record) {
      return {std::visit(
          [&]<class F>(const F& formula) -> Tensor {
            if constexpr (F::differentiable) {
              return formula.grad(g, *x, *y);
            } else {
              return {};
            }
          },
          f)};
    }
    Tensor dx = like_gradient(g);
    backend(g).unary_grad(f, g, *x, *y, dx);
    return {dx};
  }
};

struct BinaryRule {
  std::string_view name;
  Binary f;
  Dtype compute, result;
  Saved a, b, y;
  auto saved() { return std::tie(a, b, y); }

  Tensor forward(const Tensor& p, const Tensor& q) {
    Tensor out = result_for(p, q);
    backend(out).binary(f, p, q, out, compute);
    const Needs needs = needs_of(f);
    if (reads_x(needs)) a = p, b = q;
    if (reads_y(needs)) y = out;
    return out;
  }

  // The layout of the operand that has the result's shape.
  Tensor result_for(const Tensor& p, const Tensor& q) const {
    const TensorOptions options = TensorOptions(result).device(p.device());
    if (p.sizes().equals(q.sizes())) return empty_like(p.is_contiguous() ? q : p, options);
    const Dims sizes = broadcast_shapes(name, p.sizes(), q.sizes());
    if (p.sizes().equals(sizes)) return empty_like(p, options);
    if (q.sizes().equals(sizes)) return empty_like(q, options);
    return empty(sizes, options);
  }

  std::array<Tensor, 2> backward(const Tensor& g, Wants want) const {
    return {want[0] ? gradient(Operand::a, g) : Tensor{}, want[1] ? gradient(Operand::b, g) : Tensor{}};
  }

  Tensor gradient(Operand which, const Tensor& g) const {
    if (const auto* sum = std::get_if<fn::Add>(&f)) {
      return which == Operand::a || sum->alpha.real == 1 ? g : g * sum->alpha.real;
    }
    if (context.record) return recorded_gradient(which, g);
    Tensor dx = like_gradient(g);
    if (std::holds_alternative<fn::Mul>(f)) {
      backend(g).binary(fn::Mul{}, g, which == Operand::a ? *b : *a, dx, dx.dtype());
    } else {
      backend(g).binary_grad(f, which, g, *a, *b, *y, dx);
    }
    return dx;
  }

  Tensor recorded_gradient(Operand which, const Tensor& g) const {
    return std::visit(
        [&]<class F>(const F& formula) -> Tensor {
          if constexpr (F::differentiable) {
            return which == Operand::a ? formula.grad_a(g, *a, *b, *y) : formula.grad_b(g, *a, *b, *y);
          } else {
            return {};
          }
        },
        f);
  }
};

void check_same_device(const OpInfo& info, const Tensor& a, const Tensor& b) {
  // A number in a 0-dim CPU tensor may meet any device's tensor, as PyTorch allows: the op brings it over.
  check(a.device() == b.device(), info.name, ": expected all tensors to be on the same device, but found ", a.dtype(),
        a.sizes(), " on ", a.device(), " and ", b.dtype(), b.sizes(), " on ", b.device());
}

constexpr int category(Dtype d) { return is_floating_point(d) ? 2 : (d == kBool ? 0 : 1); }

Dtype arithmetic_dtype(Dtype d, bool integers_allowed) {
  return is_floating_point(d) || integers_allowed ? d : get_default_dtype();
}

}  // namespace

void meet(Tensor& a, Tensor& b) {
  if (a.device() == b.device()) return;
  if (b.dim() == 0 && b.device() == Device(kCPU)) b = b.to(a.device());
  if (a.dim() == 0 && a.device() == Device(kCPU)) a = a.to(b.device());
}

Dtype result_type(const Tensor& a, const Tensor& b) {
  if (a.dtype() == b.dtype()) return a.dtype();
  const bool a_rules = a.dim() > 0, b_rules = b.dim() > 0;
  if (a_rules == b_rules) return promote_types(a.dtype(), b.dtype());
  const Dtype ruling = a_rules ? a.dtype() : b.dtype(), other = a_rules ? b.dtype() : a.dtype();
  return category(other) > category(ruling) ? promote_types(ruling, other) : ruling;
}

Dtype result_type(const Tensor& a, const Scalar& b) {
  if (category(b.type()) <= category(a.dtype())) return a.dtype();
  return b.isFloatingPoint() ? get_default_dtype() : kInt64;
}

Tensor unary_op(const OpInfo& info, const Unary& f, const Tensor& x, Dtype compute, Dtype result) {
  if (!is_differentiable(f)) {
    return apply_plain(info, std::array{x}, [&](const Tensor& in) {
      Tensor out = empty_like(in, TensorOptions(result));
      backend(in).unary(f, in, out, compute);
      return out;
    });
  }
  const int overload = std::visit([]<class F>(const F&) { return overload_of<F>; }, f);
  UnaryRule rule{f, compute, result, overload, {}, {}};
  Observation observation(info, {&x, 1});
  if (!context.filter) {
    Tensor out = rule.forward(x);
    observation.done({&x, 1}, out);
    if (context.record && needs_grad(x)) record(info, std::move(rule), std::array{x}, out);
    return out;
  }
  std::array inputs{x};
  (*context.filter)(info, inputs);
  if (inputs[0].dtype() != x.dtype() &&
      compute == x.dtype()) {  // the cast decides what is computed, as if x had come so
    rule.compute = inputs[0].dtype();
    if (result == x.dtype()) rule.result = rule.compute;
  }
  Tensor out = rule.forward(inputs[0]);
  observation.done(inputs, out);
  if (context.record && needs_grad(inputs[0])) record(info, std::move(rule), inputs, out);
  return out;
}

Tensor unary_op(const OpInfo& info, const Unary& f, const Tensor& x) {
  const Dtype dtype = arithmetic_dtype(x.dtype(), takes_integers(f));
  return unary_op(info, f, x, dtype, dtype);
}

Tensor binary_op(const OpInfo& info, const Binary& f, const Tensor& a, const Tensor& b, Dtype result) {
  std::array inputs{a, b};
  Observation observation(info, inputs);
  if (context.filter) (*context.filter)(info, inputs);
  meet(inputs[0], inputs[1]);
  check_same_device(info, inputs[0], inputs[1]);
  const Dtype compute = arithmetic_dtype(result_type(inputs[0], inputs[1]), takes_integers(f));
  BinaryRule rule{info.name, f, compute, result == Dtype::Undefined ? compute : result, {}, {}, {}};
  Tensor out = rule.forward(inputs[0], inputs[1]);
  observation.done(inputs, out);
  if (context.record && is_differentiable(f) && any_needs_grad(inputs)) record(info, std::move(rule), inputs, out);
  return out;
}

void check_result_fits(const OpInfo& info, const Tensor& self, Dtype computed) {
  check(category(computed) <= category(self.dtype()), info.name, "_: result type ", computed,
        " can't be cast to the desired output type ", self.dtype());
}

const Tensor& binary_op_(const OpInfo& info, const Binary& f, const Tensor& self, const Tensor& other) {
  Tensor operand = other;
  Tensor target = self;
  meet(target, operand);
  check_same_device(info, self, operand);
  const Dtype compute = arithmetic_dtype(result_type(self, operand), takes_integers(f));
  check_result_fits(info, self, compute);
  check<ValueError>(self.sizes().equals(broadcast_shapes(info.name, self.sizes(), operand.sizes())), info.name,
                    "_: output with shape ", self.sizes(), " doesn't match the broadcast shape of ", operand.sizes());
  return write_in_place(
      info, self, std::array{operand},
      [&](const Tensor& old) {
        return binary_op(info, f, old, reads_x(needs_of(f)) ? apart_in_graph(self, operand) : operand);
      },
      [&](Tensor to) { backend(to).binary(f, to, apart_from(to, operand), to, compute); });
}

const Tensor& unary_op_(const OpInfo& info, const Unary& f, const Tensor& self) {
  const Dtype compute = arithmetic_dtype(self.dtype(), takes_integers(f));
  check_result_fits(info, self, compute);
  return write_in_place(
      info, self, std::array<Tensor, 0>{}, [&](const Tensor& old) { return unary_op(info, f, old); },
      [&](Tensor to) { backend(to).unary(f, to, to, compute); });
}

}  // namespace halftone
