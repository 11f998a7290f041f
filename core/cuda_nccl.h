// What several GPUs of one process do together, by NCCL: every one of them works at once, over the fastest links there
// are, where copies from one to another would take turns. Nothing here waits for a device.
//
// Tensors that belong together have the same sizes, dtype and strides, and their memory is dense.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"

namespace halftone::cuda::nccl {

/// 10000 major + 100 minor + patch, as torch.cuda.nccl.version() in one number; 0 in a build without NCCL.
int version();

/// Whether NCCL moves data between these devices: they are two or more different GPUs, none of which captures a graph,
/// the build has NCCL, set_allow_nccl() left it on, and it could be started there; if it could not, a warning has said
/// why.
bool serves(std::span<const Device> devices);

/// A tensor that goes to several devices.
struct Spread {
  Tensor from;
  std::vector<Tensor> to;
};

/// Copies each `from` into its `to`s. They are on all of the `devices`, one on each.
void broadcast(std::span<const Spread> spreads, std::span<const Device> devices);

/// The sum of tensors, one from each device, into `sum` on one of those; float32 or float64, added in this precision.
void reduce(TensorList tensors, const Tensor& sum);
/// The same sum into sums[i] on the device of tensors[i].
void all_reduce(TensorList tensors, std::span<const Tensor> sums);

/// Copies tensors[i] into copies[i]. All copies are on one of the tensors' devices, whose own tensor stays where it is.
void gather(TensorList tensors, std::span<const Tensor> copies);

}  // namespace halftone::cuda::nccl
