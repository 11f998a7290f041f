// CIFAR-10: 50,000 and 10,000 small colour photographs of ten kinds of things.
#pragma once

#include <string>

#include "data/images.h"

namespace halftone::data::datasets {

/// Photographs from the original binary files in the folder `root`: data_batch_1.bin and so on (as many as there are,
/// from 1 upwards) or test_batch.bin, gzipped or not. An example is a float32 image [3, 32, 32] in [0, 1] and its
/// label.
class CIFAR10 : public Dataset<CIFAR10> {
 public:
  enum class Mode { kTrain, kTest };

  /// Throws Error naming the file when one is missing or damaged.
  explicit CIFAR10(const std::string& root, Mode mode = Mode::kTrain);

  Example<> get(std::size_t index) override { return data_.get(index); }
  /// The examples of a batch stacked, [n, 3, 32, 32] and [n].
  Example<> get_stacked(ArrayRef<std::size_t> indices) { return data_.get_stacked(indices); }
  std::optional<std::size_t> size() const override { return data_.count(); }

  bool is_train() const noexcept { return mode_ == Mode::kTrain; }
  const Tensor& images() const { return data_.images(); }
  const Tensor& pixels() const { return data_.pixels(); }
  const Tensor& targets() const { return data_.targets(); }

 private:
  Mode mode_;
  LabelledImages data_;
};

}  // namespace halftone::data::datasets
