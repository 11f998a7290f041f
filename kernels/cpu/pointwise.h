// Kernels of the pointwise formulas: one plain loop per formula and arithmetic type, which the compiler vectorizes.
#pragma once

#include "kernels/cpu/elements.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/functors.h"

namespace halftone::cpu {

// `#pragma GCC ivdep` rather than restrict: the output may be one of the inputs, element on element.

template <class C, class F> void unary_block(const void* functor, std::int64_t n, const C* const* in, C* out) {
  const F f = *static_cast<const F*>(functor);
  const C* x = in[0];
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) out[i] = f(x[i]);
}

/// Inputs g, and x and y where the formula needs them.
template <class C, class F> void unary_grad_block(const void* functor, std::int64_t n, const C* const* in, C* out) {
  const F f = *static_cast<const F*>(functor);
  const C *g = in[0], *x = in[1], *y = in[2];
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) out[i] = f.grad(g[i], x[i], y[i]);
}

template <class C, class F> void binary_block(const void* functor, std::int64_t n, const C* const* in, C* out) {
  const F f = *static_cast<const F*>(functor);
  const C *a = in[0], *b = in[1];
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) out[i] = f(a[i], b[i]);
}

template <class C, class F, bool First>
void binary_grad_block(const void* functor, std::int64_t n, const C* const* in, C* out) {
  const F f = *static_cast<const F*>(functor);
  const C *g = in[0], *a = in[1], *b = in[2], *y = in[3];
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    if constexpr (First) {
      out[i] = f.grad_a(g[i], a[i], b[i], y[i]);
    } else {
      out[i] = f.grad_b(g[i], a[i], b[i], y[i]);
    }
  }
}

template <class C, class F> void ternary_block(const void* functor, std::int64_t n, const C* const* in, C* out) {
  const F f = *static_cast<const F*>(functor);
  const C *a = in[0], *b = in[1], *c = in[2];
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) out[i] = f(a[i], b[i], c[i]);
}

/// Calls `run(kernel, type)` with Kernel<C, F> for the arithmetic type of `compute`; integers only where the formula
/// takes them.
template <class F, class Run> void with_arithmetic(Dtype compute, Run run) {
  visit_arithmetic(compute, [&]<class C>(Type<C> type) {
    if constexpr (std::is_floating_point_v<C> || on_integers<F>) {
      run(type);
    } else {
      fail<TypeError>("this formula needs a floating dtype, not ", compute);
    }
  });
}

}  // namespace halftone::cpu
