// Batch normalization of x [N, C, ...] over all axes but 1, and its gradients: one pass over memory for the sums of each
// channel, one for the result.
#include "kernels/cuda/channels.cuh"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/folds.cuh"
#include "kernels/cuda/row_kernel.cuh"

namespace halftone {

using namespace cuda;

namespace {

// ---------------------------------------------------------------- layouts

bool has_known_layout(const Tensor& x) { return x.is_contiguous() || is_channels_last(x.sizes(), x.strides()); }

Tensor allocated_like(const Tensor& model, Dtype dtype) {
  return empty_strided(model.sizes(), model.strides(), TensorOptions(dtype).device(model.device()));
}

bool lies_as(const Tensor& model, const Tensor& t) {
  return t.is_contiguous() == model.is_contiguous() && has_known_layout(t);
}

/// `t` in memory laid out as `model`'s.
Tensor laid_out_as(const Tensor& model, const Tensor& t, Backend& backend) {
  if (lies_as(model, t)) return t;
  Tensor copy = allocated_like(model, t.dtype());
  backend.copy(t, copy);
  return copy;
}

Tensor known_layout(const Tensor& x, Backend& backend) {
  return has_known_layout(x) ? x : laid_out_as(empty(x.sizes(), x.options()), x, backend);
}

FoldInput by_channel(const Tensor& t, const ChannelShape& at) {
  return {memory_of(t), {at.channels * at.run, at.run, 1}};
}

template <class Op, std::size_t Inputs>
void fold_channels(const Op& op, const ChannelShape& at, const std::array<const Tensor*, Inputs>& tensors) {
  std::array<FoldInput, Inputs> inputs;
  for (std::size_t k = 0; k < Inputs; ++k) inputs[k] = by_channel(*tensors[k], at);
  fold(tensors[0]->device(), op, {at.outer, at.channels, at.run}, 0b101u, inputs);
}

/// Two doubles for each channel.
Tensor pairs_for(const Tensor& x) {
  return empty({2 * x.size(1)}, TensorOptions(kFloat64).device(x.device()));
}

// ---------------------------------------------------------------- forward

template <class C> struct StatisticsFold : MomentsFold<C> {
  double eps;
  Line mean, rstd;
  double* batch;  // mean and unbiased variance, or null

  __device__ void store(std::int64_t channel, const rows::Moments<double>& m) const {
    mean.store(channel, m.mean);
    rstd.store(channel, rows::reciprocal_deviation(m.variance(), eps));
    if (batch == nullptr) return;
    batch[2 * channel] = m.mean;
    batch[2 * channel + 1] = m.unbiased_variance();
  }
};

/// Running statistics on their way to those of the batch, unless one of these is not finite: one overflow would spoil
/// them for ever.
struct Running {
  Line mean, variance;
  const double* batch;  // null: they stay
  std::int64_t channels;
  double momentum;

  __device__ void move() const {
    if (batch == nullptr) return;
    __shared__ int overflows;
    if (threadIdx.x == 0) overflows = 0;
    __syncthreads();
    for (std::int64_t i = threadIdx.x; i < 2 * channels; i += blockDim.x) {
      const bool finite = batch[i] - batch[i] == 0;
      if (!finite) atomicAdd(&overflows, 1);
    }
    __syncthreads();
    if (overflows != 0) return;
    for (std::int64_t i = threadIdx.x; i < channels; i += blockDim.x) {
      mean.store(i, (1 - momentum) * mean.load<double>(i) + momentum * batch[2 * i]);
      variance.store(i, (1 - momentum) * variance.load<double>(i) + momentum * batch[2 * i + 1]);
    }
  }
};

struct Normalize {
  static constexpr int kInputs = 1;
  Line mean, rstd, weight, bias;
  Running running;

  __device__ void begin() const { running.move(); }
  template <class C> __device__ rows::ChannelNorm<C> of(std::int64_t channel) const {
    return {mean.load<C>(channel), weight.load<C>(channel) * rstd.load<C>(channel), bias.load<C>(channel)};
  }
};

// ---------------------------------------------------------------- backward

/// The sums of g and of g * (x - mean) * rstd.
template <class Value> struct GradSumsFold {
  using C = Value;
  struct Acc {
    double g, gx;
  };
  struct Near {
    C mean;
    Acc sums;
  };
  static constexpr int kInputs = 2;  // g, x
  Line mean, rstd, dweight, dbias;
  double* sums;  // null if nobody needs them

  __device__ static Acc none() { return {0, 0}; }
  __device__ Near start(std::int64_t channel) const { return {mean.load<C>(channel), none()}; }
  template <int N> __device__ static void take(Near& near, C (&in)[2][N], const std::int64_t (&)[N]) {
    C products[N];
#pragma unroll
    for (int k = 0; k < N; ++k) products[k] = in[0][k] * (in[1][k] - near.mean);
    near.sums.g += static_cast<double>(sum_of_batch(in[0]));
    near.sums.gx += static_cast<double>(sum_of_batch(products));
  }
  __device__ static Acc settle(const Near& near) { return near.sums; }
  __device__ static Acc merge(const Acc& a, const Acc& b) { return {a.g + b.g, a.gx + b.gx}; }
  __device__ void store(std::int64_t channel, Acc total) const {
    total.gx *= rstd.load<double>(channel);
    dweight.store(channel, total.gx);
    dbias.store(channel, total.g);
    if (sums == nullptr) return;
    sums[2 * channel] = total.g;
    sums[2 * channel + 1] = total.gx;
  }
};

struct NormalizeGrad {
  static constexpr int kInputs = 2;  // g, x
  Line mean, rstd, weight;
  const double* sums;  // null: the statistics were given, and are constants
  double count;        // elements of a channel

  __device__ void begin() const {}
  template <class C> __device__ rows::ChannelNormGrad<C> of(std::int64_t i) const {
    const C m = mean.load<C>(i), r = rstd.load<C>(i), w = weight.load<C>(i);
    if (sums == nullptr) return {m, w * r};
    return rows::ChannelNormGrad<C>::of_training(m, r, w, sums[2 * i], sums[2 * i + 1], count);
  }
};

}  // namespace

void CudaBackend::batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& running_mean,
                             Tensor& running_var, bool training, double momentum, double eps, Tensor& y, Tensor& mean,
                             Tensor& rstd) {
  if (x.numel() == 0) return;
  const Tensor input = known_layout(x, *this);
  const ChannelShape at(input);
  Tensor result = lies_as(input, y) ? y : allocated_like(input, y.dtype()), batch;
  Running running{line_of(running_mean), line_of(running_var), nullptr, at.channels, momentum};
  if (training && (running_mean.defined() || running_var.defined())) {
    batch = pairs_for(x);
    running.batch = batch.data_ptr<double>();
  }
  with_real({x.dtype()}, [&]<class C>(Type<C>) {
    if (training) {
      double* const to = batch.defined() ? batch.data_ptr<double>() : nullptr;
      fold_channels(StatisticsFold<C>{{}, eps, line_of(mean), line_of(rstd), to}, at, std::array{&input});
    }
    const Normalize op{line_of(mean), line_of(rstd), line_of(weight, 1), line_of(bias), running};
    run_channels<C>(at, op, std::array<const Tensor*, 2>{&input, &result});
  });
  if (!result.is_same(y)) copy(result, y);
}

void CudaBackend::batch_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean,
                                  const Tensor& rstd, bool training, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  if (x.numel() == 0) {
    if (dweight.defined()) fill(dweight, 0);
    if (dbias.defined()) fill(dbias, 0);
    return;
  }
  const Tensor input = known_layout(x, *this), gradient = laid_out_as(input, g, *this);
  const ChannelShape at(input);
  const bool dx_needs_sums = training && dx.defined();
  const Tensor sums = dx_needs_sums ? pairs_for(x) : Tensor();
  double* const totals = sums.defined() ? sums.data_ptr<double>() : nullptr;
  with_real({x.dtype()}, [&]<class C>(Type<C>) {
    if (dx_needs_sums || dweight.defined() || dbias.defined()) {
      const GradSumsFold<C> op{line_of(mean), line_of(rstd), line_of(dweight), line_of(dbias), totals};
      fold_channels(op, at, std::array{&gradient, &input});
    }
    if (!dx.defined()) return;
    Tensor result = lies_as(input, dx) ? dx : allocated_like(input, dx.dtype());
    const NormalizeGrad op{line_of(mean), line_of(rstd), line_of(weight, 1), totals, static_cast<double>(at.count())};
    run_channels<C>(at, op, std::array<const Tensor*, 3>{&gradient, &input, &result});
    if (!result.is_same(dx)) copy(result, dx);
  });
}

}  // namespace halftone
