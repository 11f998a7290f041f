#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"

namespace halftone {

using namespace cuda;

namespace {

template <class F> struct Value {
  static constexpr int kInputs = 1;
  F f;
  template <class C> __device__ C operator()(const C (&in)[1]) const { return f(in[0]); }
};

}  // namespace

void CudaBackend::unary(const Unary& f, const Tensor& x, Tensor& y, Dtype compute) {
  std::visit(
      [&]<class F>(const F& formula) {
        with_arithmetic<on_integers<F>>(
            compute, [&]<class C>(Type<C>) { run_elements<C>(Value<F>{formula}, std::array{&x}, y); });
      },
      f);
}

}  // namespace halftone
