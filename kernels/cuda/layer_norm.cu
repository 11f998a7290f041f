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
