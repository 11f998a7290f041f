// What the user sees while a net trains: a bar on a terminal, a line an epoch elsewhere.
#pragma once

#include <chrono>
#include <cstdint>

#include "halftone.h"

namespace mnist {

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// One epoch on the screen.
class Progress {
 public:
  Progress(std::int64_t epoch, std::int64_t epochs, std::int64_t images);

  /// A step is done. Reads values from the device only when the bar is drawn anew.
  void step(std::int64_t images, const ht::Tensor& loss, const ht::amp::GradScaler& scaler);
  /// The epoch is over: what was drawn is replaced by a line that stays.
  void finish(const ht::amp::GradScaler& scaler);

 private:
  std::string status(const ht::amp::GradScaler& scaler) const;
  void draw(const ht::amp::GradScaler& scaler);

  const std::int64_t epoch_, epochs_, images_;
  const bool terminal_;
  std::int64_t done_ = 0, steps_ = 0;
  ht::Tensor loss_sum_;
  Stopwatch watch_;
  double next_draw_ = 0;
};

}  // namespace mnist
