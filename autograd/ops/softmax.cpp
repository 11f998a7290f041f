// softmax and log_softmax: one rule, whose gradient is an op with a rule of its own.
#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

Tensor softmax_grad(const Tensor& g, const Tensor& y, std::int64_t dim, bool log);

struct SoftmaxGradRule {
  std::int64_t dim;
  bool log;
  Saved g, y;
  auto saved() { return std::tie(g, y); }

  Tensor forward(const Tensor& gradient, const Tensor& result) {
    g = gradient;
    y = result;
    Tensor dx = empty_like(result);
    backend(dx).softmax_grad(gradient, result, dim, log, dx);
    return dx;
  }

  // softmax: dx = y (g - sum(g y)). log_softmax: dx = g - e^y sum(g).
  std::array<Tensor, 2> backward(const Tensor& h, Wants want) const {
    return log ? backward_of_log(h, want) : backward_of_softmax(h, want);
  }
  std::array<Tensor, 2> backward_of_softmax(const Tensor& h, Wants want) const {
    const Tensor p = *y, gradient = *g;
    Tensor dy;
    if (want[1]) dy = h * (gradient - (gradient * p).sum(dim, true)) - gradient * (h * p).sum(dim, true);
    return {want[0] ? softmax_grad(h, p, dim, false) : Tensor{}, dy};
  }
  std::array<Tensor, 2> backward_of_log(const Tensor& h, Wants want) const {
    const Tensor weighted = h * y->exp();
    return {want[0] ? h - weighted.sum(dim, true) : Tensor{}, want[1] ? weighted.neg() * g->sum(dim, true) : Tensor{}};
  }
};

Tensor softmax_grad(const Tensor& g, const Tensor& y, std::int64_t dim, bool log) {
  return apply(op("softmax_grad"), SoftmaxGradRule{dim, log, {}, {}}, std::array{g, y});
}

struct SoftmaxRule {
  const OpInfo* info;
  std::int64_t dim;
  bool log;
  Dtype dtype;
  Saved y;
  auto saved() { return std::tie(y); }

  Tensor forward(const Tensor& x) {
    check_floating(*info, x);
    Tensor out = empty_like(x, dtype);
    backend(x).softmax(x, dim, log, out);
    y = out;
    return out;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {softmax_grad(g, *y, dim, log)}; }
};

Tensor softmax_along(const OpInfo& info, bool log, const Tensor& x, std::int64_t given, optional<Dtype> dtype) {
  const std::int64_t dim = wrap_dim(given, x.dim());
  if (x.dim() == 0) return softmax_along(info, log, x.unsqueeze(0), 0, dtype).squeeze(0);
  const Dtype wanted = wanted_dtype(info, x, dtype).value_or(x.dtype());
  const bool widens = x.is_floating_point() && element_size(wanted) >= x.element_size();
  return apply(info, SoftmaxRule{&info, dim, log, wanted, {}}, std::array{widens ? x : x.to(wanted)});
}

}  // namespace

Tensor softmax(const Tensor& x, std::int64_t dim, optional<Dtype> dtype) {
  return softmax_along(op("softmax"), false, x, dim, dtype);
}
Tensor log_softmax(const Tensor& x, std::int64_t dim, optional<Dtype> dtype) {
  return softmax_along(op("log_softmax"), true, x, dim, dtype);
}

}  // namespace halftone
