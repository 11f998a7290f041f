#include "kernels/cuda/simple_product.h"

#include "kernels/cuda/elements.cuh"
#include "kernels/gemm_problem.h"

namespace halftone::cuda {
namespace {

constexpr int kTile = 32, kStep = 16, kSide = 16;  // a block's part of y, of the sum, and its threads
constexpr int kEach = kTile / kSide;               // elements of y to a thread, in either direction

struct Side {
  Memory memory;
  std::int64_t row, col, batch;  // strides

  template <class C> __device__ C load(std::int64_t b, std::int64_t i, std::int64_t j) const {
    return memory.load<C>(b * batch + i * row + j * col);
  }
};

struct Product {
  Side a, b, y;
  Memory bias;  // no data: none
  std::int64_t bias_stride;
  std::int64_t m, n, k, batch, tiles_across;
  bool accumulate;
};

template <class C>
__device__ void store_result(const Product& p, std::int64_t b, std::int64_t i, std::int64_t j, C sum) {
  if (i >= p.m || j >= p.n) return;
  if (p.accumulate) sum += p.y.load<C>(b, i, j);
  if (p.bias.data != nullptr) sum += p.bias.load<C>(j * p.bias_stride);
  p.y.memory.store(b * p.y.batch + i * p.y.row + j * p.y.col, sum);
}

template <class C> __global__ void __launch_bounds__(kSide* kSide) multiply_tiles(Product p) {
  __shared__ C a[kTile][kStep + 1];
  __shared__ C b[kStep][kTile + 1];
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  const std::int64_t tile = blockIdx.x;
  const std::int64_t row0 = tile / p.tiles_across * kTile, col0 = tile % p.tiles_across * kTile;
  for (std::int64_t s = blockIdx.y; s < p.batch; s += gridDim.y) {
    C sum[kEach][kEach]{};
    for (std::int64_t k0 = 0; k0 < p.k; k0 += kStep) {
      for (int e = 0; e < kEach; ++e) {
        const std::int64_t i = row0 + y + e * kSide, j = col0 + x + e * kSide;
        a[y + e * kSide][x] = i < p.m && k0 + x < p.k ? p.a.load<C>(s, i, k0 + x) : C(0);
        b[y][x + e * kSide] = j < p.n && k0 + y < p.k ? p.b.load<C>(s, k0 + y, j) : C(0);
      }
      __syncthreads();
      for (int l = 0; l < kStep; ++l) {
        for (int i = 0; i < kEach; ++i) {
          for (int j = 0; j < kEach; ++j) sum[i][j] += a[y + i * kSide][l] * b[l][x + j * kSide];
        }
      }
      __syncthreads();
    }
    for (int i = 0; i < kEach; ++i) {
      for (int j = 0; j < kEach; ++j) store_result(p, s, row0 + y + i * kSide, col0 + x + j * kSide, sum[i][j]);
    }
  }
}

Side side_of(const Tensor& t) {
  const StridedMatrix m = strided_matrix(t);
  return {memory_of(t), m.row_stride, m.col_stride, m.batch_stride};
}

}  // namespace

void simple_product(const Tensor& a, const Tensor& b, const Tensor& bias, bool accumulate, Tensor& y) {
  check<TypeError>(y.dtype() != kBool, "an integral dtype is needed, not bool");  // as on the CPU
  const StridedMatrix shape = strided_matrix(y);
  Product p{side_of(a), side_of(b), side_of(y), {nullptr, y.dtype()}, 1, shape.rows, shape.cols, 0, 1, 1, accumulate};
  p.k = strided_matrix(a).cols;
  p.batch = y.dim() == 3 ? y.size(0) : 1;
  p.tiles_across = ceil_div(p.n, kTile);
  if (bias.defined()) p.bias = memory_of(bias), p.bias_stride = bias.stride(0);
  dim3 blocks = grid(ceil_div(p.m, kTile) * p.tiles_across);
  blocks.y = static_cast<unsigned>(std::min<std::int64_t>(p.batch, 65535));
  with_arithmetic<true>(y.dtype(),
                        [&]<class C>(Type<C>) { launch(gpu(y), &multiply_tiles<C>, blocks, kSide * kSide, p); });
}

}  // namespace halftone::cuda
