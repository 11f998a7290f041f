#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "core/parallel.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/multiply.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/row_product.h"
#include "kernels/cpu/scratch.h"

namespace halftone::cpu {

namespace {

template <class Pointer> bool rows_are_dense(const MatrixView<Pointer>& v) {
  return (v.cols <= 1 || v.col_stride == 1) && (v.rows <= 1 || v.row_stride >= std::max<std::int64_t>(v.cols, 1));
}

template <class Pointer> std::int64_t dense_stride(const MatrixView<Pointer>& v) {
  return v.rows <= 1 ? std::max<std::int64_t>(v.cols, 1) : v.row_stride;
}

template <class T> void to_compute(const T* from, Compute<T>* to, std::int64_t n, std::int64_t stride) {
  if (stride == 1) {
    if constexpr (is_half_type<T>)
      widen(from, to, n);
    else
      std::copy_n(from, n, to);
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<Compute<T>>(from[i * stride]);
}

template <class T> void from_compute(const Compute<T>* from, T* to, std::int64_t n, std::int64_t stride) {
  if (stride == 1) {
    if constexpr (is_half_type<T>)
      narrow(from, to, n);
    else
      std::copy_n(from, n, to);
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) to[i * stride] = static_cast<T>(from[i]);
}

template <class T> Compute<T>* load_rows(const ConstMatrix& v, ScratchUse use) {
  auto* to = scratch<Compute<T>>(use, v.rows * v.cols);
  for (std::int64_t i = 0; i < v.rows; ++i)
    to_compute(static_cast<const T*>(v.data) + i * v.row_stride, to + i * v.cols, v.cols, v.col_stride);
  return to;
}

/// The matrix as it lies where possible, else a dense copy in the type that arithmetic is done in.
template <class T> Dense<Compute<T>> fetch(const ConstMatrix& v, ScratchUse use) {
  if constexpr (std::is_same_v<T, Compute<T>>) {
    const ConstMatrix t = v.transposed();
    if (rows_are_dense(v)) return {static_cast<const T*>(v.data), dense_stride(v), false};
    if (rows_are_dense(t)) return {static_cast<const T*>(v.data), dense_stride(t), true};
  }
  const bool transposed = v.col_stride != 1 && v.row_stride == 1;  // read along memory
  const ConstMatrix along = transposed ? v.transposed() : v;
  return {load_rows<T>(along, use), std::max<std::int64_t>(along.cols, 1), transposed};
}

/// The bias in the type that arithmetic is done in, or null.
template <class T> const Compute<T>* fetch_bias(const GemmArgs& args) {
  using C = Compute<T>;
  if (args.bias == nullptr) return nullptr;
  if constexpr (std::is_same_v<T, C>) {
    return static_cast<const C*>(args.bias);
  } else {
    if (args.bias_dtype == kFloat32) return static_cast<const C*>(args.bias);
    C* wide = scratch<C>(ScratchUse::gemm_work, args.y.cols);
    widen(static_cast<const T*>(args.bias), wide, args.y.cols);
    return wide;
  }
}

template <class C>
void finish_rows(C* y, std::int64_t rows, std::int64_t cols, std::int64_t stride, const C* bias,
                 Activation activation) {
  for (std::int64_t i = 0; i < rows; ++i) {
    C* row = y + i * stride;
    if (bias != nullptr)
      for (std::int64_t j = 0; j < cols; ++j) row[j] = static_cast<C>(row[j] + bias[j]);
    if (activation == Activation::relu)
      for (std::int64_t j = 0; j < cols; ++j) row[j] = row[j] < C{0} ? C{0} : row[j];  // keeps NaN
  }
}

/// y in the type that arithmetic is done in: what it holds if that is to be added to, else uninitialised.
template <class T> Compute<T>* wide_result(const GemmArgs& args) {
  const Matrix& y = args.y;
  if (!args.accumulate) return scratch<Compute<T>>(ScratchUse::matrix_y, y.rows * y.cols);
  return load_rows<T>({y.data, y.rows, y.cols, y.row_stride, y.col_stride}, ScratchUse::matrix_y);
}

/// Adds the bias, applies the activation, and stores with one rounding.
template <class T> void store_wide(const GemmArgs& args, Compute<T>* wide) {
  const Matrix& y = args.y;
  finish_rows(wide, y.rows, y.cols, y.cols, fetch_bias<T>(args), args.activation);
  for (std::int64_t i = 0; i < y.rows; ++i)
    from_compute(wide + i * y.cols, static_cast<T*>(y.data) + i * y.row_stride, y.cols, y.col_stride);
}

/// One product on the calling thread.
template <class T> void product(const GemmArgs& args) {
  const auto a = fetch<T>(args.a, ScratchUse::matrix_a);
  const auto b = fetch<T>(args.b, ScratchUse::matrix_b);
  if constexpr (std::is_same_v<T, Compute<T>>) {
    if (rows_are_dense(args.y)) {
      auto* y = static_cast<T*>(args.y.data);
      const std::int64_t stride = dense_stride(args.y);
      multiply<T>({args.y.rows, args.y.cols, args.a.cols, a, b, y, stride, args.accumulate});
      finish_rows(y, args.y.rows, args.y.cols, stride, fetch_bias<T>(args), args.activation);
      return;
    }
  }
  Compute<T>* wide = wide_result<T>(args);  // 16-bit types, and results with strides of their own
  multiply<Compute<T>>({args.y.rows, args.y.cols, args.a.cols, a, b, wide, args.y.cols, args.accumulate});
  store_wide<T>(args, wide);
}

template <class Pointer> bool either_is_dense(const MatrixView<Pointer>& v) {
  return rows_are_dense(v) || rows_are_dense(v.transposed());
}

struct Range {
  std::int64_t first, last;
};

/// Part `index` of [0, n) cut into `parts`, on multiples of `unit`.
Range part_of(std::int64_t n, std::int64_t parts, std::int64_t index, std::int64_t unit) {
  const std::int64_t units = (n + unit - 1) / unit;
  return {std::min(n, units * index / parts * unit), std::min(n, units * (index + 1) / parts * unit)};
}

template <class Pointer> Pointer advance(Pointer data, std::int64_t elements, std::int64_t size) {
  using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const std::byte, std::byte>;
  return data == nullptr ? data : static_cast<Byte*>(data) + elements * size;
}

/// The product of one row range and one column range, of one matrix of the batch.
GemmArgs block_of(const GemmArgs& args, std::int64_t index, Range rows, Range cols) {
  const std::int64_t size = element_size(args.dtype);
  GemmArgs block = args;
  block.batch = 1;
  block.a.data = advance(args.a.data, index * args.a.batch_stride + rows.first * args.a.row_stride, size);
  block.b.data = advance(args.b.data, index * args.b.batch_stride + cols.first * args.b.col_stride, size);
  block.y.data = advance(
      args.y.data, index * args.y.batch_stride + rows.first * args.y.row_stride + cols.first * args.y.col_stride, size);
  block.bias = advance(args.bias, cols.first, element_size(args.bias_dtype));
  block.a.rows = block.y.rows = rows.last - rows.first;
  block.b.cols = block.y.cols = cols.last - cols.first;
  return block;
}

/// A wide b in rows is taken in panels that stay in the second-level cache: from 1024 to 2048 cubed the library is 1.1
/// to 1.4 times as fast then. A transposed b, a column of which is contiguous, gains nothing.
void multiply_bf16(const GemmArgs& args) {
  constexpr std::int64_t kPanel = 512;
  const bool large = args.y.cols >= 2 * kPanel && args.a.cols >= kPanel && args.y.rows >= kPanel / 2;
  if (!large || !rows_are_dense(args.b)) return onednn::matmul_bf16(args);
  for (std::int64_t col = 0; col < args.y.cols; col += kPanel)
    onednn::matmul_bf16(block_of(args, 0, {0, args.y.rows}, {col, std::min(col + kPanel, args.y.cols)}));
}

/// One to three rows: measured up to there, reading b once for each is quicker than preparing it.
void multiply_few_rows_bf16(const GemmArgs& args) {
  const std::int64_t k = args.a.cols, n = args.y.cols;
  const float* a = load_rows<BFloat16>(args.a, ScratchUse::matrix_a);
  const auto* b = static_cast<const BFloat16*>(args.b.data);
  float* wide = wide_result<BFloat16>(args);
  if (!args.accumulate) std::fill_n(wide, args.y.rows * n, 0.0f);
  float* x = scratch<float>(ScratchUse::gemm_work, split_size(k));
  for (std::int64_t i = 0; i < args.y.rows; ++i) {
    if (rows_are_dense(args.b)) {
      add_rows(a + i * k, k, b, dense_stride(args.b), wide + i * n, n);
    } else {
      split_pairs(a + i * k, k, x);
      add_dots(x, b, dense_stride(args.b.transposed()), k, wide + i * n, n);
    }
  }
  store_wide<BFloat16>(args, wide);
}

/// Does a bfloat16 product in the best special way; false when there is none.
bool product_bf16(const GemmArgs& args) {
  constexpr std::int64_t kFewRows = 3;
  constexpr double kLeastForLibrary = 6000;  // multiplications; calling the library takes 0.4 microseconds
  if (!either_is_dense(args.b) || args.a.cols == 0) return false;
  if (args.y.rows <= kFewRows) {
    multiply_few_rows_bf16(args);
    return true;
  }
  const double work = static_cast<double>(args.y.rows * args.y.cols) * static_cast<double>(args.a.cols);
  if (work < kLeastForLibrary || !onednn::serves(kBFloat16) || !rows_are_dense(args.y) || !either_is_dense(args.a))
    return false;
  multiply_bf16(args);
  return true;
}

void product_any(const GemmArgs& args) {
  if (args.dtype == kBFloat16 && product_bf16(args)) return;
  if (is_floating_point(args.dtype))
    visit_floating(args.dtype, [&]<class T>(Type<T>) { product<T>(args); });
  else
    visit_integral(args.dtype, [&]<class T>(Type<T>) { product<T>(args); });
}

/// How one call is cut among threads: by products, else by rows or columns of each.
struct Split {
  std::int64_t batch_parts = 1, row_parts = 1, col_parts = 1;
};

/// The least work worth a thread of its own, in multiplications: about 15 microseconds of it.
double least_work(Dtype dtype) { return dtype == kBFloat16 && has_fast_bf16() ? 8e6 : 1e6; }

Split plan_split(const GemmArgs& args) {
  constexpr std::int64_t kRowsUnit = 16, kColsUnit = 32;
  if (in_parallel_region()) return {};
  const double work = static_cast<double>(args.batch) * static_cast<double>(args.y.rows) *
                      static_cast<double>(args.y.cols) * static_cast<double>(args.a.cols);
  const auto parts = static_cast<std::int64_t>(std::min<double>(work / least_work(args.dtype), get_num_threads()));
  if (parts < 2) return {};
  if (args.batch >= parts) return {.batch_parts = parts};
  const std::int64_t each = (parts + args.batch - 1) / args.batch;
  const std::int64_t rows = (args.y.rows + kRowsUnit - 1) / kRowsUnit, cols = (args.y.cols + kColsUnit - 1) / kColsUnit;
  if (args.y.rows >= args.y.cols) return {.batch_parts = args.batch, .row_parts = std::min(each, rows)};
  return {.batch_parts = args.batch, .col_parts = std::min(each, cols)};
}

void run_part(const GemmArgs& args, const Split& split, std::int64_t part) {
  const std::int64_t col = part % split.col_parts;
  const std::int64_t row = part / split.col_parts % split.row_parts;
  const Range batch = part_of(args.batch, split.batch_parts, part / split.col_parts / split.row_parts, 1);
  const Range rows = part_of(args.y.rows, split.row_parts, row, split.row_parts == 1 ? args.y.rows : 16);
  const Range cols = part_of(args.y.cols, split.col_parts, col, split.col_parts == 1 ? args.y.cols : 32);
  if (rows.first == rows.last || cols.first == cols.last) return;
  for (std::int64_t i = batch.first; i < batch.last; ++i) product_any(block_of(args, i, rows, cols));
}

/// y' = b' a' is the same product; it makes a column-major result row-major.
GemmArgs transposed(const GemmArgs& args) {
  GemmArgs t = args;
  t.a = args.b.transposed();
  t.b = args.a.transposed();
  t.y = args.y.transposed();
  return t;
}

}  // namespace

void gemm(const GemmArgs& args) {
  if (args.batch == 0 || args.y.rows == 0 || args.y.cols == 0) return;
  if (args.bias == nullptr && !rows_are_dense(args.y) && rows_are_dense(args.y.transposed()))
    return gemm(transposed(args));
  const Split split = plan_split(args);
  const std::int64_t parts = split.batch_parts * split.row_parts * split.col_parts;
  parallel_for(0, parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t part = first; part < last; ++part) run_part(args, split, part);
  });
}

}  // namespace halftone::cpu
