// The pointwise functions: which formula each one is.
#include "autograd/ops.h"
#include "autograd/ops/pointwise.h"
#include "kernels/backend.h"

namespace halftone {
namespace {

fn::Add add_scaled(const Scalar& alpha) {
  fn::Add f;
  f.alpha = alpha;
  return f;
}

Scalar negated(const Scalar& s) { return s.isBoolean() ? Scalar(-s.toLong()) : -s; }

// f(x, number): computed in the dtype that the two make together.
template <class F>
Tensor with_number(const OpInfo& info, F f, const Tensor& x, const Scalar& number, Dtype result = Dtype::Undefined) {
  Dtype compute = result_type(x, number);
  if (!on_integers<F> && !is_floating_point(compute)) compute = get_default_dtype();
  return unary_op(info, fn::BindSecond<F>(f, number), x, compute, result == Dtype::Undefined ? compute : result);
}

template <class F> Tensor number_with(const OpInfo& info, F f, const Scalar& number, const Tensor& x) {
  Dtype compute = result_type(x, number);
  if (!on_integers<F> && !is_floating_point(compute)) compute = get_default_dtype();
  return unary_op(info, fn::BindFirst<F>(f, number), x, compute, compute);
}

template <class F> const Tensor& with_number_(const OpInfo& info, F f, const Tensor& x, const Scalar& number) {
  Dtype compute = result_type(x, number);
  if (!on_integers<F> && !is_floating_point(compute)) compute = get_default_dtype();
  check(compute == x.dtype() || is_floating_point(x.dtype()), info.name, "_: result type ", compute,
        " can't be cast to the desired output type ", x.dtype());
  return unary_op_(info, fn::BindSecond<F>(f, number), x);
}

void check_alpha(const OpInfo& info, Dtype dtype, const Scalar& alpha) {
  check(!alpha.isFloatingPoint() || is_floating_point(dtype), info.name,
        ": for integral input tensors alpha must not be a ", "floating point number, got ", alpha);
}

void check_integral(const OpInfo& info, const Tensor& x) {
  check<TypeError>(!is_floating_point(x.dtype()), info.name, ": wants integers or bool, got ", describe(x));
}

void check_divisor(const Tensor& a, const Tensor& b) {
  if (is_floating_point(result_type(a, b))) return;
  check(!(b == 0).any().item<bool>(), "remainder: integer division by zero");
}

template <class F> Tensor predicate(const OpInfo& info, F f, const Tensor& x) {
  return unary_op(info, f, x, x.dtype(), kBool);
}

template <class F> Tensor bitwise(const OpInfo& info, F f, const Tensor& a, const Tensor& b) {
  check_integral(info, a);
  check_integral(info, b);
  return binary_op(info, f, a, b);
}

// x ^ 2 and x ^ 0.5 have formulas of their own, which are quicker and exact.
Tensor power(const Tensor& a, const Scalar& exponent) {
  const OpInfo& info = op("pow");
  const Dtype compute = result_type(a, exponent);
  check(is_floating_point(compute) || exponent.toLong() >= 0,
        "pow: Integers to negative integer powers are not allowed");
  if (exponent.equal(2)) return unary_op(info, fn::Square{}, a, compute, compute);
  if (exponent.equal(0.5) && is_floating_point(compute)) return unary_op(info, fn::Sqrt{}, a, compute, compute);
  return with_number(info, fn::Pow{}, a, exponent);
}

fn::Clamp clamp_formula(const optional<Scalar>& min, const optional<Scalar>& max) {
  check(min.has_value() || max.has_value(), "clamp: At least one of 'min' or 'max' must not be None");
  fn::Clamp f;
  f.has_low = min.has_value();
  f.has_high = max.has_value();
  if (min) f.low = *min;
  if (max) f.high = *max;
  return f;
}

Dtype clamp_dtype(const Tensor& x, const optional<Scalar>& min, const optional<Scalar>& max) {
  const Dtype low = min ? result_type(x, *min) : x.dtype(), high = max ? result_type(x, *max) : x.dtype();
  return promote_types(low, high);
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b, const Scalar& alpha) {
  check_alpha(op("add"), result_type(a, b), alpha);
  return binary_op(op("add"), add_scaled(alpha), a, b);
}
Tensor add(const Tensor& a, const Scalar& b) { return with_number(op("add"), fn::Add{}, a, b); }
Tensor sub(const Tensor& a, const Tensor& b, const Scalar& alpha) {
  check(a.dtype() != kBool || b.dtype() != kBool,
        "sub: subtraction of two bool tensors is not supported, use logical_xor");
  check_alpha(op("sub"), result_type(a, b), alpha);
  return binary_op(op("sub"), add_scaled(negated(alpha)), a, b);
}
Tensor sub(const Tensor& a, const Scalar& b) { return with_number(op("sub"), fn::Add{}, a, negated(b)); }
Tensor rsub(const Tensor& a, const Scalar& b) { return number_with(op("sub"), add_scaled(-1), b, a); }
Tensor mul(const Tensor& a, const Tensor& b) { return binary_op(op("mul"), fn::Mul{}, a, b); }
Tensor mul(const Tensor& a, const Scalar& b) { return with_number(op("mul"), fn::Mul{}, a, b); }
Tensor div(const Tensor& a, const Tensor& b) { return binary_op(op("div"), fn::Div{}, a, b); }
Tensor div(const Tensor& a, const Scalar& b) { return with_number(op("div"), fn::Div{}, a, b); }
Tensor operator/(const Scalar& a, const Tensor& b) {
  return a.equal(1) ? reciprocal(b) : number_with(op("div"), fn::Div{}, a, b);
}
Tensor remainder(const Tensor& a, const Tensor& b) {
  check_divisor(a, b);
  return binary_op(op("remainder"), fn::Remainder{}, a, b);
}
Tensor remainder(const Tensor& a, const Scalar& b) {
  check(is_floating_point(result_type(a, b)) || b.toLong() != 0, "remainder: integer division by zero");
  return with_number(op("remainder"), fn::Remainder{}, a, b);
}
Tensor pow(const Tensor& a, const Tensor& exponent) { return binary_op(op("pow"), fn::Pow{}, a, exponent); }
Tensor pow(const Tensor& a, const Scalar& exponent) { return power(a, exponent); }
Tensor pow(const Scalar& a, const Tensor& exponent) { return number_with(op("pow"), fn::Pow{}, a, exponent); }
Tensor maximum(const Tensor& a, const Tensor& b) { return binary_op(op("maximum"), fn::Maximum{}, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return binary_op(op("minimum"), fn::Minimum{}, a, b); }
Tensor atan2(const Tensor& a, const Tensor& b) { return binary_op(op("atan2"), fn::Atan2{}, a, b); }

Tensor abs(const Tensor& x) { return unary_op(op("abs"), fn::Abs{}, x); }
Tensor neg(const Tensor& x) {
  check(x.dtype() != kBool, "neg: the negation of a bool tensor is not supported, use logical_not");
  return unary_op(op("neg"), fn::Neg{}, x);
}
Tensor sign(const Tensor& x) { return unary_op(op("sign"), fn::Sign{}, x); }
Tensor square(const Tensor& x) { return unary_op(op("square"), fn::Square{}, x); }
Tensor exp(const Tensor& x) { return unary_op(op("exp"), fn::Exp{}, x); }
Tensor expm1(const Tensor& x) { return unary_op(op("expm1"), fn::Expm1{}, x); }
Tensor log(const Tensor& x) { return unary_op(op("log"), fn::Log{}, x); }
Tensor log1p(const Tensor& x) { return unary_op(op("log1p"), fn::Log1p{}, x); }
Tensor log2(const Tensor& x) { return unary_op(op("log2"), fn::Log2{}, x); }
Tensor log10(const Tensor& x) { return unary_op(op("log10"), fn::Log10{}, x); }
Tensor sqrt(const Tensor& x) { return unary_op(op("sqrt"), fn::Sqrt{}, x); }
Tensor rsqrt(const Tensor& x) { return unary_op(op("rsqrt"), fn::Rsqrt{}, x); }
Tensor reciprocal(const Tensor& x) { return unary_op(op("reciprocal"), fn::Reciprocal{}, x); }
Tensor sin(const Tensor& x) { return unary_op(op("sin"), fn::Sin{}, x); }
Tensor cos(const Tensor& x) { return unary_op(op("cos"), fn::Cos{}, x); }
Tensor tan(const Tensor& x) { return unary_op(op("tan"), fn::Tan{}, x); }
Tensor sinh(const Tensor& x) { return unary_op(op("sinh"), fn::Sinh{}, x); }
Tensor cosh(const Tensor& x) { return unary_op(op("cosh"), fn::Cosh{}, x); }
Tensor tanh(const Tensor& x) { return unary_op(op("tanh"), fn::Tanh{}, x); }
Tensor sigmoid(const Tensor& x) { return unary_op(op("sigmoid"), fn::Sigmoid{}, x); }
Tensor erf(const Tensor& x) { return unary_op(op("erf"), fn::Erf{}, x); }
Tensor floor(const Tensor& x) { return unary_op(op("floor"), fn::Floor{}, x); }
Tensor ceil(const Tensor& x) { return unary_op(op("ceil"), fn::Ceil{}, x); }
Tensor round(const Tensor& x) { return unary_op(op("round"), fn::Round{}, x); }
Tensor trunc(const Tensor& x) { return unary_op(op("trunc"), fn::Trunc{}, x); }
Tensor relu(const Tensor& x) { return unary_op(op("relu"), fn::Relu{}, x); }
Tensor silu(const Tensor& x) { return unary_op(op("silu"), fn::Silu{}, x); }
Tensor leaky_relu(const Tensor& x, const Scalar& negative_slope) {
  fn::LeakyRelu f;
  f.slope = negative_slope.toDouble();
  return unary_op(op("leaky_relu"), f, x);
}
Tensor elu(const Tensor& x, const Scalar& alpha) {
  fn::Elu f;
  f.alpha = alpha.toDouble();
  return unary_op(op("elu"), f, x);
}
Tensor gelu(const Tensor& x, std::string_view approximate) {
  check<ValueError>(approximate == "none" || approximate == "tanh",
                    "gelu: approximate must be \"none\" or \"tanh\", got \"", approximate, '"');
  return approximate == "tanh" ? unary_op(op("gelu"), fn::GeluTanh{}, x) : unary_op(op("gelu"), fn::Gelu{}, x);
}
Tensor softplus(const Tensor& x, const Scalar& beta, const Scalar& threshold) {
  fn::Softplus f;
  f.beta = beta.toDouble();
  f.threshold = threshold.toDouble();
  return unary_op(op("softplus"), f, x);
}
Tensor clamp(const Tensor& x, optional<Scalar> min, optional<Scalar> max) {
  const fn::Clamp f = clamp_formula(min, max);
  const Dtype dtype = clamp_dtype(x, min, max);
  return unary_op(op("clamp"), f, x, dtype, dtype);
}
Tensor clamp_min(const Tensor& x, const Scalar& min) { return clamp(x, min, nullopt); }
Tensor clamp_max(const Tensor& x, const Scalar& max) { return clamp(x, nullopt, max); }

Tensor isnan(const Tensor& x) { return predicate(op("isnan"), fn::IsNan{}, x); }
Tensor isinf(const Tensor& x) { return predicate(op("isinf"), fn::IsInf{}, x); }
Tensor isfinite(const Tensor& x) { return predicate(op("isfinite"), fn::IsFinite{}, x); }
Tensor logical_not(const Tensor& x) { return predicate(op("logical_not"), fn::LogicalNot{}, x); }
Tensor bitwise_not(const Tensor& x) {
  check_integral(op("bitwise_not"), x);
  if (x.dtype() == kBool) return predicate(op("bitwise_not"), fn::LogicalNot{}, x);
  return unary_op(op("bitwise_not"), fn::BitwiseNot{}, x);
}
Tensor logical_and(const Tensor& a, const Tensor& b) {
  return binary_op(op("logical_and"), fn::LogicalAnd{}, a, b, kBool);
}
Tensor logical_or(const Tensor& a, const Tensor& b) {
  return binary_op(op("logical_or"), fn::LogicalOr{}, a, b, kBool);
}
Tensor logical_xor(const Tensor& a, const Tensor& b) {
  return binary_op(op("logical_xor"), fn::LogicalXor{}, a, b, kBool);
}
Tensor bitwise_and(const Tensor& a, const Tensor& b) { return bitwise(op("bitwise_and"), fn::BitwiseAnd{}, a, b); }
Tensor bitwise_or(const Tensor& a, const Tensor& b) { return bitwise(op("bitwise_or"), fn::BitwiseOr{}, a, b); }
Tensor bitwise_xor(const Tensor& a, const Tensor& b) { return bitwise(op("bitwise_xor"), fn::BitwiseXor{}, a, b); }

Tensor eq(const Tensor& a, const Tensor& b) { return binary_op(op("eq"), fn::Eq{}, a, b, kBool); }
Tensor ne(const Tensor& a, const Tensor& b) { return binary_op(op("ne"), fn::Ne{}, a, b, kBool); }
Tensor lt(const Tensor& a, const Tensor& b) { return binary_op(op("lt"), fn::Lt{}, a, b, kBool); }
Tensor le(const Tensor& a, const Tensor& b) { return binary_op(op("le"), fn::Le{}, a, b, kBool); }
Tensor gt(const Tensor& a, const Tensor& b) { return binary_op(op("gt"), fn::Gt{}, a, b, kBool); }
Tensor ge(const Tensor& a, const Tensor& b) { return binary_op(op("ge"), fn::Ge{}, a, b, kBool); }
Tensor eq(const Tensor& a, const Scalar& b) { return with_number(op("eq"), fn::Eq{}, a, b, kBool); }
Tensor ne(const Tensor& a, const Scalar& b) { return with_number(op("ne"), fn::Ne{}, a, b, kBool); }
Tensor lt(const Tensor& a, const Scalar& b) { return with_number(op("lt"), fn::Lt{}, a, b, kBool); }
Tensor le(const Tensor& a, const Scalar& b) { return with_number(op("le"), fn::Le{}, a, b, kBool); }
Tensor gt(const Tensor& a, const Scalar& b) { return with_number(op("gt"), fn::Gt{}, a, b, kBool); }
Tensor ge(const Tensor& a, const Scalar& b) { return with_number(op("ge"), fn::Ge{}, a, b, kBool); }

bool equal(const Tensor& a, const Tensor& b) {
  return a.sizes().equals(b.sizes()) && (a.numel() == 0 || a.eq(b).all().item<bool>());
}

Tensor isclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  check<ValueError>(rtol >= 0 && atol >= 0, "isclose: rtol and atol must not be negative, got ", rtol, " and ", atol);
  check(a.dtype() == b.dtype(), "isclose: expected both tensors in one dtype, got ", describe(a), " and ", describe(b));
  const NoGradGuard no_grad;
  Tensor close = a == b;
  if (!is_floating_point(a.dtype()) && rtol == 0 && atol == 0) return close;
  if (equal_nan && is_floating_point(a.dtype())) close = close | (isnan(a) & isnan(b));
  const Tensor x = a.to(kFloat64), y = b.to(kFloat64);
  return close | (isfinite(x) & isfinite(y) & ((x - y).abs() <= y.abs() * rtol + atol));
}

bool allclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  return isclose(a, b, rtol, atol, equal_nan).all().item<bool>();
}

// ------------------------------------------------------------------------------------------------ in place

const Tensor& Tensor::add_(const Tensor& other, const Scalar& alpha) const {
  check_alpha(op("add"), dtype(), alpha);
  return binary_op_(op("add"), add_scaled(alpha), *this, other);
}
const Tensor& Tensor::add_(const Scalar& other) const { return with_number_(op("add"), fn::Add{}, *this, other); }
const Tensor& Tensor::sub_(const Tensor& other, const Scalar& alpha) const {
  check_alpha(op("sub"), dtype(), alpha);
  return binary_op_(op("sub"), add_scaled(negated(alpha)), *this, other);
}
const Tensor& Tensor::sub_(const Scalar& other) const {
  return with_number_(op("sub"), fn::Add{}, *this, negated(other));
}
const Tensor& Tensor::mul_(const Tensor& other) const { return binary_op_(op("mul"), fn::Mul{}, *this, other); }
const Tensor& Tensor::mul_(const Scalar& other) const { return with_number_(op("mul"), fn::Mul{}, *this, other); }
const Tensor& Tensor::div_(const Tensor& other) const { return binary_op_(op("div"), fn::Div{}, *this, other); }
const Tensor& Tensor::div_(const Scalar& other) const { return with_number_(op("div"), fn::Div{}, *this, other); }
const Tensor& Tensor::pow_(const Scalar& exponent) const { return with_number_(op("pow"), fn::Pow{}, *this, exponent); }
const Tensor& Tensor::abs_() const { return unary_op_(op("abs"), fn::Abs{}, *this); }
const Tensor& Tensor::neg_() const { return unary_op_(op("neg"), fn::Neg{}, *this); }
const Tensor& Tensor::exp_() const { return unary_op_(op("exp"), fn::Exp{}, *this); }
const Tensor& Tensor::log_() const { return unary_op_(op("log"), fn::Log{}, *this); }
const Tensor& Tensor::sqrt_() const { return unary_op_(op("sqrt"), fn::Sqrt{}, *this); }
const Tensor& Tensor::rsqrt_() const { return unary_op_(op("rsqrt"), fn::Rsqrt{}, *this); }
const Tensor& Tensor::reciprocal_() const { return unary_op_(op("reciprocal"), fn::Reciprocal{}, *this); }
const Tensor& Tensor::square_() const { return unary_op_(op("square"), fn::Square{}, *this); }
const Tensor& Tensor::sin_() const { return unary_op_(op("sin"), fn::Sin{}, *this); }
const Tensor& Tensor::cos_() const { return unary_op_(op("cos"), fn::Cos{}, *this); }
const Tensor& Tensor::tanh_() const { return unary_op_(op("tanh"), fn::Tanh{}, *this); }
const Tensor& Tensor::sigmoid_() const { return unary_op_(op("sigmoid"), fn::Sigmoid{}, *this); }
const Tensor& Tensor::relu_() const { return unary_op_(op("relu"), fn::Relu{}, *this); }
const Tensor& Tensor::erf_() const { return unary_op_(op("erf"), fn::Erf{}, *this); }
const Tensor& Tensor::sign_() const { return unary_op_(op("sign"), fn::Sign{}, *this); }
const Tensor& Tensor::floor_() const { return unary_op_(op("floor"), fn::Floor{}, *this); }
const Tensor& Tensor::ceil_() const { return unary_op_(op("ceil"), fn::Ceil{}, *this); }
const Tensor& Tensor::round_() const { return unary_op_(op("round"), fn::Round{}, *this); }
const Tensor& Tensor::clamp_(optional<Scalar> min, optional<Scalar> max) const {
  return unary_op_(op("clamp"), clamp_formula(min, max), *this);
}
const Tensor& Tensor::clamp_min_(const Scalar& min) const { return clamp_(min, nullopt); }
const Tensor& Tensor::clamp_max_(const Scalar& max) const { return clamp_(nullopt, max); }
const Tensor& Tensor::eq_(const Tensor& other) const { return copy_(eq(other)); }
const Tensor& Tensor::eq_(const Scalar& other) const { return copy_(eq(other)); }

const Tensor& Tensor::fill_(const Scalar& value) const {
  return write_in_place(
      op("fill"), *this, std::array<Tensor, 0>{},
      [&](const Tensor& old) {
        return full_like(old, value);
      },  // the old values no longer matter, nor does their history
      [&](Tensor to) { backend(to).fill(to, value); });
}
const Tensor& Tensor::fill_(const Tensor& value) const {
  check(value.dim() == 0, "fill_: wants a 0-dim value, got ", describe(value));
  return copy_(value);
}
const Tensor& Tensor::zero_() const { return fill_(0); }

}  // namespace halftone
