// Matrix products on the CPU, for any dtype and any strides.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace halftone::cpu {

/// A matrix, or a row of them `batch_stride` apart (0: the same one every time). Strides count elements; neither of
/// them has to be 1, so a transposed, sliced or expanded view is described and not copied.
template <class Pointer> struct MatrixView {
  Pointer data = nullptr;
  std::int64_t rows = 0, cols = 0;
  std::int64_t row_stride = 0, col_stride = 1;
  std::int64_t batch_stride = 0;

  MatrixView transposed() const { return {data, cols, rows, col_stride, row_stride, batch_stride}; }
};
using Matrix = MatrixView<void*>;
using ConstMatrix = MatrixView<const void*>;

enum class Activation : std::uint8_t { none, relu };

/// y = activation(a * b + bias), or activation(y + a * b + bias) with `accumulate`, for each of `batch` products.
struct GemmArgs {
  Dtype dtype = kFloat32;  // of a, b and y; every one but bool
  ConstMatrix a, b;        // [m, k] and [k, n]
  Matrix y;                // [m, n]; its elements are distinct in memory and apart from the inputs
  std::int64_t batch = 1;
  const void* bias = nullptr;   // n contiguous elements, added to every row
  Dtype bias_dtype = kFloat32;  // as `dtype`, or float32 where that is float16 or bfloat16
  Activation activation = Activation::none;
  bool accumulate = false;
};

/// float16 and bfloat16 are multiplied and summed in float32 and rounded once, after the activation. An empty k gives
/// the bias, or zeros. Integers wrap around.
void gemm(const GemmArgs& args);

}  // namespace halftone::cpu
