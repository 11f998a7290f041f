#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"

namespace halftone {

using namespace cuda;

namespace {

template <class F> struct BinaryValue {
  static constexpr int kInputs = 2;
  F f;
  template <class C> __device__ C operator()(const C (&in)[2]) const { return f(in[0], in[1]); }
};

template <class F> struct TernaryValue {
  static constexpr int kInputs = 3;
  F f;
  template <class C> __device__ C operator()(const C (&in)[3]) const { return f(in[0], in[1], in[2]); }
};

}  // namespace

void CudaBackend::binary(const Binary& f, const Tensor& a, const Tensor& b, Tensor& y, Dtype compute) {
  std::visit(
      [&]<class F>(const F& formula) {
        with_arithmetic<on_integers<F>>(compute, [&]<class C>(Type<C>) {
          run_elements<C>(BinaryValue<F>{formula}, std::array{&a, &b}, y);
        });
      },
      f);
}

void CudaBackend::ternary(const Ternary& f, const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y,
                          Dtype compute) {
  std::visit(
      [&]<class F>(const F& formula) {
        with_arithmetic<on_integers<F>>(compute, [&]<class C>(Type<C>) {
          run_elements<C>(TernaryValue<F>{formula}, std::array{&a, &b, &c}, y);
        });
      },
      f);
}

}  // namespace halftone
