// Copies and casts, fills and sequences. A transposing copy (an image between channels-first and channels-last) goes
// through a tile in shared memory, so that both sides are read and written in runs.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"

namespace halftone {

using namespace cuda;

namespace {

struct Same {
  static constexpr int kInputs = 1;
  template <class C> __device__ C operator()(const C (&in)[1]) const { return in[0]; }
};

template <class T> struct Constant {
  static constexpr int kInputs = 0;
  T value;
  template <class C> __device__ C operator()(const C (&)[1]) const { return value; }
};

// The type to pass through: that of the target, unless a floating source has to be truncated to an integer.
Dtype passing_type(Dtype from, Dtype to) {
  if (is_floating_point(to)) return to;
  return is_floating_point(from) ? from : kInt64;
}

constexpr int kTile = 32, kTileRows = 8;

/// A matrix whose rows are runs in the target and whose columns are runs in the source; `outer` more axes repeat it.
struct Transposition {
  std::int64_t rows, columns;
  std::int64_t from_column, to_row;  // strides; those along rows of the source and columns of the target are 1
  std::int64_t outer;
  std::int64_t from_outer, to_outer;
};

template <class T>
__global__ void __launch_bounds__(kTile* kTileRows) transpose(const T* from, T* to, Transposition t) {
  __shared__ T tile[kTile][kTile + 1];  // one more column: a column's elements lie in different banks
  const std::int64_t row0 = std::int64_t{blockIdx.y} * kTile, column0 = std::int64_t{blockIdx.x} * kTile;
  for (std::int64_t plane = blockIdx.z; plane < t.outer; plane += gridDim.z) {
    const T* x = from + plane * t.from_outer;
    T* y = to + plane * t.to_outer;
#pragma unroll
    for (int k = 0; k < kTile; k += kTileRows) {
      const int i = k + static_cast<int>(threadIdx.y);
      const std::int64_t row = row0 + threadIdx.x, column = column0 + i;
      if (row < t.rows && column < t.columns) tile[i][threadIdx.x] = x[column * t.from_column + row];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kTile; k += kTileRows) {
      const int i = k + static_cast<int>(threadIdx.y);
      const std::int64_t row = row0 + i, column = column0 + threadIdx.x;
      if (row < t.rows && column < t.columns) y[row * t.to_row + column] = tile[threadIdx.x][i];
    }
    __syncthreads();
  }
}

/// The loop as a transposition, if it is one that is worth a tile.
bool as_transposition(const Loop& loop, Transposition& t) {
  const std::size_t rank = loop.sizes.size();
  const Dims &to = loop.strides[0], &from = loop.strides[1];
  if (rank < 2 || rank > 3 || to[rank - 1] != 1) return false;
  for (std::size_t row = 0; row + 1 < rank; ++row) {
    if (from[row] != 1) continue;
    const std::size_t other = 1 - row;  // the axis that is left, if there are three
    t = {loop.sizes[row], loop.sizes[rank - 1], from[rank - 1], to[row], 1, 0, 0};
    if (rank == 3) t.outer = loop.sizes[other], t.from_outer = from[other], t.to_outer = to[other];
    return t.rows >= kTileRows && t.columns >= kTileRows && ceil_div(t.rows, kTile) <= 65535;
  }
  return false;
}

template <class T> void run_transposition(const Tensor& from, Tensor& to, const Transposition& t) {
  const dim3 blocks(static_cast<unsigned>(ceil_div(t.columns, kTile)), static_cast<unsigned>(ceil_div(t.rows, kTile)),
                    static_cast<unsigned>(std::min<std::int64_t>(t.outer, 65535)));
  launch(gpu(to), &transpose<T>, blocks, dim3(kTile, kTileRows), static_cast<const T*>(from.data_ptr()),
         static_cast<T*>(to.data_ptr()), t);
}

bool transposed(const Tensor& from, Tensor& to) {
  Transposition t{};
  if (from.dtype() != to.dtype() || !as_transposition(coalesce(to.sizes(), {to.strides(), from.strides()}), t)) {
    return false;
  }
  switch (from.element_size()) {
    case 1: run_transposition<std::uint8_t>(from, to, t); break;
    case 2: run_transposition<std::uint16_t>(from, to, t); break;
    case 4: run_transposition<std::uint32_t>(from, to, t); break;
    default: run_transposition<std::uint64_t>(from, to, t);
  }
  return true;
}

struct Sequence {
  double start, step;
  std::int64_t stride;
};

__global__ void __launch_bounds__(kThreads) arange_elements(Sequence s, Memory y, std::int64_t n) {
  const std::int64_t i = thread_in_grid();
  if (i >= n) return;
  visit_dtype(y.dtype, [&]<class T>(Type<T>) {
    T& out = static_cast<T*>(y.data)[i * s.stride];
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      out = static_cast<T>(static_cast<std::int64_t>(s.start) + i * static_cast<std::int64_t>(s.step));
    } else {
      out = narrow<T>(s.start + static_cast<double>(i) * s.step);
    }
  });
}

}  // namespace

void CudaBackend::copy(const Tensor& from, Tensor& to) {
  if (to.numel() == 0) return;
  if (from.dtype() == to.dtype() && from.is_contiguous() && to.is_contiguous()) {
    Gpu& g = gpu(to);
    check_capture(g);
    use(g.device);
    return check(cudaMemcpyAsync(to.data_ptr(), from.data_ptr(), to.nbytes(), cudaMemcpyDeviceToDevice, g.stream));
  }
  if (transposed(from, to)) return;
  with_arithmetic<true>(passing_type(from.dtype(), to.dtype()),
                        [&]<class C>(Type<C>) { run_elements<C>(Same{}, std::array{&from}, to); });
}

void CudaBackend::fill(Tensor& y, const Scalar& value) {
  with_arithmetic<true>(y.dtype(), [&]<class C>(Type<C>) { run_elements<C>(Constant<C>{value.to<C>()}, {}, y); });
}

void CudaBackend::arange(Tensor& y, double start, double step) {
  const Sequence s{start, step, y.dim() == 0 ? 1 : y.stride(0)};
  launch(gpu(y), &arange_elements, grid(ceil_div(y.numel(), kThreads)), kThreads, s, memory_of(y), y.numel());
}

}  // namespace halftone
