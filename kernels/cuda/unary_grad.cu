// Values and derivatives in files of their own: each is a hundred kernels, which compile side by side.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"

namespace halftone {

using namespace cuda;

namespace {

/// The inputs are g, and x and y if the formula reads them.
template <class F> struct Gradient {
  static constexpr bool kReadsX = F::needs == Needs::x || F::needs == Needs::x_and_y;
  static constexpr bool kReadsY = F::needs == Needs::y || F::needs == Needs::x_and_y;
  static constexpr int kInputs = 1 + kReadsX + kReadsY;
  F f;
  template <class C> __device__ C operator()(const C (&in)[kInputs]) const {
    return f.grad(in[0], in[kReadsX ? 1 : 0], in[kReadsY ? kInputs - 1 : 0]);
  }
};

}  // namespace

void CudaBackend::unary_grad(const Unary& f, const Tensor& g, const Tensor& x, const Tensor& y, Tensor& dx) {
  const auto is_double = [](const Tensor& t) { return t.defined() && t.dtype() == kFloat64; };
  const Dtype compute = is_double(g) || is_double(x) || is_double(y) ? kFloat64 : kFloat32;
  std::visit(
      [&]<class F>(const F& formula) {
        if constexpr (F::differentiable) {
          using Op = Gradient<F>;
          std::array<const Tensor*, Op::kInputs> inputs{&g};
          if constexpr (Op::kReadsX) inputs[1] = &x;
          if constexpr (Op::kReadsY) inputs[Op::kInputs - 1] = &y;
          with_arithmetic<false>(compute, [&]<class C>(Type<C>) { run_elements<C>(Op{formula}, inputs, dx); });
        }
      },
      f);
}

}  // namespace halftone
