// Pools over one, two or three axes, in both orders of memory, with one set of loops: a tensor is planes of rows of
// cells, and a cell is `inner` neighbouring values: one when the tensor is contiguous, all channels when it is
// channels-last. Each cell of the kernel meets a whole row of outputs at once, which is a loop that vectorizes in
// either order.
#pragma once

#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_backend.h"

namespace halftone::cpu::pools {

/// A range of outputs, or of a kernel's cells.
struct Span {
  std::int64_t first = 0, last = 0;
  std::int64_t size() const { return last - first; }
};

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// One axis of a pool.
struct Axis {
  std::int64_t in = 1, kernel = 1, stride = 1, padding = 0, dilation = 1, out = 1;

  std::int64_t start(std::int64_t o) const { return o * stride - padding; }

  /// The kernel's cells that lie in the input when the window stands at output o.
  Span cells(std::int64_t o) const {
    const std::int64_t at = start(o);
    const std::int64_t first = at < 0 ? divide_up(-at, dilation) : 0;
    const std::int64_t last = at < in ? std::min(kernel, divide_up(in - at, dilation)) : 0;
    return {std::min(first, last), last};
  }
  /// The outputs whose window has its cell k in the input.
  Span outputs(std::int64_t k) const {
    const std::int64_t at = k * dilation - padding;  // where output 0 has that cell
    const std::int64_t first = at < 0 ? divide_up(-at, stride) : 0;
    const std::int64_t last = at < in ? std::min(out, divide_up(in - at, stride)) : 0;
    return {std::min(first, last), last};
  }
  /// How many cells an average at output o is over.
  std::int64_t divisor(std::int64_t o, bool count_padding) const {
    if (!count_padding) return cells(o).size();
    return std::min(kernel, divide_up(in + padding - start(o), dilation));
  }
  /// The input cells that output o of an adaptive pool covers.
  Span adaptive(std::int64_t o) const { return {o * in / out, divide_up((o + 1) * in, out)}; }
};

/// A pool as the loops see it. One- and two-dimensional windows have leading axes of size 1.
struct Pool {
  std::int64_t planes = 0, inner = 1;
  Axis depth, height, width;
  std::vector<Span> outputs;  // by the kernel's columns: the outputs of a row that it can serve

  Pool(const PoolShape& s, bool channels_last)
      : planes(channels_last ? s.batch : s.batch * s.channels), inner(channels_last ? s.channels : 1) {
    Axis* const axes[] = {&depth, &height, &width};
    for (int i = 0; i < s.window.rank; ++i) {
      const Window& w = s.window;
      const auto k = static_cast<std::size_t>(i);
      *axes[3 - w.rank + i] = {w.in[k], w.kernel[k], w.stride[k], w.padding[k], w.dilation[k], w.out[k]};
    }
    for (std::int64_t k = 0; k < width.kernel; ++k) outputs.push_back(width.outputs(k));
  }

  /// The pool of `lanes` planes that lie like the channels of one.
  Pool of_lanes(std::int64_t lanes) const {
    Pool p = *this;
    p.planes = 1;
    p.inner = lanes;
    return p;
  }

  std::int64_t in_row() const { return width.in * inner; }
  std::int64_t out_row() const { return width.out * inner; }
  std::int64_t in_rows() const { return depth.in * height.in; }
  std::int64_t out_rows() const { return depth.out * height.out; }
  std::int64_t in_plane() const { return in_rows() * in_row(); }
  std::int64_t out_plane() const { return out_rows() * out_row(); }
  std::int64_t kernel_size() const { return depth.kernel * height.kernel * width.kernel; }
};

/// Work for a thread, in values read.
inline constexpr std::int64_t kGrain = 1 << 15;

constexpr std::int64_t grain_for(std::int64_t values) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(values, 1));
}

/// An output row of a pool: which plane, and where in it.
struct Row {
  std::int64_t plane, d, h;
};

/// Calls f(row, number) for the output rows [first, last).
template <class F> void walk_rows(const Pool& p, std::int64_t first, std::int64_t last, F f) {
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t in_plane = i % p.out_rows();
    f(Row{i / p.out_rows(), in_plane / p.height.out, in_plane % p.height.out}, i);
  }
}

/// Calls f(row, number) for every output row, on several threads; `make` gives each thread its own f.
template <class Make> void for_each_output_row(const Pool& p, Make make) {
  const std::int64_t grain = grain_for(p.out_row() * p.kernel_size());
  parallel_for(0, p.planes * p.out_rows(), grain, [&](std::int64_t first, std::int64_t last) {
    auto row = make();
    walk_rows(p, first, last, [&](const Row& at, std::int64_t number) { row(at, number); });
  });
}

/// Calls f(input row of the plane, kernel's row) for the rows that the windows of an output row reach.
template <class F> void for_each_input_row(const Pool& p, const Row& row, F f) {
  const Span depths = p.depth.cells(row.d), heights = p.height.cells(row.h);
  for (std::int64_t kd = depths.first; kd < depths.last; ++kd) {
    const std::int64_t id = p.depth.start(row.d) + kd * p.depth.dilation;
    for (std::int64_t kh = heights.first; kh < heights.last; ++kh)
      f(id * p.height.in + p.height.start(row.h) + kh * p.height.dilation, kd, kh);
  }
}

template <std::int64_t N> using Step = std::integral_constant<std::int64_t, N>;

/// Calls f(out, in, count, step) so that the values out + i of an output row meet in + i * step of an input row under
/// column k of the kernel. A step known to the compiler makes a fast loop.
template <class F> void meet(const Pool& p, std::int64_t k, F f) {
  const Span o = p.outputs[static_cast<std::size_t>(k)];
  const std::int64_t stride = p.width.stride, count = o.size();
  const std::int64_t in = p.width.start(o.first) + k * p.width.dilation;
  if (count <= 0) return;
  if (stride == 1) return f(o.first * p.inner, in * p.inner, count * p.inner, Step<1>{});
  if (p.inner > 1) {
    for (std::int64_t i = 0; i < count; ++i)
      f((o.first + i) * p.inner, (in + i * stride) * p.inner, p.inner, Step<1>{});
    return;
  }
  if (stride == 2) return f(o.first, in, count, Step<2>{});
  f(o.first, in, count, stride);
}

/// Rows of a tensor as values of Compute<T>: its own memory, or a widened copy of the row last asked for.
template <class T> class RowReader {
 public:
  using C = Compute<T>;
  RowReader(const T* data, std::int64_t width) : data_(data), width_(width) {
    if constexpr (is_half_type<T>) wide_.resize(static_cast<std::size_t>(width));
  }
  const C* operator()(std::int64_t row) {
    if constexpr (is_half_type<T>) {
      widen(data_ + row * width_, wide_.data(), width_);
      return wide_.data();
    } else {
      return data_ + row * width_;
    }
  }

 private:
  const T* data_;
  std::int64_t width_;
  std::vector<C> wide_;
};

/// Memory in Compute<T> that ends up as values of T: the place itself, or a buffer that store() rounds into it.
template <class T> class Accumulator {
 public:
  using C = Compute<T>;
  explicit Accumulator(std::int64_t size) : size_(size) {
    if constexpr (is_half_type<T>) wide_.resize(static_cast<std::size_t>(size));
  }
  C* start(T* to) {
    if constexpr (is_half_type<T>) {
      return wide_.data();
    } else {
      return to;
    }
  }
  C* start(T* to, C value) {
    C* const at = start(to);
    std::fill_n(at, size_, value);
    return at;
  }
  void store(T* to) {
    if constexpr (is_half_type<T>) narrow(wide_.data(), to, size_);
  }

 private:
  std::int64_t size_;
  std::vector<C> wide_;
};

inline constexpr std::int64_t kLanes = 16;

/// Whether to take planes by sixteen: they are there, and transposed they fit the second cache.
inline bool fits_lanes(const Pool& p) {
  constexpr std::int64_t kMostCells = 1 << 13;
  return p.inner == 1 && p.planes >= kLanes / 2 && std::max(p.in_plane(), p.out_plane()) <= kMostCells;
}

/// Calls f(lane, cell) for all, in tiles that keep both sides of a transposition in the first cache.
template <class F> void transpose(std::int64_t lanes, std::int64_t cells, F f) {
  constexpr std::int64_t kTile = 64;
  for (std::int64_t first = 0; first < cells; first += kTile) {
    const std::int64_t last = std::min(first + kTile, cells);
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      for (std::int64_t cell = first; cell < last; ++cell) f(lane, cell);
    }
  }
}

/// to[cell * lanes + lane] = from[lane * cells + cell].
template <class T> void interleave(const T* from, std::int64_t lanes, std::int64_t cells, Compute<T>* to) {
  RowReader<T> read(from, lanes * cells);
  const Compute<T>* planes = read(0);
  transpose(lanes, cells,
            [&](std::int64_t lane, std::int64_t cell) { to[cell * lanes + lane] = planes[lane * cells + cell]; });
}

/// The inverse.
template <class T> void deinterleave(const Compute<T>* from, std::int64_t lanes, std::int64_t cells, T* to) {
  Accumulator<T> rounded(lanes * cells);
  Compute<T>* planes = rounded.start(to);
  transpose(lanes, cells,
            [&](std::int64_t lane, std::int64_t cell) { planes[lane * cells + cell] = from[cell * lanes + lane]; });
  rounded.store(to);
}

/// Values of planes: inputs of a pool or outputs.
template <class T> struct Planes {
  T* data;
  std::int64_t cells;
};

/// Calls f(pool, from, to, first plane) for blocks of up to sixteen planes that lie like channels, on several threads.
template <class T, class F> void for_each_lanes(const Pool& p, Planes<const T> from, Planes<T> to, F f) {
  using C = Compute<T>;
  const std::int64_t grain = grain_for(kLanes * (from.cells + to.cells));
  parallel_for(0, divide_up(p.planes, kLanes), grain, [&](std::int64_t first, std::int64_t last) {
    std::vector<C> in(static_cast<std::size_t>(kLanes * from.cells)), out(static_cast<std::size_t>(kLanes * to.cells));
    for (std::int64_t plane = first * kLanes; plane < std::min(last * kLanes, p.planes); plane += kLanes) {
      const std::int64_t lanes = std::min(kLanes, p.planes - plane);
      interleave(from.data + plane * from.cells, lanes, from.cells, in.data());
      f(p.of_lanes(lanes), in.data(), out.data(), plane);
      deinterleave(out.data(), lanes, to.cells, to.data + plane * to.cells);
    }
  });
}

/// Calls f(Type<T>) with the type of a dtype that can be compared: every one but bool.
template <class F> void visit_ordered(Dtype d, F f) {
  if (is_floating_point(d)) {
    visit_floating(d, f);
  } else {
    visit_integral(d, f);
  }
}

/// The order of memory that a pool works in: that of its larger tensor.
inline MemoryFormat order_of(const Tensor& x) {
  return x.is_contiguous() || !x.is_contiguous(MemoryFormat::ChannelsLast) ? MemoryFormat::Contiguous
                                                                           : MemoryFormat::ChannelsLast;
}

inline Tensor make_in(MemoryFormat order, const Tensor& like) {
  return empty(like.sizes(), like.options().memory_format(order));
}

/// x, or a copy of it in the wanted order.
inline Tensor in_order(CpuBackend& backend, MemoryFormat order, const Tensor& x) {
  if (x.is_contiguous(order)) return x;
  Tensor copy = make_in(order, x);
  backend.copy(x, copy);
  return copy;
}

/// Calls f(y), or f with memory in the wanted order that is copied to y.
template <class F> void write_in_order(CpuBackend& backend, MemoryFormat order, Tensor& y, F f) {
  if (y.is_contiguous(order)) return f(y);
  Tensor copy = make_in(order, y);
  f(copy);
  backend.copy(copy, y);
}

inline bool is_last(MemoryFormat order) { return order == MemoryFormat::ChannelsLast; }

/// Calls f(plane) on several threads.
template <class F> void for_each_plane(const Pool& p, F f) {
  parallel_for(0, p.planes, grain_for(p.in_plane()), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) f(i);
  });
}

}  // namespace halftone::cpu::pools
