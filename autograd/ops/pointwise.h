// Helpers for ops that are one pointwise formula.
#pragma once

#include "autograd/apply.h"
#include "kernels/functors.h"

namespace halftone {

/// The dtype two operands are computed in: a 0-dim tensor does not widen a dimensioned one of its category.
Dtype result_type(const Tensor& a, const Tensor& b);
/// A number widens a tensor only to a higher category: bool, integer, floating.
Dtype result_type(const Tensor& a, const Scalar& b);

/// A 0-dim operand on the CPU joins the other one's device.
void meet(Tensor& a, Tensor& b);

/// y = f(x), differentiable as the formula says. `result` is the dtype of y where it is not that of the computation.
Tensor unary_op(const OpInfo& info, const Unary& f, const Tensor& x, Dtype compute, Dtype result);
/// The same in x's dtype; integers are computed in the default dtype where the formula needs it.
Tensor unary_op(const OpInfo& info, const Unary& f, const Tensor& x);

/// y = f(a, b), broadcast and promoted. `result` bool for comparisons.
Tensor binary_op(const OpInfo& info, const Binary& f, const Tensor& a, const Tensor& b,
                 Dtype result = Dtype::Undefined);
/// Throws unless a result computed in the dtype may be written to self: not if self's numbers are of a lower category.
void check_result_fits(const OpInfo& info, const Tensor& self, Dtype computed);
/// Writes f(self, other) into self.
const Tensor& binary_op_(const OpInfo& info, const Binary& f, const Tensor& self, const Tensor& other);
const Tensor& unary_op_(const OpInfo& info, const Unary& f, const Tensor& self);

}  // namespace halftone
