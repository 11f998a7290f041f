// The kernel for formulas of whole rows. An `Op` has
//   kHeld, kLate, kOutputs   how many operands a team reads once, reads in every pass, and writes
//   op(team, row, n, there)  computes the row by a formula of kernels/rows.h; all threads of a warp call it, those
//                            beyond the last row for a row of no elements
// and the operands stand in that order.
#pragma once

#include "kernels/cuda/team.cuh"

namespace halftone::cuda {

/// Rows of some operands: where row i begins, and what it looks like.
template <int Operands> struct RowJob {
  RowMemory memory[Operands];
  Spots<Operands> places;
  std::int64_t rows = 0, n = 0;
  bool side_by_side = false;  // elements of neighbouring rows are nearer than those of one row
};

template <class Op> inline constexpr int kRowOperands = Op::kHeld + Op::kLate + Op::kOutputs;

template <class Shape, class Op>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kResident) compute_rows(Op op, RowJob<kRowOperands<Op>> job) {
  using C = typename Shape::C;
  using Team = RowTeam<Shape, Op::kHeld, Op::kLate, Op::kOutputs>;
  constexpr int kOperands = kRowOperands<Op>;
  __shared__ Board<C> board;
  const std::int64_t row = thread_in_grid() / Shape::kLanes;
  const bool there = row < job.rows;
  std::int64_t offsets[kOperands];
  job.places.find(there ? row : 0, offsets);
  RowMemory memory[kOperands];
#pragma unroll
  for (int k = 0; k < kOperands; ++k) {
    memory[k] = job.memory[k].from(offsets[k]);
  }
  const std::int64_t n = there ? job.n : 0;
  typename Team::Windows windows;
  op(Team(memory, &windows, &board, n), row, n, there);
}

/// An operand whose rows lie along an axis of it. Undefined ones are rows of `otherwise`.
struct RowOperand {
  RowMemory memory;
  Dims places;  // the strides of the other axes
};
RowOperand row_operand(const Tensor& t, std::int64_t dim);
/// A row that all rows have in common, of which there may be none.
RowOperand shared_row(const Tensor& t, std::size_t axes, float otherwise);

/// The strides of places, merged; in_packs of the operands is settled.
Loop merge_places(IntArrayRef sizes, RowOperand* operands, int count);

template <class Shape, class Op> void launch_rows(Gpu& g, const Op& op, const RowJob<kRowOperands<Op>>& job) {
  constexpr std::int64_t kRowsOfBlock = Shape::kBlock / Shape::kLanes;
  launch(g, &compute_rows<Shape, Op>, grid(ceil_div(job.rows, kRowsOfBlock)), Shape::kBlock, op, job);
}

/// The team for a job: as small as holds the row.
template <class C, class Op> void choose_team(Gpu& g, const Op& op, const RowJob<kRowOperands<Op>>& job) {
  constexpr std::int64_t kManyRows = 8192, kShort = 64;
  constexpr bool kIsFloat = std::is_same_v<C, float>;  // of double there are fewer kernels: it is rare
  if (job.side_by_side && (job.rows >= kManyRows || job.n <= kShort)) {
    using Whole = TeamShape<C, 1, 2, true>;
    if (job.n <= Whole::kReach) return launch_rows<Whole>(g, op, job);
    return launch_rows<TeamShape<C, 1, 1, false>>(g, op, job);
  }
  using Four = TeamShape<C, 4, 1, true>;
  using Warp = TeamShape<C, kWarp, 1, true>;
  using Small = TeamShape<C, 128, 1, true>;
  using Large = TeamShape<C, 512, 1, true>;
  if constexpr (kIsFloat) {
    if (job.n <= Four::kReach) return launch_rows<Four>(g, op, job);
  }
  if (job.n <= Warp::kReach) return launch_rows<Warp>(g, op, job);
  if constexpr (kIsFloat && Op::kHeld == 1 && Op::kLate <= 1) {
    // Where warps with a row each fill the device, four packs on their way and no barrier beat four warps a row.
    using LongWarp = TeamShape<C, kWarp, 4, true>;
    const bool enough = job.rows >= std::int64_t{g.multiprocessors} * LongWarp::kResident * (LongWarp::kBlock / kWarp);
    if (enough && job.n <= LongWarp::kReach) return launch_rows<LongWarp>(g, op, job);
  }
  if constexpr (kIsFloat) {
    if (job.n <= Small::kReach) return launch_rows<Small>(g, op, job);
  }
  if (job.n <= Large::kReach) return launch_rows<Large>(g, op, job);
  launch_rows<TeamShape<C, Large::kLanes, 4, false>>(g, op, job);  // four packs are on their way at once
}

/// Computes all rows of `n` elements; `sizes` are those of the axes that rows do not lie along.
template <class C, class Op>
void run_rows(Device device, const Op& op, IntArrayRef sizes, std::int64_t n,
              std::array<RowOperand, kRowOperands<Op>> operands) {
  constexpr std::size_t kOperands = kRowOperands<Op>;
  RowJob<kOperands> job;
  job.rows = count_elements(sizes);
  job.n = n;
  if (job.rows == 0) return;
  const Loop places = merge_places(sizes, operands.data(), kOperands);
  std::array<std::size_t, kOperands> order;
  for (std::size_t k = 0; k < kOperands; ++k) job.memory[k] = operands[k].memory, order[k] = k;
  job.places = {places, order};
  const std::int64_t step = places.strides[0].back();
  job.side_by_side = step != 0 && step < job.memory[0].stride && places.sizes.back() > 1;
  choose_team<C>(gpu(device), op, job);
}

/// Calls run(type) with the arithmetic type: double if one of the dtypes is.
template <class Run> void with_real(std::initializer_list<Dtype> dtypes, Run run) {
  std::find(dtypes.begin(), dtypes.end(), kFloat64) != dtypes.end() ? run(Type<double>{}) : run(Type<float>{});
}

/// `values` without the entry of one axis.
inline Dims without(IntArrayRef values, std::int64_t axis) {
  Dims rest;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (static_cast<std::int64_t>(i) != axis) rest.push_back(values[i]);
  }
  return rest;
}

}  // namespace halftone::cuda
