// Seconds until the small net of examples/mnist has 99 % of the test images right, reading the files included.
#include <cmath>

#include "bench/common.h"
#include "bench/nets.h"

namespace {

using namespace bench;
using data::datasets::MNIST;

constexpr std::int64_t kEpochs = 3, kBatch = 128;
constexpr double kRate = 0.004;

auto prepared(MNIST::Mode mode) {
  return MNIST(kMnist, mode).map(data::transforms::Normalize<>(0.1307, 0.3081)).map(data::transforms::Stack<>());
}

template <class Loader> double accuracy(Net& net, Loader& loader) {
  const NoGradGuard no_grad;
  std::int64_t right = 0;
  net.eval();
  for (const auto& batch : loader)
    right += net.forward(batch.data).argmax(1).eq(batch.target).sum().template item<std::int64_t>();
  net.train();
  return static_cast<double>(right) / 10000;
}

double seconds_to_99(Dtype dtype) {
  const Stopwatch watch;
  manual_seed(0);
  const auto loader =
      data::make_data_loader(prepared(MNIST::Mode::kTrain), data::DataLoaderOptions(kBatch).drop_last(true));
  const auto tests = data::make_data_loader<data::samplers::SequentialSampler>(prepared(MNIST::Mode::kTest), 500);
  ExampleCnn net;
  optim::AdamW optimizer(net.parameters(), optim::AdamWOptions(kRate));
  optim::OneCycleLR scheduler(optimizer, kRate, kEpochs * (60000 / kBatch));

  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    for (const auto& batch : *loader) {
      optimizer.zero_grad();
      Tensor loss;
      {
        const amp::autocast region(kCPU, dtype, dtype != kFloat32);
        loss = cross_entropy_loss(net.forward(batch.data), batch.target);
      }
      loss.backward();
      optimizer.step();
      scheduler.step();
    }
    const amp::autocast region(kCPU, dtype, dtype != kFloat32);
    if (accuracy(net, *tests) >= 0.99) return watch.seconds();
  }
  return std::nan("");
}

}  // namespace

int main() {
  set_num_threads(2);
  for (const Dtype dtype : {kFloat32, kBFloat16}) {
    const double seconds = seconds_to_99(dtype);
    check(!std::isnan(seconds), "99 % were not reached in ", dtype);
    emit("mnist_to_99", seconds, "s", dtype, 2);
  }
}
