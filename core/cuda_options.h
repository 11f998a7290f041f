// How a GPU's libraries may compute. Process-wide, and harmless where there is no GPU.
#pragma once

#include <cstddef>

namespace halftone::cuda {

/// Whether products and convolutions of float32 may round their factors to TF32 (ten bits of fraction), which tensor
/// cores multiply many times as fast; sums stay in float32. Off at first, so that float32 means float32. PyTorch has
/// two switches, `torch.backends.cuda.matmul.allow_tf32` and `torch.backends.cudnn.allow_tf32`.
bool allow_tf32();
void set_allow_tf32(bool on);

/// Whether an algorithm is chosen by timing the candidates the first time a shape is met, as
/// `torch.backends.cudnn.benchmark` does, for products too. Worth it where shapes repeat. Off at first: the libraries'
/// own guess is taken. Nothing is timed while a graph is captured, nor with set_deterministic(true).
bool benchmark();
void set_benchmark(bool on);

/// Whether algorithms are left out whose results may differ in the last bits from run to run; nothing is timed then,
/// as two measurements may choose two algorithms. Off at first.
bool deterministic();
void set_deterministic(bool on);

/// Whether NCCL moves tensors between GPUs, in a build that has it. On at first; off, GPUs copy from one to another.
bool allow_nccl();
void set_allow_nccl(bool on);

/// The most memory, in bytes, that an algorithm of a convolution may take for its intermediate results; 1 GiB at first.
std::size_t workspace_limit();
void set_workspace_limit(std::size_t bytes);

}  // namespace halftone::cuda
