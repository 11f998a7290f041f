// Extremes with their positions, running sums and running products along one axis. Where that axis is not the dense
// one, a block of neighbouring rows is taken through it side by side.
#include <optional>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/fold.h"
#include "kernels/cpu/row_access.h"

namespace halftone {

namespace {

/// One axis is the row; the others are the places where rows are. Operands: x and the output.
struct Rows {
  std::int64_t n = 0, x_stride = 0, y_stride = 0;
  Loop places;
  bool side_by_side = false;

  static constexpr std::int64_t kColumns = 512;

  Rows(const Tensor& x, std::int64_t dim, IntArrayRef y_strides, std::int64_t along_y)
      : n(cpu::length_along(x, dim)),
        x_stride(cpu::stride_along(x, dim)),
        y_stride(along_y),
        places(coalesce(cpu::without(x.sizes(), dim), {cpu::without(x.strides(), dim), y_strides})) {
    const std::int64_t step = places.strides[0].back();
    side_by_side = step != 0 && step < x_stride && places.sizes.back() > 1;
  }

  /// Places with the last axis cut into blocks of neighbours.
  Loop blocks() const {
    Loop blocks = places;
    blocks.sizes.back() = (places.sizes.back() + kColumns - 1) / kColumns;
    for (std::size_t k = 0; k < 2; ++k) blocks.strides[k].back() *= kColumns;
    return blocks;
  }

  /// Calls `row(x_offset, y_offset)` for every row.
  template <class F> void each_row(const F& row) const {
    parallel_for(0, count_elements(places.sizes), cpu::rows_per_grain(n), [&](std::int64_t first, std::int64_t last) {
      cpu::Walk place(places, first);
      for (std::int64_t i = first; i < last; ++i, place.next()) row(place[0], place[1]);
    });
  }
  /// Calls `block(x_offset, y_offset, columns)` for every block of neighbouring rows.
  template <class F> void each_block(const F& block) const {
    const Loop loop = blocks();
    const std::int64_t columns = places.sizes.back();
    const std::int64_t grain = cpu::rows_per_grain(n * std::min(columns, kColumns));
    parallel_for(0, count_elements(loop.sizes), grain, [&](std::int64_t first, std::int64_t last) {
      cpu::Walk place(loop, first);
      for (std::int64_t i = first; i < last; ++i, place.next()) {
        block(place[0], place[1], std::min(kColumns, columns - place.index(loop.sizes.size() - 1) * kColumns));
      }
    });
  }
  std::int64_t x_step() const { return places.strides[0].back(); }
  std::int64_t y_step() const { return places.strides[1].back(); }
};

// ---------------------------------------------------------------- extremes

template <class X> struct Best {
  X value;
  std::int64_t index;
};

/// Is `a` to take the place of `b`, which came first? NaN does, once.
template <class Fold, class X> bool beats(X a, X b) {
  const bool better = std::is_same_v<Fold, cpu::MaxFold> ? a > b : a < b;
  return better | ((a != a) & (b == b));
}

/// The first position of a value that is there; NaN is found as NaN.
template <class X> std::int64_t position_of(X value, const X* x, std::int64_t n) {
  constexpr std::int64_t kStep = 64;
  const auto is_it = [value](X v) { return ((v == value) | (v != v)) ? 1 : 0; };
  std::int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {  // by the step first: a loop with a way out does not vectorize
    int found = 0;
    for (std::int64_t j = 0; j < kStep; ++j) found |= is_it(x[i + j]);
    if (found != 0) break;
  }
  while (!is_it(x[i])) ++i;
  return i;
}

template <class Fold, class X> Best<X> best_of_short(const X* x, std::int64_t n) {
  Best<X> best{x[0], 0};
  for (std::int64_t i = 1; i < n; ++i) {
    if (beats<Fold>(x[i], best.value)) best = {x[i], i};
  }
  return best;
}

template <class Fold, class X>
Best<X> best_of_row(const cpu::Source<X>& x, std::int64_t offset, std::int64_t stride, std::int64_t n) {
  using F = cpu::Folding<Fold, cpu::Itself>;
  constexpr std::int64_t kStep = 1024, kShort = 32;
  X buffer[kStep];
  if (n <= kShort) return best_of_short<Fold>(x.row(offset, stride, n, buffer), n);
  X acc[F::kLanes];
  Best<X> best{x.at(offset), 0};
  for (std::int64_t at = 0; at < n; at += kStep) {
    const std::int64_t count = std::min(n - at, kStep);
    const X* values = x.row(offset + at * stride, stride, count, buffer);
    std::fill_n(acc, std::min(count, F::kLanes), F::template kIdentity<X>);
    const X top = F::collapse(acc, F{}.run(values, acc, count));
    if (beats<Fold>(top, best.value)) best = {top, at + position_of(top, values, count)};
  }
  return best;
}

template <class Fold, class X>
void best_of_columns(const cpu::Source<X>& x, std::int64_t offset, const Rows& rows, std::int64_t columns, X* values,
                     std::int64_t* indices) {
  X buffer[Rows::kColumns];
  x.copy(offset, rows.x_step(), columns, values);
  std::fill_n(indices, columns, std::int64_t{0});
  for (std::int64_t i = 1; i < rows.n; ++i) {
    const X* next = x.row(offset + i * rows.x_stride, rows.x_step(), columns, buffer);
    for (std::int64_t j = 0; j < columns; ++j) {
      const bool take = beats<Fold>(next[j], values[j]);
      values[j] = take ? next[j] : values[j];
      indices[j] = take ? i : indices[j];
    }
  }
}

/// Where results go; each of the two may be unwanted.
template <class X> class ExtremeOutput {
 public:
  ExtremeOutput(const Tensor& values, const Tensor& indices) {
    if (values.defined()) values_.emplace(values);
    if (indices.defined()) indices_.emplace(indices);
  }
  void put(std::int64_t offset, std::int64_t step, std::int64_t n, const X* best, const std::int64_t* at) const {
    if (values_) values_->put(offset, step, n, best);
    if (indices_) indices_->put(offset, step, n, at);
  }

 private:
  std::optional<cpu::Sink<X>> values_;
  std::optional<cpu::Sink<std::int64_t>> indices_;
};

template <class Fold, class X> void extreme_of(const Tensor& x, std::int64_t dim, Tensor& values, Tensor& indices) {
  const Rows rows(x, dim, contiguous_strides(cpu::without(x.sizes(), dim)), 0);
  const cpu::Source<X> from(x);
  const ExtremeOutput<X> output(values, indices);
  if (!rows.side_by_side) {
    return rows.each_row([&](std::int64_t offset, std::int64_t to) {
      const Best<X> best = best_of_row<Fold>(from, offset, rows.x_stride, rows.n);
      output.put(to, 1, 1, &best.value, &best.index);
    });
  }
  rows.each_block([&](std::int64_t offset, std::int64_t to, std::int64_t columns) {
    X best[Rows::kColumns];
    std::int64_t at[Rows::kColumns];
    best_of_columns<Fold>(from, offset, rows, columns, best, at);
    output.put(to, rows.y_step(), columns, best, at);
  });
}

// ---------------------------------------------------------------- running sums and products

/// Running values of floats are kept in double.
template <class X> using Running = std::conditional_t<std::is_same_v<X, float>, double, X>;

template <class Fold, class X>
void scan_row(const cpu::Source<X>& x, const cpu::Sink<Running<X>>& y, const Rows& rows, std::int64_t from,
              std::int64_t to) {
  constexpr std::int64_t kStep = 512;
  X buffer[kStep];
  Running<X> results[kStep];
  Running<X> value = Fold::template identity<Running<X>>;
  for (std::int64_t at = 0; at < rows.n; at += kStep) {
    const std::int64_t count = std::min(rows.n - at, kStep);
    const X* in = x.row(from + at * rows.x_stride, rows.x_stride, count, buffer);
    for (std::int64_t i = 0; i < count; ++i) {
      value = Fold::apply(value, static_cast<Running<X>>(in[i]));
      results[i] = value;
    }
    y.put(to + at * rows.y_stride, rows.y_stride, count, results);
  }
}

template <class Fold, class X>
void scan_columns(const cpu::Source<X>& x, const cpu::Sink<Running<X>>& y, const Rows& rows, std::int64_t from,
                  std::int64_t to, std::int64_t columns) {
  X buffer[Rows::kColumns];
  Running<X> values[Rows::kColumns];
  std::fill_n(values, columns, Fold::template identity<Running<X>>);
  for (std::int64_t i = 0; i < rows.n; ++i) {
    const X* in = x.row(from + i * rows.x_stride, rows.x_step(), columns, buffer);
    for (std::int64_t j = 0; j < columns; ++j) values[j] = Fold::apply(values[j], static_cast<Running<X>>(in[j]));
    y.put(to + i * rows.y_stride, rows.y_step(), columns, values);
  }
}

template <class Fold, class X> void scan_by(const Tensor& x, std::int64_t dim, Tensor& y) {
  const Rows rows(x, dim, cpu::without(y.strides(), dim), cpu::stride_along(y, dim));
  const cpu::Source<X> from(x);
  const cpu::Sink<Running<X>> to(y);
  if (!rows.side_by_side) {
    return rows.each_row([&](std::int64_t in, std::int64_t out) { scan_row<Fold>(from, to, rows, in, out); });
  }
  rows.each_block([&](std::int64_t in, std::int64_t out, std::int64_t columns) {
    scan_columns<Fold>(from, to, rows, in, out, columns);
  });
}

}  // namespace

void CpuBackend::extreme(Extreme which, const Tensor& x, std::int64_t dim, Tensor& values, Tensor& indices) {
  if (x.numel() == 0) return;
  cpu::visit_arithmetic(x.dtype(), [&]<class X>(Type<X>) {
    which == Extreme::max ? extreme_of<cpu::MaxFold, X>(x, dim, values, indices)
                          : extreme_of<cpu::MinFold, X>(x, dim, values, indices);
  });
}

void CpuBackend::scan(Scan kind, const Tensor& x, std::int64_t dim, Tensor& y) {
  if (x.numel() == 0) return;
  cpu::visit_arithmetic(x.dtype(), [&]<class X>(Type<X>) {
    kind == Scan::sum ? scan_by<cpu::AddFold, X>(x, dim, y) : scan_by<cpu::MultiplyFold, X>(x, dim, y);
  });
}

}  // namespace halftone
