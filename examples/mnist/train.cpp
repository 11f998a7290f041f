// The heart is train_epoch(): an ordinary training loop with three more lines for mixed precision.
#include "examples/mnist/train.h"

#include <iostream>
#include <utility>

#include "examples/mnist/batches.h"
#include "examples/mnist/checkpoint.h"
#include "examples/mnist/progress.h"

namespace mnist {

namespace {

using ht::data::datasets::MNIST;

auto prepared(const MNIST& set) {
  return MNIST(set).map(ht::data::transforms::Normalize<>(0.1307, 0.3081)).map(ht::data::transforms::Stack<>());
}

std::int64_t image_count(const Options& options, const MNIST& set, std::int64_t smoke) {
  const auto all = static_cast<std::int64_t>(*set.size());
  const std::int64_t wanted = options.images > 0 ? options.images : options.smoke ? smoke : all;
  return std::min(wanted, all);
}

std::int64_t train_count(const Options& options, const MNIST& set) { return image_count(options, set, 512); }

auto train_loader(const Options& options, const MNIST& set) {
  const auto count = train_count(options, set);
  return ht::data::make_data_loader(prepared(set), ht::data::samplers::RandomSampler(count),
                                    static_cast<std::size_t>(options.batch_size));
}

constexpr std::int64_t kTestBatch = 500;

std::int64_t test_count(const Options& options, const MNIST& set) { return image_count(options, set, 500); }

auto test_loader(const Options& options, const MNIST& set) {
  return ht::data::make_data_loader(
      prepared(set), ht::data::samplers::SequentialSampler(static_cast<std::size_t>(test_count(options, set))),
      kTestBatch);
}

// Undoes --loss-factor: exact when the factor is a power of two.
void divide_gradients(ht::optim::Optimizer& optimizer, double factor) {
  const ht::NoGradGuard no_grad;
  for (const ht::Tensor& parameter : optimizer.param_groups()[0].params()) parameter.grad().div_(factor);
}

template <class Loader>
void train_epoch(const Options& options, Training& training, Loader& loader, Progress& progress) {
  const ht::Device device = training.device;
  ht::optim::Optimizer& optimizer = training.optimizer;
  ht::amp::GradScaler& scaler = training.scaler;
  bool wants_trace = options.trace && training.epochs_done == 0;

  training.net->train();
  for (const auto& batch : loader) {
    const ht::Tensor images = batch.data.to(device), labels = batch.target.to(device);
    std::optional<ht::amp::trace> trace;  // of the first step
    if (std::exchange(wants_trace, false)) trace.emplace(std::cout);
    ht::Tensor loss;
    {
      const ht::amp::autocast region(device.type(), options.precision, options.mixed());
      loss = ht::cross_entropy_loss(training.net->forward(images), labels);
    }
    optimizer.zero_grad();
    scaler.scale(loss * options.loss_factor).backward();
    if (options.loss_factor != 1) {
      scaler.unscale_(optimizer);
      divide_gradients(optimizer, options.loss_factor);
    }
    scaler.step(optimizer);
    scaler.update();
    training.scheduler.step();  // counts batches, skipped ones too: nothing here waits for the device
    progress.step(images.size(0), loss, scaler);
  }
}

template <class Loader> double test(const Options& options, Net& net, Loader& loader) {
  const ht::NoGradGuard no_grad;
  std::int64_t right = 0, count = 0;
  net.eval();
  for (const auto& batch : loader) {
    const ht::amp::autocast region(options.device->type(), options.precision, options.mixed());
    const ht::Tensor guess = net.forward(batch.data.to(*options.device)).argmax(1);
    right += guess.eq(batch.target.to(*options.device)).sum().template item<std::int64_t>();
    count += guess.numel();
  }
  return static_cast<double>(right) / static_cast<double>(count);
}

ht::amp::GradScaler make_scaler(const Options& options) {
  ht::amp::GradScalerOptions scaling;
  scaling.enabled = *options.precision == ht::kFloat16 && options.use_scaler;  // bf16 has the range of float32
  return ht::amp::GradScaler(options.device->type(), scaling);
}

std::int64_t last_epoch(const Options& options) { return std::min(options.stop_after, options.epochs); }

template <class Loader>
double train_epochs(const Options& options, Training& training, Loader& loader, std::int64_t images) {
  double seconds = 0;
  while (training.epochs_done < last_epoch(options)) {
    const Stopwatch watch;
    Progress progress(training.epochs_done + 1, options.epochs, images);
    train_epoch(options, training, loader, progress);
    progress.finish(training.scaler);
    seconds += watch.seconds();
    ++training.epochs_done;
    if (!options.save.empty()) save_checkpoint(training, options.save);
  }
  return seconds;
}

}  // namespace

namespace {

template <class Train, class Test>
Result train(const Options& options, Train& loader, Test& tests, std::int64_t images) {
  const Stopwatch watch;
  const ht::Device device = *options.device;
  const std::int64_t before = ht::memory_stats(device).current;
  ht::reset_peak_memory_stats(device);

  ht::manual_seed(options.seed);
  const auto net = make_net(options.model);
  net->to(device);
  const std::int64_t steps = options.epochs * ((images + options.batch_size - 1) / options.batch_size);
  ht::optim::AdamW optimizer(net->parameters(), ht::optim::AdamWOptions(options.learning_rate));
  ht::optim::OneCycleLR scheduler(optimizer, options.learning_rate, steps);
  ht::amp::GradScaler scaler = make_scaler(options);

  Training training{options.model, device, net, optimizer, scheduler, scaler};
  if (!options.resume.empty()) load_checkpoint(training, options.resume);
  const std::int64_t left = std::max<std::int64_t>(last_epoch(options) - training.epochs_done, 0);

  Result result;
  const double seconds = train_epochs(options, training, loader, images);
  result.accuracy = test(options, *net, tests);
  result.images_per_second = left == 0 ? 0 : static_cast<double>(left * images) / seconds;
  result.peak_mebibytes = static_cast<double>(ht::memory_stats(device).peak - before) / (1 << 20);
  result.seconds = watch.seconds();
  return result;
}

}  // namespace

Result train(const Options& options, const MNIST& train_set, const MNIST& test_set) {
  const std::int64_t images = train_count(options, train_set);
  if (options.device->is_cuda()) {
    Batches loader(train_set, *options.device, images, options.batch_size, true);
    Batches tests(test_set, *options.device, test_count(options, test_set), kTestBatch, false);
    return train(options, loader, tests, images);
  }
  const auto loader = train_loader(options, train_set);
  const auto tests = test_loader(options, test_set);
  return train(options, *loader, *tests, images);
}

}  // namespace mnist
