#include "nn/dropout.h"

#include "autograd/ops.h"
#include "nn/detail.h"

namespace halftone::nn {

namespace {

void check_probability(double p) {
  check<ValueError>(p >= 0 && p <= 1, "dropout probability has to be between 0 and 1, but got ", p);
}

void print(std::ostream& out, const char* name, const DropoutOptions& options) {
  out << kPrintPrefix << name << "(p=" << options.p() << ", inplace=" << detail::text(options.inplace()) << ')';
}

}  // namespace

namespace functional {

namespace {

template <class Op> Tensor apply_dropout(Op op, const Tensor& x, const DropoutFuncOptions& options) {
  check_probability(options.p());
  if (!options.training()) return x;
  if (options.inplace()) return detail::in_place(x, [&](const Tensor& copy) { return op(copy, options.p(), true); });
  return op(x, options.p(), true);
}

}  // namespace

Tensor dropout(const Tensor& x, const DropoutFuncOptions& options) {
  return apply_dropout(halftone::dropout, x, options);
}

Tensor dropout2d(const Tensor& x, const Dropout2dFuncOptions& options) {
  check<ValueError>(x.dim() >= 2, "dropout2d: expected input [N, C, ...], got size ", x.sizes());
  return apply_dropout(halftone::feature_dropout, x, options);
}

Tensor dropout3d(const Tensor& x, const Dropout3dFuncOptions& options) { return dropout2d(x, options); }

}  // namespace functional

DropoutImpl::DropoutImpl(const DropoutOptions& dropout_options) : options(dropout_options) { DropoutImpl::reset(); }

void DropoutImpl::reset() { check_probability(options.p()); }

void DropoutImpl::pretty_print(std::ostream& out) const { print(out, "Dropout", options); }

Tensor DropoutImpl::forward(const Tensor& x) {
  const auto how = functional::DropoutFuncOptions().p(options.p()).training(is_training()).inplace(options.inplace());
  return functional::dropout(x, how);
}

template <std::size_t D, class Derived> void DropoutNdImpl<D, Derived>::reset() { check_probability(options.p()); }

template <std::size_t D, class Derived> void DropoutNdImpl<D, Derived>::pretty_print(std::ostream& out) const {
  print(out, D == 2 ? "Dropout2d" : "Dropout3d", options);
}

template <std::size_t D, class Derived> Tensor DropoutNdImpl<D, Derived>::forward(const Tensor& x) {
  const auto how =
      functional::DropoutFuncOptions().p(options.p()).training(this->is_training()).inplace(options.inplace());
  return functional::dropout2d(x, how);
}

template class DropoutNdImpl<2, Dropout2dImpl>;
template class DropoutNdImpl<3, Dropout3dImpl>;

template class Cloneable<DropoutImpl>;
template class Cloneable<Dropout2dImpl>;
template class Cloneable<Dropout3dImpl>;

}  // namespace halftone::nn
