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

/// Tensors, one from each device, and where on one of those their sum goes.
struct Sum {
  TensorList of;
  Tensor sum;
};

/// Adds up every `of`, all of them on the same devices, into its `sum`; float32 or float64, added in this precision.
void reduce(std::span<const Sum> sums);
/// The sum of tensors, one from each device, into sums[i] on the device of tensors[i].
void all_reduce(TensorList tensors, std::span<const Tensor> sums);

/// Copies tensors[i] into copies[i], which are all on one of the `devices`; the tensors are on others.
void gather(TensorList tensors, std::span<const Tensor> copies, std::span<const Device> devices);

}  // namespace halftone::cuda::nccl
