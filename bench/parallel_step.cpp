// Training steps over k CPU devices against one, with as many cores as devices: forward, loss, backward, SGD. Then what
// a step costs beside the arithmetic: a net too small to matter.
#include "bench/common.h"
#include "bench/nets.h"

namespace {

using namespace bench;

std::vector<Device> cpus(int count) {
  std::vector<Device> devices;
  for (int i = 0; i < count; ++i) devices.emplace_back(kCPU, static_cast<DeviceIndex>(i));
  return devices;
}

/// Seconds that a training step with this forward takes.
template <class Forward>
double step_time(Forward forward, const std::vector<Tensor>& parameters, const data::Example<>& batch, Dtype dtype) {
  optim::SGD optimizer(parameters, optim::SGDOptions(0.01));
  return seconds_a_call([&] {
    optimizer.zero_grad();
    Tensor loss;
    {
      const amp::autocast region(kCPU, dtype, dtype != kFloat32);
      loss = nll_loss(forward(batch.data), batch.target);
    }
    loss.backward();
    optimizer.step();
  });
}

void measure(const NamedNet& named, std::int64_t rows, Dtype dtype, int count) {
  const std::string name = named.name + "/" + std::to_string(rows);
  const std::shared_ptr<Net> net = named.make();
  const data::Example<> batch = test_images(rows);
  set_num_threads(1);
  const double one = step_time([&](const Tensor& x) { return net->forward(x); }, net->parameters(), batch, dtype);
  set_num_threads(count);
  const double team = step_time([&](const Tensor& x) { return net->forward(x); }, net->parameters(), batch, dtype);
  nn::DataParallel parallel(net, nn::DataParallelOptions().device_ids(cpus(count)).replica_factory(named.make));
  const double many = step_time([&](const Tensor& x) { return parallel(x); }, net->parameters(), batch, dtype);
  emit("parallel_step/speedup/" + name, one / many, "x", dtype, count);
  emit("parallel_step/threads_of_one_device/" + name, one / team, "x", dtype, count);

  const NoGradGuard no_grad;
  set_num_threads(1);
  const double forward_one = seconds_a_call([&] { net->forward(batch.data); });
  set_num_threads(count);
  emit("parallel_step/forward_speedup/" + name, forward_one / seconds_a_call([&] { parallel(batch.data); }), "x", dtype,
       count);
}

void measure_overhead(int count) {
  set_num_threads(1);
  nn::Linear net(4, 4);
  nn::DataParallel parallel(net, cpus(count));
  const Tensor x = ones({count, 4});
  const auto training = [](const Tensor& y) { y.sum().backward(); };
  const double plain = seconds_a_call([&] { training(net(x)); });
  emit("parallel_step/overhead", (seconds_a_call([&] { training(parallel(x)); }) - plain) * 1e6, "us", kFloat32, count);
  emit("parallel_step/wake", seconds_a_call([&] { nn::parallel::run_replicas(cpus(count), [](std::size_t) {}); }) * 1e6,
       "us", kFloat32, count);
}

}  // namespace

int main(int argc, char** argv) {
  for (const int count : argc > 1 ? bench::thread_counts(argc, argv) : std::vector<int>{2}) {
    for (const bench::NamedNet& named : bench::timed_nets()) {
      if (named.name == "resnet20") continue;
      for (const Dtype dtype : {kFloat32, kBFloat16}) {
        for (const std::int64_t rows : {64, 256}) measure(named, rows, dtype, count);
      }
    }
    measure_overhead(count);
  }
}
