// The norm over all elements of a list, in one launch: each block folds its share of the pieces, and the last block to
// finish folds the blocks' results. Which block that is does not matter: the order of a sum is fixed by the sizes and
// the device alone. Sums are double, so that the squares of large gradients do not overflow. What else Clip asks for is
// found on the way: the check of every element, and in the end the division that limits the norm.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/lists.cuh"

namespace halftone {

using namespace cuda;

namespace {

__device__ double larger(double a, double b) { return b > a || b != b ? b : a; }
__device__ double smaller(double a, double b) { return b < a || b != b ? b : a; }

// kBlocks: as many are to fit on a multiprocessor, which bounds the registers of a thread.
struct EuclideanNorm {
  static constexpr int kBlocks = 4;
  HD double start() const { return 0; }
  __device__ double add(double sum, double value) const { return sum + value * value; }
  __device__ double join(double a, double b) const { return a + b; }
  __device__ double finish(double sum) const { return std::sqrt(sum); }
};

enum class NormKind : std::int8_t { count, sum, largest, smallest, power };

/// The p-norm for any other p.
struct GeneralNorm {
  static constexpr int kBlocks = 2;
  NormKind kind;
  double p;

  HD double start() const { return kind == NormKind::smallest ? std::numeric_limits<double>::infinity() : 0; }
  __device__ double add(double folded, double value) const {
    switch (kind) {
      case NormKind::count: return folded + (value != 0 ? 1 : 0);
      case NormKind::sum: return folded + std::abs(value);
      case NormKind::largest: return larger(folded, std::abs(value));
      case NormKind::smallest: return smaller(folded, std::abs(value));
      default: return folded + pow(std::abs(value), p);
    }
  }
  __device__ double join(double a, double b) const {
    if (kind == NormKind::largest) return larger(a, b);
    return kind == NormKind::smallest ? smaller(a, b) : a + b;
  }
  __device__ double finish(double folded) const { return kind == NormKind::power ? pow(folded, 1 / p) : folded; }
};

GeneralNorm general_norm(double p) {
  if (p == 0) return {NormKind::count, p};
  if (p == 1) return {NormKind::sum, p};
  if (std::isinf(p)) return {p > 0 ? NormKind::largest : NormKind::smallest, p};
  return {NormKind::power, p};
}

/// The threads' values joined, for thread 0.
template <class Norm> __device__ double join_block(const Norm& norm, double value) {
  __shared__ double warps[kThreads / kWarp];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = norm.join(value, __shfl_down_sync(~0u, value, static_cast<unsigned>(distance)));
  }
  __syncthreads();  // of an earlier call all is read
  if (lane == 0) warps[warp] = value;
  __syncthreads();
  if (threadIdx.x != 0) return value;
  for (int w = 1; w < kThreads / kWarp; ++w) value = norm.join(value, warps[w]);
  return value;
}

/// Clip on the device, and where the norm goes. Null pointers for what is not asked for.
struct Results {
  Memory norm;
  double most;
  double* divisor;
  const float* scale;
  float* found_inf;

  __device__ double scaled_by() const { return scale ? double{*scale} : 1.0; }
  __device__ void store(double value) const {
    norm.store(0, value);
    if (divisor) *divisor = clip_divisor(value, most, scaled_by());
  }
};

/// A thread's share of a slice.
template <class Norm>
__device__ void fold_slice(const Norm& norm, const Memory& x, const ListSlice& slice, bool aligned, double inverse,
                           double& folded, bool& overflowed) {
  visit_floating_dtype(x.dtype, [&]<class T>(Type<T>) {
    using C = Compute<T>;
    for_each_value<false>(static_cast<T*>(x.data) + slice.first, slice.count, aligned,
                          [&, by = static_cast<C>(inverse)](T value) {
                            const C wide = static_cast<C>(value);
                            overflowed |= !is_finite(wide);
                            folded = norm.add(folded, static_cast<double>(wide * by));
                          });
  });
}

/// parts[first + b] is block b's share. The last launch folds the parts of all and stores the results.
template <class Norm, int Capacity>
__global__ void __launch_bounds__(kThreads, Norm::kBlocks)
    fold_list(Norm norm, ListArgument<1, Capacity> list, std::int32_t pieces, double* parts, std::int64_t first,
              bool last, Results results, unsigned* tickets) {
  const double inverse = 1 / results.scaled_by();
  double folded = norm.start();
  bool overflowed = false;
#pragma unroll 1
  for (std::int64_t i = blockIdx.x; i < pieces; i += gridDim.x) {
    const ListSlice slice = list.slice(static_cast<std::int32_t>(i));
    fold_slice(norm, list.memory(0, slice.tensor), slice, list.aligned[slice.tensor], inverse, folded, overflowed);
  }
  if (results.found_inf) report_overflow(overflowed, results.found_inf);
  folded = join_block(norm, folded);
  if (threadIdx.x == 0) parts[first + blockIdx.x] = folded;
  if (!last || !is_last_block(tickets)) return;
  const volatile double* all = parts;
  folded = norm.start();
  for (std::int64_t i = threadIdx.x; i < first + gridDim.x; i += kThreads) folded = norm.join(folded, all[i]);
  folded = join_block(norm, folded);
  if (threadIdx.x == 0) results.store(norm.finish(folded));
}

template <class T> T* data_or_null(const Tensor& t) { return t.defined() ? t.data_ptr<T>() : nullptr; }

std::vector<ListEntry<1>> dense_entries(Stage& stage, TensorList tensors) {
  std::vector<ListEntry<1>> entries;
  entries.reserve(tensors.size());
  for (const Tensor& t : tensors) {
    if (t.numel() == 0) continue;
    const Tensor dense = stage.dense(t, false);
    entries.push_back({{memory_of(dense)}, dense.numel()});
  }
  return entries;
}

template <class Norm>
void run_norm(CudaBackend& backend, const Norm& norm, TensorList tensors, Tensor& y, const Clip& clip) {
  Gpu& g = gpu(y);
  Stage stage(backend);
  const std::vector<ListEntry<1>> entries = dense_entries(stage, tensors);
  if (entries.empty()) {
    Tensor divisor = clip.divisor;
    if (divisor.defined()) backend.fill(divisor, 1.0);  // nothing is there to be divided
    return backend.fill(y, norm.start());
  }
  const Results results{memory_of(y), clip.most, data_or_null<double>(clip.divisor), data_or_null<float>(clip.scale),
                        data_or_null<float>(clip.found_inf)};
  const std::int64_t most = 8 * std::int64_t{g.multiprocessors};  // blocks of a launch: as many as run at once
  const std::int64_t launches = ceil_div(static_cast<std::int64_t>(entries.size()), list_capacity(1, kLargeArgument));
  const Tensor parts = empty({most * launches}, y.options().dtype(kFloat64));
  std::int64_t first = 0;
  for_each_launch(g, entries, [&]<int Capacity>(const ListArgument<1, Capacity>& list, int pieces, bool last) {
    const std::int64_t blocks = std::min<std::int64_t>(pieces, most);
    launch(g, &fold_list<Norm, Capacity>, grid(blocks), kThreads, norm, list, pieces, parts.data_ptr<double>(), first,
           last, results, g.tickets);
    first += blocks;
  });
}

}  // namespace

void CudaBackend::list_norm(TensorList tensors, double p, Tensor& y, const Clip& clip) {
  if (p == 2) return run_norm(*this, EuclideanNorm{}, tensors, y, clip);
  run_norm(*this, general_norm(p), tensors, y, clip);
}

}  // namespace halftone
