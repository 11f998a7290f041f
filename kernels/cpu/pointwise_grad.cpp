#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/pointwise.h"

namespace halftone {

using namespace cpu;

namespace {

Dtype arithmetic_of(const Tensor& g, const Tensor& other) {
  return g.dtype() == kFloat64 || other.dtype() == kFloat64 ? kFloat64 : kFloat32;
}

}  // namespace

// An operand that the formula does not read is replaced by g, which is there anyway.
void CpuBackend::unary_grad(const Unary& f, const Tensor& g, const Tensor& x, const Tensor& y, Tensor& dx) {
  const Tensor& first = x.defined() ? x : g;
  const Tensor& second = y.defined() ? y : g;
  visit_arithmetic(arithmetic_of(g, x.defined() ? first : second), [&]<class C>(Type<C>) {
    std::visit(
        [&]<class F>(const F& formula) {
          if constexpr (std::is_floating_point_v<C> && F::differentiable) {
            run_elements<C>(std::array{&g, &first, &second}, dx, &unary_grad_block<C, F>, &formula);
          }
        },
        f);
  });
}

void CpuBackend::binary_grad(const Binary& f, Operand which, const Tensor& g, const Tensor& a, const Tensor& b,
                             const Tensor& y, Tensor& dx) {
  const Tensor& result = y.defined() ? y : g;
  const Dtype arithmetic = arithmetic_of(a, b) == kFloat64 ? kFloat64 : arithmetic_of(g, result);
  visit_arithmetic(arithmetic, [&]<class C>(Type<C>) {
    std::visit(
        [&]<class F>(const F& formula) {
          if constexpr (std::is_floating_point_v<C> && F::differentiable) {
            const auto kernel = which == Operand::a ? &binary_grad_block<C, F, true> : &binary_grad_block<C, F, false>;
            run_elements<C>(std::array{&g, &a, &b, &result}, dx, kernel, &formula);
          }
        },
        f);
  });
}

}  // namespace halftone
