// Tensors on the move between devices, differentiably: what scatters in forward gathers in backward, what is broadcast
// is summed. Every function records one node for all devices. PyTorch has them in torch.nn.parallel.comm.
#pragma once

#include <span>
#include <vector>

#include "autograd/node.h"
#include "core/cuda_nccl.h"
#include "core/tensor.h"

namespace halftone::nn::parallel {

/// How a batch is divided when it does not come out even: Chunks cuts pieces of ceil(n / devices), so that the last may
/// be short or missing (10 over 4: 3, 3, 3, 1; 5 over 4: 2, 2, 1); Balanced cuts pieces that differ by at most one (5
/// over 4: 2, 1, 1, 1).
enum class Split { Chunks, Balanced };

/// The lengths of the pieces of n rows for at most `devices` devices. No rows make `devices` empty pieces.
std::vector<std::int64_t> share_lengths(std::int64_t n, std::size_t devices, Split split);

namespace comm {

using Devices = std::span<const Device>;

/// x in pieces of the given lengths along dim, the i-th on devices[i]; x may be on any device. A piece for x's own
/// device shares its memory. Backward joins the gradients on x's device.
std::vector<Tensor> scatter(const Tensor& x, IntArrayRef lengths, Devices devices, std::int64_t dim);

/// The tensors joined along dim, on `device`; their dtypes are promoted. Backward sends each its part.
Tensor gather(TensorList tensors, Device device, std::int64_t dim);

/// x on every device; on its own it shares x's memory. Backward sums the gradients on x's device, those of 16 bits in
/// float32.
std::vector<Tensor> broadcast(const Tensor& x, Devices devices);

/// The node of a broadcast of tensors of one device, for copies that exist already: the k-th copy of tensors[i] has the
/// edge {node, i * devices.size() + k}. The copies are of another dtype if one is given. Null without tensors.
std::shared_ptr<Node> broadcast_node(TensorList tensors, Devices devices, Dtype dtype = Dtype::Undefined);

/// The sum of tensors of one shape, on `device`. They travel in their own dtype; those of 16 bits are added in float32,
/// and so is the result. Undefined ones count as zero.
Tensor reduce_add(TensorList tensors, Device device);
/// The sum of each list, all of them together where NCCL serves the devices.
std::vector<Tensor> reduce_add(std::span<const TensorList> lists, Device device);

/// One tensor from each device and where its gradient goes (nowhere is allowed); each device gets the sum of all.
/// Backward does the same with the gradients.
std::vector<Tensor> all_reduce(TensorList tensors, std::vector<Edge> edges);

/// Copies the elements of `from` into the memory of `to`; same sizes and dtype, any devices, no history.
void copy_elements(const Tensor& from, const Tensor& to);
/// The same for tensors that go from one of `devices` to several of them. What goes to all of them goes together, where
/// NCCL serves them.
using cuda::nccl::Spread;
void copy_elements(std::span<const Spread> spreads, Devices devices);

}  // namespace comm
}  // namespace halftone::nn::parallel
