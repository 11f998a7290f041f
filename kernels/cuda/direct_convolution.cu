#include "kernels/cuda/direct_convolution.h"

#include "kernels/cuda/elements.cuh"

namespace halftone::cuda {
namespace {

/// A tensor of [outer, channels, depth, height, width].
struct Cells {
  Memory memory;
  std::int64_t outer, channel, spatial[3];  // strides

  __device__ std::int64_t place(std::int64_t o, std::int64_t c, const std::int64_t (&at)[3]) const {
    return o * outer + c * channel + at[0] * spatial[0] + at[1] * spatial[1] + at[2] * spatial[2];
  }
};

struct Axis3 {
  std::int64_t in, kernel, out, stride, padding, dilation;
};

struct Convolution {
  Cells x, w, y;
  Memory bias;  // no data: none
  std::int64_t bias_stride;
  Axis3 axis[3];
  std::int64_t batch, ins, outs, groups;  // channels of a group
};

/// Takes a position apart: n = ((first * sizes[0] + at[0]) * sizes[1] + at[1]) * sizes[2] + at[2].
__device__ std::int64_t split(std::int64_t n, std::int64_t depth, std::int64_t height, std::int64_t width,
                              std::int64_t (&at)[3]) {
  at[2] = n % width, n /= width;
  at[1] = n % height, n /= height;
  at[0] = n % depth;
  return n / depth;
}

template <class C> __global__ void __launch_bounds__(kThreads) convolve(Convolution p, std::int64_t n) {
  for (std::int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    std::int64_t o[3], k[3], in[3];
    const std::int64_t plane = split(i, p.axis[0].out, p.axis[1].out, p.axis[2].out, o);
    const std::int64_t channels = p.groups * p.outs, image = plane / channels, channel = plane % channels;
    C sum = p.bias.data != nullptr ? p.bias.load<C>(channel * p.bias_stride) : C(0);
    for (std::int64_t c = 0; c < p.ins; ++c) {
      const std::int64_t from = channel / p.outs * p.ins + c;
      for (k[0] = 0; k[0] < p.axis[0].kernel; ++k[0]) {
        for (k[1] = 0; k[1] < p.axis[1].kernel; ++k[1]) {
          for (k[2] = 0; k[2] < p.axis[2].kernel; ++k[2]) {
            bool inside = true;
            for (int d = 0; d < 3; ++d) {
              in[d] = o[d] * p.axis[d].stride - p.axis[d].padding + k[d] * p.axis[d].dilation;
              inside = inside && in[d] >= 0 && in[d] < p.axis[d].in;
            }
            if (!inside) continue;
            sum += p.x.memory.load<C>(p.x.place(image, from, in)) * p.w.memory.load<C>(p.w.place(channel, c, k));
          }
        }
      }
    }
    p.y.memory.store(p.y.place(image, channel, o), sum);
  }
}

/// The outputs that read an input cell: for each of the kernel's cells there is one or none.
template <class C> __global__ void __launch_bounds__(kThreads) data_grad(Convolution p, std::int64_t n) {
  for (std::int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    std::int64_t in[3], k[3], o[3];
    const std::int64_t plane = split(i, p.axis[0].in, p.axis[1].in, p.axis[2].in, in);
    const std::int64_t channels = p.groups * p.ins, image = plane / channels, channel = plane % channels;
    C sum(0);
    for (std::int64_t c = 0; c < p.outs; ++c) {
      const std::int64_t to = channel / p.ins * p.outs + c;
      for (k[0] = 0; k[0] < p.axis[0].kernel; ++k[0]) {
        for (k[1] = 0; k[1] < p.axis[1].kernel; ++k[1]) {
          for (k[2] = 0; k[2] < p.axis[2].kernel; ++k[2]) {
            bool inside = true;
            for (int d = 0; d < 3; ++d) {
              const std::int64_t start = in[d] + p.axis[d].padding - k[d] * p.axis[d].dilation;
              o[d] = start / p.axis[d].stride;
              inside = inside && start >= 0 && start % p.axis[d].stride == 0 && o[d] < p.axis[d].out;
            }
            if (!inside) continue;
            sum += p.y.memory.load<C>(p.y.place(image, to, o)) * p.w.memory.load<C>(p.w.place(to, channel % p.ins, k));
          }
        }
      }
    }
    p.x.memory.store(p.x.place(image, channel, in), sum);
  }
}

/// A block a weight: its threads share the images and outputs, and add up in a fixed order.
template <class C> __global__ void __launch_bounds__(kThreads) weight_grad(Convolution p, std::int64_t n) {
  __shared__ C sums[kThreads];
  const std::int64_t outputs = p.batch * p.axis[0].out * p.axis[1].out * p.axis[2].out;
  for (std::int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    std::int64_t k[3], o[3], in[3];
    const std::int64_t pair = split(i, p.axis[0].kernel, p.axis[1].kernel, p.axis[2].kernel, k);
    const std::int64_t to = pair / p.ins, c = pair % p.ins, from = to / p.outs * p.ins + c;
    C sum(0);
    for (std::int64_t j = threadIdx.x; j < outputs; j += kThreads) {
      const std::int64_t image = split(j, p.axis[0].out, p.axis[1].out, p.axis[2].out, o);
      bool inside = true;
      for (int d = 0; d < 3; ++d) {
        in[d] = o[d] * p.axis[d].stride - p.axis[d].padding + k[d] * p.axis[d].dilation;
        inside = inside && in[d] >= 0 && in[d] < p.axis[d].in;
      }
      if (!inside) continue;
      sum += p.x.memory.load<C>(p.x.place(image, from, in)) * p.y.memory.load<C>(p.y.place(image, to, o));
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x == 0) p.w.memory.store(p.w.place(to, c, k), sums[0]);
    __syncthreads();
  }
}

/// Absent leading axes have size 1 and are never moved along.
Cells cells_of(const Tensor& t, int rank) {
  Cells cells{memory_of(t), t.stride(0), t.stride(1), {0, 0, 0}};
  for (int i = 0; i < rank; ++i) cells.spatial[3 - rank + i] = t.stride(i + 2);
  return cells;
}

Convolution convolution_of(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y) {
  const Window& v = s.window;
  Convolution p{cells_of(x, v.rank),
                cells_of(w, v.rank),
                cells_of(y, v.rank),
                {nullptr, kFloat32},
                1,
                {},
                s.batch,
                0,
                0,
                s.groups};
  p.ins = s.in_channels / s.groups;
  p.outs = s.out_channels / s.groups;
  for (Axis3& axis : p.axis) axis = {1, 1, 1, 1, 0, 1};
  for (int i = 0; i < v.rank; ++i) {
    const auto k = static_cast<std::size_t>(i);
    p.axis[3 - v.rank + i] = {v.in[k], v.kernel[k], v.out[k], v.stride[k], v.padding[k], v.dilation[k]};
  }
  return p;
}

}  // namespace

void direct_conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  Convolution p = convolution_of(s, x, w, y);
  if (bias.defined()) p.bias = memory_of(bias), p.bias_stride = bias.stride(0);
  with_arithmetic<false>(y.dtype(), [&]<class C>(Type<C>) {
    launch(gpu(y), &convolve<C>, resident_grid(gpu(y), y.numel()), kThreads, p, y.numel());
  });
}

void direct_conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w, Tensor& dx) {
  const Convolution p = convolution_of(s, dx, w, g);
  with_arithmetic<false>(dx.dtype(), [&]<class C>(Type<C>) {
    launch(gpu(dx), &data_grad<C>, resident_grid(gpu(dx), dx.numel()), kThreads, p, dx.numel());
  });
}

void direct_conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, Tensor& dw) {
  const Convolution p = convolution_of(s, x, dw, g);
  with_arithmetic<false>(dw.dtype(), [&]<class C>(Type<C>) {
    launch(gpu(dw), &weight_grad<C>, resident_grid(gpu(dw), dw.numel(), 1), kThreads, p, dw.numel());
  });
}

}  // namespace halftone::cuda
