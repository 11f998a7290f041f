// Products: one rule for all that is a matrix product, and one for a layer's x w^T + b.
#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

using plain::at;

void check_operands(const OpInfo& info, const Tensor& a, const Tensor& b) {
  check_same_dtype(info, "both matrices", a, b);
  check_same_device(info, "both matrices", a, b);
}

// The batch axes of a stack of matrices.
Dims batch_of(const Tensor& t) { return dims(t.sizes().slice(0, at(t.dim() - 2))); }

// [batch..., rows, cols] as [batch, rows, cols], repeated to the batch sizes where it broadcasts.
Tensor as_stack(const Tensor& t, const Dims& batch) {
  Dims full = batch, flat{count_elements(batch)};
  for (const std::int64_t axis : {-2, -1}) {
    full.push_back(t.size(axis));
    flat.push_back(t.size(axis));
  }
  return plain::reshaped(plain::expanded(t, full), flat);
}

// The batch axes of the product.
Dims common_batch(const OpInfo& info, const Tensor& a, const Tensor& b) {
  for (std::int64_t axis = -3; axis >= -std::min(a.dim(), b.dim()); --axis) {
    const std::int64_t m = a.size(axis), n = b.size(axis);
    check<ValueError>(m == n || m == 1 || n == 1, info.name, ": the batches of ", a.sizes(), " and ", b.sizes(),
                      " do not broadcast");
  }
  return broadcast_shapes(info.name, batch_of(a), batch_of(b));
}

void check_inner(const OpInfo& info, const Tensor& a, const Tensor& b) {
  check(a.size(-1) == b.size(-2), info.name, ": shapes ", a.sizes(), " and ", b.sizes(), " cannot be multiplied (",
        a.size(-2), "x", a.size(-1), " and ", b.size(-2), "x", b.size(-1), ")");
}

// Sizes of the product, without the axes that a vector lacks.
Dims product_sizes(const OpInfo& info, const Tensor& a, const Tensor& b, bool a_is_vector, bool b_is_vector) {
  check_inner(info, a, b);
  Dims sizes = common_batch(info, a, b);
  if (!a_is_vector) sizes.push_back(a.size(-2));
  if (!b_is_vector) sizes.push_back(b.size(-1));
  return sizes;
}

Tensor product_of_matrices(const OpInfo& info, const Tensor& a, const Tensor& b) {
  check_inner(info, a, b);
  Tensor out = empty({a.size(0), b.size(1)}, a.options());
  backend(out).gemm(a, b, {}, Activation::none, false, out);
  return out;
}

Tensor product_of(const OpInfo& info, const Tensor& x, const Tensor& y) {
  if (x.dim() == 2 && y.dim() == 2) return product_of_matrices(info, x, y);
  const Tensor a = x.dim() == 1 ? plain::reshaped(x, {1, x.size(0)}) : x;
  const Tensor b = y.dim() == 1 ? plain::reshaped(y, {y.size(0), 1}) : y;
  Tensor out = empty(product_sizes(info, a, b, x.dim() == 1, y.dim() == 1), x.options());
  const std::int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  if (b.dim() == 2) {  // all rows of a meet one matrix
    const std::int64_t rows = count_elements(batch_of(a)) * m;
    Tensor flat = plain::reshaped(out, {rows, n});
    backend(out).gemm(plain::reshaped(a, {rows, k}), b, {}, Activation::none, false, flat);
    return out;
  }
  const Dims batch = common_batch(info, a, b);
  Tensor stack = plain::reshaped(out, {count_elements(batch), m, n});
  backend(out).gemm(as_stack(a, batch), as_stack(b, batch), {}, Activation::none, false, stack);
  return out;
}

struct MatmulRule {
  const OpInfo* info;
  std::int64_t a_rank = 0, b_rank = 0;
  Saved a, b;
  auto saved() { return std::tie(a, b); }

  Tensor forward(const Tensor& x, const Tensor& y) {
    check_operands(*info, x, y);
    a_rank = x.dim();
    b_rank = y.dim();
    if (saves_for(y)) a = x;
    if (saves_for(x)) b = y;
    return product_of(*info, x, y);
  }

  std::array<Tensor, 2> backward(const Tensor& g, Wants want) const {
    Tensor rows = b_rank == 1 ? g.unsqueeze(-1) : g;  // the gradient of the product of matrices
    if (a_rank == 1) rows = rows.unsqueeze(-2);
    return {want[0] ? grad_a(rows) : Tensor{}, want[1] ? grad_b(rows) : Tensor{}};
  }

  Tensor grad_a(const Tensor& g) const {
    const Tensor y = b_rank == 1 ? b->unsqueeze(1) : *b;
    const Tensor dx = matmul(g, y.transpose(-1, -2));
    return a_rank == 1 ? dx.squeeze(-2) : dx;
  }
  // For one matrix under a batch of rows the sum over the batch is inside the product.
  Tensor grad_b(const Tensor& g) const {
    const Tensor x = a_rank == 1 ? a->unsqueeze(0) : *a;
    const bool one_matrix = b_rank <= 2 && a_rank > 2;
    const Tensor dy =
        one_matrix ? mm(x.reshape({-1, x.size(-1)}).t(), g.reshape({-1, g.size(-1)})) : matmul(x.transpose(-1, -2), g);
    return b_rank == 1 ? dy.squeeze(-1) : dy;
  }
};

Tensor product(const OpInfo& info, const Tensor& a, const Tensor& b) {
  return apply(info, MatmulRule{&info, 0, 0, {}, {}}, std::array{a, b});
}

void check_rank(const OpInfo& info, const Tensor& t, std::int64_t rank, std::string_view what) {
  check(t.dim() == rank, info.name, ": expected ", what, ", got ", describe(t));
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  const OpInfo& info = op("matmul");
  check(a.dim() > 0 && b.dim() > 0, info.name, ": both operands need at least 1 dimension, got ", describe(a), " and ",
        describe(b));
  return product(info, a, b);
}

Tensor mm(const Tensor& a, const Tensor& b) {
  const OpInfo& info = op("mm");
  check_rank(info, a, 2, "a matrix as first operand");
  check_rank(info, b, 2, "a matrix as second operand");
  return product(info, a, b);
}

Tensor bmm(const Tensor& a, const Tensor& b) {
  const OpInfo& info = op("bmm");
  check_rank(info, a, 3, "a batch of matrices [b, m, k] as first operand");
  check_rank(info, b, 3, "a batch of matrices [b, k, n] as second operand");
  check(a.size(0) == b.size(0), info.name, ": batches differ: ", describe(a), " and ", describe(b));
  return product(info, a, b);
}

Tensor mv(const Tensor& a, const Tensor& v) {
  const OpInfo& info = op("mv");
  check_rank(info, a, 2, "a matrix as first operand");
  check_rank(info, v, 1, "a vector as second operand");
  return product(info, a, v);
}

Tensor dot(const Tensor& a, const Tensor& b) {
  const OpInfo& info = op("dot");
  check_rank(info, a, 1, "a vector as first operand");
  check_rank(info, b, 1, "a vector as second operand");
  check(a.size(0) == b.size(0), info.name, ": vectors of ", a.size(0), " and ", b.size(0), " elements");
  return product(info, a, b);
}

Tensor outer(const Tensor& a, const Tensor& b) {
  const OpInfo& info = op("outer");
  check_rank(info, a, 1, "a vector as first operand");
  check_rank(info, b, 1, "a vector as second operand");
  return apply_composite(info, std::array{a, b}, [](const Tensor& x, const Tensor& y) { return x.unsqueeze(1) * y; });
}

// ------------------------------------------------------------------------------------------------ addmm, linear

namespace {

// c + a b.
struct AddmmRule {
  Saved a, b;
  auto saved() { return std::tie(a, b); }

  Tensor forward(const Tensor& c, const Tensor& x, const Tensor& y) {
    const OpInfo& info = op("addmm");
    check_operands(info, x, y);
    check_same_dtype(info, "all operands", c, x);
    if (saves_for(y)) a = x;
    if (saves_for(x)) b = y;
    const Dims sizes = product_sizes(info, x, y, false, false);
    check(broadcast_shapes(info.name, c.sizes(), sizes) == sizes, info.name, ": ", describe(c),
          " does not broadcast to ", sizes);
    Tensor out = empty(sizes, x.options());
    const bool is_row = c.dim() == 1 && c.size(0) == sizes[1];
    if (!is_row) backend(out).copy(plain::expanded(c, sizes), out);
    backend(out).gemm(x, y, is_row ? plain::dense(c) : Tensor{}, Activation::none, !is_row, out);
    return out;
  }
  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    return {g, want[1] ? mm(g, b->t()) : Tensor{}, want[2] ? mm(a->t(), g) : Tensor{}};
  }
};

// x [..., in], weight [out, in], bias [out].
struct LinearRule {
  Saved x, weight;
  auto saved() { return std::tie(x, weight); }

  Tensor forward(const Tensor& input, const Tensor& w, const Tensor& bias) {
    check_inputs(input, w, bias);
    if (saves_for(w)) x = input;
    if (saves_for(input)) weight = w;
    Dims sizes = dims(input.sizes());
    sizes.back() = w.size(0);
    Tensor out = empty(sizes, input.options());
    sizes.back() = 1;
    const std::int64_t rows = count_elements(sizes);
    Tensor flat = plain::reshaped(out, {rows, w.size(0)});
    backend(out).gemm(plain::reshaped(input, {rows, w.size(1)}), plain::transposed(w), bias, Activation::none, false,
                      flat);
    return out;
  }

  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    const Tensor rows = g.dim() == 2 ? g : g.reshape({-1, g.size(-1)});
    return {want[0] ? matmul(g, *weight) : Tensor{}, want[1] ? mm(rows.t(), x->reshape({-1, x->size(-1)})) : Tensor{},
            want[2] ? rows.sum(0) : Tensor{}};
  }

  static void check_inputs(const Tensor& input, const Tensor& w, const Tensor& bias) {
    const OpInfo& info = op("linear");
    check_rank(info, w, 2, "weight to be [out_features, in_features]");
    check(input.dim() > 0, info.name, ": expected x of at least 1 dimension, got ", describe(input));
    check(input.size(-1) == w.size(1), info.name, ": x ", describe(input), " has ", input.size(-1),
          " features, weight ", w.sizes(), " wants ", w.size(1));
    check_same_dtype(info, "x and weight", input, w);
    check_same_dtype(info, "x and bias", input, bias);
    check_same_device(info, "x and weight", input, w);
    check_same_device(info, "x and bias", input, bias);
    check(!bias.defined() || (bias.dim() == 1 && bias.size(0) == w.size(0)), info.name, ": weight ", w.sizes(),
          " wants a bias of ", w.size(0), " elements, got ", describe(bias));
  }
};

void check_factors(const OpInfo& info, const Tensor& a, const Tensor& b) {
  check_rank(info, a, 2, "a matrix as first factor");
  check_rank(info, b, 2, "a matrix as second factor");
}

}  // namespace

Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  const OpInfo& info = op("addmm");
  check_factors(info, a, b);
  if (beta.equal(1) && alpha.equal(1)) return apply(info, AddmmRule{}, std::array{c, a, b});
  return apply_composite(info, std::array{c, a, b}, [&](const Tensor& z, const Tensor& x, const Tensor& y) {
    const Tensor scaled = alpha.equal(1) ? mm(x, y) : mm(x, y) * alpha;
    return beta.equal(0) ? scaled : add(scaled, z, beta);  // beta 0 ignores z, NaN and all
  });
}

const Tensor& Tensor::addmm_(const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) const {
  const OpInfo& info = op("addmm");
  check_factors(info, a, b);
  check_same_dtype(info, "all operands", *this, a);
  check_same_device(info, "all operands", *this, a);
  const Dims product = product_sizes(info, a, b, false, false);
  check(sizes().equals(product), info.name, "_: the product of ", a.sizes(), " and ", b.sizes(), " does not fit into ",
        describe(*this));
  return write_in_place(
      info, *this, std::array{a, b},
      [&](const Tensor& old) {
        return halftone::addmm(old, apart_in_graph(*this, a), apart_in_graph(*this, b), beta, alpha);
      },
      [&](const Tensor& self) {
        const plain::Scope scope;
        Tensor target = self;
        backend(self).copy(halftone::addmm(self, a, b, beta, alpha), target);
      });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return apply(op("linear"), LinearRule{}, std::array{x, weight, bias});
}

}  // namespace halftone
