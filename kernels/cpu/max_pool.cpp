#include <limits>

#include "kernels/cpu/pool.h"

namespace halftone {

using namespace cpu::pools;

namespace {

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

}  // namespace halftone
