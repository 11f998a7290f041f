// Elementwise formulas with other numbers for each channel of x [N, C, ...]. An `Op` has kInputs, of(channel), the
// formula of one channel, and begin(), which the threads of the first block call before anything else.
#pragma once

#include <bit>

#include "kernels/cuda/team.cuh"

namespace halftone::cuda {

/// How x lies in memory: [outer, channels, run], with a run of 1 for channels-last.
struct ChannelShape {
  std::int64_t outer, channels, run;

  explicit ChannelShape(const Tensor& x) : outer(x.size(0)), channels(x.size(1)), run(1) {
    const std::int64_t rest = channels == 0 || outer == 0 ? 0 : x.numel() / (channels * outer);
    x.is_contiguous() ? run = rest : outer *= rest;
  }
  std::int64_t count() const { return outer * run; }  // elements of a channel
  std::int64_t row() const { return run == 1 ? channels : run; }
  std::int64_t rows() const { return run == 1 ? outer : outer * channels; }
};

/// A matrix for each input and the output; a row is a run of one channel, or has an element of every channel.
template <int Operands> struct ChannelRows {
  RowMemory memory[Operands];
  std::int64_t rows, width;
  std::int64_t channels;
  int lanes;   // threads side by side along a row: a power of two
  bool alike;  // all inputs are of one dtype
};

/// Where a pack begins.
struct PackPlace {
  std::int64_t row, at;
};

/// out = f(k, in...), element by element of a pack.
template <class C, int kIn, class Formula>
__device__ void finish_pack(const ChannelRows<kIn + 1>& job, PackPlace place, const C (&in)[kIn][kPackSize<C>],
                            const Formula& formula) {
  C out[kPackSize<C>];
#pragma unroll
  for (int k = 0; k < kPackSize<C>; ++k) {
    if constexpr (kIn == 1) {
      out[k] = formula(k, in[0][k]);
    } else {
      out[k] = formula(k, in[0][k], in[1][k]);
    }
  }
  job.memory[kIn].from(place.row * job.width).store(place.at, 1, job.width, out);
}

/// The packs at place(first), place(first + step), ... of inputs of type T. All loads come before the first conversion,
/// and two packs of 2-byte elements are on their way at once, which are as many bytes as one of floats.
template <class C, class T, int kIn, class Place, class Formula>
__device__ void apply_typed(const ChannelRows<kIn + 1>& job, std::int64_t first, std::int64_t end, std::int64_t step,
                            const Place& place, const Formula& formula) {
  constexpr int kSize = kPackSize<C>, kAhead = sizeof(T) == 2 ? 2 : 1;
#pragma unroll 1
  for (std::int64_t i = first; i < end; i += kAhead * step) {
    Pack<T, kSize> raw[kAhead][kIn];
#pragma unroll
    for (int p = 0; p < kAhead; ++p) {
      if (i + p * step >= end) break;
      const PackPlace at = place(i + p * step);
#pragma unroll
      for (int k = 0; k < kIn; ++k) {
        raw[p][k] = job.memory[k].from(at.row * job.width).template pack<T, kSize>(at.at, 1, job.width);
      }
    }
#pragma unroll
    for (int p = 0; p < kAhead; ++p) {
      if (i + p * step >= end) break;
      C in[kIn][kSize];
#pragma unroll
      for (int k = 0; k < kIn; ++k) widen_pack(raw[p][k], in[k]);
      finish_pack<C, kIn>(job, place(i + p * step), in, formula);
    }
  }
}

/// Pack by pack, whatever the inputs' dtypes.
template <class C, int kIn, class Place, class Formula>
__device__ void apply_one_by_one(const ChannelRows<kIn + 1>& job, std::int64_t first, std::int64_t end,
                                 std::int64_t step, const Place& place, const Formula& formula) {
  for (std::int64_t i = first; i < end; i += step) {
    const PackPlace at = place(i);
    C in[kIn][kPackSize<C>];
#pragma unroll
    for (int k = 0; k < kIn; ++k) {
      job.memory[k].from(at.row * job.width).template load<C, 1, kPackSize<C>>(at.at, 0, 1, job.width, in[k]);
    }
    finish_pack<C, kIn>(job, at, in, formula);
  }
}

template <class C, int kIn, class Place, class Formula>
__device__ void apply_to_packs(const ChannelRows<kIn + 1>& job, std::int64_t first, std::int64_t end, std::int64_t step,
                               const Place& place, const Formula& formula) {
  if (!job.alike) return apply_one_by_one<C, kIn>(job, first, end, step, place, formula);
  visit_as<C>(job.memory[0].dtype,
              [&]<class T>(Type<T>) { apply_typed<C, T, kIn>(job, first, end, step, place, formula); });
}

/// Rows of one channel: `lanes` threads take a row, several rows a block.
template <class C, class Op>
__global__ void __launch_bounds__(kThreads) channel_runs(Op op, ChannelRows<Op::kInputs + 1> job) {
  if (blockIdx.x == 0 && blockIdx.y == 0) op.begin();
  const std::int64_t row = thread_in_grid() / job.lanes;
  if (row >= job.rows) return;
  const auto formula = op.template of<C>(row % job.channels);
  const std::int64_t first = (std::int64_t{blockIdx.y} * job.lanes + threadIdx.x % job.lanes) * kPackSize<C>;
  const std::int64_t step = std::int64_t{gridDim.y} * job.lanes * kPackSize<C>;
  apply_to_packs<C, Op::kInputs>(
      job, first, job.width, step,
      [row](std::int64_t at) {
        return PackPlace{row, at};
      },
      [&](int, auto... in) { return formula(in...); });
}

/// Rows of all channels: a thread stays with its channels, whose numbers it reads once. They fill its registers: a loop
/// for each dtype, with two packs on their way, spills.
template <class C, class Op>
__global__ void __launch_bounds__(kThreads, 2) channel_columns(Op op, ChannelRows<Op::kInputs + 1> job) {
  constexpr int kSize = kPackSize<C>;
  if (blockIdx.x == 0 && blockIdx.y == 0) op.begin();
  const int rows_of_block = kThreads / job.lanes;
  const std::int64_t at = (std::int64_t{blockIdx.x} * job.lanes + threadIdx.x % job.lanes) * kSize;
  if (at >= job.width) return;
  decltype(op.template of<C>(0)) formulas[kSize];
#pragma unroll
  for (int k = 0; k < kSize; ++k) formulas[k] = op.template of<C>(at + k < job.width ? at + k : at);
  const std::int64_t first = std::int64_t{blockIdx.y} * rows_of_block + threadIdx.x / job.lanes;
  apply_one_by_one<C, Op::kInputs>(
      job, first, job.rows, std::int64_t{gridDim.y} * rows_of_block,
      [at](std::int64_t row) {
        return PackPlace{row, at};
      },
      [&](int k, auto... in) { return formulas[k](in...); });
}

/// The output is the last of the tensors, which all lie in memory as `shape` says.
template <class C, class Op, std::size_t Operands>
void run_channels(const ChannelShape& shape, const Op& op, const std::array<const Tensor*, Operands>& tensors) {
  constexpr std::int64_t kSize = kPackSize<C>, kMostBlocks = 65535;
  Gpu& g = gpu(*tensors[0]);
  ChannelRows<Op::kInputs + 1> job{};
  job.alike = std::all_of(tensors.begin(), tensors.end() - 1,
                          [&](const Tensor* t) { return t->dtype() == tensors[0]->dtype(); });
  for (std::size_t k = 0; k < Operands; ++k) {
    const Tensor& t = *tensors[k];
    RowMemory& m = job.memory[k];
    m.data = static_cast<char*>(t.data_ptr());
    m.dtype = t.dtype();
    m.in_packs = reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0 &&
                 shape.row() * static_cast<std::int64_t>(t.element_size()) % 16 == 0;
  }
  job.rows = shape.rows();
  job.width = shape.row();
  job.channels = shape.channels;
  const std::int64_t packs = ceil_div(job.width, kSize);
  const auto lanes_for = [](std::int64_t n) {
    return std::min(std::bit_ceil(static_cast<std::uint64_t>(n)), static_cast<std::uint64_t>(kThreads));
  };
  if (shape.run == 1) {
    job.lanes = static_cast<int>(std::min<std::uint64_t>(lanes_for(packs), kWarp));
    constexpr std::int64_t kRowsOfThread = 4, kBlocksPerMultiprocessor = 8;
    dim3 blocks = grid(ceil_div(packs, job.lanes));
    const std::int64_t enough = std::max<std::int64_t>(g.multiprocessors * kBlocksPerMultiprocessor / blocks.x, 1);
    const std::int64_t all = ceil_div(job.rows, kThreads / job.lanes * kRowsOfThread);
    blocks.y = static_cast<unsigned>(std::min({enough, all, kMostBlocks}));
    return launch(g, &channel_columns<C, Op>, blocks, kThreads, op, job);
  }
  // A thread takes some packs, so that it does not look up its channel for each; but neighbours read side by side.
  constexpr std::int64_t kPacksOfThread = 4;
  job.lanes = static_cast<int>(
      std::max(lanes_for(ceil_div(packs, kPacksOfThread)), std::min<std::uint64_t>(lanes_for(packs), 8)));
  dim3 blocks = grid(ceil_div(job.rows, kThreads / job.lanes));
  blocks.y = static_cast<unsigned>(std::min(ceil_div(packs, job.lanes * kPacksOfThread), kMostBlocks));
  launch(g, &channel_runs<C, Op>, blocks, kThreads, op, job);
}

}  // namespace halftone::cuda
