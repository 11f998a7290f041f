// Training steps a second, with the batch in memory: forward, loss, backward, SGD with momentum.
#include "bench/common.h"
#include "bench/nets.h"

namespace {

using namespace bench;

data::Example<> batch_of(const std::string& name) {
  if (name != "resnet20") return test_images(64);
  manual_seed(1);
  return {randn({128, 3, 32, 32}).contiguous(MemoryFormat::ChannelsLast), randint(10, {128})};
}

void measure(const NamedNet& named, Dtype dtype, int threads) {
  set_num_threads(threads);
  const data::Example<> batch = batch_of(named.name);
  manual_seed(0);
  const auto net = named.make();
  optim::SGD optimizer(net->parameters(), optim::SGDOptions(0.01).momentum(0.5));
  const auto step = [&] {
    optimizer.zero_grad();
    Tensor loss;
    {
      const amp::autocast region(kCPU, dtype, dtype != kFloat32);
      loss = nll_loss(net->forward(batch.data), batch.target);
    }
    loss.backward();
    optimizer.step();
    return loss;
  };

  const double first = step().item<double>();
  for (int i = 0; i < 18; ++i) step();
  check(step().item<double>() < first, named.name, " does not learn in ", dtype);
  emit("train_step/" + named.name, 1 / seconds_a_call(step), "steps/s", dtype, threads);
}

}  // namespace

int main(int argc, char** argv) {
  for (const int threads : bench::thread_counts(argc, argv))
    for (const NamedNet& net : timed_nets())
      for (const Dtype dtype : {kFloat32, kBFloat16}) measure(net, dtype, threads);
}
