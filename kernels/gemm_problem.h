// A matrix product as a library of the BLAS family is told of it. Pure functions of shapes and strides: they know of no
// device, and what they give is the key under which an algorithm is remembered.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

#include "core/tensor.h"

namespace halftone {

/// A matrix, or a batch of them, with strides in elements.
struct StridedMatrix {
  std::int64_t rows = 0, cols = 0;
  std::int64_t row_stride = 0, col_stride = 1;
  std::int64_t batch_stride = 0;  // 0: the same one every time

  StridedMatrix transposed() const { return {cols, rows, col_stride, row_stride, batch_stride}; }
};

/// Of [rows, cols] or [batch, rows, cols].
StridedMatrix strided_matrix(const Tensor& t);

/// Rows without gaps, `leading` elements from one to the next; or columns, if `transposed`.
struct BlasMatrix {
  bool transposed = false;
  std::int64_t leading = 1;
  std::int64_t batch_stride = 0;
  auto operator<=>(const BlasMatrix&) const = default;
};

/// Nothing if neither the rows nor the columns are free of gaps and of overlaps.
std::optional<BlasMatrix> as_blas(const StridedMatrix& m);

/// y = a b, or y += a b, plus a bias to every row: all that the choice of an algorithm depends on.
struct GemmProblem {
  std::int64_t m = 0, n = 0, k = 0, batch = 1;
  BlasMatrix a, b, y;
  Dtype in = kFloat32, out = kFloat32;
  bool bias = false;  // of y's dtype
  bool accumulate = false;
  bool tf32 = false;
  bool timed = false;  // the algorithm was or is to be found by measurement
  std::uint32_t a_alignment = 1, b_alignment = 1, y_alignment = 1, bias_alignment = 1;  // of the addresses, in bytes
  auto operator<=>(const GemmProblem&) const = default;
};

/// Nothing if one of the three has to be copied first, or if y's rows are not what is free of gaps.
std::optional<GemmProblem> gemm_problem(const StridedMatrix& a, const StridedMatrix& b, const StridedMatrix& y,
                                        std::int64_t batch);

}  // namespace halftone
