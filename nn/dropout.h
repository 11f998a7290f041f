// Dropout: in training, elements are zeroed at random and the others scaled up, so that the mean stays.
#pragma once

#include "core/arg.h"
#include "nn/cloneable.h"

namespace halftone::nn {

struct DropoutOptions {
  DropoutOptions(double p = 0.5) : p_(p) {}  // NOLINT: Dropout(0.1)
  /// The probability of a zero.
  TORCH_ARG(double, p);
  TORCH_ARG(bool, inplace) = false;
};
using Dropout2dOptions = DropoutOptions;
using Dropout3dOptions = DropoutOptions;

/// Zeroes single elements of x, of any shape.
class DropoutImpl : public Cloneable<DropoutImpl> {
 public:
  explicit DropoutImpl(double p) : DropoutImpl(DropoutOptions(p)) {}
  explicit DropoutImpl(const DropoutOptions& dropout_options = {});
  void reset() override;
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  DropoutOptions options;
};
HALFTONE_LAYER(Dropout);

/// Zeroes whole channels of x [N, C, D sizes].
template <std::size_t D, class Derived> class DropoutNdImpl : public Cloneable<Derived> {
 public:
  explicit DropoutNdImpl(double p) : DropoutNdImpl(DropoutOptions(p)) {}
  explicit DropoutNdImpl(const DropoutOptions& dropout_options = {}) : options(dropout_options) {
    DropoutNdImpl::reset();
  }
  void reset() override;
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  DropoutOptions options;
};
class Dropout2dImpl : public DropoutNdImpl<2, Dropout2dImpl> {
  using DropoutNdImpl::DropoutNdImpl;
};
class Dropout3dImpl : public DropoutNdImpl<3, Dropout3dImpl> {
  using DropoutNdImpl::DropoutNdImpl;
};
extern template class DropoutNdImpl<2, Dropout2dImpl>;
extern template class DropoutNdImpl<3, Dropout3dImpl>;
HALFTONE_LAYER(Dropout2d);
HALFTONE_LAYER(Dropout3d);

namespace functional {

struct DropoutFuncOptions {
  TORCH_ARG(double, p) = 0.5;
  TORCH_ARG(bool, training) = true;
  TORCH_ARG(bool, inplace) = false;
};
using Dropout2dFuncOptions = DropoutFuncOptions;
using Dropout3dFuncOptions = DropoutFuncOptions;

Tensor dropout(const Tensor& x, const DropoutFuncOptions& options = {});
Tensor dropout2d(const Tensor& x, const Dropout2dFuncOptions& options = {});
Tensor dropout3d(const Tensor& x, const Dropout3dFuncOptions& options = {});

}  // namespace functional
}  // namespace halftone::nn
