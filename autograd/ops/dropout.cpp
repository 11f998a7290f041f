// Dropout. The mask is a pure function of a seed that the default generator gives, so backward draws it again instead
// of keeping it.
#include <mutex>

#include "autograd/ops.h"
#include "autograd/ops/plain.h"
#include "core/random.h"

namespace halftone {
namespace {

// Its own gradient.
struct DropoutRule {
  DropoutMask mask;

  Tensor forward(const Tensor& x) const {
    Tensor y = empty_like(x);
    backend(x).dropout(mask, x, y);
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {apply(op("dropout"), DropoutRule{mask}, std::array{g})};
  }
};

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
    mask.seed = generator.random64();
  }
  return apply(info, DropoutRule{mask}, std::array{x});
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
