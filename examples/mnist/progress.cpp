#include "examples/mnist/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace mnist {

Progress::Progress(std::int64_t epoch, std::int64_t epochs, std::int64_t images)
    : epoch_(epoch), epochs_(epochs), images_(images), terminal_(isatty(STDOUT_FILENO) == 1) {}

void Progress::step(std::int64_t images, const ht::Tensor& loss, const ht::amp::GradScaler& scaler) {
  const ht::NoGradGuard no_grad;
  done_ += images;
  ++steps_;
  loss_sum_ = loss_sum_.defined() ? loss_sum_.add_(loss) : loss.detach().clone();
  if (terminal_ && watch_.seconds() >= next_draw_) draw(scaler);
}

std::string Progress::status(const ht::amp::GradScaler& scaler) const {
  const double loss = loss_sum_.defined() ? loss_sum_.item<double>() / static_cast<double>(steps_) : 0;
  const double rate = static_cast<double>(done_) / watch_.seconds();
  std::string text = fmt::format("loss {:.4f}  {:6.0f} images/s", loss, rate);
  if (scaler.is_enabled()) text += fmt::format("  scale {:g}  skipped {}", scaler.get_scale(), scaler.skipped_steps());
  return text;
}

void Progress::draw(const ht::amp::GradScaler& scaler) {
  constexpr std::int64_t kWidth = 24;
  constexpr double kInterval = 0.1;
  const std::int64_t full = kWidth * done_ / images_;
  fmt::print("\repoch {}/{} [{:=<{}}{: <{}}] {}\x1b[K", epoch_, epochs_, "", full, "", kWidth - full, status(scaler));
  std::fflush(stdout);
  next_draw_ = watch_.seconds() + kInterval;
}

void Progress::finish(const ht::amp::GradScaler& scaler) {
  fmt::print("{}epoch {}/{}  {}{}\n", terminal_ ? "\r" : "", epoch_, epochs_, status(scaler),
             terminal_ ? "\x1b[K" : "");
  std::fflush(stdout);
}

}  // namespace mnist
