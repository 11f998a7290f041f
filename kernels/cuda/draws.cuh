// Where kernels get random words from. A word is a function of the call's key and the element's place alone, so numbers
// depend neither on the grid nor on the device.
#pragma once

#include <mutex>

#include "core/philox.h"
#include "core/random.h"
#include "kernels/cuda/launch.cuh"

namespace halftone::cuda {

/// Philox under a key that the generator gave when the work was queued. A captured graph draws from another stream of
/// the same key each time it runs: the host is not asked again.
struct DrawStream {
  std::uint64_t key;
  const std::uint64_t* replays;  // null outside of graphs

  __device__ PhiloxWords words(std::uint64_t counter, std::uint64_t stream = 0) const {
    return philox(key, counter, stream + (replays ? *replays : 0));
  }
};

inline DrawStream new_stream(Generator& generator, const Gpu& g) {
  const std::scoped_lock lock(generator.mutex());
  return {generator.random64(), g.replays};
}

}  // namespace halftone::cuda
