// Convolutions over 1, 2 or 3 axes, and transposed ones.
#pragma once

#include <variant>

#include "core/arg.h"
#include "core/enum.h"
#include "core/expanding_array.h"
#include "nn/cloneable.h"

namespace halftone::nn {

template <std::size_t D> using ConvPadding = std::variant<ExpandingArray<D>, enumtype::kValid, enumtype::kSame>;
using ConvPaddingMode = std::variant<enumtype::kZeros, enumtype::kReflect, enumtype::kReplicate, enumtype::kCircular>;

/// Sizes are one number or a list of D.
template <std::size_t D> struct ConvOptions {
  using padding_t = ConvPadding<D>;
  using padding_mode_t = ConvPaddingMode;

  ConvOptions(std::int64_t in_channels, std::int64_t out_channels, ExpandingArray<D> kernel_size)
      : in_channels_(in_channels), out_channels_(out_channels), kernel_size_(kernel_size) {}
  TORCH_ARG(std::int64_t, in_channels);
  TORCH_ARG(std::int64_t, out_channels);
  TORCH_ARG(ExpandingArray<D>, kernel_size);
  TORCH_ARG(ExpandingArray<D>, stride) = 1;
  /// A width, kSame (the output is as large as the input) or kValid (no padding).
  TORCH_ARG(padding_t, padding) = ExpandingArray<D>(0);

 public:
  ConvOptions& padding(std::initializer_list<std::int64_t> widths) { return padding(ExpandingArray<D>(widths)); }
  TORCH_ARG(ExpandingArray<D>, dilation) = 1;
  TORCH_ARG(std::int64_t, groups) = 1;
  TORCH_ARG(bool, bias) = true;
  TORCH_ARG(padding_mode_t, padding_mode) = kZeros;
};

template <std::size_t D> struct ConvTransposeOptions {
  using padding_mode_t = ConvPaddingMode;

  ConvTransposeOptions(std::int64_t in_channels, std::int64_t out_channels, ExpandingArray<D> kernel_size)
      : in_channels_(in_channels), out_channels_(out_channels), kernel_size_(kernel_size) {}
  TORCH_ARG(std::int64_t, in_channels);
  TORCH_ARG(std::int64_t, out_channels);
  TORCH_ARG(ExpandingArray<D>, kernel_size);
  TORCH_ARG(ExpandingArray<D>, stride) = 1;
  TORCH_ARG(ExpandingArray<D>, padding) = 0;
  TORCH_ARG(ExpandingArray<D>, output_padding) = 0;
  TORCH_ARG(std::int64_t, groups) = 1;
  TORCH_ARG(bool, bias) = true;
  TORCH_ARG(ExpandingArray<D>, dilation) = 1;
  /// Only kZeros is possible.
  TORCH_ARG(padding_mode_t, padding_mode) = kZeros;
};

using Conv1dOptions = ConvOptions<1>;
using Conv2dOptions = ConvOptions<2>;
using Conv3dOptions = ConvOptions<3>;
using ConvTranspose1dOptions = ConvTransposeOptions<1>;
using ConvTranspose2dOptions = ConvTransposeOptions<2>;
using ConvTranspose3dOptions = ConvTransposeOptions<3>;

/// x [N, in_channels, D sizes] or without N, to [N, out_channels, D sizes].
template <std::size_t D, class Derived> class ConvNdImpl : public Cloneable<Derived> {
 public:
  explicit ConvNdImpl(const ConvOptions<D>& conv_options) : options(conv_options) { ConvNdImpl::reset(); }
  ConvNdImpl(std::int64_t in_channels, std::int64_t out_channels, ExpandingArray<D> kernel_size)
      : ConvNdImpl(ConvOptions<D>(in_channels, out_channels, kernel_size)) {}

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  ConvOptions<D> options;
  Tensor weight;  // [out_channels, in_channels / groups, kernel sizes]
  Tensor bias;    // [out_channels], undefined without a bias
};

class Conv1dImpl : public ConvNdImpl<1, Conv1dImpl> {
  using ConvNdImpl::ConvNdImpl;
};
class Conv2dImpl : public ConvNdImpl<2, Conv2dImpl> {
  using ConvNdImpl::ConvNdImpl;
};
class Conv3dImpl : public ConvNdImpl<3, Conv3dImpl> {
  using ConvNdImpl::ConvNdImpl;
};
extern template class ConvNdImpl<1, Conv1dImpl>;
extern template class ConvNdImpl<2, Conv2dImpl>;
extern template class ConvNdImpl<3, Conv3dImpl>;
HALFTONE_LAYER(Conv1d);
HALFTONE_LAYER(Conv2d);
HALFTONE_LAYER(Conv3d);

/// x [N, in_channels, D sizes] or without N, to [N, out_channels, D sizes]; the gradient of a convolution for its
/// input.
template <std::size_t D, class Derived> class ConvTransposeNdImpl : public Cloneable<Derived> {
 public:
  explicit ConvTransposeNdImpl(const ConvTransposeOptions<D>& conv_options) : options(conv_options) {
    ConvTransposeNdImpl::reset();
  }
  ConvTransposeNdImpl(std::int64_t in_channels, std::int64_t out_channels, ExpandingArray<D> kernel_size)
      : ConvTransposeNdImpl(ConvTransposeOptions<D>(in_channels, out_channels, kernel_size)) {}

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& out) const override;
  /// With a stride several output sizes are possible; output_size picks one, in place of options.output_padding().
  Tensor forward(const Tensor& x, const optional<IntArrayRef>& output_size = nullopt);

  ConvTransposeOptions<D> options;
  Tensor weight;  // [in_channels, out_channels / groups, kernel sizes]
  Tensor bias;    // [out_channels], undefined without a bias

 private:
  ExpandingArray<D> output_padding_for(const Tensor& x, IntArrayRef output_size) const;
};

class ConvTranspose1dImpl : public ConvTransposeNdImpl<1, ConvTranspose1dImpl> {
  using ConvTransposeNdImpl::ConvTransposeNdImpl;
};
class ConvTranspose2dImpl : public ConvTransposeNdImpl<2, ConvTranspose2dImpl> {
  using ConvTransposeNdImpl::ConvTransposeNdImpl;
};
class ConvTranspose3dImpl : public ConvTransposeNdImpl<3, ConvTranspose3dImpl> {
  using ConvTransposeNdImpl::ConvTransposeNdImpl;
};
extern template class ConvTransposeNdImpl<1, ConvTranspose1dImpl>;
extern template class ConvTransposeNdImpl<2, ConvTranspose2dImpl>;
extern template class ConvTransposeNdImpl<3, ConvTranspose3dImpl>;
HALFTONE_LAYER(ConvTranspose1d);
HALFTONE_LAYER(ConvTranspose2d);
HALFTONE_LAYER(ConvTranspose3d);

namespace functional {

/// Of x [N, in, D sizes] with weight [out, in / groups, D sizes].
template <std::size_t D> struct ConvFuncOptions {
  using padding_t = ConvPadding<D>;

  TORCH_ARG(Tensor, bias);
  TORCH_ARG(ExpandingArray<D>, stride) = 1;
  TORCH_ARG(padding_t, padding) = ExpandingArray<D>(0);

 public:
  ConvFuncOptions& padding(std::initializer_list<std::int64_t> widths) { return padding(ExpandingArray<D>(widths)); }
  TORCH_ARG(ExpandingArray<D>, dilation) = 1;
  TORCH_ARG(std::int64_t, groups) = 1;
};
using Conv1dFuncOptions = ConvFuncOptions<1>;
using Conv2dFuncOptions = ConvFuncOptions<2>;
using Conv3dFuncOptions = ConvFuncOptions<3>;

template <std::size_t D> struct ConvTransposeFuncOptions {
  TORCH_ARG(Tensor, bias);
  TORCH_ARG(ExpandingArray<D>, stride) = 1;
  TORCH_ARG(ExpandingArray<D>, padding) = 0;
  TORCH_ARG(ExpandingArray<D>, output_padding) = 0;
  TORCH_ARG(std::int64_t, groups) = 1;
  TORCH_ARG(ExpandingArray<D>, dilation) = 1;
};
using ConvTranspose1dFuncOptions = ConvTransposeFuncOptions<1>;
using ConvTranspose2dFuncOptions = ConvTransposeFuncOptions<2>;
using ConvTranspose3dFuncOptions = ConvTransposeFuncOptions<3>;

Tensor conv1d(const Tensor& x, const Tensor& weight, const Conv1dFuncOptions& options = {});
Tensor conv2d(const Tensor& x, const Tensor& weight, const Conv2dFuncOptions& options = {});
Tensor conv3d(const Tensor& x, const Tensor& weight, const Conv3dFuncOptions& options = {});
Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const ConvTranspose1dFuncOptions& options = {});
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const ConvTranspose2dFuncOptions& options = {});
Tensor conv_transpose3d(const Tensor& x, const Tensor& weight, const ConvTranspose3dFuncOptions& options = {});

}  // namespace functional
}  // namespace halftone::nn
