// Training steps a second in float16 with a GradScaler, the batch on the device: as programs write it, and captured in
// a graph once and replayed.
#include "bench/gpu.h"
#include "bench/nets.h"
#include "core/cuda_graph.h"
#include "core/cuda_options.h"

namespace {

using namespace bench;

data::Example<> batch_of(const std::string& name, const GpuOptions& options) {
  const std::int64_t count = options.smoke ? 8 : name == "resnet20" ? 128 : 64;
  const data::Example<> batch =
      name == "resnet20"
          ? data::Example<>{randn({count, 3, 32, 32}).contiguous(MemoryFormat::ChannelsLast), randint(10, {count})}
          : test_images(count);
  const Device device(options.device);
  return {batch.data.to(device), batch.target.to(device)};
}

/// The net, its images' layout also that of its weights, as the twin's: no convolution then converts one of them.
std::shared_ptr<Net> make(const NamedNet& named) {
  const std::shared_ptr<Net> net = named.make();
  if (named.name == "resnet20") net->to(MemoryFormat::ChannelsLast);
  return net;
}

/// A net with all it needs for a step.
class Training {
 public:
  Training(const NamedNet& named, const GpuOptions& options)
      : type_(Device(options.device).type()),
        batch_(batch_of(named.name, options)),
        net_(make(named)),
        optimizer_(net_->parameters(), optim::SGDOptions(0.01).momentum(0.5)),
        scaler_(type_) {}

  void step() {
    optimizer_.zero_grad();
    {
      const amp::autocast region(type_, kFloat16);
      loss_ = nll_loss(net_->forward(batch_.data), batch_.target);
    }
    scaler_.scale(loss_).backward();
    scaler_.step(optimizer_);
    scaler_.update();
  }
  double loss() const { return loss_.item<double>(); }
  std::int64_t skipped() const { return scaler_.skipped_steps(); }

 private:
  DeviceType type_;
  data::Example<> batch_;
  std::shared_ptr<Net> net_;
  optim::SGD optimizer_;
  amp::GradScaler scaler_;
  Tensor loss_;
};

/// Twenty steps on one batch have to lower its loss, or the work was not done.
template <class F> void check_learns(const std::string& name, Training& training, F step) {
  step();
  const double first = training.loss();
  for (int i = 0; i < 20; ++i) step();
  check(training.loss() < first, name, " does not learn: its loss went from ", first, " to ", training.loss());
  check(training.skipped() < 10, name, " skipped ", training.skipped(), " of 21 steps");
}

void measure_eager(const GpuOptions& options, const NamedNet& net, double budget) {
  manual_seed(0);
  Training training(net, options);
  const auto step = [&] { training.step(); };
  check_learns(net.name, training, step);
  emit("gpu_train/" + net.name, 1 / seconds_on_device(options, budget, step), "steps/s", kFloat16, 1);
}

void measure_captured(const GpuOptions& options, const NamedNet& net, double budget) {
  manual_seed(0);
  Training training(net, options);
  for (int i = 0; i < 3; ++i) training.step();
  cuda::Graph graph{Device(options.device)};
  graph.capture([&] { training.step(); });
  const auto replay = [&] { graph.replay(); };
  check_learns(net.name, training, replay);
  emit("gpu_train/" + net.name + "_captured", 1 / seconds_on_device(options, budget, replay), "steps/s", kFloat16, 1);
  fmt::print(stderr, "{}: {} nodes in the graph of a step\n", net.name, graph.nodes());
}

std::vector<GpuCase> cases(const GpuOptions& options) {
  cuda::set_benchmark(true);  // shapes repeat, as the twin's torch.backends.cudnn.benchmark
  std::vector<GpuCase> all;
  for (const NamedNet& net : timed_nets()) {
    all.push_back({net.name, [=](double budget) { measure_eager(options, net, budget); }});
    if (options.on_cuda())
      all.push_back({net.name + "_captured", [=](double budget) { measure_captured(options, net, budget); }});
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::gpu_main(argc, argv, "gpu_train", "Training steps a second in float16.", cases);
}
