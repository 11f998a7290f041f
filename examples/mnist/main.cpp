// Trains on MNIST in mixed precision: mnist --help says what it can do. Reading order: net, train, checkpoint, the
// rest.
#include <fmt/core.h>

#include <cstdio>
#include <exception>

#include "examples/mnist/checkpoint.h"
#include "examples/mnist/options.h"
#include "examples/mnist/progress.h"
#include "examples/mnist/train.h"

namespace {

using namespace mnist;
using ht::data::datasets::MNIST;

void print_row(const std::string& name, const Result& result) {
  fmt::print("{:<5} {:8.2f} % {:10.0f} {:10.1f} MiB {:8.1f} s\n", name, 100 * result.accuracy, result.images_per_second,
             result.peak_mebibytes, result.seconds);
}

void print_table_head() {
  fmt::print("      {:>10} {:>10} {:>14} {:>10}\n", "accuracy", "images/s", "peak memory", "time");
}

void run_one(const Options& options, const MNIST& train_set, const MNIST& test_set, const Stopwatch& watch) {
  const Result result = train(options, train_set, test_set);
  fmt::print("test accuracy {:.2f} %, {:.0f} images/s, peak memory {:.1f} MiB, {:.1f} s in all\n",
             100 * result.accuracy, result.images_per_second, result.peak_mebibytes, watch.seconds());
}

void compare(const Options& options, const MNIST& train_set, const MNIST& test_set) {
  Options full = options;
  full.precision = ht::kFloat32;
  const Result in_full = train(full, train_set, test_set);
  const Result in_mixed = train(options, train_set, test_set);
  print_table_head();
  print_row("fp32", in_full);
  print_row(short_name(*options.precision), in_mixed);
  fmt::print("{} against fp32: {:.2f} times the rate, {:.2f} times the memory\n", short_name(*options.precision),
             in_mixed.images_per_second / in_full.images_per_second, in_mixed.peak_mebibytes / in_full.peak_mebibytes);
}

void run(Options options) {
  const Stopwatch watch;
  choose_device_and_precision(options);
  if (options.threads > 0) ht::set_num_threads(options.threads);
  if (!options.save.empty()) check_can_save(options.save);
  fmt::print("{} on {} in {}, {} epochs, batches of {}\n", options.model, options.device->str(),
             short_name(*options.precision), options.epochs, options.batch_size);
  const MNIST train_set(options.data, MNIST::Mode::kTrain);
  const MNIST test_set(options.data, MNIST::Mode::kTest);
  if (options.compare) return compare(options, train_set, test_set);
  run_one(options, train_set, test_set, watch);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (const auto options = mnist::parse_options(argc, argv)) run(*options);
    return 0;
  } catch (const mnist::UsageError& e) {
    fmt::print(stderr, "mnist: {} (see --help)\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fflush(stdout);
    fmt::print(stderr, "mnist: {}\n", e.what());
    return 1;
  }
}
