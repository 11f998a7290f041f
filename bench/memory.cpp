// The most bytes that tensors hold at once during training steps at batch 128: parameters, gradients, optimizer state,
// activations. In float32, and under autocast.
#include <cmath>

#include "bench/common.h"
#include "bench/nets.h"

namespace {

using namespace bench;

std::int64_t peak_of_steps(Dtype dtype, const data::Example<>& batch) {
  const std::int64_t before = memory_stats(kCPU).current;
  reset_peak_memory_stats(kCPU);
  PythonExampleCnn net;
  optim::SGD optimizer(net.parameters(), optim::SGDOptions(0.01).momentum(0.5));
  for (int step = 0; step < 3; ++step) {
    optimizer.zero_grad();
    Tensor loss;
    {
      const amp::autocast region(kCPU, dtype, dtype != kFloat32);
      loss = nll_loss(net.forward(batch.data), batch.target);
    }
    loss.backward();
    optimizer.step();
    check(std::isfinite(loss.item<double>()), "the loss is not finite");
  }
  return memory_stats(kCPU).peak - before;
}

}  // namespace

int main() {
  const data::Example<> batch = test_images(128);
  for (const Dtype dtype : {kFloat32, kBFloat16, kFloat16})
    emit("peak_memory/train_step", static_cast<double>(peak_of_steps(dtype, batch)) / (1 << 20), "MiB", dtype, 2);
}
