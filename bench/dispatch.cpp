// The cost of one op on tiny tensors, where nearly all of it is ours: no recording, recording, forward and backward,
// and a product whose weight autocast has cast before.
#include "bench/common.h"

namespace {

using namespace bench;

template <class F> void measure(const std::string& name, Dtype dtype, F f) {
  emit("dispatch/" + name, 1e6 * seconds_a_call(f), "us", dtype, 1);
}

void pointwise() {
  const Tensor a = rand({4}), b = rand({4}), g = ones({4});
  const Tensor x = rand({4}, requires_grad());
  {
    const NoGradGuard no_grad;
    measure("no_grad", kFloat32, [&] { const Tensor c = a * b; });
  }
  measure("grad", kFloat32, [&] { const Tensor c = x * b; });
  x.mutable_grad().reset();
  (x * b).backward(g);
  check(x.grad().allclose(b), "the gradient of x * b is not b");
  measure("forward_backward", kFloat32, [&] { (x * b).backward(g); });
}

void product() {
  const Tensor rows = rand({4, 8}), weight = rand({8, 8}, requires_grad());
  measure("linear", kFloat32, [&] { const Tensor c = linear(rows, weight); });

  const amp::autocast region(kCPU, kBFloat16);
  const Tensor low = rows.to(kBFloat16);
  const Tensor first = linear(low, weight);
  check(first.dtype() == kBFloat16, "autocast did not cast");
  const std::size_t casts = amp::autocast_cache().misses;
  measure("linear_autocast_cached", kBFloat16, [&] { const Tensor c = linear(low, weight); });
  check(amp::autocast_cache().misses == casts, "a cached weight was cast again");
}

}  // namespace

int main() {
  set_num_threads(1);
  pointwise();
  product();
}
