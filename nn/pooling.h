// Pooling: each output is the maximum or the mean of a window.
#pragma once

#include <tuple>

#include "core/arg.h"
#include "core/expanding_array.h"
#include "nn/cloneable.h"

namespace halftone::nn {

/// The windows do not overlap unless a stride is given.
template <std::size_t D> struct MaxPoolOptions {
  MaxPoolOptions(ExpandingArray<D> kernel_size) : kernel_size_(kernel_size), stride_(kernel_size) {}  // NOLINT
  TORCH_ARG(ExpandingArray<D>, kernel_size);
  TORCH_ARG(ExpandingArray<D>, stride);
  TORCH_ARG(ExpandingArray<D>, padding) = 0;
  TORCH_ARG(ExpandingArray<D>, dilation) = 1;
  TORCH_ARG(bool, ceil_mode) = false;
};
using MaxPool1dOptions = MaxPoolOptions<1>;
using MaxPool2dOptions = MaxPoolOptions<2>;
using MaxPool3dOptions = MaxPoolOptions<3>;

template <std::size_t D> struct AvgPoolOptions {
  AvgPoolOptions(ExpandingArray<D> kernel_size) : kernel_size_(kernel_size), stride_(kernel_size) {}  // NOLINT
  TORCH_ARG(ExpandingArray<D>, kernel_size);
  TORCH_ARG(ExpandingArray<D>, stride);
  TORCH_ARG(ExpandingArray<D>, padding) = 0;
  TORCH_ARG(bool, ceil_mode) = false;
  /// Whether padding counts as elements of a window.
  TORCH_ARG(bool, count_include_pad) = true;
  /// Divides by this instead of the window's size; not for AvgPool1d.
  TORCH_ARG(optional<std::int64_t>, divisor_override) = nullopt;
};
using AvgPool1dOptions = AvgPoolOptions<1>;
using AvgPool2dOptions = AvgPoolOptions<2>;
using AvgPool3dOptions = AvgPoolOptions<3>;

struct AdaptiveAvgPool2dOptions {
  AdaptiveAvgPool2dOptions(ExpandingArrayWithOptionalElem<2> output_size) : output_size_(output_size) {}  // NOLINT
  /// A size left out is that of the input.
  TORCH_ARG(ExpandingArrayWithOptionalElem<2>, output_size);
};

/// x [N, C, D sizes] or without N.
template <std::size_t D, class Derived> class MaxPoolNdImpl : public Cloneable<Derived> {
 public:
  MaxPoolNdImpl(ExpandingArray<D> kernel_size) : MaxPoolNdImpl(MaxPoolOptions<D>(kernel_size)) {}  // NOLINT
  explicit MaxPoolNdImpl(const MaxPoolOptions<D>& pool_options) : options(pool_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  MaxPoolOptions<D> options;
};
class MaxPool1dImpl : public MaxPoolNdImpl<1, MaxPool1dImpl> {
  using MaxPoolNdImpl::MaxPoolNdImpl;
};
class MaxPool2dImpl : public MaxPoolNdImpl<2, MaxPool2dImpl> {
 public:
  using MaxPoolNdImpl::MaxPoolNdImpl;
  /// The maxima, and their int64 positions within each plane.
  std::tuple<Tensor, Tensor> forward_with_indices(const Tensor& x);
};
class MaxPool3dImpl : public MaxPoolNdImpl<3, MaxPool3dImpl> {
  using MaxPoolNdImpl::MaxPoolNdImpl;
};
extern template class MaxPoolNdImpl<1, MaxPool1dImpl>;
extern template class MaxPoolNdImpl<2, MaxPool2dImpl>;
extern template class MaxPoolNdImpl<3, MaxPool3dImpl>;
HALFTONE_LAYER(MaxPool1d);
HALFTONE_LAYER(MaxPool2d);
HALFTONE_LAYER(MaxPool3d);

/// x [N, C, D sizes] or without N.
template <std::size_t D, class Derived> class AvgPoolNdImpl : public Cloneable<Derived> {
 public:
  AvgPoolNdImpl(ExpandingArray<D> kernel_size) : AvgPoolNdImpl(AvgPoolOptions<D>(kernel_size)) {}  // NOLINT
  explicit AvgPoolNdImpl(const AvgPoolOptions<D>& pool_options) : options(pool_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  AvgPoolOptions<D> options;
};
class AvgPool1dImpl : public AvgPoolNdImpl<1, AvgPool1dImpl> {
  using AvgPoolNdImpl::AvgPoolNdImpl;
};
class AvgPool2dImpl : public AvgPoolNdImpl<2, AvgPool2dImpl> {
  using AvgPoolNdImpl::AvgPoolNdImpl;
};
class AvgPool3dImpl : public AvgPoolNdImpl<3, AvgPool3dImpl> {
  using AvgPoolNdImpl::AvgPoolNdImpl;
};
extern template class AvgPoolNdImpl<1, AvgPool1dImpl>;
extern template class AvgPoolNdImpl<2, AvgPool2dImpl>;
extern template class AvgPoolNdImpl<3, AvgPool3dImpl>;
HALFTONE_LAYER(AvgPool1d);
HALFTONE_LAYER(AvgPool2d);
HALFTONE_LAYER(AvgPool3d);

/// Means over as many windows as the output has elements: x [N, C, H, W] to [N, C, output sizes].
class AdaptiveAvgPool2dImpl : public Cloneable<AdaptiveAvgPool2dImpl> {
 public:
  AdaptiveAvgPool2dImpl(ExpandingArrayWithOptionalElem<2> output_size)  // NOLINT
      : AdaptiveAvgPool2dImpl(AdaptiveAvgPool2dOptions(output_size)) {}
  explicit AdaptiveAvgPool2dImpl(const AdaptiveAvgPool2dOptions& pool_options) : options(pool_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  AdaptiveAvgPool2dOptions options;
};
HALFTONE_LAYER(AdaptiveAvgPool2d);

namespace functional {

using MaxPool1dFuncOptions = MaxPool1dOptions;
using MaxPool2dFuncOptions = MaxPool2dOptions;
using MaxPool3dFuncOptions = MaxPool3dOptions;
using AvgPool1dFuncOptions = AvgPool1dOptions;
using AvgPool2dFuncOptions = AvgPool2dOptions;
using AvgPool3dFuncOptions = AvgPool3dOptions;
using AdaptiveAvgPool2dFuncOptions = AdaptiveAvgPool2dOptions;

Tensor max_pool1d(const Tensor& x, const MaxPool1dFuncOptions& options);
Tensor max_pool2d(const Tensor& x, const MaxPool2dFuncOptions& options);
Tensor max_pool3d(const Tensor& x, const MaxPool3dFuncOptions& options);
std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& x, const MaxPool2dFuncOptions& options);
Tensor avg_pool1d(const Tensor& x, const AvgPool1dFuncOptions& options);
Tensor avg_pool2d(const Tensor& x, const AvgPool2dFuncOptions& options);
Tensor avg_pool3d(const Tensor& x, const AvgPool3dFuncOptions& options);
Tensor adaptive_avg_pool2d(const Tensor& x, const AdaptiveAvgPool2dFuncOptions& options);

}  // namespace functional
}  // namespace halftone::nn
