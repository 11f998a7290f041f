// Training and testing.
#pragma once

#include "examples/mnist/options.h"

namespace mnist {

/// What came of it.
struct Result {
  double accuracy = 0;           // of the test images, 0 to 1
  double images_per_second = 0;  // while training
  double peak_mebibytes = 0;     // of tensors, beyond the data set itself
  double seconds = 0;            // training and testing
};

/// Trains a fresh net, or one from a checkpoint, in the precision of the options, and tests it.
Result train(const Options& options, const ht::data::datasets::MNIST& train_set,
             const ht::data::datasets::MNIST& test_set);

}  // namespace mnist
