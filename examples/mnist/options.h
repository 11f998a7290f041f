// The command line of the program.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "halftone.h"

namespace mnist {

struct Options {
  std::string model = "cnn";
  std::optional<ht::Dtype> precision;  // of autocast; float32 is training without it. Nothing: the best there is
  std::optional<ht::Device> device;    // nothing: the best there is
  std::int64_t epochs = 0;             // 0: the usual number
  std::int64_t stop_after = 0;         // end after this epoch of the schedule; 0: with the last
  std::int64_t batch_size = 128;
  double learning_rate = 0.004;
  std::int64_t images = 0;  // train and test on this many at most; 0: all
  int threads = 0;          // 0: as many as there are processors
  std::uint64_t seed = 0;
  std::string data;
  std::string save;    // where to write the checkpoint; "": nowhere
  std::string resume;  // the checkpoint to go on from; "": none
  bool compare = false;
  bool trace = false;
  bool use_scaler = true;
  double loss_factor = 1;
  bool smoke = false;

  bool mixed() const { return *precision != ht::kFloat32; }
};

/// A command line that cannot be run; what() is one line for the user.
class UsageError : public ht::Error {
  using ht::Error::Error;
};

/// Nothing when the line only asked for help, which is then printed.
std::optional<Options> parse_options(int argc, char** argv);

/// Fills in device and precision where the line did not say them, and prints a note if that is worth one.
void choose_device_and_precision(Options& options);

/// "fp32", "bf16" or "fp16".
std::string short_name(ht::Dtype precision);

}  // namespace mnist
