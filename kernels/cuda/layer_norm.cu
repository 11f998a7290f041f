// Layer normalization of rows of `width` elements, and its gradients.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/folds.cuh"
#include "kernels/cuda/row_kernel.cuh"

namespace halftone {

using namespace cuda;

namespace {

struct LayerNorm {
  static constexpr int kHeld = 1, kLate = 2, kOutputs = 1;  // x; weight, bias; y
  double eps;
  Line mean, rstd;
  template <class Team>
  __device__ void operator()(const Team& team, std::int64_t row, std::int64_t n, bool there) const {
    const auto s = rows::layer_norm(team, n, eps, team.held(0), team.late(0), team.late(1), team.out(0));
    if (!there || !team.leads()) return;
    mean.store(row, s.mean);
    rstd.store(row, s.rstd);
  }
};

/// Threads of a multiprocessor that run layer_norm_grads: as many as leave each the registers for its columns.
template <class C> inline constexpr int kFusedThreads = std::is_same_v<C, float> ? 640 : 512;

/// The first team of a block gets the sums of all, element by element.
template <class Shape, int Count> __device__ void add_teams(typename Shape::C (&sums)[Count], int team) {
  constexpr int kTeams = Shape::kBlock / Shape::kLanes;
  if constexpr (kTeams > 1) {
    __shared__ typename Shape::C slots[kTeams - 1][Count][Shape::kLanes];
    const int lane = static_cast<int>(threadIdx.x) % Shape::kLanes;
    __syncthreads();
    for (int k = 0; team > 0 && k < Count; ++k) slots[team - 1][k][lane] = sums[k];
    __syncthreads();
    for (int other = 0; team == 0 && other < kTeams - 1; ++other) {
#pragma unroll
      for (int k = 0; k < Count; ++k) sums[k] += slots[other][k][lane];
    }
  }
}

struct LayerNormGrad {
  static constexpr int kHeld = 2, kLate = 1, kOutputs = 1;  // g, x; weight; dx
  Line mean, rstd;
  template <class Team>
  __device__ void operator()(const Team& team, std::int64_t row, std::int64_t n, bool there) const {
    using C = typename Team::C;
    rows::MeanAndRstd<C> s{0, 0};
    if (there) s = {mean.load<C>(row), rstd.load<C>(row)};
    rows::layer_norm_grad(team, n, s, team.held(0), team.held(1), team.late(0), team.out(0));
  }
};

/// dx, and sums down the columns in the same pass: every team takes row after row, and its threads stay with their
/// columns. partial is [blocks, 2, n]: the sums of g * (x - mean) * rstd, and those of g.
template <class Shape>
__global__ void __launch_bounds__(Shape::kBlock, kFusedThreads<typename Shape::C> / Shape::kBlock)
    layer_norm_grads(RowJob<4> job, const typename Shape::C* means, const typename Shape::C* rstds,
                     typename Shape::C* partial) {
  using C = typename Shape::C;
  using Team = RowTeam<Shape, 3, 0, 1>;  // weight, g, x; dx
  constexpr int kTeams = Shape::kBlock / Shape::kLanes;
  __shared__ Board<C> board;
  RowMemory memory[4] = {job.memory[0], job.memory[1], job.memory[2], job.memory[3]};
  typename Team::Windows windows;
  const Team team(memory, &windows, &board, job.n);
  typename Team::Full dweight{}, dbias{};
  const int team_of_block = static_cast<int>(threadIdx.x) / Shape::kLanes;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kTeams + team_of_block; row < job.rows;
       row += std::int64_t{gridDim.x} * kTeams) {
    const rows::MeanAndRstd<C> s{means[row], rstds[row]};
#pragma unroll
    for (int k = 1; k < 4; ++k) memory[k] = job.memory[k].from(row * job.n);
    team.template next<1>(job.n);
    const auto g = team.held(1), x = team.held(2);
    rows::layer_norm_grad(team, job.n, s, g, x, team.held(0), [&](std::int64_t i, C dx) {
      team.out(0)(i, dx);
      team.of(dweight) += g(i) * ((x(i) - s.mean) * s.rstd);
      team.of(dbias) += g(i);
    });
  }
  add_teams<Shape>(dweight.value, team_of_block);
  add_teams<Shape>(dbias.value, team_of_block);
  if (team_of_block != 0) return;
  RowMemory to{reinterpret_cast<char*>(partial), dtype_of<C>, memory[1].in_packs};
  team.write(to.from(std::int64_t{2 * blockIdx.x} * job.n), dweight, job.n);
  team.write(to.from(std::int64_t{2 * blockIdx.x + 1} * job.n), dbias, job.n);
}

/// The sums of the blocks' sums.
template <class Value> struct PartialFold {
  using C = Value;
  struct Acc {
    double weight, bias;
  };
  using Near = Acc;
  static constexpr int kInputs = 2;
  Line dweight, dbias;

  __device__ static Acc none() { return {0, 0}; }
  __device__ static Near start(std::int64_t) { return none(); }
  template <int N> __device__ static void take(Near& near, C (&in)[2][N], const std::int64_t (&)[N]) {
#pragma unroll
    for (int k = 0; k < N; ++k) near = merge(near, {static_cast<double>(in[0][k]), static_cast<double>(in[1][k])});
  }
  __device__ static Acc settle(const Near& near) { return near; }
  __device__ static Acc merge(const Acc& a, const Acc& b) { return {a.weight + b.weight, a.bias + b.bias}; }
  __device__ void store(std::int64_t i, const Acc& sums) const {
    dweight.store(i, sums.weight);
    dbias.store(i, sums.bias);
  }
};

/// Down the columns of g and x: the sums of g, and of g * (x - mean) * rstd.
template <class Value> struct WeightGradFold {
  using C = Value;
  struct Acc {
    double plain, weighted;
  };
  using Near = Acc;
  static constexpr int kInputs = 2;  // g, x
  const C *mean, *rstd;
  Line dweight, dbias;

  __device__ static Acc none() { return {0, 0}; }
  __device__ static Near start(std::int64_t) { return none(); }
  template <int N> __device__ void take(Near& near, C (&in)[2][N], const std::int64_t (&row)[N]) const {
    C weighted[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      weighted[k] = in[0][k] * ((in[1][k] - mean[row[k]]) * rstd[row[k]]);
    }
    near = merge(near, {static_cast<double>(sum_of_batch(in[0])), static_cast<double>(sum_of_batch(weighted))});
  }
  __device__ static Acc settle(const Near& near) { return near; }
  __device__ static Acc merge(const Acc& a, const Acc& b) { return {a.plain + b.plain, a.weighted + b.weighted}; }
  __device__ void store(std::int64_t i, const Acc& sums) const {
    dweight.store(i, sums.weighted);
    dbias.store(i, sums.plain);
  }
};

/// The rows of a dense tensor.
RowOperand dense_rows(const Tensor& t, std::int64_t width) {
  RowOperand operand = shared_row(t, 1, 0);
  operand.memory.stride = 1;
  operand.places = {width};
  return operand;
}

template <class Shape> struct FusedGrad {
  using C = typename Shape::C;
  Gpu& g;
  const RowJob<4>& job;
  const C *mean, *rstd;

  /// All three gradients; sums that are not wanted are dropped.
  void run(Line dweight, Line dbias) const {
    constexpr std::int64_t kRowsOfTeam = 4, kTeams = Shape::kBlock / Shape::kLanes;
    const std::int64_t resident = std::int64_t{g.multiprocessors} * (kFusedThreads<C> / Shape::kBlock);
    const std::int64_t blocks = std::min(resident, ceil_div(job.rows, kRowsOfTeam * kTeams));
    Tensor partial = empty({blocks, 2, job.n}, TensorOptions(dtype_of<C>).device(g.device));
    launch(g, &layer_norm_grads<Shape>, grid(blocks), Shape::kBlock, job, mean, rstd, partial.data_ptr<C>());
    const Dims strides = {2 * job.n, 1};
    const Tensor weights = partial.select(1, 0), biases = partial.select(1, 1);
    fold(g.device, PartialFold<C>{dweight, dbias}, {blocks, job.n}, 1u,
         std::array{FoldInput{memory_of(weights), strides}, FoldInput{memory_of(biases), strides}});
  }
};

/// The team for a row: false if it is too short or too long for the registers of one.
template <class C>
bool run_fused(Gpu& g, const RowJob<4>& job, const C* mean, const C* rstd, Line dweight, Line dbias) {
  using Warp = TeamShape<C, kWarp, 1, true>;
  using Small = TeamShape<C, 128, 1, true>;
  using Large = TeamShape<C, 512, 1, true>;
  const auto run = [&]<class Shape>(Type<Shape>) {
    FusedGrad<Shape>{g, job, mean, rstd}.run(dweight, dbias);
    return true;
  };
  if (job.n <= Warp::kReach / 4 || job.rows == 0) return false;
  if (job.n <= Warp::kReach) return run(Type<Warp>{});
  if (job.n <= Small::kReach) return run(Type<Small>{});
  return job.n <= Large::kReach && run(Type<Large>{});
}

}  // namespace

void CudaBackend::layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t width, double eps,
                             Tensor& y, Tensor& mean, Tensor& rstd) {
  if (x.numel() == 0) return;
  with_real({x.dtype()}, [&]<class C>(Type<C>) {
    const LayerNorm op{eps, line_of(mean), line_of(rstd)};
    run_rows<C>(
        x.device(), op, {x.numel() / width}, width,
        std::array{dense_rows(x, width), shared_row(weight, 1, 1), shared_row(bias, 1, 0), dense_rows(y, width)});
  });
}

void CudaBackend::layer_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean,
                                  const Tensor& rstd, std::int64_t width, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  const std::int64_t rows = width == 0 ? 0 : x.numel() / width;
  with_real({x.dtype()}, [&]<class C>(Type<C>) {
    if (dx.defined() && (dweight.defined() || dbias.defined())) {
      std::array operands{shared_row(weight, 1, 1), dense_rows(g, width), dense_rows(x, width), dense_rows(dx, width)};
      merge_places({rows}, operands.data(), 4);
      RowJob<4> job;
      // The sums of a block lie behind each other: where a second row would not be aligned, they are not.
      const bool aligned = width * std::int64_t{sizeof(C)} % 16 == 0;
      for (std::size_t k = 0; k < 4; ++k) {
        job.memory[k] = operands[k].memory;
        job.memory[k].in_packs = job.memory[k].in_packs && aligned;
      }
      job.rows = rows;
      job.n = width;
      if (run_fused<C>(gpu(x), job, mean.data_ptr<C>(), rstd.data_ptr<C>(), line_of(dweight), line_of(dbias))) return;
    }
    if (dx.defined()) {
      run_rows<C>(
          x.device(), LayerNormGrad{line_of(mean), line_of(rstd)}, {rows}, width,
          std::array{dense_rows(g, width), dense_rows(x, width), shared_row(weight, 1, 1), dense_rows(dx, width)});
    }
    if (!dweight.defined() && !dbias.defined()) return;
    const Dims strides = {width, 1};
    fold(x.device(), WeightGradFold<C>{mean.data_ptr<C>(), rstd.data_ptr<C>(), line_of(dweight), line_of(dbias)},
         {rows, width}, 1u, std::array{FoldInput{memory_of(g), strides}, FoldInput{memory_of(x), strides}});
  });
}

}  // namespace halftone
