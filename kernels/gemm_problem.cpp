#include "kernels/gemm_problem.h"

#include <algorithm>

namespace halftone {
namespace {

bool rows_are_dense(const StridedMatrix& m) {
  return (m.cols <= 1 || m.col_stride == 1) && (m.rows <= 1 || m.row_stride >= std::max<std::int64_t>(m.cols, 1));
}

BlasMatrix of_dense_rows(const StridedMatrix& m, bool transposed) {
  return {transposed, m.rows <= 1 ? std::max<std::int64_t>(m.cols, 1) : m.row_stride, m.batch_stride};
}

}  // namespace

StridedMatrix strided_matrix(const Tensor& t) {
  const std::int64_t first = t.dim() == 3 ? 1 : 0;
  const bool is_batch = first == 1 && t.size(0) > 1;
  return {t.size(first), t.size(first + 1), t.stride(first), t.stride(first + 1), is_batch ? t.stride(0) : 0};
}

std::optional<BlasMatrix> as_blas(const StridedMatrix& m) {
  if (rows_are_dense(m)) return of_dense_rows(m, false);
  if (rows_are_dense(m.transposed())) return of_dense_rows(m.transposed(), true);
  return std::nullopt;
}

std::optional<GemmProblem> gemm_problem(const StridedMatrix& a, const StridedMatrix& b, const StridedMatrix& y,
                                        std::int64_t batch) {
  const auto left = as_blas(a), right = as_blas(b), result = as_blas(y);
  if (!left || !right || !result || result->transposed) return std::nullopt;
  if (batch > 1 && y.batch_stride < y.rows * result->leading) return std::nullopt;  // interleaved matrices
  GemmProblem problem;
  problem.m = y.rows;
  problem.n = y.cols;
  problem.k = a.cols;
  problem.batch = batch;
  problem.a = *left;
  problem.b = *right;
  problem.y = *result;
  return problem;
}

}  // namespace halftone
