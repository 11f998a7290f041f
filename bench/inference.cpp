// Images a second through a net converted as a whole, in evaluation mode.
#include "bench/common.h"
#include "bench/nets.h"

namespace {

using namespace bench;

std::shared_ptr<PythonExampleCnn> make_net(Dtype dtype) {
  manual_seed(0);
  auto net = std::make_shared<PythonExampleCnn>();
  net->eval();
  net->to(dtype);
  return net;
}

void measure(const Tensor& images, Dtype dtype, int threads) {
  const NoGradGuard no_grad;
  const auto net = make_net(dtype);
  const Tensor x = images.to(dtype), expected = make_net(kFloat32)->forward(images);
  check((net->forward(x).toFloat() - expected).abs().max().item<float>() < 0.1f, "wrong results in ", dtype);
  const auto count = images.size(0);
  const double seconds = seconds_a_call([&] { net->forward(x); });
  emit("inference/batch_" + std::to_string(count), static_cast<double>(count) / seconds, "images/s", dtype, threads);
}

}  // namespace

int main(int argc, char** argv) {
  const Tensor images = test_images(64).data;
  for (const int threads : bench::thread_counts(argc, argv)) {
    set_num_threads(threads);
    for (const std::int64_t batch : {1, 64})
      for (const Dtype dtype : {kFloat32, kBFloat16, kFloat16}) measure(images.slice(0, 0, batch), dtype, threads);
  }
}
