#include "kernels/cpu/pool.h"

namespace halftone {

using namespace cpu::pools;

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
