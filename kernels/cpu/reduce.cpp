// Reductions over any set of axes. Where the reduced axes are the dense ones, a row of memory is folded piece by piece
// into a few accumulators that are folded at the end; where the kept ones are, each accumulator belongs to an output.
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/fold.h"
#include "kernels/cpu/row_access.h"

namespace halftone {

namespace {

// ---------------------------------------------------------------- the plan: which axes, in what order, in what pieces

struct Plan {
  Loop kept;     // operands: x, y
  Loop reduced;  // operand: x
  bool by_column = false;
  std::int64_t outputs = 0, count = 0;  // count: elements that make one output
  std::int64_t pieces = 1;              // of the longest reduced axis, so that few outputs keep all threads busy
  std::size_t cut_axis = 0;
  std::int64_t column_blocks = 1;

  static constexpr std::int64_t kColumns = 512;
};

/// The number of pieces depends on the sizes alone, and so do the sums.
void cut_into_pieces(Plan& plan) {
  constexpr std::int64_t kMaxPieces = 16, kEnoughOutputs = 8;
  const std::int64_t tasks = plan.by_column ? plan.outputs / plan.kept.sizes.back() * plan.column_blocks : plan.outputs;
  const Dims& sizes = plan.reduced.sizes;
  plan.cut_axis = static_cast<std::size_t>(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
  if (tasks >= kEnoughOutputs) return;
  const std::int64_t worthwhile = plan.outputs * plan.count / (2 * cpu::kGrain);
  plan.pieces = std::clamp<std::int64_t>(worthwhile, 1, std::min(kMaxPieces, sizes[plan.cut_axis]));
}

Plan make_plan(const Tensor& x, unsigned mask) {
  Dims kept_sizes, kept_strides, reduced_sizes, reduced_strides;
  for (std::size_t i = 0; i < x.sizes().size(); ++i) {
    const bool reduced = (mask >> i) & 1u;
    (reduced ? reduced_sizes : kept_sizes).push_back(x.sizes()[i]);
    (reduced ? reduced_strides : kept_strides).push_back(x.strides()[i]);
  }
  Plan plan;
  plan.outputs = count_elements(kept_sizes);
  plan.count = count_elements(reduced_sizes);
  plan.kept = coalesce(kept_sizes, {kept_strides, contiguous_strides(kept_sizes)});
  plan.reduced = coalesce(reduced_sizes, {reduced_strides});
  if (plan.outputs == 0 || plan.count == 0) return plan;
  constexpr std::int64_t kWide = 8;  // columns that are worth a vector loop
  const std::int64_t columns = plan.kept.sizes.back(), step = plan.kept.strides[0].back();
  plan.by_column = columns >= kWide && step != 0 && step < plan.reduced.strides[0].back();
  if (plan.by_column) plan.column_blocks = (columns + Plan::kColumns - 1) / Plan::kColumns;
  cut_into_pieces(plan);
  return plan;
}

/// The reduced axes of one piece, and where it starts.
struct Piece {
  Loop axes;
  std::int64_t offset = 0;
  std::int64_t runs = 0;  // rows along the last axis
};
Piece piece_of(const Plan& plan, std::int64_t index) {
  Piece piece{plan.reduced};
  const std::int64_t size = plan.reduced.sizes[plan.cut_axis];
  const std::int64_t first = size * index / plan.pieces, last = size * (index + 1) / plan.pieces;
  piece.axes.sizes[plan.cut_axis] = last - first;
  piece.offset = first * plan.reduced.strides[0][plan.cut_axis];
  piece.runs = count_elements(piece.axes.sizes) / piece.axes.sizes.back();
  return piece;
}

/// The axes of a loop but the last.
Loop outer_axes(const Loop& loop) {
  Loop outer = loop;
  outer.sizes.resize(loop.sizes.size() - 1);
  for (std::size_t k = 0; k < static_cast<std::size_t>(loop.operands); ++k) outer.strides[k].resize(outer.sizes.size());
  return outer;
}

// ---------------------------------------------------------------- the loops

/// What is subtracted from the elements of each output before they are folded, by output: nothing, or its mean.
using Centers = const double*;

/// Reduces x by one folding: `emit(piece, y_offset, y_stride, n, values)` takes the folded values of n outputs.
template <class X, class F> class Reducer {
 public:
  using Acc = typename F::template Acc<X>;

  Reducer(const Plan& plan, const Tensor& x, const F& fold, Centers centers)
      : plan_(plan), x_(x), fold_(fold), centers_(centers) {}

  template <class Emit> void run(const Emit& emit) const {
    if (plan_.by_column) return run_columns(emit);
    if (plan_.pieces == 1) {
      parallel_for(0, plan_.outputs, cpu::rows_per_grain(plan_.count),
                   [&](std::int64_t first, std::int64_t last) { outputs(0, first, last, emit); });
      return;
    }
    parallel_for(0, plan_.pieces, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t piece = first; piece < last; ++piece) outputs(piece, 0, plan_.outputs, emit);
    });
  }

 private:
  static constexpr std::int64_t kLanes = F::kLanes;

  /// Elements of a row, less the center if there is one; in buffer unless they can be used where they are.
  const X* read(std::int64_t offset, std::int64_t stride, std::int64_t n, const double* center,
                std::int64_t center_stride, X* buffer) const {
    const X* x = x_.row(offset, stride, n, buffer);
    if (center == nullptr) return x;
    for (std::int64_t i = 0; i < n; ++i) {
      buffer[i] = static_cast<X>(static_cast<double>(x[i]) - center[i * center_stride]);
    }
    return buffer;
  }

  template <class Emit> void run_columns(const Emit& emit) const {
    const std::int64_t blocks = plan_.outputs / plan_.kept.sizes.back() * plan_.column_blocks;
    const std::int64_t elements = std::min(Plan::kColumns, plan_.kept.sizes.back()) * plan_.count / plan_.pieces;
    parallel_for(0, blocks * plan_.pieces, cpu::rows_per_grain(elements), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t task = first; task < last; ++task) column_block(task / blocks, task % blocks, emit);
    });
  }

  /// Outputs [first, last), in segments along the last kept axis.
  template <class Emit>
  void outputs(std::int64_t piece_index, std::int64_t first, std::int64_t last, const Emit& emit) const {
    constexpr std::int64_t kSegment = 256;
    const Piece piece = piece_of(plan_, piece_index);
    const Loop outer = outer_axes(piece.axes);
    const std::int64_t length = plan_.kept.sizes.back();
    const std::int64_t x_step = plan_.kept.strides[0].back(), y_step = plan_.kept.strides[1].back();
    Acc values[kSegment];
    while (first < last) {
      const cpu::Walk place(plan_.kept, first);
      const std::int64_t n = std::min({kSegment, last - first, length - first % length});
      for (std::int64_t i = 0; i < n; ++i) {
        const double* center = centers_ ? centers_ + place[1] + i * y_step : nullptr;
        values[i] = output(piece, outer, place[0] + piece.offset + i * x_step, center);
      }
      emit(piece_index, place[1], y_step, n, values);
      first += n;
    }
  }

  Acc output(const Piece& piece, const Loop& outer, std::int64_t offset, const double* center) const {
    constexpr std::int64_t kStep = 1024, kShort = 16;
    const std::int64_t n = piece.axes.sizes.back(), stride = piece.axes.strides[0].back();
    X buffer[kStep];
    if (n <= kShort && piece.runs == 1) return fold_.all(read(offset, stride, n, center, 0, buffer), n);
    Acc acc[kLanes];
    const std::int64_t used_lanes = std::min(n, kLanes);
    std::fill_n(acc, used_lanes, kIdentity);
    cpu::Walk run(outer, 0);
    for (std::int64_t k = 0; k < piece.runs; ++k, run.next()) {
      for (std::int64_t at = 0; at < n; at += kStep) {
        const std::int64_t count = std::min(n - at, kStep);
        fold_.run(read(offset + run[0] + at * stride, stride, count, center, 0, buffer), acc, count);
      }
    }
    return F::collapse(acc, used_lanes);
  }

  template <class Emit> void column_block(std::int64_t piece_index, std::int64_t block, const Emit& emit) const {
    const Piece piece = piece_of(plan_, piece_index);
    const std::int64_t first = block % plan_.column_blocks * Plan::kColumns;
    const std::int64_t n = std::min(Plan::kColumns, plan_.kept.sizes.back() - first);
    const std::int64_t x_step = plan_.kept.strides[0].back(), y_step = plan_.kept.strides[1].back();
    const cpu::Walk place(plan_.kept, block / plan_.column_blocks * plan_.kept.sizes.back() + first);
    const double* center = centers_ ? centers_ + place[1] : nullptr;
    X buffers[4][Plan::kColumns];
    Acc acc[Plan::kColumns];
    std::fill_n(acc, n, kIdentity);
    cpu::Walk row(piece.axes, 0);
    const auto next_row = [&](X* buffer) {
      const X* x = read(place[0] + piece.offset + row[0], x_step, n, center, y_step, buffer);
      row.next();
      return x;
    };
    std::int64_t left = piece.runs * piece.axes.sizes.back();
    for (; left >= 4; left -= 4) {
      const std::array<const X*, 4> four{next_row(buffers[0]), next_row(buffers[1]), next_row(buffers[2]),
                                         next_row(buffers[3])};
      fold_.template four<X>(four, acc, n);
    }
    for (; left > 0; --left) fold_.one(next_row(buffers[0]), acc, n);
    emit(piece_index, place[1], y_step, n, acc);
  }

  static constexpr Acc kIdentity = F::template kIdentity<Acc>;

  const Plan& plan_;
  cpu::Source<X> x_;
  F fold_;
  Centers centers_;
};

/// Where results go: through `finish` into y, or, while there are several pieces, side by side until all are there.
template <class Acc, class Fold, class Finish> class Output {
 public:
  Output(const Plan& plan, const cpu::Sink<Acc>& sink, Finish finish) : plan_(plan), sink_(sink), finish_(finish) {
    if (plan.pieces > 1) partial_.resize(static_cast<std::size_t>(plan.pieces * plan.outputs));
  }

  void operator()(std::int64_t piece, std::int64_t offset, std::int64_t stride, std::int64_t n, Acc* values) const {
    if (plan_.pieces == 1) {
      for (std::int64_t i = 0; i < n; ++i) values[i] = finish_(values[i]);
      sink_.put(offset, stride, n, values);
      return;
    }
    Acc* to = at(piece, offset);
    for (std::int64_t i = 0; i < n; ++i) to[i * stride] = values[i];
  }

  void combine() const {
    if (plan_.pieces == 1) return;
    Acc* total = at(0, 0);
    for (std::int64_t piece = 1; piece < plan_.pieces; ++piece) {
      const Acc* next = at(piece, 0);
      for (std::int64_t i = 0; i < plan_.outputs; ++i) total[i] = Fold::apply(total[i], next[i]);
    }
    for (std::int64_t i = 0; i < plan_.outputs; ++i) total[i] = finish_(total[i]);
    sink_.put(0, 1, plan_.outputs, total);
  }

 private:
  Acc* at(std::int64_t piece, std::int64_t offset) const { return partial_.data() + piece * plan_.outputs + offset; }

  const Plan& plan_;
  cpu::Sink<Acc> sink_;
  Finish finish_;
  mutable std::vector<Acc> partial_;  // [pieces, outputs]; every task writes its own part
};

template <class X, class Fold, class Map, class To, class Finish>
void fold(const Plan& plan, const Tensor& x, Map map, Centers centers, const To& to, Finish finish) {
  using F = cpu::Folding<Fold, Map>;
  using Acc = typename F::template Acc<X>;
  const cpu::Sink<Acc> sink(to);
  if (plan.count == 0) {
    for (std::int64_t i = 0; i < plan.outputs; ++i) sink.put(i, finish(F::template kIdentity<Acc>));
    return;
  }
  const Output<Acc, Fold, Finish> output(plan, sink, finish);
  Reducer<X, F>(plan, x, F{map}, centers).run(output);
  output.combine();
}

constexpr auto kAsItIs = [](auto value) { return value; };

// ---------------------------------------------------------------- the kinds

template <class X> void mean(const Plan& plan, const Tensor& x, Tensor& y) {
  fold<X, cpu::AddFold>(plan, x, cpu::Itself{}, nullptr, y,
                        [n = plan.count](double sum) { return sum / static_cast<double>(n); });
}

/// In two passes: the second one sums squared distances from the means.
template <class X> void variance(const Plan& plan, const Tensor& x, double correction, Tensor& y) {
  std::vector<double> means(static_cast<std::size_t>(plan.outputs));
  const auto n = static_cast<double>(plan.count);
  fold<X, cpu::AddFold>(plan, x, cpu::Itself{}, nullptr, means.data(), [n](double sum) { return sum / n; });
  fold<double, cpu::AddFold>(plan, x, cpu::WideSquare{}, means.data(), y,
                             [divisor = std::max(n - correction, 0.0)](double sum) { return sum / divisor; });
}

template <class X> void norm(const Plan& plan, const Tensor& x, double p, Tensor& y) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto or_zero = [empty = plan.count == 0](auto value) { return empty ? 0 : value; };
  if (p == 0) return fold<X, cpu::AddFold>(plan, x, cpu::NonZero{}, nullptr, y, kAsItIs);
  if (p == 1) return fold<X, cpu::AddFold>(plan, x, cpu::Magnitude{}, nullptr, y, kAsItIs);
  if (p == kInfinity) return fold<X, cpu::MaxFold>(plan, x, cpu::Magnitude{}, nullptr, y, or_zero);
  if (p == -kInfinity) return fold<X, cpu::MinFold>(plan, x, cpu::Magnitude{}, nullptr, y, or_zero);
  if (p == 2)
    return fold<X, cpu::AddFold>(plan, x, cpu::WideSquare{}, nullptr, y, [](double s) { return std::sqrt(s); });
  fold<X, cpu::AddFold>(plan, x, cpu::PowerOf{p}, nullptr, y, [p](double s) { return std::pow(s, 1 / p); });
}

/// Kinds that exist for floating values alone.
template <class X> void reduce_floating(const Reduce& r, const Plan& plan, const Tensor& x, Tensor& y) {
  switch (r.kind) {
    case ReduceKind::mean: return mean<X>(plan, x, y);
    case ReduceKind::variance: return variance<X>(plan, x, r.correction, y);
    default: return norm<X>(plan, x, r.p, y);
  }
}

template <class X> void reduce_any(const Reduce& r, const Plan& plan, const Tensor& x, Tensor& y) {
  switch (r.kind) {
    case ReduceKind::sum: return fold<X, cpu::AddFold>(plan, x, cpu::Itself{}, nullptr, y, kAsItIs);
    case ReduceKind::prod: return fold<X, cpu::MultiplyFold>(plan, x, cpu::Widened{}, nullptr, y, kAsItIs);
    case ReduceKind::max: return fold<X, cpu::MaxFold>(plan, x, cpu::Itself{}, nullptr, y, kAsItIs);
    case ReduceKind::min: return fold<X, cpu::MinFold>(plan, x, cpu::Itself{}, nullptr, y, kAsItIs);
    case ReduceKind::all: return fold<X, cpu::MinFold>(plan, x, cpu::NonZero{}, nullptr, y, kAsItIs);
    case ReduceKind::any:
      return fold<X, cpu::MaxFold>(plan, x, cpu::NonZero{}, nullptr, y, [](X v) { return std::max(v, X(0)); });
    default: return reduce_floating<std::conditional_t<std::is_floating_point_v<X>, X, double>>(r, plan, x, y);
  }
}

}  // namespace

void CpuBackend::reduce(const Reduce& r, const Tensor& x, unsigned mask, Tensor& y) {
  const Plan plan = make_plan(x, mask);
  if (plan.outputs == 0) return;
  cpu::visit_arithmetic(x.dtype(), [&]<class X>(Type<X>) { reduce_any<X>(r, plan, x, y); });
}

}  // namespace halftone
