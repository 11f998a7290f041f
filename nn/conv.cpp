#include "nn/conv.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "nn/detail.h"
#include "nn/init.h"

namespace halftone::nn {

namespace {

template <class Options> void check_channels(const Options& options) {
  const std::int64_t in = options.in_channels(), out = options.out_channels(), groups = options.groups();
  check<ValueError>(in > 0 && groups > 0 && out > 0,
                    "in_channels, groups and out_channels must be a positive integer, got ", in, ", ", groups, " and ",
                    out);
  check<ValueError>(in % groups == 0, "in_channels must be divisible by groups: ", in, " by ", groups);
  check<ValueError>(out % groups == 0, "out_channels must be divisible by groups: ", out, " by ", groups);
}

template <std::size_t D> bool all_equal(const ExpandingArray<D>& array, std::int64_t value) {
  return std::all_of(array->begin(), array->end(), [&](std::int64_t v) { return v == value; });
}

template <std::size_t D> Dims weight_sizes(std::int64_t first, std::int64_t second, const ExpandingArray<D>& kernel) {
  Dims sizes{first, second};
  for (const std::int64_t k : *kernel) sizes.push_back(k);
  return sizes;
}

void reset_weights(const Tensor& weight, const Tensor& bias) {
  init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (!bias.defined()) return;
  const std::int64_t fan_in = init::_calculate_fan_in_and_fan_out(weight).first;
  if (fan_in == 0) return;
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  init::uniform_(bias, -bound, bound);
}

template <std::size_t D>
void check_input(const Module& layer, const Tensor& x, const Tensor& weight, std::int64_t channels,
                 std::int64_t groups) {
  constexpr auto kUnbatched = static_cast<std::int64_t>(D) + 1;
  check(x.dim() == kUnbatched || x.dim() == kUnbatched + 1, layer.label(), ": Expected ", kUnbatched,
        "D (unbatched) or ", kUnbatched + 1, "D (batched) input, but got input of size: ", x.sizes());
  const std::int64_t given = x.size(-kUnbatched);
  check(given == channels, layer.label(), ": Given groups=", groups, ", weight of size ", weight.sizes(),
        ", expected input", x.sizes(), " to have ", channels, " channels, but got ", given, " channels instead");
  detail::check_matches(layer, x, weight);
}

template <std::size_t D>
Tensor convolve(const Tensor& x, const Tensor& weight, const Tensor& bias, const ExpandingArray<D>& stride,
                const ExpandingArray<D>& padding, const ExpandingArray<D>& dilation, std::int64_t groups) {
  if constexpr (D == 1) return halftone::conv1d(x, weight, bias, stride, padding, dilation, groups);
  if constexpr (D == 2) return halftone::conv2d(x, weight, bias, stride, padding, dilation, groups);
  if constexpr (D == 3) return halftone::conv3d(x, weight, bias, stride, padding, dilation, groups);
}

template <std::size_t D>
Tensor convolve_transposed(const Tensor& x, const Tensor& weight, const Tensor& bias, const ExpandingArray<D>& stride,
                           const ExpandingArray<D>& padding, const ExpandingArray<D>& output_padding,
                           std::int64_t groups, const ExpandingArray<D>& dilation) {
  if constexpr (D == 1) return conv_transpose1d(x, weight, bias, stride, padding, output_padding, groups, dilation);
  if constexpr (D == 2) return conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation);
  if constexpr (D == 3) return conv_transpose3d(x, weight, bias, stride, padding, output_padding, groups, dilation);
}

/// How much is added before and behind each axis.
template <std::size_t D> struct Borders {
  ExpandingArray<D> before = 0;
  ExpandingArray<D> behind = 0;

  /// As pad() wants them: from the last axis on.
  Dims for_pad() const {
    Dims widths;
    for (std::size_t d = D; d-- > 0;) {
      widths.push_back((*before)[d]);
      widths.push_back((*behind)[d]);
    }
    return widths;
  }
};

template <std::size_t D>
Borders<D> borders(const ConvPadding<D>& padding, const Tensor& weight, const ExpandingArray<D>& dilation) {
  if (const auto* widths = std::get_if<ExpandingArray<D>>(&padding)) return {*widths, *widths};
  Borders<D> result;
  if (std::holds_alternative<enumtype::kValid>(padding)) return result;
  for (std::size_t d = 0; d < D; ++d) {
    const std::int64_t total = (*dilation)[d] * (weight.size(static_cast<std::int64_t>(d) + 2) - 1);
    (*result.before)[d] = total / 2;
    (*result.behind)[d] = total - total / 2;
  }
  return result;
}

template <std::size_t D> void check_same_stride(const ConvPadding<D>& padding, const ExpandingArray<D>& stride) {
  check<ValueError>(!std::holds_alternative<enumtype::kSame>(padding) || all_equal(stride, 1),
                    "padding='same' is not supported for strided convolutions, got stride ", stride);
}

/// The op pads both sides alike; what it cannot do is padded beforehand.
template <std::size_t D>
Tensor padded_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const ExpandingArray<D>& stride,
                          const ConvPadding<D>& padding, const ExpandingArray<D>& dilation, std::int64_t groups,
                          const char* mode = "constant") {
  check_same_stride(padding, stride);
  const Borders<D> border = borders(padding, weight, dilation);
  const bool zeros = std::string_view(mode) == "constant";
  if (zeros && border.before == border.behind) {
    return convolve(x, weight, bias, stride, border.before, dilation, groups);
  }
  return convolve(pad(x, border.for_pad(), mode), weight, bias, stride, ExpandingArray<D>(0), dilation, groups);
}

const char* pad_mode(const ConvPaddingMode& mode) {
  if (std::holds_alternative<enumtype::kReflect>(mode)) return "reflect";
  if (std::holds_alternative<enumtype::kReplicate>(mode)) return "replicate";
  if (std::holds_alternative<enumtype::kCircular>(mode)) return "circular";
  return "constant";
}

template <std::size_t D, class Options> void print_head(std::ostream& out, const char* name, const Options& options) {
  out << kPrintPrefix << name << D << "d(" << options.in_channels() << ", " << options.out_channels()
      << ", kernel_size=" << options.kernel_size() << ", stride=" << options.stride();
}

template <class Options> void print_tail(std::ostream& out, const Options& options) {
  if (options.groups() != 1) out << ", groups=" << options.groups();
  if (!options.bias()) out << ", bias=false";
  if (!std::holds_alternative<enumtype::kZeros>(options.padding_mode())) {
    out << ", padding_mode=" << enumtype::get_enum_name(options.padding_mode());
  }
  out << ')';
}

}  // namespace

// ------------------------------------------------------------------------------------------------ convolution

template <std::size_t D, class Derived> void ConvNdImpl<D, Derived>::reset() {
  check_channels(options);
  check_same_stride(options.padding(), options.stride());
  weight = this->register_parameter(
      "weight",
      empty(weight_sizes(options.out_channels(), options.in_channels() / options.groups(), options.kernel_size())));
  if (options.bias()) {
    bias = this->register_parameter("bias", empty(options.out_channels()));
  } else {
    bias = this->register_parameter("bias", {}, false);
  }
  reset_parameters();
}

template <std::size_t D, class Derived> void ConvNdImpl<D, Derived>::reset_parameters() { reset_weights(weight, bias); }

template <std::size_t D, class Derived> void ConvNdImpl<D, Derived>::pretty_print(std::ostream& out) const {
  print_head<D>(out, "Conv", options);
  if (const auto* widths = std::get_if<ExpandingArray<D>>(&options.padding())) {
    if (!all_equal(*widths, 0)) out << ", padding=" << *widths;
  } else {
    out << (std::holds_alternative<enumtype::kSame>(options.padding()) ? ", padding='same'" : ", padding='valid'");
  }
  if (!all_equal(options.dilation(), 1)) out << ", dilation=" << options.dilation();
  print_tail(out, options);
}

template <std::size_t D, class Derived> Tensor ConvNdImpl<D, Derived>::forward(const Tensor& x) {
  check_input<D>(*this, x, weight, weight.size(1) * options.groups(), options.groups());
  return padded_convolution(x, weight, bias, options.stride(), options.padding(), options.dilation(), options.groups(),
                            pad_mode(options.padding_mode()));
}

template class ConvNdImpl<1, Conv1dImpl>;
template class ConvNdImpl<2, Conv2dImpl>;
template class ConvNdImpl<3, Conv3dImpl>;

// ------------------------------------------------------------------------------------------------ transposed

template <std::size_t D, class Derived> void ConvTransposeNdImpl<D, Derived>::reset() {
  check_channels(options);
  weight = this->register_parameter(
      "weight",
      empty(weight_sizes(options.in_channels(), options.out_channels() / options.groups(), options.kernel_size())));
  if (options.bias()) {
    bias = this->register_parameter("bias", empty(options.out_channels()));
  } else {
    bias = this->register_parameter("bias", {}, false);
  }
  reset_parameters();
}

template <std::size_t D, class Derived> void ConvTransposeNdImpl<D, Derived>::reset_parameters() {
  reset_weights(weight, bias);
}

template <std::size_t D, class Derived> void ConvTransposeNdImpl<D, Derived>::pretty_print(std::ostream& out) const {
  print_head<D>(out, "ConvTranspose", options);
  if (!all_equal(options.padding(), 0)) out << ", padding=" << options.padding();
  if (!all_equal(options.dilation(), 1)) out << ", dilation=" << options.dilation();
  if (!all_equal(options.output_padding(), 0)) out << ", output_padding=" << options.output_padding();
  print_tail(out, options);
}

template <std::size_t D, class Derived>
ExpandingArray<D> ConvTransposeNdImpl<D, Derived>::output_padding_for(const Tensor& x, IntArrayRef output_size) const {
  check<ValueError>(output_size.size() == D || output_size.size() == D + 2, this->label(), ": output_size must have ",
                    D, " or ", D + 2, " elements (got ", output_size.size(), ")");
  const IntArrayRef wanted = output_size.slice(output_size.size() - D);
  const IntArrayRef given = x.sizes().slice(x.sizes().size() - D);
  ExpandingArray<D> smallest = 0, largest = 0, result = 0;
  bool fits = true;
  for (std::size_t d = 0; d < D; ++d) {
    (*smallest)[d] = (given[d] - 1) * (*options.stride())[d] - 2 * (*options.padding())[d] +
                     (*options.dilation())[d] * ((*options.kernel_size())[d] - 1) + 1;
    (*largest)[d] = (*smallest)[d] + (*options.stride())[d] - 1;
    (*result)[d] = wanted[d] - (*smallest)[d];
    fits = fits && (*smallest)[d] <= wanted[d] && wanted[d] <= (*largest)[d];
  }
  check<ValueError>(fits, this->label(), ": requested an output size of ", wanted, ", but valid sizes range from ",
                    smallest, " to ", largest, " (for an input of ", given, ")");
  return result;
}

template <std::size_t D, class Derived>
Tensor ConvTransposeNdImpl<D, Derived>::forward(const Tensor& x, const optional<IntArrayRef>& output_size) {
  check<NotImplementedError>(std::holds_alternative<enumtype::kZeros>(options.padding_mode()), this->label(),
                             ": Only `zeros` padding mode is supported for ConvTranspose", D, "d");
  check_input<D>(*this, x, weight, weight.size(0), options.groups());
  const auto output_padding = output_size ? output_padding_for(x, *output_size) : options.output_padding();
  return convolve_transposed(x, weight, bias, options.stride(), options.padding(), output_padding, options.groups(),
                             options.dilation());
}

template class ConvTransposeNdImpl<1, ConvTranspose1dImpl>;
template class ConvTransposeNdImpl<2, ConvTranspose2dImpl>;
template class ConvTransposeNdImpl<3, ConvTranspose3dImpl>;

// ------------------------------------------------------------------------------------------------ functional

namespace functional {

namespace {

template <std::size_t D> Tensor conv(const Tensor& x, const Tensor& weight, const ConvFuncOptions<D>& o) {
  return padded_convolution(x, weight, o.bias(), o.stride(), o.padding(), o.dilation(), o.groups());
}

template <std::size_t D>
Tensor conv_transpose(const Tensor& x, const Tensor& weight, const ConvTransposeFuncOptions<D>& o) {
  return convolve_transposed(x, weight, o.bias(), o.stride(), o.padding(), o.output_padding(), o.groups(),
                             o.dilation());
}

}  // namespace

Tensor conv1d(const Tensor& x, const Tensor& weight, const Conv1dFuncOptions& options) {
  return conv(x, weight, options);
}
Tensor conv2d(const Tensor& x, const Tensor& weight, const Conv2dFuncOptions& options) {
  return conv(x, weight, options);
}
Tensor conv3d(const Tensor& x, const Tensor& weight, const Conv3dFuncOptions& options) {
  return conv(x, weight, options);
}
Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const ConvTranspose1dFuncOptions& options) {
  return conv_transpose(x, weight, options);
}
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const ConvTranspose2dFuncOptions& options) {
  return conv_transpose(x, weight, options);
}
Tensor conv_transpose3d(const Tensor& x, const Tensor& weight, const ConvTranspose3dFuncOptions& options) {
  return conv_transpose(x, weight, options);
}

}  // namespace functional
template class Cloneable<Conv1dImpl>;
template class Cloneable<Conv2dImpl>;
template class Cloneable<Conv3dImpl>;
template class Cloneable<ConvTranspose1dImpl>;
template class Cloneable<ConvTranspose2dImpl>;
template class Cloneable<ConvTranspose3dImpl>;

}  // namespace halftone::nn
