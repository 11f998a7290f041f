// A data set that lies on the device as a whole and is cut into batches there, so that no step waits for a copy. MNIST
// is small enough; larger sets come through a data loader, from pinned memory.
#pragma once

#include <cstdint>

#include "halftone.h"

namespace mnist {

namespace ht = halftone;

class Batches {
 public:
  /// The first `count` images, normalized; shuffled anew by every begin().
  Batches(const ht::data::datasets::MNIST& set, ht::Device device, std::int64_t count, std::int64_t batch_size,
          bool shuffled)
      : images_(set.pixels().slice(0, 0, count).to(device).to(ht::kFloat32).div_(255).sub_(0.1307).div_(0.3081)),
        labels_(set.targets().slice(0, 0, count).to(device)),
        batch_size_(batch_size),
        shuffled_(shuffled) {}

  class Iterator {
   public:
    Iterator(const Batches& batches, std::int64_t first) : batches_(&batches), first_(first) {}
    ht::data::Example<> operator*() const { return batches_->batch(first_); }
    Iterator& operator++() {
      first_ += batches_->batch_size_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return first_ < other.first_; }

   private:
    const Batches* batches_;
    std::int64_t first_;
  };

  Iterator begin() {
    if (shuffled_) order_ = ht::randperm(count(), labels_.options());
    return {*this, 0};
  }
  Iterator end() const { return {*this, count()}; }
  std::int64_t count() const { return labels_.numel(); }

 private:
  ht::data::Example<> batch(std::int64_t first) const {
    const std::int64_t last = std::min(first + batch_size_, count());
    if (!shuffled_) return {images_.slice(0, first, last), labels_.slice(0, first, last)};
    const ht::Tensor chosen = order_.slice(0, first, last);
    return {images_.index_select(0, chosen), labels_.index_select(0, chosen)};
  }

  ht::Tensor images_, labels_, order_;
  std::int64_t batch_size_;
  bool shuffled_;
};

}  // namespace mnist
