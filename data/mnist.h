// MNIST: 60,000 and 10,000 handwritten digits.
#pragma once

#include <string>

#include "data/images.h"

namespace halftone::data::datasets {

/// Handwritten digits from the four IDX files, gzipped or not, in the folder `root`. An example is a float32 image
/// [1, 28, 28] in [0, 1] and its label, 0 to 9. Other sets in this format, such as Fashion-MNIST, load as well.
class MNIST : public Dataset<MNIST> {
 public:
  enum class Mode { kTrain, kTest };

  /// Throws Error naming the file when one is missing or damaged.
  explicit MNIST(const std::string& root, Mode mode = Mode::kTrain);

  Example<> get(std::size_t index) override { return data_.get(index); }
  /// The examples of a batch stacked, [n, 1, 28, 28] and [n]: one pass over the batch.
  Example<> get_stacked(ArrayRef<std::size_t> indices) { return data_.get_stacked(indices); }
  std::optional<std::size_t> size() const override { return data_.count(); }

  bool is_train() const noexcept { return mode_ == Mode::kTrain; }
  /// All images as float32 [N, 1, 28, 28] in [0, 1], made at the first call.
  const Tensor& images() const { return data_.images(); }
  /// All images as uint8 [N, 1, 28, 28], as they are kept.
  const Tensor& pixels() const { return data_.pixels(); }
  /// All labels as int64 [N].
  const Tensor& targets() const { return data_.targets(); }

 private:
  Mode mode_;
  LabelledImages data_;
};

}  // namespace halftone::data::datasets
