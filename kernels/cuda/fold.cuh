// Folding: many elements into one, over any axes of any layout. An `Op` says what becomes of the elements:
//   C, kInputs         the arithmetic type in which the elements of so many inputs come
//   Near, start(y)     what one thread gathers in for output y, and with what it begins
//   take(near, in, at) folds in[kInputs][N], the elements at the positions at[N] of the reduced axes
//   Acc, settle(near)  what threads hand each other, and none(), which changes nothing
//   merge(a, b)        a and b as one
//   store(y, acc)      writes output y
// Where the reduced axes are the dense ones a group of threads shares an output; where the kept ones are, neighbouring
// threads have neighbouring outputs. Few outputs are folded in shares, which a second kernel merges: no atomics, so
// results are the same in every run.
#pragma once

#include "kernels/cuda/access.cuh"

namespace halftone::cuda {

inline constexpr int kBatch = 8;  // elements of an input that a thread asks for before it waits for the first

/// What is folded, and by whom.
template <int Inputs> struct Folding {
  Memory in[Inputs];
  Spots<Inputs + 1> kept;  // the last operand is the output
  Spots<Inputs> reduced;
  std::int64_t outputs = 0, count = 0;  // count: elements that make one output
  std::int64_t share = 0;               // how many of them a block takes
  int lanes = 1;                        // threads that share an output: a power of two
  bool by_column = false;               // neighbouring threads have neighbouring outputs, or elements of one
  bool in_runs = false;                 // elements of an output lie in runs of whole batches, aligned: 16-byte loads
  bool alike = true;                    // all inputs are of one dtype
};

/// One input's batch, which begins at position j: as it lies in memory, so that no conversion waits before all loads
/// are on their way.
template <class T, bool InRuns, int Inputs>
__device__ Pack<T, kBatch> batch_at(const Folding<Inputs>& f, int input, std::int64_t base, std::int64_t j) {
  const T* const x = static_cast<const T*>(f.in[input].data);
  if constexpr (InRuns) {
    return reinterpret_cast<const Pack<T, kBatch>*>(x)[(base + f.reduced.offset(input, j)) / kBatch];
  } else {
    Pack<T, kBatch> raw;
#pragma unroll
    for (int k = 0; k < kBatch; ++k) raw.value[k] = x[base + f.reduced.offset(input, j + k * f.lanes)];
    return raw;
  }
}

template <class T, class Op>
__device__ void take_batch(const Op& op, typename Op::Near& near, const Pack<T, kBatch> (&raw)[Op::kInputs],
                           std::int64_t j, std::int64_t next) {
  typename Op::C in[Op::kInputs][kBatch];
  std::int64_t at[kBatch];
#pragma unroll
  for (int k = 0; k < kBatch; ++k) {
    at[k] = j + k * next;
#pragma unroll
    for (int i = 0; i < Op::kInputs; ++i) in[i][k] = widen<typename Op::C>(raw[i].value[k]);
  }
  op.take(near, in, at);
}

/// Folds this lane's whole batches of inputs of type T; the result is where single elements go on. Two batches of
/// 2-byte elements are on their way at once, which are as many bytes as one of floats.
template <class T, bool InRuns, class Op>
__device__ std::int64_t fold_batches(const Op& op, typename Op::Near& near, const Folding<Op::kInputs>& f,
                                     const std::int64_t (&base)[Op::kInputs + 1], std::int64_t first, std::int64_t last,
                                     int lane) {
  constexpr int kIn = Op::kInputs;
  const std::int64_t next = InRuns ? 1 : f.lanes, step = std::int64_t{f.lanes} * kBatch;
  const std::int64_t end = last - (kBatch - 1) * next;  // a batch that begins before it is whole
  std::int64_t j = first + lane * (InRuns ? kBatch : 1);
  while (j < end) {
    const bool both = sizeof(T) == 2 && j + step < end;
    Pack<T, kBatch> one[kIn], other[kIn];
#pragma unroll
    for (int i = 0; i < kIn; ++i) {
      one[i] = batch_at<T, InRuns>(f, i, base[i], j);
      if (both) other[i] = batch_at<T, InRuns>(f, i, base[i], j + step);
    }
    take_batch(op, near, one, j, next);
    if (both) take_batch(op, near, other, j + step, next);
    j += both ? 2 * step : step;
  }
  return InRuns ? first + (last - first) / kBatch * kBatch + lane : j;
}

/// Folds every `lanes`-th element of a share, or batch of elements.
template <class Op>
__device__ typename Op::Near fold_share(const Op& op, const Folding<Op::kInputs>& f,
                                        const std::int64_t (&base)[Op::kInputs + 1], std::int64_t first,
                                        std::int64_t last, int lane) {
  using C = typename Op::C;
  constexpr int kIn = Op::kInputs;
  typename Op::Near near = op.start(base[kIn]);
  std::int64_t j = first + lane;
  if (f.alike) {
    visit_as<C>(f.in[0].dtype, [&]<class T>(Type<T>) {
      j = f.in_runs ? fold_batches<T, true>(op, near, f, base, first, last, lane)
                    : fold_batches<T, false>(op, near, f, base, first, last, lane);
    });
  }
  for (; j < last; j += f.lanes) {
    C in[kIn][1];
    const std::int64_t at[1] = {j};
#pragma unroll
    for (int i = 0; i < kIn; ++i) {
      const std::int64_t offset = base[i] + f.reduced.offset(i, j);
      visit_as<C>(f.in[i].dtype,
                  [&]<class T>(Type<T>) { in[i][0] = widen<C>(static_cast<const T*>(f.in[i].data)[offset]); });
    }
    op.take(near, in, at);
  }
  return near;
}

/// Lanes of a warp that lie side by side merge what they have; the first one gets all.
template <class Op> __device__ typename Op::Acc merge_lanes(typename Op::Acc acc, int lanes) {
  for (int distance = 1; distance < lanes; distance *= 2) acc = Op::merge(acc, shuffle_xor(acc, distance));
  return acc;
}

/// One share (blockIdx.y) of the outputs of a block. `partial` is [outputs, shares], used if there are several.
template <class Op>
__global__ void __launch_bounds__(kThreads, 2) fold_elements(Op op, Folding<Op::kInputs> f, typename Op::Acc* partial) {
  using Acc = typename Op::Acc;
  __shared__ Slots<Acc, kThreads> slots;
  const int thread = static_cast<int>(threadIdx.x), groups = kThreads / f.lanes;
  const int group = f.by_column ? thread % groups : thread / f.lanes;
  const int lane = f.by_column ? thread / groups : thread % f.lanes;
  const std::int64_t position = std::int64_t{blockIdx.x} * groups + group;
  std::int64_t base[Op::kInputs + 1] = {};
  Acc acc = Op::none();
  if (position < f.outputs) {
    f.kept.find(position, base);
    const std::int64_t first = std::int64_t{blockIdx.y} * f.share, end = first + f.share;
    acc = op.settle(fold_share(op, f, base, first, end < f.count ? end : f.count, lane));
  }
  if (!f.by_column && f.lanes <= kWarp) {
    acc = merge_lanes<Op>(acc, f.lanes);
  } else if (f.lanes > 1) {
    slots[lane * groups + group] = acc;
    for (int half = f.lanes / 2; half > 0; half /= 2) {
      __syncthreads();
      if (lane < half) {
        acc = Op::merge(acc, slots[(lane + half) * groups + group]);
        slots[lane * groups + group] = acc;
      }
    }
  }
  if (lane != 0 || position >= f.outputs) return;
  if (gridDim.y == 1) {
    op.store(base[Op::kInputs], acc);
  } else {
    partial[base[Op::kInputs] * gridDim.y + blockIdx.y] = acc;
  }
}

/// A warp for each output merges its shares.
template <class Op>
__global__ void __launch_bounds__(kThreads)
    fold_shares(Op op, const typename Op::Acc* partial, std::int64_t outputs, int shares) {
  const std::int64_t output = thread_in_grid() / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  typename Op::Acc acc = Op::none();
  if (output < outputs) {
    for (int i = lane; i < shares; i += kWarp) acc = Op::merge(acc, partial[output * shares + i]);
  }
  acc = merge_lanes<Op>(acc, kWarp);
  if (output < outputs && lane == 0) op.store(output, acc);
}

/// An input of a fold: its strides are those of the axes of the loop, 0 where it is broadcast.
struct FoldInput {
  Memory memory;
  Dims strides;
};
inline FoldInput fold_input(const Tensor& t) { return {memory_of(t), dims(t.strides())}; }

/// The axes that stay and those that go, merged where memory allows; operands are four inputs, and the output of what
/// stays.
struct FoldAxes {
  Loop kept, reduced;
  std::int64_t outputs = 0, count = 0;
};
FoldAxes split_axes(IntArrayRef sizes, unsigned mask, const FoldInput* inputs, int count);

/// How the threads of a block are dealt out, and how many blocks share an output.
struct FoldShape {
  bool by_column = false;
  int lanes = 1;
  std::int64_t share = 0;
  int shares = 1;
};
FoldShape shape_fold(const FoldAxes& axes, int multiprocessors);

/// Do the elements of each output lie in runs of whole batches, each of which begins at a multiple of the batch?
bool folds_runs(const FoldAxes& axes, const FoldInput* inputs, int count);

/// Folds the axes of the mask. Outputs are numbered in row-major order of the axes that stay.
template <class Op>
void fold(Device device, const Op& op, IntArrayRef sizes, unsigned mask,
          const std::array<FoldInput, Op::kInputs>& inputs) {
  constexpr int kIn = Op::kInputs;
  using Acc = typename Op::Acc;
  Gpu& g = gpu(device);
  const FoldAxes axes = split_axes(sizes, mask, inputs.data(), kIn);
  if (axes.outputs == 0) return;
  const FoldShape shape = shape_fold(axes, g.multiprocessors);
  Folding<kIn> f;
  std::array<std::size_t, kIn + 1> places;
  for (std::size_t k = 0; k < kIn; ++k) {
    f.in[k] = inputs[k].memory;
    f.alike = f.alike && f.in[k].dtype == f.in[0].dtype;
    places[k] = k;
  }
  places[kIn] = 4;
  f.kept = {axes.kept, places};
  std::array<std::size_t, kIn> without_output;
  std::copy_n(places.begin(), kIn, without_output.begin());
  f.reduced = {axes.reduced, without_output};
  f.outputs = axes.outputs;
  f.count = axes.count;
  f.share = shape.share;
  f.lanes = shape.lanes;
  f.by_column = shape.by_column;
  f.in_runs = !shape.by_column && folds_runs(axes, inputs.data(), kIn);

  Tensor memory;
  Acc* partial = nullptr;
  if (shape.shares > 1) {
    const auto bytes = axes.outputs * shape.shares * static_cast<std::int64_t>(sizeof(Acc));
    memory = empty({bytes}, TensorOptions(kUInt8).device(device));
    partial = static_cast<Acc*>(memory.data_ptr());
  }
  dim3 blocks = grid(ceil_div(axes.outputs, kThreads / shape.lanes));
  blocks.y = static_cast<unsigned>(shape.shares);
  launch(g, &fold_elements<Op>, blocks, kThreads, op, f, partial);
  if (shape.shares > 1) {
    launch(g, &fold_shares<Op>, grid(ceil_div(axes.outputs, kThreads / kWarp)), kThreads, op, partial, axes.outputs,
           shape.shares);
  }
}

}  // namespace halftone::cuda
