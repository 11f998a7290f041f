#include "kernels/cuda/pool.cuh"

namespace halftone {

using namespace cuda;
using namespace cuda::pools;

namespace {

template <class C> __device__ constexpr C lowest() {
  if constexpr (std::is_floating_point_v<C>) {
    return -std::numeric_limits<C>::infinity();
  } else {
    return std::numeric_limits<C>::lowest();
  }
}

/// Blocks that share a multiprocessor: they leave a thread 64 registers, or 80 where its 16 values have a place each.
template <int Count> inline constexpr int kResident = Count > 8 ? 3 : 4;

/// NaN is the largest; of equal values the first is found, in row-major order.
template <class T, int Count>
__global__ void __launch_bounds__(kThreads, kResident<Count>)
    max_of_windows(Pool p, Places places, const T* x, T* y, std::int64_t* indices) {
  using C = Compute<T>;
  const std::int64_t n = thread_in_grid();
  if (n >= places.count) return;
  const Place at = places.at(static_cast<std::uint32_t>(n));
  const T* const plane = x + at.plane * p.in_cells() * p.inner + at.pack * Count;
  const Span depths = p.depth.cells(at.d), heights = p.height.cells(at.h), widths = p.width.cells(at.w);
  const int d0 = p.depth.start(at.d), h0 = p.height.start(at.h), w0 = p.width.start(at.w);
  C best[Count];
  int where[Count];
  const bool none = depths.size() == 0 || heights.size() == 0 || widths.size() == 0;
  const int start = p.in_cell(d0 + depths.first * p.depth.dilation, h0 + heights.first * p.height.dilation,
                              w0 + widths.first * p.width.dilation);
#pragma unroll
  for (int i = 0; i < Count; ++i) best[i] = lowest<C>(), where[i] = none ? -1 : start;
  for (int d = depths.first; d < depths.last; ++d) {
    for (int h = heights.first; h < heights.last; ++h) {
      const int row = p.in_cell(d0 + d * p.depth.dilation, h0 + h * p.height.dilation, w0);
      for (int w = widths.first; w < widths.last; ++w) {
        const int cell = row + w * p.width.dilation;
        C values[Count];
        load<Count>(plane + cell * p.inner, values);
#pragma unroll
        for (int i = 0; i < Count; ++i) {
          if (!(values[i] > best[i] || values[i] != values[i])) continue;
          best[i] = values[i];
          where[i] = cell;
        }
      }
    }
  }
  store<Count>(best, y + n * Count);
  Pack<std::int64_t, Count> found;
#pragma unroll
  for (int i = 0; i < Count; ++i) found.value[i] = where[i];
  reinterpret_cast<Pack<std::int64_t, Count>*>(indices)[n] = found;
}

/// An input cell gets the gradients of the windows that it is the maximum of.
template <class T, int Count>
__global__ void __launch_bounds__(kThreads, kResident<Count>)
    gather_maxima(Pool p, Places places, const T* g, const std::int64_t* indices, T* dx) {
  using C = Compute<T>;
  const std::int64_t n = thread_in_grid();
  if (n >= places.count) return;
  const Place at = places.at(static_cast<std::uint32_t>(n));
  const std::int64_t plane = at.plane * p.out_cells() * p.inner + at.pack * Count;
  const int own = p.in_cell(at.d, at.h, at.w);
  const Span depths = p.depth.windows(at.d), heights = p.height.windows(at.h), widths = p.width.windows(at.w);
  C sum[Count]{};
  for (int d = depths.first; d < depths.last; ++d) {
    for (int h = heights.first; h < heights.last; ++h) {
      for (int w = widths.first; w < widths.last; ++w) {
        const std::int64_t o = plane + p.out_cell(d, h, w) * p.inner;
        const auto where = *reinterpret_cast<const Pack<std::int64_t, Count>*>(indices + o);
        C values[Count];
        load<Count>(g + o, values);
#pragma unroll
        for (int i = 0; i < Count; ++i) {
          if (where.value[i] == own) sum[i] = static_cast<C>(sum[i] + values[i]);
        }
      }
    }
  }
  store<Count>(sum, dx + n * Count);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    take_maxima(Pool p, Places places, const T* x, const std::int64_t* indices, T* y) {
  const std::int64_t n = thread_in_grid();
  if (n >= places.count) return;
  const Place at = places.at(static_cast<std::uint32_t>(n));
  const std::int64_t from = indices[n];
  y[n] = from < 0 ? T{} : x[(at.plane * p.in_cells() + from) * p.inner + at.pack];
}

template <class T>
void run_max(const PoolAndPlanes& p, std::int64_t in_plane, std::int64_t out_plane, const Tensor& x, Tensor& y,
             Tensor& indices) {
  const int pack = pack_of<T>(p.pool, {x.data_ptr(), y.data_ptr(), indices.data_ptr()});
  with_pack<T>(pack, [&](auto count) {
    for_each_part(p, Side::out, count, [&](const Places& places, std::int64_t first) {
      launch(gpu(y), &max_of_windows<T, count()>, blocks_for(places), kThreads, p.pool, places,
             x.data_ptr<T>() + first * in_plane, y.data_ptr<T>() + first * out_plane,
             indices.data_ptr<std::int64_t>() + first * out_plane);
    });
  });
}

std::int64_t values_of_plane(const Tensor& t, const PoolAndPlanes& p) {
  return p.planes == 0 ? 0 : t.numel() / p.planes;
}

}  // namespace

void CudaBackend::max_pool(const PoolShape& s, const Tensor& x, Tensor& y, Tensor& indices) {
  const MemoryFormat order = order_of(x);
  const PoolAndPlanes p = pool_of(s, order);
  const Tensor from = in_order(*this, order, x);
  if (y.numel() == 0) return;
  write_in_order(*this, order, y, [&](Tensor& values) {
    write_in_order(*this, order, indices, [&](Tensor& positions) {
      visit_ordered(x.dtype(), [&]<class T>(Type<T>) {
        run_max<T>(p, values_of_plane(x, p), values_of_plane(y, p), from, values, positions);
      });
    });
  });
}

void CudaBackend::max_pool_grad(const PoolShape& s, const Tensor& g, const Tensor& indices, Tensor& dx) {
  const MemoryFormat order = order_of(dx);
  const PoolAndPlanes p = pool_of(s, order);
  const Tensor from = in_order(*this, order, g), positions = in_order(*this, order, indices);
  const std::int64_t in_plane = values_of_plane(dx, p), out_plane = values_of_plane(g, p);
  if (dx.numel() == 0) return;
  write_in_order(*this, order, dx, [&](Tensor& to) {
    visit_ordered(g.dtype(), [&]<class T>(Type<T>) {
      with_pack<T>(pack_of<T>(p.pool, {from.data_ptr(), positions.data_ptr(), to.data_ptr()}), [&](auto count) {
        for_each_part(p, Side::in, count, [&](const Places& places, std::int64_t first) {
          launch(gpu(to), &gather_maxima<T, count()>, blocks_for(places), kThreads, p.pool, places,
                 from.data_ptr<T>() + first * out_plane, positions.data_ptr<std::int64_t>() + first * out_plane,
                 to.data_ptr<T>() + first * in_plane);
        });
      });
    });
  });
}

void CudaBackend::max_pool_take(const PoolShape& s, const Tensor& x, const Tensor& indices, Tensor& y) {
  const MemoryFormat order = order_of(x);
  const PoolAndPlanes p = pool_of(s, order);
  const Tensor from = in_order(*this, order, x), positions = in_order(*this, order, indices);
  const std::int64_t in_plane = values_of_plane(x, p), out_plane = values_of_plane(y, p);
  if (y.numel() == 0) return;
  write_in_order(*this, order, y, [&](Tensor& to) {
    visit_ordered(x.dtype(), [&]<class T>(Type<T>) {
      for_each_part(p, Side::out, 1, [&](const Places& places, std::int64_t first) {
        launch(gpu(to), &take_maxima<T>, blocks_for(places), kThreads, p.pool, places,
               from.data_ptr<T>() + first * in_plane, positions.data_ptr<std::int64_t>() + first * out_plane,
               to.data_ptr<T>() + first * out_plane);
      });
    });
  });
}

}  // namespace halftone
