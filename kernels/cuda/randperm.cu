// Shuffles of 0 .. n - 1 in one launch and without memory of their own.
//
// Up to 2,048 numbers: every number gets a random key of 64 bits, and its place is the rank of its key, which each
// thread counts. All orders are equally likely, but for keys that meet (once in 2^42 such shuffles).
//
// More of them: a Feistel network, whose rounds take their functions from Philox, is a bijection of the numbers below
// the next power of 4; a number outside of the range goes through it again until it is inside (cycle walking), at most
// four times on average. Eight rounds with functions as good as random ones are far beyond what tells such a bijection
// from a random one (Luby and Rackoff, 1988: four); on a handful of numbers it would be noticeably uneven, hence the
// ranks. In both cases a key of 64 bits reaches 2^64 of the n! orders, as a generator with that seed would.
#include <bit>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/draws.cuh"
#include "kernels/cuda/elements.cuh"

namespace halftone {

using namespace cuda;

namespace {

constexpr int kMostRanked = 2048, kRounds = 8;

/// y[rank of number i's key] = i.
__global__ void __launch_bounds__(kThreads) rank_keys(DrawStream stream, Memory y, std::int64_t stride, int n) {
  __shared__ std::uint64_t keys[kMostRanked];
  for (int pair = static_cast<int>(threadIdx.x); 2 * pair < n; pair += kThreads) {
    const PhiloxWords w = stream.words(static_cast<std::uint64_t>(pair));
    keys[2 * pair] = std::uint64_t{w.word[0]} << 32 | w.word[1];
    if (2 * pair + 1 < n) keys[2 * pair + 1] = std::uint64_t{w.word[2]} << 32 | w.word[3];
  }
  __syncthreads();
  const auto i = static_cast<int>(thread_in_grid());
  if (i >= n) return;
  const std::uint64_t own = keys[i];
  int rank = 0;
  for (int k = 0; k < n; ++k) rank += keys[k] < own || (keys[k] == own && k < i) ? 1 : 0;
  y.store(rank * stride, static_cast<std::int64_t>(i));
}

/// A bijection of the numbers of 2 * half_bits bits.
__device__ std::uint64_t scramble(const DrawStream& stream, int half_bits, std::uint64_t x) {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = x >> half_bits, right = x & mask;
#pragma unroll 1
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t word = stream.words(right << 3 | static_cast<unsigned>(round)).word[0];
    const std::uint64_t mixed = left ^ (word & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits | right;
}

__global__ void __launch_bounds__(kThreads)
    walk_cycles(DrawStream stream, int half_bits, Memory y, std::int64_t stride, std::int64_t n) {
  const std::int64_t i = thread_in_grid();
  if (i >= n) return;
  auto x = static_cast<std::uint64_t>(i);
  do {
    x = scramble(stream, half_bits, x);
  } while (x >= static_cast<std::uint64_t>(n));
  y.store(i * stride, static_cast<std::int64_t>(x));
}

}  // namespace

void CudaBackend::randperm(Tensor& y, Generator& generator) {
  const std::int64_t n = y.numel();
  if (n == 0) return;
  Gpu& g = gpu(y);
  const DrawStream stream = new_stream(generator, g);
  const dim3 blocks = grid(ceil_div(n, kThreads));
  if (n <= kMostRanked) {
    return launch(g, &rank_keys, blocks, kThreads, stream, memory_of(y), y.stride(0), n);
  }
  const int bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n - 1)));
  const int half_bits = (bits + 1) / 2;
  launch(g, &walk_cycles, blocks, kThreads, stream, half_bits, memory_of(y), y.stride(0), n);
}

}  // namespace halftone
