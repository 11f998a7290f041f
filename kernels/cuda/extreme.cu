// The largest or smallest element along one axis and the first place where it stands.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/fold.cuh"

namespace halftone {

using namespace cuda;

namespace {

template <class C> struct Best {
  C value;
  std::int64_t index;
};

/// NaN wins; of equals the first.
template <class Value> struct BestFold {
  using C = Value;
  using Acc = Best<C>;
  using Near = Acc;
  static constexpr int kInputs = 1;
  static constexpr std::int64_t kNowhere = std::numeric_limits<std::int64_t>::max();
  bool smallest;
  Memory values, indices;  // without data if not wanted

  __device__ static Acc none() { return {0, kNowhere}; }
  __device__ static Near start(std::int64_t) { return none(); }
  template <int N> __device__ void take(Near& near, C (&in)[1][N], const std::int64_t (&at)[N]) const {
#pragma unroll
    for (int k = 0; k < N; ++k) near = better(near, {in[0][k], at[k]}, smallest);
  }
  /// Threads hand on what is to be maximized: merge() knows of no minimum.
  __device__ Acc settle(Near near) const { return {flipped(near.value), near.index}; }
  __device__ static Acc merge(Acc a, Acc b) { return better(a, b, false); }
  __device__ void store(std::int64_t i, Acc best) const {
    if (values.data != nullptr) values.store(i, flipped(best.value));
    if (indices.data != nullptr) indices.store(i, best.index);
  }

 private:
  __device__ static Acc better(Acc a, Acc b, bool smallest) {
    if (b.index == kNowhere) return a;
    if (a.index == kNowhere) return b;
    const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    const bool same = a.value == b.value || (a_is_nan && b_is_nan);
    if (same) return b.index < a.index ? b : a;
    if (a_is_nan || b_is_nan) return b_is_nan ? b : a;
    return (smallest ? b.value < a.value : b.value > a.value) ? b : a;
  }
  /// Turns the order round if the smallest is wanted; of integers without overflow.
  __device__ C flipped(C x) const {
    if constexpr (std::is_integral_v<C>) {
      return smallest ? ~x : x;
    } else {
      return smallest ? -x : x;
    }
  }
};

}  // namespace

void CudaBackend::extreme(Extreme which, const Tensor& x, std::int64_t dim, Tensor& values, Tensor& indices) {
  if (x.numel() == 0) return;
  const auto wanted = [](const Tensor& t) { return t.defined() ? memory_of(t) : Memory{nullptr, kFloat32}; };
  const unsigned mask = x.dim() == 0 ? 0u : 1u << dim;
  with_arithmetic<true>(x.dtype(), [&]<class C>(Type<C>) {
    const BestFold<C> op{which == Extreme::min, wanted(values), wanted(indices)};
    fold(x.device(), op, x.sizes(), mask, std::array{fold_input(x)});
  });
}

}  // namespace halftone
