// Labelled images in memory: what MNIST and CIFAR10 share.
#pragma once

#include <memory>

#include "data/dataset.h"

namespace halftone::data::datasets {

/// Images as bytes, and their labels. Copies share the memory.
class LabelledImages {
 public:
  /// pixels: uint8 [N, C, H, W]; targets: int64 [N].
  LabelledImages(Tensor pixels, Tensor targets);

  std::size_t count() const { return static_cast<std::size_t>(pixels_.size(0)); }
  const Tensor& pixels() const { return pixels_; }
  const Tensor& targets() const { return targets_; }
  /// All images as float32 in [0, 1], made at the first call.
  const Tensor& images() const;

  /// One image as float32 [C, H, W] in [0, 1], with its label.
  Example<> get(std::size_t index) const;
  /// Those images as float32 [n, C, H, W] in [0, 1], in memory of their own, with labels [n].
  Example<> get_stacked(ArrayRef<std::size_t> indices) const;

 private:
  struct Floats;

  Tensor pixels_, targets_;
  std::shared_ptr<Floats> floats_;
};

}  // namespace halftone::data::datasets
