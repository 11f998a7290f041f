#include "kernels/cuda/fold.cuh"

#include <algorithm>
#include <bit>

namespace halftone::cuda {

FoldAxes split_axes(IntArrayRef sizes, unsigned mask, const FoldInput* inputs, int count) {
  Dims kept_sizes, reduced_sizes;
  std::array<Dims, 4> kept, reduced;
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    const bool goes = (mask >> axis & 1u) != 0;
    (goes ? reduced_sizes : kept_sizes).push_back(sizes[axis]);
    for (int k = 0; k < 4; ++k) {  // places without an input repeat the last one
      const std::int64_t stride = inputs[std::min(k, count - 1)].strides[axis];
      (goes ? reduced : kept)[static_cast<std::size_t>(k)].push_back(stride);
    }
  }
  FoldAxes axes;
  axes.outputs = count_elements(kept_sizes);
  axes.count = count_elements(reduced_sizes);
  axes.kept = coalesce(kept_sizes, {kept[0], kept[1], kept[2], kept[3], contiguous_strides(kept_sizes)});
  axes.reduced = coalesce(reduced_sizes, {reduced[0], reduced[1], reduced[2], reduced[3]});
  return axes;
}

FoldShape shape_fold(const FoldAxes& axes, int multiprocessors) {
  constexpr std::int64_t kBlocksPerMultiprocessor = 8, kMostShares = 2048, kBatchesOfThread = 4, kLongRow = 1024;
  const auto power_of_two = [](std::int64_t n) {
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(n, 1))));
  };
  FoldShape shape;
  const std::int64_t step = axes.kept.strides[0].back(), batches = ceil_div(axes.count, kBatch);
  shape.by_column = axes.outputs > 1 && step != 0 && step < axes.reduced.strides[0].back();
  std::int64_t most = axes.count > kLongRow ? kThreads : kWarp;
  if (shape.by_column) most = kThreads / std::min<std::int64_t>(power_of_two(axes.kept.sizes.back()), kWarp);
  const std::int64_t lanes = std::min(power_of_two(batches), most);
  shape.lanes = static_cast<int>(lanes);
  // Enough blocks to fill the device, but none with less than a few batches for each of its threads.
  const std::int64_t blocks = ceil_div(axes.outputs, kThreads / lanes);
  const std::int64_t wanted = multiprocessors * kBlocksPerMultiprocessor / blocks;
  const std::int64_t worthwhile = std::min(batches / (lanes * kBatchesOfThread), kMostShares);
  const std::int64_t shares = std::max<std::int64_t>(std::min(wanted, worthwhile), 1);
  shape.share = ceil_div(ceil_div(axes.count, shares), lanes * kBatch) * lanes * kBatch;
  shape.shares =
      static_cast<int>(std::max<std::int64_t>(ceil_div(axes.count, std::max<std::int64_t>(shape.share, 1)), 1));
  return shape;
}

bool folds_runs(const FoldAxes& axes, const FoldInput* inputs, int count) {
  const std::size_t last = axes.reduced.sizes.size() - 1;
  if (last > 0 && axes.reduced.sizes[last] % kBatch != 0) return false;
  const auto is_aligned = [](std::int64_t stride) { return stride % kBatch == 0; };
  for (std::size_t k = 0; k < static_cast<std::size_t>(count); ++k) {
    const Dims &kept = axes.kept.strides[k], &reduced = axes.reduced.strides[k];
    if (reduced[last] != 1 || reinterpret_cast<std::uintptr_t>(inputs[k].memory.data) % 16 != 0) return false;
    if (!std::all_of(kept.begin(), kept.end(), is_aligned)) return false;
    if (!std::all_of(reduced.begin(), reduced.begin() + static_cast<std::ptrdiff_t>(last), is_aligned)) return false;
  }
  return true;
}

}  // namespace halftone::cuda
