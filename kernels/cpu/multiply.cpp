#include "kernels/cpu/multiply.h"

// GCC 12 takes the undefined values in its own AVX-512 header for mistakes of whoever inlines them (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <Eigen/Core>

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/onednn.h"

namespace halftone::cpu {

namespace {

template <class C, int Order>
using EigenMap = Eigen::Map<const Eigen::Matrix<C, Eigen::Dynamic, Eigen::Dynamic, Order>, 0, Eigen::OuterStride<>>;

template <class C, int OrderA, int OrderB> void multiply_eigen(const Product<C>& p) {
  const EigenMap<C, OrderA> a(p.a.data, p.m, p.k, Eigen::OuterStride<>(p.a.stride));
  const EigenMap<C, OrderB> b(p.b.data, p.k, p.n, Eigen::OuterStride<>(p.b.stride));
  using Result = Eigen::Matrix<C, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<Result, 0, Eigen::OuterStride<>> y(p.y, p.m, p.n, Eigen::OuterStride<>(p.y_stride));
  if (p.accumulate)
    y.noalias() += a * b;
  else
    y.noalias() = a * b;
}

template <class C> void multiply_eigen(const Product<C>& p) {
  constexpr int kRows = Eigen::RowMajor, kCols = Eigen::ColMajor;
  if (p.a.transposed)
    p.b.transposed ? multiply_eigen<C, kCols, kCols>(p) : multiply_eigen<C, kCols, kRows>(p);
  else
    p.b.transposed ? multiply_eigen<C, kRows, kCols>(p) : multiply_eigen<C, kRows, kRows>(p);
}

/// Integers wrap around, so they are multiplied as unsigned ones.
template <class C> void multiply_integers(const Product<C>& p) {
  using Wrap = std::conditional_t<sizeof(C) == 8, std::uint64_t, std::uint32_t>;
  const std::int64_t b_row = p.b.transposed ? 1 : p.b.stride, b_col = p.b.transposed ? p.b.stride : 1;
  for (std::int64_t i = 0; i < p.m; ++i) {
    C* y = p.y + i * p.y_stride;
    if (!p.accumulate) std::fill_n(y, p.n, C{0});
    for (std::int64_t l = 0; l < p.k; ++l) {
      const auto factor =  // NOLINTNEXTLINE(bugprone-signed-char-misuse): a negative one is to wrap
          static_cast<Wrap>(p.a.transposed ? p.a.data[l * p.a.stride + i] : p.a.data[i * p.a.stride + l]);
      const C* b = p.b.data + l * b_row;
      for (std::int64_t j = 0; j < p.n; ++j)
        y[j] = static_cast<C>(static_cast<Wrap>(y[j]) + factor * static_cast<Wrap>(b[j * b_col]));
    }
  }
}

}  // namespace

/// Below this many multiplications Eigen is as quick as the library or quicker: the library needs 0.3 microseconds to
/// start.
constexpr double kLeastForLibrary = 16384;

template <class C> void multiply(const Product<C>& p) {
  if (p.k == 0) {
    if (!p.accumulate)
      for (std::int64_t i = 0; i < p.m; ++i) std::fill_n(p.y + i * p.y_stride, p.n, C{0});
    return;
  }
  if constexpr (std::is_integral_v<C>) {
    multiply_integers(p);
  } else {
    if constexpr (std::is_same_v<C, float>) {
      const double work = static_cast<double>(p.m * p.n) * static_cast<double>(p.k);
      if (work > kLeastForLibrary && onednn::serves(kFloat32)) {
        onednn::sgemm({p.a.transposed, p.b.transposed, p.m, p.n, p.k, p.a.data, p.a.stride, p.b.data, p.b.stride,
                       p.accumulate, p.y, p.y_stride});
        return;
      }
    }
    multiply_eigen(p);
  }
}

template void multiply(const Product<float>&);
template void multiply(const Product<double>&);
template void multiply(const Product<std::uint8_t>&);
template void multiply(const Product<std::int8_t>&);
template void multiply(const Product<std::int16_t>&);
template void multiply(const Product<std::int32_t>&);
template void multiply(const Product<std::int64_t>&);

}  // namespace halftone::cpu
