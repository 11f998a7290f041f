#include "kernels/cpu/pointwise.h"

#include "kernels/cpu/cpu_backend.h"

namespace halftone {

using namespace cpu;

void CpuBackend::unary(const Unary& f, const Tensor& x, Tensor& y, Dtype compute) {
  std::visit(
      [&]<class F>(const F& formula) {
        with_arithmetic<F>(compute,
                           [&]<class C>(Type<C>) { run_elements<C>(std::array{&x}, y, &unary_block<C, F>, &formula); });
      },
      f);
}

void CpuBackend::binary(const Binary& f, const Tensor& a, const Tensor& b, Tensor& y, Dtype compute) {
  std::visit(
      [&]<class F>(const F& formula) {
        with_arithmetic<F>(compute, [&]<class C>(Type<C>) {
          run_elements<C>(std::array{&a, &b}, y, &binary_block<C, F>, &formula);
        });
      },
      f);
}

void CpuBackend::ternary(const Ternary& f, const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y,
                         Dtype compute) {
  std::visit(
      [&]<class F>(const F& formula) {
        with_arithmetic<F>(compute, [&]<class C>(Type<C>) {
          run_elements<C>(std::array{&a, &b, &c}, y, &ternary_block<C, F>, &formula);
        });
      },
      f);
}

}  // namespace halftone
