// Softmax and log-softmax along any axis, and their gradients.
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"
#include "kernels/cpu/team.h"

namespace halftone {

namespace {

using cpu::SerialTeam;
using rows::Row;

/// One axis of N inputs and an output is the row; the others are the places where rows are.
template <class X, std::size_t N> struct RowJob {
  std::array<cpu::Source<X>, N> in;
  cpu::Sink<X> out;
  std::int64_t n;
  std::array<std::int64_t, N + 1> stride;  // along the row; the output's is last
  Loop places;                             // the operands in the same order
};

template <class X> RowJob<X, 1> row_job(std::int64_t dim, const Tensor& x, const Tensor& y) {
  return {{cpu::Source<X>(x)},
          cpu::Sink<X>(y),
          cpu::length_along(x, dim),
          {cpu::stride_along(x, dim), cpu::stride_along(y, dim)},
          coalesce(cpu::without(x.sizes(), dim), {cpu::without(x.strides(), dim), cpu::without(y.strides(), dim)})};
}

template <class X> RowJob<X, 2> row_job(std::int64_t dim, const Tensor& a, const Tensor& b, const Tensor& y) {
  return {{cpu::Source<X>(a), cpu::Source<X>(b)},
          cpu::Sink<X>(y),
          cpu::length_along(a, dim),
          {cpu::stride_along(a, dim), cpu::stride_along(b, dim), cpu::stride_along(y, dim)},
          coalesce(cpu::without(a.sizes(), dim),
                   {cpu::without(a.strides(), dim), cpu::without(b.strides(), dim), cpu::without(y.strides(), dim)})};
}

/// Rows one after the other. `body(n, in, out)` computes one.
template <class X, std::size_t N, class Body> void run_rows(const RowJob<X, N>& job, Body body) {
  const auto some = [&](std::int64_t first, std::int64_t last) {
    cpu::Buffer<X> memory(job.n * static_cast<std::int64_t>(N + 1));
    X* const own_out = memory.data() + job.n * static_cast<std::int64_t>(N);
    cpu::Walk place(job.places, first);
    for (std::int64_t i = first; i < last; ++i, place.next()) {
      std::array<Row<const X>, N> in;
      for (std::size_t k = 0; k < N; ++k) {
        in[k].data =
            job.in[k].row(place[k], job.stride[k], job.n, memory.data() + job.n * static_cast<std::int64_t>(k));
      }
      X* const out = job.out.row(place[N], job.stride[N], own_out);
      body(job.n, in, Row<X>{out});
      job.out.put(place[N], job.stride[N], job.n, out);
    }
  };
  parallel_for(0, count_elements(job.places.sizes), cpu::rows_per_grain(job.n), some);
}

/// As many neighbouring rows as fill a cache line are turned into rows of memory together, since elements of one row
/// are far apart.
constexpr std::int64_t kTileRows = 16;

template <class X>
void read_tile(const cpu::Source<X>& from, std::int64_t offset, std::int64_t stride, std::int64_t step,
               std::int64_t count, std::int64_t n, std::int64_t pitch, X* tile) {
  X buffer[kTileRows];
  for (std::int64_t i = 0; i < n; ++i) {
    const X* across = from.row(offset + i * stride, step, count, buffer);
    for (std::int64_t j = 0; j < count; ++j) tile[j * pitch + i] = across[j];
  }
}

template <class X>
void write_tile(const cpu::Sink<X>& to, std::int64_t offset, std::int64_t stride, std::int64_t step, std::int64_t count,
                std::int64_t n, std::int64_t pitch, const X* tile) {
  X across[kTileRows];
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < count; ++j) across[j] = tile[j * pitch + i];
    to.put(offset + i * stride, step, count, across);
  }
}

/// The places with their last axis cut into tiles.
Loop tiles_of(const Loop& places) {
  Loop tiles = places;
  tiles.sizes.back() = (places.sizes.back() + kTileRows - 1) / kTileRows;
  for (std::size_t k = 0; k < static_cast<std::size_t>(tiles.operands); ++k) tiles.strides[k].back() *= kTileRows;
  return tiles;
}

template <class X, std::size_t N, class Body> void run_tiles(const RowJob<X, N>& job, Body body) {
  const Loop tiles = tiles_of(job.places);
  const std::size_t last_axis = tiles.sizes.size() - 1;
  const std::int64_t pitch = job.n + kTileRows;  // not a power of two, whose rows would evict each other
  const auto some = [&](std::int64_t first, std::int64_t last) {
    cpu::Buffer<X> memory(pitch * kTileRows * static_cast<std::int64_t>(N + 1));
    const auto tile = [&](std::size_t k) { return memory.data() + pitch * kTileRows * static_cast<std::int64_t>(k); };
    cpu::Walk place(tiles, first);
    for (std::int64_t i = first; i < last; ++i, place.next()) {
      const std::int64_t count = std::min(kTileRows, job.places.sizes.back() - place.index(last_axis) * kTileRows);
      for (std::size_t k = 0; k < N; ++k) {
        read_tile(job.in[k], place[k], job.stride[k], job.places.strides[k].back(), count, job.n, pitch, tile(k));
      }
      for (std::int64_t j = 0; j < count; ++j) {
        std::array<Row<const X>, N> in;
        for (std::size_t k = 0; k < N; ++k) in[k].data = tile(k) + j * pitch;
        body(job.n, in, Row<X>{tile(N) + j * pitch});
      }
      write_tile(job.out, place[N], job.stride[N], job.places.strides[N].back(), count, job.n, pitch, tile(N));
    }
  };
  parallel_for(0, count_elements(tiles.sizes), cpu::rows_per_grain(job.n * kTileRows), some);
}

template <class X, std::size_t N, class Body> void run(const RowJob<X, N>& job, Body body) {
  if (job.n == 0) return;
  const std::int64_t step = job.places.strides[0].back();
  const bool neighbours_are_nearer = step != 0 && step < job.stride[0] && job.places.sizes.back() > 1;
  neighbours_are_nearer ? run_tiles(job, body) : run_rows(job, body);
}

}  // namespace

void CpuBackend::softmax(const Tensor& x, std::int64_t dim, bool log, Tensor& y) {
  cpu::visit_real({x.dtype(), y.dtype()}, [&]<class X>(Type<X>) {
    run(row_job<X>(dim, x, y), [log](std::int64_t n, const std::array<Row<const X>, 1>& in, Row<X> out) {
      log ? rows::log_softmax(SerialTeam{}, n, in[0], out) : rows::softmax(SerialTeam{}, n, in[0], out);
    });
  });
}

void CpuBackend::softmax_grad(const Tensor& g, const Tensor& y, std::int64_t dim, bool log, Tensor& dx) {
  cpu::visit_real({g.dtype(), y.dtype()}, [&]<class X>(Type<X>) {
    run(row_job<X>(dim, g, y, dx), [log](std::int64_t n, const std::array<Row<const X>, 2>& in, Row<X> out) {
      log ? rows::log_softmax_grad(SerialTeam{}, n, in[0], in[1], out)
          : rows::softmax_grad(SerialTeam{}, n, in[0], in[1], out);
    });
  });
}

}  // namespace halftone
