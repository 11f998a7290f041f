#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"

namespace halftone {

using namespace cuda;

namespace {

/// The inputs are g, then a, b and y as far as the formula reads them.
template <class F, Operand Which> struct Gradient {
  static constexpr bool kReadsInputs = F::needs == Needs::x || F::needs == Needs::x_and_y;
  static constexpr bool kReadsY = F::needs == Needs::y || F::needs == Needs::x_and_y;
  static constexpr int kInputs = 1 + 2 * kReadsInputs + kReadsY;
  F f;
  template <class C> __device__ C operator()(const C (&in)[kInputs]) const {
    const C a = in[kReadsInputs ? 1 : 0], b = in[kReadsInputs ? 2 : 0], y = in[kReadsY ? kInputs - 1 : 0];
    if constexpr (Which == Operand::a) {
      return f.grad_a(in[0], a, b, y);
    } else {
      return f.grad_b(in[0], a, b, y);
    }
  }
};

template <class Op, class F>
void run(const F& formula, Dtype compute, const Tensor& g, const Tensor& a, const Tensor& b, const Tensor& y,
         Tensor& dx) {
  std::array<const Tensor*, Op::kInputs> inputs{&g};
  if constexpr (Op::kReadsInputs) inputs[1] = &a, inputs[2] = &b;
  if constexpr (Op::kReadsY) inputs[Op::kInputs - 1] = &y;
  with_arithmetic<false>(compute, [&]<class C>(Type<C>) { run_elements<C>(Op{formula}, inputs, dx); });
}

}  // namespace

void CudaBackend::binary_grad(const Binary& f, Operand which, const Tensor& g, const Tensor& a, const Tensor& b,
                              const Tensor& y, Tensor& dx) {
  const auto is_double = [](const Tensor& t) { return t.defined() && t.dtype() == kFloat64; };
  const Dtype compute = is_double(g) || is_double(a) || is_double(b) || is_double(y) ? kFloat64 : kFloat32;
  std::visit(
      [&]<class F>(const F& formula) {
        if constexpr (F::differentiable) {
          if (which == Operand::a) {
            run<Gradient<F, Operand::a>>(formula, compute, g, a, b, y, dx);
          } else {
            run<Gradient<F, Operand::b>>(formula, compute, g, a, b, y, dx);
          }
        }
      },
      f);
}

}  // namespace halftone
