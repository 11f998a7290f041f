#include "examples/mnist/options.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <limits>

#include "kernels/cpu/onednn.h"

namespace mnist {

namespace {

constexpr const char* kDescription =
    "Trains a net on the 60,000 handwritten digits of MNIST in mixed precision, and tests it on 10,000 others.\n"
    "Without arguments: the small convolutional net, on the best device and in the best precision there is.";

constexpr const char* kLossFactorHelp =
    "multiply the loss by X before backward and divide the gradients by X after it. In exact arithmetic that changes "
    "nothing; in fp16 the gradients between the two become so small that they are lost. Try --precision fp16 "
    "--loss-factor 1e-6 with --no-scaler and without";

const std::map<std::string, ht::Dtype> kPrecisions = {
    {"fp32", ht::kFloat32}, {"bf16", ht::kBFloat16}, {"fp16", ht::kFloat16}};

// What the parser writes to before it is turned into Options.
struct Texts {
  std::string precision, device;
  bool no_scaler = false;
};

void add_training_options(CLI::App& app, Options& options, Texts& texts) {
  app.add_option("--model", options.model, "mlp or cnn")->check(CLI::IsMember({"mlp", "cnn"}))->capture_default_str();
  app.add_option("--precision", texts.precision, "fp32, bf16 or fp16")->check(CLI::IsMember(kPrecisions));
  app.add_option("--device", texts.device, "cpu, cuda or cuda:1");
  app.add_option("--epochs", options.epochs, "passes over the training images [3]")->check(CLI::Range(1, 10000));
  app.add_option("--batch-size", options.batch_size, "images a step")
      ->check(CLI::Range(1, 60000))
      ->capture_default_str();
  app.add_option("--images", options.images, "train on the first N images and test on as many")
      ->check(CLI::Range(1, 60000));
  app.add_option("--lr", options.learning_rate, "the largest learning rate of the one-cycle schedule")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--threads", options.threads, "threads on the CPU")->check(CLI::Range(1, 1024));
  app.add_option("--seed", options.seed, "of the weights and the order of the images")->capture_default_str();
}

void add_other_options(CLI::App& app, Options& options, Texts& texts) {
  app.add_option("--data", options.data, "folder of the four MNIST files, gzipped or not")->capture_default_str();
  app.add_option("--save", options.save, "write a checkpoint to this file after every epoch");
  app.add_option("--resume", options.resume, "go on from this checkpoint");
  app.add_option("--stop-after", options.stop_after, "stop after this epoch as if interrupted; --resume goes on")
      ->check(CLI::Range(1, 10000));
  app.add_flag("--compare", options.compare, "train in fp32 first, then in the precision chosen, and print both");
  app.add_flag("--trace", options.trace, "print what every op of the first step came with, ran in, and why");
  app.add_flag("--no-scaler", texts.no_scaler, "train in fp16 without gradient scaling");
  app.add_option("--loss-factor", options.loss_factor, kLossFactorHelp)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--smoke", options.smoke, "a few steps on few images, to see that everything runs");
}

void check_values(const Options& options) {
  const auto finite = [](double value) { return std::isfinite(value); };
  if (!finite(options.learning_rate)) throw UsageError("--lr: must be finite");
  if (!finite(options.loss_factor)) throw UsageError("--loss-factor: must be finite");
  if (options.compare && !options.save.empty()) throw UsageError("--compare and --save do not go together");
  if (options.compare && !options.resume.empty()) throw UsageError("--compare and --resume do not go together");
}

ht::Device parse_device(const std::string& text) {
  try {
    return ht::Device(text);
  } catch (const ht::Error& e) {
    throw UsageError(std::string("--device: ") + e.what());
  }
}

}  // namespace

std::optional<Options> parse_options(int argc, char** argv) {
  Options options;
  options.data = HALFTONE_SOURCE_DIR "/examples/data/mnist";
  Texts texts;
  CLI::App app(kDescription, "mnist");
  app.get_formatter()->column_width(28);
  add_training_options(app, options, texts);
  add_other_options(app, options, texts);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return std::nullopt;
  } catch (const CLI::ParseError& e) {
    throw UsageError(e.what());
  }
  if (!texts.precision.empty()) options.precision = kPrecisions.at(texts.precision);
  if (!texts.device.empty()) options.device = parse_device(texts.device);
  options.use_scaler = !texts.no_scaler;
  if (options.epochs == 0) options.epochs = options.smoke ? 1 : 3;
  if (options.stop_after == 0) options.stop_after = options.epochs;
  check_values(options);
  return options;
}

void choose_device_and_precision(Options& options) {
  if (!options.device) options.device = ht::cuda::is_available() ? ht::Device(ht::kCUDA) : ht::Device(ht::kCPU);
  if (options.device->is_cuda() && !ht::cuda::is_available())
    throw UsageError(ht::str("--device ", *options.device, ": this build or this machine has no CUDA"));
  if (options.device->is_cuda() && options.device->index() >= ht::cuda::device_count())
    throw UsageError(
        ht::str("--device ", *options.device, ": the last one of this machine is cuda:", ht::cuda::device_count() - 1));
  const bool fast_bf16 = ht::cpu::has_fast_bf16();
  if (!options.precision) {
    options.precision = options.device->is_cuda() ? ht::kFloat16 : fast_bf16 ? ht::kBFloat16 : ht::kFloat32;
    if (*options.precision == ht::kFloat32)
      fmt::print(
          "note: this processor has no instructions for 16-bit products, so mixed precision would not be faster\n");
  } else if (options.device->is_cpu() && *options.precision == ht::kBFloat16 && !fast_bf16) {
    fmt::print("note: this processor computes bf16 products in float32, so they are not faster\n");
  }
}

std::string short_name(ht::Dtype precision) {
  for (const auto& [name, dtype] : kPrecisions)
    if (dtype == precision) return name;
  return ht::str(precision);
}

}  // namespace mnist
