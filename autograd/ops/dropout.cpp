// Dropout. The mask is a pure function of a seed that the default generator gives, so backward draws it again instead
// of keeping it.
#include <algorithm>
#include <mutex>

#include "autograd/ops.h"
#include "autograd/ops/plain.h"
#include "core/cuda_graph.h"
#include "core/random.h"

namespace halftone {
namespace {

// Its own gradient.
struct DropoutRule {
  DropoutMask mask;
  std::uint64_t capture = 0;  // of the graph whose replays draw the mask, a new one each

  Tensor forward(const Tensor& x) const {
    Tensor y = empty_like(x);
    backend(x).dropout(mask, x, y);
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    check(capture == cuda::current_capture(g.device()),
          "dropout: its forward and its backward must be captured in one cuda::Graph, or both not: every replay draws "
          "another mask");
    return {apply(op("dropout"), DropoutRule{mask, capture}, std::array{g})};
  }
};

/// Devices that were seeded alike drop different elements: else replicas on them would have one mask for all.
std::uint64_t spread(Device device) {
  const auto index = static_cast<std::uint64_t>(std::max<int>(canonical(device).index(), 0));
  return index * 0x9E3779B97F4A7C15;
}

Tensor drop(const Tensor& x, double p, bool train, std::int64_t group) {
  const OpInfo& info = op("dropout");
  check<ValueError>(p >= 0 && p <= 1, info.name, " probability has to be between 0 and 1, but got ", p);
  if (!train || p == 0 || x.numel() == 0) return x;
  check_floating(info, x);
  DropoutMask mask;
  mask.p = p;
  mask.group = group;
  Generator& generator = default_generator(x.device());
  {
    const std::scoped_lock lock(generator.mutex());
    mask.seed = generator.random64() + spread(x.device());
  }
  return apply(info, DropoutRule{mask, cuda::current_capture(x.device())}, std::array{x});
}

}  // namespace

Tensor dropout(const Tensor& x, double p, bool train) { return drop(x, p, train, 1); }

Tensor feature_dropout(const Tensor& x, double p, bool train) {
  check<ValueError>(x.dim() >= 2, "feature_dropout: expected x of at least 2 dimensions [N, C, ...], got ",
                    describe(x));
  const std::int64_t channels = x.size(0) * x.size(1);
  return drop(x, p, train, channels == 0 ? 1 : x.numel() / channels);
}

}  // namespace halftone
