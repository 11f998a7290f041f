// Same seed, same numbers: the first float32 losses of training on MNIST are PyTorch's.
#include <functional>
#include <memory>

#include "bench/nets.h"
#include "halftone.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;

namespace {

constexpr std::uint64_t kSeed = 7;
constexpr std::int64_t kBatch = 64;

struct Golden {
  std::string name;
  std::vector<double> losses;
};

const std::vector<Golden> kGolden = {
#include "tests/golden/mnist_losses.inc"
};

struct MlpScores : bench::Mlp {
  Tensor forward(const Tensor& x) override { return fc2(relu(fc1(x.flatten(1)))); }
};

std::shared_ptr<bench::Net> make_net(const std::string& name) {
  if (name.starts_with("mlp")) return std::make_shared<MlpScores>();
  return std::make_shared<bench::ExampleCnn>();
}

std::unique_ptr<optim::Optimizer> make_optimizer(const std::string& name, const std::vector<Tensor>& parameters) {
  if (name.ends_with("sgd")) return std::make_unique<optim::SGD>(parameters, optim::SGDOptions(0.02).momentum(0.9));
  return std::make_unique<optim::AdamW>(parameters, optim::AdamWOptions(1e-3));
}

}  // namespace

TEST_CASE("the first losses on MNIST are PyTorch's to 1e-4", "[mnist][golden]") {
  const data::datasets::MNIST mnist(HALFTONE_SOURCE_DIR "/examples/data/mnist");
  for (const Golden& golden : kGolden) {
    INFO(golden.name);
    manual_seed(kSeed);
    const Device device = get_default_device();
    const auto net = [&] {
      const test::DefaultDevice host(kCPU);  // whose draws are PyTorch's
      return make_net(golden.name);
    }();
    net->to(device);
    const auto loader = data::make_data_loader(data::datasets::MNIST(mnist)
                                                   .map(data::transforms::Normalize<>(0.1307, 0.3081))
                                                   .map(data::transforms::Stack<>()),
                                               kBatch);
    const auto optimizer = make_optimizer(golden.name, net->parameters());
    auto batch = loader->begin();
    const std::size_t steps = device.is_cpu() ? golden.losses.size() : 3;  // a simulated GPU takes seconds a step
    for (const double expected : ArrayRef<double>(golden.losses).slice(0, steps)) {
      const Tensor loss = cross_entropy_loss(net->forward(batch->data.to(device)), batch->target.to(device));
      optimizer->zero_grad();
      loss.backward();
      optimizer->step();
      CHECK(loss.item<double>() == Catch::Approx(expected).margin(1e-4).epsilon(0));
      ++batch;
    }
  }
}
