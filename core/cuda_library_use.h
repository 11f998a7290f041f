// Who computed products and convolutions on GPUs: NVIDIA's libraries, or the slow kernels that stand in where these
// have no algorithm. For tests and benchmarks: nothing in a result tells the two apart.
#pragma once

#include <cstdint>

namespace halftone::cuda {

/// How often each way was taken, on all devices and by all threads. What a graph replays counts once, when it is
/// captured; integers count nowhere, as the libraries are not asked.
struct LibraryUse {
  std::uint64_t library_products = 0;          // by cuBLASLt
  std::uint64_t simple_products = 0;           // by the stand-in
  std::uint64_t library_convolutions = 0;      // by cuDNN, in the order of memory of the images; gradients count too
  std::uint64_t other_order_convolutions = 0;  // by cuDNN, after copies to the other order
  std::uint64_t direct_convolutions = 0;       // by the stand-in
};
LibraryUse library_use();
void reset_library_use();

/// For the backend: one more of these, `count_use(&LibraryUse::simple_products)`.
void count_use(std::uint64_t LibraryUse::*way);

}  // namespace halftone::cuda
