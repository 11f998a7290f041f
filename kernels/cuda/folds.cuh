// What is folded by more than one family: sums, extremes and moments.
#pragma once

#include "kernels/cuda/fold.cuh"
#include "kernels/rows.h"

namespace halftone::cuda {

/// Sums of float are kept in double, a batch of them in float: fast, and exact enough for any length.
template <class C> using Sum = std::conditional_t<std::is_same_v<C, float>, double, C>;

/// The sum of values[Count] by halves; Count is a power of two.
template <class C, int Count> __device__ C sum_of_batch(C (&values)[Count]) {
#pragma unroll
  for (int half = Count / 2; half > 0; half /= 2) {
#pragma unroll
    for (int k = 0; k < half; ++k) values[k] = fn::plus(values[k], values[k + half]);
  }
  return values[0];
}

/// Sums map(x) and stores finish(sum).
template <class Value, class Map, class Finish> struct SumFold {
  using C = Value;
  using Mapped = std::invoke_result_t<Map, C>;
  using Acc = Sum<Mapped>;
  using Near = Acc;
  static constexpr int kInputs = 1;
  Map map;
  Finish finish;
  Memory y;

  __device__ static Acc none() { return 0; }
  __device__ Near start(std::int64_t) const { return 0; }
  template <int N> __device__ void take(Near& near, C (&in)[1][N], const std::int64_t (&)[N]) const {
    Mapped values[N];
#pragma unroll
    for (int k = 0; k < N; ++k) values[k] = map(in[0][k]);
    near = merge(near, static_cast<Acc>(sum_of_batch(values)));
  }
  __device__ Acc settle(Near near) const { return near; }
  __device__ static Acc merge(Acc a, Acc b) { return fn::plus(a, b); }
  __device__ void store(std::int64_t i, Acc sum) const { y.store(i, finish(sum)); }
};

/// Moments from sums of distances to the first element that a thread meets: no division an element, and no
/// cancellation where the mean is large. Threads' moments are merged in double.
template <class C> struct NearMoments {
  C pivot = 0;
  double sum = 0, squares = 0;
  std::int64_t count = 0;

  template <int N> __device__ void take(const C (&x)[N]) {
    if (count == 0) pivot = x[0];
    C distances[N], products[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      distances[k] = x[k] - pivot;
      products[k] = distances[k] * distances[k];
    }
    sum += static_cast<double>(sum_of_batch(distances));
    squares += static_cast<double>(sum_of_batch(products));
    count += N;
  }
  __device__ rows::Moments<double> settle() const {
    if (count == 0) return {};
    const auto n = static_cast<double>(count);
    const double rest = squares - sum / n * sum;
    // Rounding may leave less than nothing; NaN stays.
    return {n, static_cast<double>(pivot) + sum / n, rest < 0 ? 0 : rest};
  }
};

template <class Value> struct MomentsFold {
  using C = Value;
  using Near = NearMoments<C>;
  using Acc = rows::Moments<double>;
  static constexpr int kInputs = 1;

  __device__ static Acc none() { return {}; }
  __device__ static Near start(std::int64_t) { return {}; }
  template <int N> __device__ static void take(Near& near, C (&in)[1][N], const std::int64_t (&)[N]) {
    near.take(in[0]);
  }
  __device__ static Acc settle(const Near& near) { return near.settle(); }
  __device__ static Acc merge(Acc a, const Acc& b) {
    a.merge(b);
    return a;
  }
};

}  // namespace halftone::cuda
