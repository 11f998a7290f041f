// What one op on a tiny tensor costs the host when a GPU computes it: the launch and all before it. The device is
// waited for after every thousand calls only.
#include "bench/gpu.h"

namespace {

using namespace bench;

template <class F> GpuCase cost(const GpuOptions& options, const std::string& name, F f) {
  return {name, [=](double budget) {
            emit("gpu_dispatch/" + name, 1e6 * seconds_on_device(options, budget, f), "us", kFloat32, 1);
          }};
}

void measure_cached_weight(const GpuOptions& options, const Tensor& rows, const Tensor& weight, double budget) {
  const amp::autocast region(Device(options.device).type(), kFloat16);
  const Tensor low = rows.to(kFloat16);
  check(linear(low, weight).dtype() == kFloat16, "autocast did not cast");
  const std::size_t casts = amp::autocast_cache().misses;
  const double seconds = seconds_on_device(options, budget, [&] { const Tensor c = linear(low, weight); });
  check(amp::autocast_cache().misses == casts, "a cached weight was cast again");
  emit("gpu_dispatch/linear_autocast_cached", 1e6 * seconds, "us", kFloat16, 1);
}

std::vector<GpuCase> cases(const GpuOptions& options) {
  const Tensor a = rand({4}), b = rand({4}), g = ones({4}), x = rand({4}, requires_grad());
  const Tensor rows = rand({4, 8}), weight = rand({8, 8}, requires_grad());
  const auto unrecorded = [=] {
    const NoGradGuard no_grad;
    const Tensor c = a * b;
  };
  const auto both_ways = [=] { (x * b).backward(g); };
  both_ways();
  check(x.grad().allclose(b), "the gradient of x * b is not b");
  return {cost(options, "no_grad", unrecorded),
          cost(options, "grad", [=] { const Tensor c = x * b; }),
          cost(options, "forward_backward", both_ways),
          cost(options, "linear", [=] { const Tensor c = linear(rows, weight); }),
          {"linear_autocast_cached", [=](double budget) { measure_cached_weight(options, rows, weight, budget); }}};
}

}  // namespace

int main(int argc, char** argv) {
  return bench::gpu_main(argc, argv, "gpu_dispatch", "The host's cost of an op on a tiny tensor.", cases);
}
