// The product of two matrices that are dense but for their leading dimensions, on the calling thread.
#pragma once

#include <cstdint>

namespace halftone::cpu {

/// Element (i, j) is data[i * stride + j], or data[j * stride + i] when stored transposed.
template <class T> struct Dense {
  const T* data;
  std::int64_t stride;
  bool transposed;
};

/// y = a * b, or y += a * b, for y in rows `y_stride` apart.
template <class C> struct Product {
  std::int64_t m, n, k;
  Dense<C> a, b;
  C* y;
  std::int64_t y_stride;
  bool accumulate;
};

/// For float, double and the signed and unsigned integers. An empty k gives zeros.
template <class C> void multiply(const Product<C>& p);

}  // namespace halftone::cpu
