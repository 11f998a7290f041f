#include "kernels/cuda/pool.cuh"

namespace halftone {

using namespace cuda;
using namespace cuda::pools;

namespace {

/// The four averages: which cells meet, and what a sum is divided by. Windows of a plain pool, or the cells that an
/// adaptive one gives to each output.
struct Windows {
  __device__ static Span inputs(const Axis& a, int o) {
    const Span k = a.cells(o);  // averages are not dilated
    return {a.start(o) + k.first, a.start(o) + k.last};
  }
  __device__ static Span outputs(const Axis& a, int i) { return a.windows(i); }
  __device__ static int divisor(const Pool& p, int d, int h, int w) { return p.divisor(d, h, w); }
};

struct Adaptive {
  __device__ static Span inputs(const Axis& a, int o) { return a.adaptive(o); }
  __device__ static Span outputs(const Axis& a, int i) { return a.adaptive_windows(i); }
  __device__ static int divisor(const Pool& p, int d, int h, int w) {
    return p.depth.adaptive(d).size() * p.height.adaptive(h).size() * p.width.adaptive(w).size();
  }
};

template <class T, class Kind, int Count>
__global__ void __launch_bounds__(kThreads, 4) average(Pool p, Places places, const T* x, T* y) {
  using C = Compute<T>;
  const std::int64_t n = thread_in_grid();
  if (n >= places.count) return;
  const Place at = places.at(static_cast<std::uint32_t>(n));
  const T* const plane = x + at.plane * p.in_cells() * p.inner + at.pack * Count;
  const Span depths = Kind::inputs(p.depth, at.d), heights = Kind::inputs(p.height, at.h),
             widths = Kind::inputs(p.width, at.w);
  C sum[Count]{};
  for (int d = depths.first; d < depths.last; ++d) {
    for (int h = heights.first; h < heights.last; ++h) {
      for (int w = widths.first; w < widths.last; ++w) {
        C values[Count];
        load<Count>(plane + p.in_cell(d, h, w) * p.inner, values);
#pragma unroll
        for (int i = 0; i < Count; ++i) sum[i] += values[i];
      }
    }
  }
  const C divisor = static_cast<C>(Kind::divisor(p, at.d, at.h, at.w));
#pragma unroll
  for (int i = 0; i < Count; ++i) sum[i] /= divisor;
  store<Count>(sum, y + n * Count);
}

/// A warp an output, for large windows of a contiguous tensor: its lanes read neighbouring cells.
template <class T, class Kind>
__global__ void __launch_bounds__(kThreads, 4) average_by_warps(Pool p, Places places, const T* x, T* y) {
  using C = Compute<T>;
  const std::int64_t n = thread_in_grid() / kWarp;
  if (n >= places.count) return;
  const Place at = places.at(static_cast<std::uint32_t>(n));
  const T* const plane = x + at.plane * p.in_cells();
  const Span depths = Kind::inputs(p.depth, at.d), heights = Kind::inputs(p.height, at.h),
             widths = Kind::inputs(p.width, at.w);
  const int columns = widths.size(), rows = heights.size(), cells = depths.size() * rows * columns;
  C sum(0);
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < cells; i += kWarp) {
    const int row = i / columns, d = row / rows;
    sum +=
        widen<C>(plane[p.in_cell(depths.first + d, heights.first + row - d * rows, widths.first + i - row * columns)]);
  }
  for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % kWarp == 0) y[n] = narrow<T>(sum / static_cast<C>(Kind::divisor(p, at.d, at.h, at.w)));
}

/// An input cell gets a share of the gradient of every window that it lies in.
template <class T, class Kind, int Count>
__global__ void __launch_bounds__(kThreads, 4) gather_shares(Pool p, Places places, const T* g, T* dx) {
  using C = Compute<T>;
  const std::int64_t n = thread_in_grid();
  if (n >= places.count) return;
  const Place at = places.at(static_cast<std::uint32_t>(n));
  const T* const plane = g + at.plane * p.out_cells() * p.inner + at.pack * Count;
  const Span depths = Kind::outputs(p.depth, at.d), heights = Kind::outputs(p.height, at.h),
             widths = Kind::outputs(p.width, at.w);
  C sum[Count]{};
  for (int d = depths.first; d < depths.last; ++d) {
    for (int h = heights.first; h < heights.last; ++h) {
      for (int w = widths.first; w < widths.last; ++w) {
        C values[Count];
        load<Count>(plane + p.out_cell(d, h, w) * p.inner, values);
        const C divisor = static_cast<C>(Kind::divisor(p, d, h, w));
#pragma unroll
        for (int i = 0; i < Count; ++i) sum[i] += values[i] / divisor;
      }
    }
  }
  store<Count>(sum, dx + n * Count);
}

/// Whether a window has work for a warp. Neighbouring channels of a channels-last tensor are read side by side as it
/// is.
bool is_for_warps(const PoolAndPlanes& p, const PoolShape& s, bool adaptive) {
  const std::int64_t cells =
      adaptive ? s.window.in_size() / std::max<std::int64_t>(s.window.out_size(), 1) : s.window.kernel_size();
  return p.pool.inner == 1 && cells >= kWarp;
}

template <class Kind> void run_average(CudaBackend& backend, const PoolShape& s, const Tensor& x, Tensor& y) {
  const MemoryFormat order = order_of(x);
  const PoolAndPlanes p = pool_of(s, order);
  const Tensor from = in_order(backend, order, x);
  if (y.numel() == 0) return;
  const std::int64_t in_plane = x.numel() / p.planes, out_plane = y.numel() / p.planes;
  const bool by_warps = is_for_warps(p, s, std::is_same_v<Kind, Adaptive>);
  write_in_order(backend, order, y, [&](Tensor& to) {
    visit_floating(x.dtype(), [&]<class T>(Type<T>) {
      const T* const in = from.data_ptr<T>();
      T* const out = to.data_ptr<T>();
      with_pack<T>(pack_of<T>(p.pool, {in, out}), [&](auto count) {
        for_each_part(p, Side::out, count, [&](const Places& places, std::int64_t first) {
          if (by_warps) {
            launch(gpu(to), &average_by_warps<T, Kind>, grid(ceil_div(places.count, kThreads / kWarp)), kThreads,
                   p.pool, places, in + first * in_plane, out + first * out_plane);
          } else {
            launch(gpu(to), &average<T, Kind, count()>, blocks_for(places), kThreads, p.pool, places,
                   in + first * in_plane, out + first * out_plane);
          }
        });
      });
    });
  });
}

template <class Kind> void run_average_grad(CudaBackend& backend, const PoolShape& s, const Tensor& g, Tensor& dx) {
  const MemoryFormat order = order_of(dx);
  const PoolAndPlanes p = pool_of(s, order);
  const Tensor from = in_order(backend, order, g);
  if (dx.numel() == 0) return;
  const std::int64_t in_plane = dx.numel() / p.planes, out_plane = g.numel() / p.planes;
  write_in_order(backend, order, dx, [&](Tensor& to) {
    visit_floating(g.dtype(), [&]<class T>(Type<T>) {
      const T* const in = from.data_ptr<T>();
      T* const out = to.data_ptr<T>();
      with_pack<T>(pack_of<T>(p.pool, {in, out}), [&](auto count) {
        for_each_part(p, Side::in, count, [&](const Places& places, std::int64_t first) {
          launch(gpu(to), &gather_shares<T, Kind, count()>, blocks_for(places), kThreads, p.pool, places,
                 in + first * out_plane, out + first * in_plane);
        });
      });
    });
  });
}

}  // namespace

void CudaBackend::avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) { run_average<Windows>(*this, s, x, y); }
void CudaBackend::avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) {
  run_average_grad<Windows>(*this, s, g, dx);
}
void CudaBackend::adaptive_avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) {
  run_average<Adaptive>(*this, s, x, y);
}
void CudaBackend::adaptive_avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) {
  run_average_grad<Adaptive>(*this, s, g, dx);
}

}  // namespace halftone
