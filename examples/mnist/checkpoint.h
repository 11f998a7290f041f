// Everything that training needs to go on after a stop, in one file.
#pragma once

#include <cstdint>
#include <string>

#include "examples/mnist/net.h"

namespace mnist {

/// What a checkpoint is made from, and what it is read into.
struct Training {
  std::string model_name;
  ht::Device device;
  std::shared_ptr<Net> net;
  ht::optim::AdamW& optimizer;
  ht::optim::LRScheduler& scheduler;
  ht::amp::GradScaler& scaler;
  std::int64_t epochs_done = 0;
};

/// Writes the file beside its target and renames it: when that fails, an older checkpoint is still there.
void save_checkpoint(const Training& training, const std::string& path);

/// Throws Error in one line, with nothing changed, when the file is no checkpoint of this net.
void load_checkpoint(Training& training, const std::string& path);

/// Throws Error when a checkpoint cannot be written there, before time is spent on training.
void check_can_save(const std::string& path);

}  // namespace mnist
