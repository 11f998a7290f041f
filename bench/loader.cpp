// Images a second through the data loader: shuffled, normalized, in batches of 64. Once as the built-in MNIST set does
// it, once with a transform that sees every image alone.
#include "bench/common.h"

namespace {

using namespace bench;
using data::datasets::MNIST;
using data::transforms::Normalize;
using data::transforms::Stack;
using data::transforms::TensorLambda;

template <class Dataset> void measure(const std::string& name, const Dataset& dataset, std::size_t workers) {
  const auto loader = data::make_data_loader(dataset, data::DataLoaderOptions(64).workers(workers));
  const double seconds = seconds_a_call(
      [&] {
        std::int64_t total = 0;
        for (const auto& batch : *loader) total += batch.target.numel();
        check(total == 60000, "the loader gave ", total, " images");
      },
      0, 5);
  emit(name + "/workers_" + std::to_string(workers), 60000 / seconds, "images/s", kFloat32, 1);
}

}  // namespace

int main() {
  set_num_threads(1);
  const MNIST mnist(kMnist);
  const auto by_one = [](const Tensor& x) { return x; };
  for (const std::size_t workers : {0, 2}) {
    measure("loader", MNIST(mnist).map(Normalize<>(0.1307, 0.3081)).map(Stack<>()), workers);
    measure("loader_by_image", MNIST(mnist).map(TensorLambda<>(by_one)).map(Normalize<>(0.1307, 0.3081)).map(Stack<>()),
            workers);
  }
}
