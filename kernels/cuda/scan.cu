// Running sums and products along one axis. A block goes along a row chunk by chunk; a few long rows are cut into
// shares, of which one launch finds the totals and a second one the elements. Rows that lie side by side, and short
// ones, have a thread each.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/folds.cuh"
#include "kernels/cuda/row_kernel.cuh"

namespace halftone {

using namespace cuda;

namespace {

struct AddScan {
  template <class A> __device__ static A identity() { return 0; }
  template <class A> __device__ static A apply(A a, A b) { return fn::plus(a, b); }
};
struct MultiplyScan {
  template <class A> __device__ static A identity() { return 1; }
  template <class A> __device__ static A apply(A a, A b) { return fn::times(a, b); }
};

struct ScanJob {
  Memory x, y;
  Spots<2> places;  // row number -> where it begins in x and y
  std::int64_t rows, n;
  std::int64_t x_stride, y_stride;
  std::int64_t share;  // elements of a row that a block takes
};

/// The value of the lane `distance` before this one.
template <class A> __device__ A shuffle_up(const A& value, int distance) {
  constexpr int kWords = sizeof(A) / sizeof(unsigned);
  unsigned words[kWords];
  memcpy(words, &value, sizeof(A));
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    words[i] = __shfl_up_sync(0xffffffffu, words[i], static_cast<unsigned>(distance));
  }
  A other;
  memcpy(&other, words, sizeof(A));
  return other;
}

template <class A> struct Prefix {
  A before;  // of the threads before this one
  A total;   // of all
};

/// `board` has a place for each warp.
template <class Scan, class A> __device__ Prefix<A> prefix_of_block(A value, A* board) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  A through = value;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const A earlier = shuffle_up(through, distance);
    if (lane >= distance) through = Scan::apply(earlier, through);
  }
  A before = shuffle_up(through, 1);
  if (lane == 0) before = Scan::template identity<A>();
  __syncthreads();  // the board may still be read
  if (lane == kWarp - 1) board[warp] = through;
  __syncthreads();
  A earlier_warps = Scan::template identity<A>(), total = Scan::template identity<A>();
  for (int i = 0; i < kThreads / kWarp; ++i) {
    if (i == warp) earlier_warps = total;
    total = Scan::apply(total, board[i]);
  }
  return {Scan::apply(earlier_warps, before), total};
}

enum class Pass : std::int8_t { whole, totals, elements };

/// Row blockIdx.x, share blockIdx.y. `totals` is [rows, shares].
template <class C, class Scan>
__global__ void __launch_bounds__(kThreads) scan_rows(ScanJob job, Pass pass, Sum<C>* totals) {
  using A = Sum<C>;
  constexpr int kItems = 4;
  __shared__ A board[kThreads / kWarp];
  std::int64_t offsets[2];
  job.places.find(blockIdx.x, offsets);
  A* const of_row = totals == nullptr ? nullptr : totals + std::int64_t{blockIdx.x} * gridDim.y;
  A carry = Scan::template identity<A>();
  if (pass == Pass::elements) {
    for (unsigned i = threadIdx.x; i < blockIdx.y; i += kThreads) carry = Scan::apply(carry, of_row[i]);
    carry = prefix_of_block<Scan>(carry, board).total;
  }
  const std::int64_t first = std::int64_t{blockIdx.y} * job.share, end = first + job.share;
  const std::int64_t last = end < job.n ? end : job.n;
  for (std::int64_t at = first; at < last; at += kThreads * kItems) {
    const std::int64_t mine = at + static_cast<int>(threadIdx.x) * kItems;
    A values[kItems];
    visit_as<C>(job.x.dtype, [&]<class T>(Type<T>) {
      const T* x = static_cast<const T*>(job.x.data) + offsets[0];
#pragma unroll
      for (int k = 0; k < kItems; ++k) {
        values[k] = mine + k < last ? static_cast<A>(widen<C>(x[(mine + k) * job.x_stride]))
                                    : Scan::template identity<A>();
      }
    });
#pragma unroll
    for (int k = 1; k < kItems; ++k) values[k] = Scan::apply(values[k - 1], values[k]);
    const Prefix<A> prefix = prefix_of_block<Scan>(values[kItems - 1], board);
    if (pass != Pass::totals) {
      const A before = Scan::apply(carry, prefix.before);
#pragma unroll
      for (int k = 0; k < kItems; ++k) {
        if (mine + k < last) job.y.store(offsets[1] + (mine + k) * job.y_stride, Scan::apply(before, values[k]));
      }
    }
    carry = Scan::apply(carry, prefix.total);
  }
  if (pass == Pass::totals && threadIdx.x == 0) of_row[blockIdx.y] = carry;
}

template <class C, class Scan> __global__ void __launch_bounds__(kThreads) scan_columns(ScanJob job) {
  const std::int64_t row = thread_in_grid();
  if (row >= job.rows) return;
  std::int64_t offsets[2];
  job.places.find(row, offsets);
  Sum<C> value = Scan::template identity<Sum<C>>();
  for (std::int64_t at = 0; at < job.n; at += kBatch) {
    C in[kBatch];
    visit_as<C>(job.x.dtype, [&]<class T>(Type<T>) {
      const T* x = static_cast<const T*>(job.x.data) + offsets[0];
#pragma unroll
      for (int k = 0; k < kBatch; ++k) in[k] = at + k < job.n ? widen<C>(x[(at + k) * job.x_stride]) : C(0);
    });
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      value = Scan::apply(value, static_cast<Sum<C>>(in[k]));
      if (at + k < job.n) job.y.store(offsets[1] + (at + k) * job.y_stride, value);
    }
  }
}

template <class C, class Scan> void scan_by(const Tensor& x, std::int64_t dim, Tensor& y) {
  constexpr std::int64_t kShort = 64, kManyRows = 8192, kLong = 16384, kLeastShare = 4096, kMostShares = 1024;
  Gpu& g = gpu(x);
  const Loop places = coalesce(without(x.sizes(), dim), {without(x.strides(), dim), without(y.strides(), dim)});
  ScanJob job{memory_of(x), memory_of(y), {places, {0, 1}}, count_elements(places.sizes), 1, 1, 1, 1};
  if (x.dim() > 0) job.n = job.share = x.size(dim), job.x_stride = x.stride(dim), job.y_stride = y.stride(dim);
  const std::int64_t step = places.strides[0].back();
  const bool side_by_side = step != 0 && step < job.x_stride && places.sizes.back() > 1;
  if (job.n <= kShort || (side_by_side && job.rows >= kManyRows)) {
    return launch(g, &scan_columns<C, Scan>, grid(ceil_div(job.rows, kThreads)), kThreads, job);
  }
  Sum<C>* const none = nullptr;
  dim3 blocks = grid(job.rows);
  if (job.rows >= g.multiprocessors || job.n < kLong) {
    return launch(g, &scan_rows<C, Scan>, blocks, kThreads, job, Pass::whole, none);
  }
  const std::int64_t wanted = std::min(g.multiprocessors * 4 / job.rows, kMostShares);
  job.share = std::max(ceil_div(job.n, wanted), kLeastShare);
  blocks.y = static_cast<unsigned>(ceil_div(job.n, job.share));
  const Tensor memory = empty({job.rows * blocks.y * static_cast<std::int64_t>(sizeof(Sum<C>))},
                              TensorOptions(kUInt8).device(x.device()));
  auto* const totals = static_cast<Sum<C>*>(memory.data_ptr());
  launch(g, &scan_rows<C, Scan>, blocks, kThreads, job, Pass::totals, totals);
  launch(g, &scan_rows<C, Scan>, blocks, kThreads, job, Pass::elements, totals);
}

}  // namespace

void CudaBackend::scan(Scan kind, const Tensor& x, std::int64_t dim, Tensor& y) {
  if (x.numel() == 0) return;
  with_arithmetic<true>(x.dtype(), [&]<class C>(Type<C>) {
    kind == Scan::sum ? scan_by<C, AddScan>(x, dim, y) : scan_by<C, MultiplyScan>(x, dim, y);
  });
}

}  // namespace halftone
