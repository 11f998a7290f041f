// From tensors to the products of gemm.h and convolution.h, which know pointers, sizes and strides.
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"

namespace halftone {
namespace {

/// [rows, cols], or [batch, rows, cols]: then the same one every time when there is no batch axis.
template <class Pointer> cpu::MatrixView<Pointer> matrix(const Tensor& t) {
  const std::int64_t batched = t.dim() == 3 ? 1 : 0;
  return {.data = t.data_ptr(),
          .rows = t.size(batched),
          .cols = t.size(batched + 1),
          .row_stride = t.stride(batched),
          .col_stride = t.stride(batched + 1),
          .batch_stride = batched ? t.stride(0) : 0};
}

/// x as a dtype and without gaps; a copy only where it is not so.
Tensor dense_in(CpuBackend& backend, const Tensor& x, Dtype dtype) {
  if (!x.defined() || (x.dtype() == dtype && x.is_contiguous())) return x;
  Tensor y = empty(x.sizes(), x.options().dtype(dtype));
  backend.copy(x, y);
  return y;
}

/// A bias may be float32 beside 16-bit operands.
Tensor fitting_bias(CpuBackend& backend, const Tensor& bias, Dtype dtype) {
  if (!bias.defined()) return bias;
  const bool fits = bias.dtype() == dtype || (bias.dtype() == kFloat32 && is_low_precision(dtype));
  return dense_in(backend, bias, fits ? bias.dtype() : dtype);
}

void set_bias(cpu::GemmArgs& args, const Tensor& bias) {
  if (!bias.defined()) return;
  args.bias = bias.data_ptr();
  args.bias_dtype = bias.dtype();
}

Tensor in_dtype(CpuBackend& backend, const Tensor& x, Dtype dtype) {
  return x.dtype() == dtype ? x : dense_in(backend, x, dtype);
}

}  // namespace

void CpuBackend::gemm(const Tensor& a, const Tensor& b, const Tensor& bias, Activation activation, bool accumulate,
                      Tensor& y) {
  const Tensor left = in_dtype(*this, a, y.dtype()), right = in_dtype(*this, b, y.dtype());
  const Tensor added = fitting_bias(*this, bias, y.dtype());
  cpu::GemmArgs args;
  args.dtype = y.dtype();
  args.a = matrix<const void*>(left);
  args.b = matrix<const void*>(right);
  args.y = matrix<void*>(y);
  args.batch = y.dim() == 3 ? y.size(0) : 1;
  args.activation = activation == Activation::relu ? cpu::Activation::relu : cpu::Activation::none;
  args.accumulate = accumulate;
  set_bias(args, added);
  cpu::gemm(args);
  if (activation == Activation::gelu) unary(fn::Gelu{}, y, y, y.dtype());
}

namespace {

cpu::ConvShape raw_shape(const ConvShape& s) {
  cpu::ConvShape raw;
  raw.rank = s.window.rank;
  raw.batch = s.batch;
  raw.in_channels = s.in_channels;
  raw.out_channels = s.out_channels;
  raw.groups = s.groups;
  std::copy(s.window.in.begin(), s.window.in.end(), raw.in);
  std::copy(s.window.kernel.begin(), s.window.kernel.end(), raw.kernel);
  std::copy(s.window.out.begin(), s.window.out.end(), raw.out);
  std::copy(s.window.stride.begin(), s.window.stride.end(), raw.stride);
  std::copy(s.window.padding.begin(), s.window.padding.end(), raw.padding);
  std::copy(s.window.dilation.begin(), s.window.dilation.end(), raw.dilation);
  return raw;
}

bool is_channels_last_only(const Tensor& t) {
  return !t.is_contiguous() && t.is_contiguous(MemoryFormat::ChannelsLast);
}

/// Null for an undefined tensor.
template <class Pointer> cpu::ConvView<Pointer> conv_view(const Tensor& t) {
  if (!t.defined()) return {};
  return {t.data_ptr(), t.dtype(), is_channels_last_only(t)};
}

/// t, or a contiguous copy of a tensor in neither order of memory.
Tensor in_known_order(CpuBackend& backend, const Tensor& t) {
  return is_channels_last_only(t) ? t : dense_in(backend, t, t.dtype());
}

}  // namespace

void CpuBackend::conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  const Tensor input = in_known_order(*this, x), weight = in_known_order(*this, w);
  const Tensor added = fitting_bias(*this, bias, y.dtype());
  cpu::conv_forward(raw_shape(s), conv_view<const void*>(input), conv_view<const void*>(weight),
                    conv_view<const void*>(added), conv_view<void*>(y));
}

void CpuBackend::conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w, Tensor& dx) {
  const Tensor gradient = in_known_order(*this, g), weight = in_known_order(*this, w);
  cpu::conv_backward_data(raw_shape(s), conv_view<const void*>(gradient), conv_view<const void*>(weight),
                          conv_view<void*>(dx));
}

void CpuBackend::conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, Tensor& dw, Tensor& dbias) {
  const Tensor input = in_known_order(*this, x), gradient = in_known_order(*this, g);
  cpu::conv_backward_weight(raw_shape(s), conv_view<const void*>(input), conv_view<const void*>(gradient),
                            conv_view<void*>(dw), conv_view<void*>(dbias));
}

}  // namespace halftone
