// Pools over one, two or three axes, in both orders of memory, with one set of loops: a tensor is planes of rows of
// cells, and a cell is `inner` neighbouring values: one when the tensor is contiguous, all channels when it is
// channels-last. Each cell of the kernel meets a whole row of outputs at once, which is a loop that vectorizes in
// either order.
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_backend.h"

namespace halftone {
namespace {

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
constexpr std::int64_t kGrain = 1 << 15;

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
      cpu::widen(data_ + row * width_, wide_.data(), width_);
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
    if constexpr (is_half_type<T>) cpu::narrow(wide_.data(), to, size_);
  }

 private:
  std::int64_t size_;
  std::vector<C> wide_;
};

constexpr std::int64_t kLanes = 16;

/// Whether to take planes by sixteen: they are there, and transposed they fit the second cache.
bool fits_lanes(const Pool& p) {
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
MemoryFormat order_of(const Tensor& x) {
  return x.is_contiguous() || !x.is_contiguous(MemoryFormat::ChannelsLast) ? MemoryFormat::Contiguous
                                                                           : MemoryFormat::ChannelsLast;
}

Tensor make_in(MemoryFormat order, const Tensor& like) {
  return empty(like.sizes(), like.options().memory_format(order));
}

/// x, or a copy of it in the wanted order.
Tensor in_order(CpuBackend& backend, MemoryFormat order, const Tensor& x) {
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

bool is_last(MemoryFormat order) { return order == MemoryFormat::ChannelsLast; }

// ---------------------------------------------------------------- maximum

/// The position of a row's windows' maxima is kept relative to the window's start, as one number per kernel cell: a
/// maximum is then a comparison and two selections.
constexpr std::int32_t kNowhere = std::numeric_limits<std::int32_t>::min();

template <class C> constexpr C lowest() {
  return std::is_floating_point_v<C> ? -std::numeric_limits<C>::infinity() : std::numeric_limits<C>::lowest();
}

template <class T> class MaxRow {
 public:
  using C = Compute<T>;
  MaxRow(const Pool& p, const T* x, T* y, std::int64_t* indices)
      : p_(p),
        read_(x, p.in_row()),
        best_(p.out_row()),
        at_(static_cast<std::size_t>(p.out_row())),
        y_(y),
        indices_(indices) {}

  void operator()(const Row& row, std::int64_t number) {
    T* const y = y_ + number * p_.out_row();
    C* const best = best_.start(y, lowest<C>());
    start_positions(row);
    for_each_input_row(p_, row, [&](std::int64_t in_row, std::int64_t kd, std::int64_t kh) {
      const C* const x = read_(row.plane * p_.in_rows() + in_row);
      for (std::int64_t kw = 0; kw < p_.width.kernel; ++kw) compare(x, best, kw, position(kd, kh, kw));
    });
    best_.store(y);
    store_positions(row, indices_ + number * p_.out_row());
  }

 private:
  std::int32_t position(std::int64_t kd, std::int64_t kh, std::int64_t kw) const {
    const std::int64_t d = kd * p_.depth.dilation, h = kh * p_.height.dilation, w = kw * p_.width.dilation;
    return static_cast<std::int32_t>((d * p_.height.in + h) * p_.width.in + w);
  }

  /// At first the window's first cell, which is the answer when nothing is above the lowest value.
  void start_positions(const Row& row) {
    const Span d = p_.depth.cells(row.d), h = p_.height.cells(row.h);
    const bool none = d.size() <= 0 || h.size() <= 0;
    std::fill(at_.begin(), at_.end(), none ? kNowhere : position(d.first, h.first, 0));
    if (none || p_.outputs[0].size() == p_.width.out) return;
    for (std::int64_t o = 0; o < p_.width.out; ++o) {
      const Span w = p_.width.cells(o);
      std::fill_n(at_.data() + o * p_.inner, p_.inner, w.size() <= 0 ? kNowhere : position(d.first, h.first, w.first));
    }
  }

  void compare(const C* x_row, C* best_row, std::int64_t kw, std::int32_t position) {
    meet(p_, kw, [&](std::int64_t out, std::int64_t in, std::int64_t count, auto step) {
      const C* __restrict x = x_row + in;
      C* __restrict best = best_row + out;
      std::int32_t* __restrict at = at_.data() + out;
      for (std::int64_t i = 0; i < count; ++i) {
        const C value = x[i * step];
        const bool wins = (value > best[i]) | (value != value);  // NaN, too
        best[i] = wins ? value : best[i];
        at[i] = wins ? position : at[i];
      }
    });
  }

  /// Relative positions become positions in the plane.
  void store_positions(const Row& row, std::int64_t* to) const {
    const std::int64_t start = (p_.depth.start(row.d) * p_.height.in + p_.height.start(row.h)) * p_.width.in;
    const std::int32_t* at = at_.data();
    for (std::int64_t o = 0; o < p_.width.out; ++o) {
      const std::int64_t origin = start + p_.width.start(o);
      for (std::int64_t c = 0; c < p_.inner; ++c, ++at, ++to) *to = *at == kNowhere ? -1 : origin + *at;
    }
  }

  const Pool& p_;
  RowReader<T> read_;
  Accumulator<T> best_;
  std::vector<std::int32_t> at_;
  T* y_;
  std::int64_t* indices_;
};

template <class T> void max_rows(const Pool& p, const T* x, T* y, std::int64_t* indices) {
  if (!fits_lanes(p)) {
    for_each_output_row(p, [&] { return MaxRow<T>(p, x, y, indices); });
    return;
  }
  using C = Compute<T>;
  for_each_lanes<T>(p, {x, p.in_plane()}, {y, p.out_plane()},
                    [&](const Pool& lanes, const C* in, C* out, std::int64_t plane) {
                      std::vector<std::int64_t> at(static_cast<std::size_t>(lanes.out_plane()));
                      walk_rows(lanes, 0, lanes.out_rows(), MaxRow<C>(lanes, in, out, at.data()));
                      deinterleave(at.data(), lanes.inner, p.out_plane(), indices + plane * p.out_plane());
                    });
}

/// Calls f(plane) on several threads.
template <class F> void for_each_plane(const Pool& p, F f) {
  parallel_for(0, p.planes, grain_for(p.in_plane()), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) f(i);
  });
}

/// Calls f(value, place in the input plane) for every output value of a plane that came from somewhere.
template <class F> void for_each_maximum(const Pool& p, const std::int64_t* indices, F f) {
  const std::int64_t cells = p.out_rows() * p.width.out;
  for (std::int64_t o = 0, i = 0; o < cells; ++o) {
    for (std::int64_t c = 0; c < p.inner; ++c, ++i) {
      if (indices[i] >= 0) f(i, indices[i] * p.inner + c);
    }
  }
}

}  // namespace

void CpuBackend::max_pool(const PoolShape& s, const Tensor& x, Tensor& y, Tensor& indices) {
  check<ValueError>(s.window.in_size() < std::numeric_limits<std::int32_t>::max(),
                    "max_pool: a plane of 2^31 cells or more is too large");
  const MemoryFormat order = order_of(x);
  const Pool pool(s, is_last(order));
  const Tensor from = in_order(*this, order, x);
  write_in_order(*this, order, y, [&](Tensor& values) {
    write_in_order(*this, order, indices, [&](Tensor& positions) {
      visit_ordered(x.dtype(), [&]<class T>(Type<T>) {
        max_rows<T>(pool, from.data_ptr<T>(), values.data_ptr<T>(), positions.data_ptr<std::int64_t>());
      });
    });
  });
}

void CpuBackend::max_pool_grad(const PoolShape& s, const Tensor& g, const Tensor& indices, Tensor& dx) {
  const MemoryFormat order = order_of(dx);
  const Pool pool(s, is_last(order));
  const Tensor from = in_order(*this, order, g), positions = in_order(*this, order, indices);
  write_in_order(*this, order, dx, [&](Tensor& to) {
    visit_ordered(g.dtype(), [&]<class T>(Type<T>) {
      using C = Compute<T>;
      for_each_plane(pool, [&](std::int64_t plane) {
        Accumulator<T> sums(pool.in_plane());
        C* const sum = sums.start(to.data_ptr<T>() + plane * pool.in_plane(), C(0));
        const T* const values = from.data_ptr<T>() + plane * pool.out_plane();
        for_each_maximum(
            pool, positions.data_ptr<std::int64_t>() + plane * pool.out_plane(),
            [&](std::int64_t i, std::int64_t at) { sum[at] = static_cast<C>(sum[at] + static_cast<C>(values[i])); });
        sums.store(to.data_ptr<T>() + plane * pool.in_plane());
      });
    });
  });
}

void CpuBackend::max_pool_take(const PoolShape& s, const Tensor& x, const Tensor& indices, Tensor& y) {
  const MemoryFormat order = order_of(x);
  const Pool pool(s, is_last(order));
  const Tensor from = in_order(*this, order, x), positions = in_order(*this, order, indices);
  write_in_order(*this, order, y, [&](Tensor& to) {
    visit_ordered(x.dtype(), [&]<class T>(Type<T>) {
      for_each_plane(pool, [&](std::int64_t plane) {
        const T* const values = from.data_ptr<T>() + plane * pool.in_plane();
        T* const taken = to.data_ptr<T>() + plane * pool.out_plane();
        std::fill_n(taken, pool.out_plane(), T{});
        for_each_maximum(pool, positions.data_ptr<std::int64_t>() + plane * pool.out_plane(),
                         [&](std::int64_t i, std::int64_t at) { taken[i] = values[at]; });
      });
    });
  });
}

// ---------------------------------------------------------------- average

namespace {

/// Every output row from the input planes; make(pool, x, y) gives what computes one.
template <class T, class Make> void run_rows(const Pool& p, const T* x, T* y, Make make) {
  using C = Compute<T>;
  if (!fits_lanes(p)) {
    for_each_output_row(p, [&] { return make(p, x, y); });
    return;
  }
  for_each_lanes<T>(p, {x, p.in_plane()}, {y, p.out_plane()},
                    [&](const Pool& lanes, const C* in, C* out, std::int64_t) {
                      walk_rows(lanes, 0, lanes.out_rows(), make(lanes, in, out));
                    });
}

/// The gradients of all planes; f(pool, g, dx, plane) computes one.
template <class T, class F> void run_planes(const Pool& p, const T* g, T* dx, F f) {
  using C = Compute<T>;
  if (!fits_lanes(p)) {
    for_each_plane(p, [&](std::int64_t plane) { f(p, g, dx, plane); });
    return;
  }
  for_each_lanes<T>(p, {g, p.out_plane()}, {dx, p.in_plane()},
                    [&](const Pool& lanes, const C* in, C* out, std::int64_t) { f(lanes, in, out, std::int64_t{0}); });
}

/// What the sums are divided by: a factor for the rows and one for the columns, unless the caller gave one number.
class Divisors {
 public:
  Divisors(const Pool& p, const PoolShape& s) : count_padding_(s.count_padding), override_(s.divisor_override) {
    for (std::int64_t o = 0; o < p.width.out; ++o)
      columns_.push_back(override_ != 0 ? 1 : p.width.divisor(o, count_padding_));
  }
  /// to[i] = from[i] / divisor over an output row.
  template <class C> void divide(const Pool& p, const Row& row, const C* from, C* to) const {
    const std::int64_t rows = of_row(p, row), inner = p.inner;
    if (inner == 1) {
      for (std::size_t o = 0; o < columns_.size(); ++o) to[o] = from[o] / static_cast<C>(rows * columns_[o]);
      return;
    }
    for (const std::int64_t column : columns_) {
      const C divisor = static_cast<C>(rows * column);
      for (std::int64_t c = 0; c < inner; ++c) to[c] = from[c] / divisor;
      from += inner;
      to += inner;
    }
  }

 private:
  std::int64_t of_row(const Pool& p, const Row& row) const {
    if (override_ != 0) return override_;
    return p.depth.divisor(row.d, count_padding_) * p.height.divisor(row.h, count_padding_);
  }

  bool count_padding_;
  std::int64_t override_;
  std::vector<std::int64_t> columns_;
};

template <class T> class AverageRow {
 public:
  using C = Compute<T>;
  AverageRow(const Pool& p, const Divisors& divisors, const T* x, T* y)
      : p_(p), divisors_(divisors), read_(x, p.in_row()), sums_(p.out_row()), y_(y) {}

  void operator()(const Row& row, std::int64_t number) {
    T* const y = y_ + number * p_.out_row();
    C* const sum = sums_.start(y, C(0));
    for_each_input_row(p_, row, [&](std::int64_t in_row, std::int64_t, std::int64_t) {
      const C* const x = read_(row.plane * p_.in_rows() + in_row);
      for (std::int64_t kw = 0; kw < p_.width.kernel; ++kw) add(x, sum, kw);
    });
    divisors_.divide(p_, row, sum, sum);
    sums_.store(y);
  }

 private:
  void add(const C* x_row, C* sum_row, std::int64_t kw) const {
    meet(p_, kw, [&](std::int64_t out, std::int64_t in, std::int64_t count, auto step) {
      const C* __restrict x = x_row + in;
      C* __restrict sum = sum_row + out;
      for (std::int64_t i = 0; i < count; ++i) sum[i] += x[i * step];
    });
  }

  const Pool& p_;
  const Divisors& divisors_;
  RowReader<T> read_;
  Accumulator<T> sums_;
  T* y_;
};

/// The gradient of a plane: each output's share is added to all cells of its window.
template <class T>
void average_grad_plane(const Pool& p, const Divisors& divisors, const T* g, T* dx, std::int64_t plane) {
  using C = Compute<T>;
  Accumulator<T> sums(p.in_plane());
  RowReader<T> read(g + plane * p.out_plane(), p.out_row());
  std::vector<C> share(static_cast<std::size_t>(p.out_row()));
  C* const sum = sums.start(dx + plane * p.in_plane(), C(0));
  for (std::int64_t i = 0; i < p.out_rows(); ++i) {
    const Row row{plane, i / p.height.out, i % p.height.out};
    divisors.divide(p, row, read(i), share.data());
    for_each_input_row(p, row, [&](std::int64_t in_row, std::int64_t, std::int64_t) {
      for (std::int64_t kw = 0; kw < p.width.kernel; ++kw) {
        meet(p, kw, [&](std::int64_t out, std::int64_t in, std::int64_t count, auto step) {
          const C* __restrict from = share.data() + out;
          C* __restrict to = sum + in_row * p.in_row() + in;
          for (std::int64_t j = 0; j < count; ++j) to[j * step] += from[j];
        });
      }
    });
  }
  sums.store(dx + plane * p.in_plane());
}

}  // namespace

void CpuBackend::avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) {
  const MemoryFormat order = order_of(x);
  const Pool pool(s, is_last(order));
  const Divisors divisors(pool, s);
  const Tensor from = in_order(*this, order, x);
  write_in_order(*this, order, y, [&](Tensor& to) {
    visit_floating(x.dtype(), [&]<class T>(Type<T>) {
      const auto row = [&]<class V>(const Pool& p, const V* in, V* out) { return AverageRow<V>(p, divisors, in, out); };
      run_rows(pool, from.data_ptr<T>(), to.data_ptr<T>(), row);
    });
  });
}

void CpuBackend::avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) {
  const MemoryFormat order = order_of(dx);
  const Pool pool(s, is_last(order));
  const Divisors divisors(pool, s);
  const Tensor from = in_order(*this, order, g);
  write_in_order(*this, order, dx, [&](Tensor& to) {
    visit_floating(g.dtype(), [&]<class T>(Type<T>) {
      run_planes(pool, from.data_ptr<T>(), to.data_ptr<T>(),
                 [&]<class V>(const Pool& p, const V* in, V* out, std::int64_t plane) {
                   average_grad_plane(p, divisors, in, out, plane);
                 });
    });
  });
}

// ---------------------------------------------------------------- adaptive average

namespace {

/// Sums whole input rows first, then the columns of that sum.
template <class T> class AdaptiveRow {
 public:
  using C = Compute<T>;
  AdaptiveRow(const Pool& p, const T* x, T* y)
      : p_(p), read_(x, p.in_row()), sums_(p.out_row()), rows_(static_cast<std::size_t>(p.in_row())), y_(y) {}

  void operator()(const Row& row, std::int64_t number) {
    const Span depths = p_.depth.adaptive(row.d), heights = p_.height.adaptive(row.h);
    std::fill(rows_.begin(), rows_.end(), C(0));
    for (std::int64_t d = depths.first; d < depths.last; ++d) {
      for (std::int64_t h = heights.first; h < heights.last; ++h)
        add(read_(row.plane * p_.in_rows() + d * p_.height.in + h), rows_.data(), p_.in_row());
    }
    T* const y = y_ + number * p_.out_row();
    add_columns(sums_.start(y, C(0)), depths.size() * heights.size());
    sums_.store(y);
  }

 private:
  static void add(const C* __restrict from, C* __restrict to, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
  }

  void add_columns(C* to, std::int64_t rows) const {
    for (std::int64_t o = 0; o < p_.width.out; ++o, to += p_.inner) {
      const Span columns = p_.width.adaptive(o);
      for (std::int64_t w = columns.first; w < columns.last; ++w) add(rows_.data() + w * p_.inner, to, p_.inner);
      const C count = static_cast<C>(rows * columns.size());
      for (std::int64_t c = 0; c < p_.inner; ++c) to[c] /= count;
    }
  }

  const Pool& p_;
  RowReader<T> read_;
  Accumulator<T> sums_;
  std::vector<C> rows_;
  T* y_;
};

/// The shares of an output row's gradient, spread over the columns of an input row.
template <class C> void spread_shares(const Pool& p, const C* g, std::int64_t rows, C* spread) {
  std::fill_n(spread, p.in_row(), C(0));
  for (std::int64_t o = 0; o < p.width.out; ++o, g += p.inner) {
    const Span columns = p.width.adaptive(o);
    const C count = static_cast<C>(rows * columns.size());
    for (std::int64_t w = columns.first; w < columns.last; ++w) {
      for (std::int64_t c = 0; c < p.inner; ++c) spread[w * p.inner + c] += g[c] / count;
    }
  }
}

template <class T> void adaptive_grad_plane(const Pool& p, const T* g, T* dx, std::int64_t plane) {
  using C = Compute<T>;
  Accumulator<T> sums(p.in_plane());
  RowReader<T> read(g + plane * p.out_plane(), p.out_row());
  std::vector<C> spread(static_cast<std::size_t>(p.in_row()));
  C* const sum = sums.start(dx + plane * p.in_plane(), C(0));
  for (std::int64_t i = 0; i < p.out_rows(); ++i) {
    const Span depths = p.depth.adaptive(i / p.height.out), heights = p.height.adaptive(i % p.height.out);
    spread_shares(p, read(i), depths.size() * heights.size(), spread.data());
    for (std::int64_t d = depths.first; d < depths.last; ++d) {
      for (std::int64_t h = heights.first; h < heights.last; ++h) {
        C* __restrict to = sum + (d * p.height.in + h) * p.in_row();
        for (std::int64_t j = 0; j < p.in_row(); ++j) to[j] += spread[static_cast<std::size_t>(j)];
      }
    }
  }
  sums.store(dx + plane * p.in_plane());
}

}  // namespace

void CpuBackend::adaptive_avg_pool(const PoolShape& s, const Tensor& x, Tensor& y) {
  const MemoryFormat order = order_of(x);
  const Pool pool(s, is_last(order));
  const Tensor from = in_order(*this, order, x);
  write_in_order(*this, order, y, [&](Tensor& to) {
    visit_floating(x.dtype(), [&]<class T>(Type<T>) {
      const auto row = []<class V>(const Pool& p, const V* in, V* out) { return AdaptiveRow<V>(p, in, out); };
      run_rows(pool, from.data_ptr<T>(), to.data_ptr<T>(), row);
    });
  });
}

void CpuBackend::adaptive_avg_pool_grad(const PoolShape& s, const Tensor& g, Tensor& dx) {
  const MemoryFormat order = order_of(dx);
  const Pool pool(s, is_last(order));
  const Tensor from = in_order(*this, order, g);
  write_in_order(*this, order, dx, [&](Tensor& to) {
    visit_floating(g.dtype(), [&]<class T>(Type<T>) {
      run_planes(pool, from.data_ptr<T>(), to.data_ptr<T>(),
                 []<class V>(const Pool& p, const V* in, V* out, std::int64_t plane) {
                   adaptive_grad_plane(p, in, out, plane);
                 });
    });
  });
}

}  // namespace halftone
