#include "nn/pooling.h"

#include "autograd/ops.h"
#include "nn/detail.h"

namespace halftone::nn {

namespace functional {

namespace {

template <std::size_t D> Tensor max_pool(const Tensor& x, const MaxPoolOptions<D>& o) {
  if constexpr (D == 1) {
    return halftone::max_pool1d(x, o.kernel_size(), o.stride(), o.padding(), o.dilation(), o.ceil_mode());
  } else if constexpr (D == 2) {
    return halftone::max_pool2d(x, o.kernel_size(), o.stride(), o.padding(), o.dilation(), o.ceil_mode());
  } else {
    return halftone::max_pool3d(x, o.kernel_size(), o.stride(), o.padding(), o.dilation(), o.ceil_mode());
  }
}

template <std::size_t D> Tensor avg_pool(const Tensor& x, const AvgPoolOptions<D>& o) {
  if constexpr (D == 1) {
    check<ValueError>(!o.divisor_override(), "avg_pool1d takes no divisor_override");
    return halftone::avg_pool1d(x, o.kernel_size(), o.stride(), o.padding(), o.ceil_mode(), o.count_include_pad());
  } else if constexpr (D == 2) {
    return halftone::avg_pool2d(x, o.kernel_size(), o.stride(), o.padding(), o.ceil_mode(), o.count_include_pad(),
                                o.divisor_override());
  } else {
    return halftone::avg_pool3d(x, o.kernel_size(), o.stride(), o.padding(), o.ceil_mode(), o.count_include_pad(),
                                o.divisor_override());
  }
}

}  // namespace

Tensor max_pool1d(const Tensor& x, const MaxPool1dFuncOptions& options) { return max_pool(x, options); }
Tensor max_pool2d(const Tensor& x, const MaxPool2dFuncOptions& options) { return max_pool(x, options); }
Tensor max_pool3d(const Tensor& x, const MaxPool3dFuncOptions& options) { return max_pool(x, options); }
Tensor avg_pool1d(const Tensor& x, const AvgPool1dFuncOptions& options) { return avg_pool(x, options); }
Tensor avg_pool2d(const Tensor& x, const AvgPool2dFuncOptions& options) { return avg_pool(x, options); }
Tensor avg_pool3d(const Tensor& x, const AvgPool3dFuncOptions& options) { return avg_pool(x, options); }

std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& x, const MaxPool2dFuncOptions& o) {
  return halftone::max_pool2d_with_indices(x, o.kernel_size(), o.stride(), o.padding(), o.dilation(), o.ceil_mode());
}

Tensor adaptive_avg_pool2d(const Tensor& x, const AdaptiveAvgPool2dFuncOptions& options) {
  const auto& wanted = *options.output_size();
  const std::int64_t height = wanted[0] ? *wanted[0] : x.size(-2);
  const std::int64_t width = wanted[1] ? *wanted[1] : x.size(-1);
  return halftone::adaptive_avg_pool2d(x, {height, width});
}

}  // namespace functional

template <std::size_t D, class Derived> void MaxPoolNdImpl<D, Derived>::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "MaxPool" << D << "d(kernel_size=" << options.kernel_size() << ", stride=" << options.stride()
      << ", padding=" << options.padding() << ", dilation=" << options.dilation()
      << ", ceil_mode=" << detail::text(options.ceil_mode()) << ')';
}

template <std::size_t D, class Derived> Tensor MaxPoolNdImpl<D, Derived>::forward(const Tensor& x) {
  return functional::max_pool(x, options);
}

template class MaxPoolNdImpl<1, MaxPool1dImpl>;
template class MaxPoolNdImpl<2, MaxPool2dImpl>;
template class MaxPoolNdImpl<3, MaxPool3dImpl>;

std::tuple<Tensor, Tensor> MaxPool2dImpl::forward_with_indices(const Tensor& x) {
  return functional::max_pool2d_with_indices(x, options);
}

template <std::size_t D, class Derived> void AvgPoolNdImpl<D, Derived>::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "AvgPool" << D << "d(kernel_size=" << options.kernel_size() << ", stride=" << options.stride()
      << ", padding=" << options.padding() << ')';
}

template <std::size_t D, class Derived> Tensor AvgPoolNdImpl<D, Derived>::forward(const Tensor& x) {
  return functional::avg_pool(x, options);
}

template class AvgPoolNdImpl<1, AvgPool1dImpl>;
template class AvgPoolNdImpl<2, AvgPool2dImpl>;
template class AvgPoolNdImpl<3, AvgPool3dImpl>;

void AdaptiveAvgPool2dImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "AdaptiveAvgPool2d(output_size=" << options.output_size() << ')';
}

Tensor AdaptiveAvgPool2dImpl::forward(const Tensor& x) { return functional::adaptive_avg_pool2d(x, options); }

template class Cloneable<MaxPool1dImpl>;
template class Cloneable<MaxPool2dImpl>;
template class Cloneable<MaxPool3dImpl>;
template class Cloneable<AvgPool1dImpl>;
template class Cloneable<AvgPool2dImpl>;
template class Cloneable<AvgPool3dImpl>;
template class Cloneable<AdaptiveAvgPool2dImpl>;

}  // namespace halftone::nn
