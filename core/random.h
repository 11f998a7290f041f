// Random numbers: a Mersenne twister that gives the same numbers as PyTorch's for the same seed, and the functions that
// fill host tensors from it.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include "core/tensor.h"

namespace halftone {

/// MT19937 with PyTorch's seeding and state.
///
/// The fill functions below hold the generator's mutex from the first number to the last, so that a tensor filled by
/// one thread is a run of the stream. Who calls random() or random64() on a generator that other threads use holds
/// mutex() too.
class Generator {
 public:
  static constexpr std::uint64_t kDefaultSeed = 67280421310721;

  explicit Generator(std::uint64_t seed = kDefaultSeed) { restart(seed); }
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  /// Starts the stream that belongs to a seed.
  void manual_seed(std::uint64_t seed);
  void set_current_seed(std::uint64_t seed) { manual_seed(seed); }
  /// The seed that the stream was started with.
  std::uint64_t current_seed() const;
  /// Starts a stream that nobody can foresee, and returns its seed.
  std::uint64_t seed();

  /// The next 32 bits.
  std::uint32_t random() {
    if (next_ == kWords) refill();
    std::uint32_t y = words_[next_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680u;
    y ^= (y << 15) & 0xEFC60000u;
    return y ^ (y >> 18);
  }
  /// The next 64 bits, the upper half first. Counter-based draws (dropout, fills on CUDA) take their key from here.
  std::uint64_t random64() {
    const std::uint64_t high = random();
    return high << 32 | random();
  }
  /// A normal number, mean 0 and deviation 1. They come in pairs, and the second is kept for the next call.
  double normal();

  /// Everything that decides what comes next, as a uint8 tensor in the layout of PyTorch's get_rng_state.
  Tensor get_state() const;
  void set_state(const Tensor& state);

  std::mutex& mutex() const { return mutex_; }

 private:
  static constexpr std::size_t kWords = 624;

  void restart(std::uint64_t seed);
  void refill();

  std::array<std::uint32_t, kWords> words_{};
  std::size_t next_ = kWords;  // of words_; kWords: all used up
  std::uint64_t seed_ = 0;
  std::optional<double> second_normal_;
  mutable std::mutex mutex_;
};

/// The generator that a device's factories and in-place fills draw from.
Generator& default_generator(Device device = kCPU);
/// Seeds every device's generator, of all kinds of devices.
void manual_seed(std::uint64_t seed);

namespace cuda {
/// Seeds the current CUDA device's generator, or those of all.
void manual_seed(std::uint64_t seed);
void manual_seed_all(std::uint64_t seed);
}  // namespace cuda

// Fills of tensors in host memory, any strides, no history. The numbers are PyTorch's, element by element in memory
// order; their dtype may be any floating one, for fill_random and fill_bernoulli any at all.

/// Uniform in [from, to).
void fill_uniform(const Tensor& y, double from, double to, Generator& generator);
void fill_normal(const Tensor& y, double mean, double std, Generator& generator);
/// Whole numbers in [from, to).
void fill_random(const Tensor& y, std::int64_t from, std::int64_t to, Generator& generator);
/// The first and the end of the whole numbers in [from, to) to which rounding to a dtype stays in that range. Throws
/// where `from` or to - 1 is out of the dtype's bounds, or there are none.
std::pair<std::int64_t, std::int64_t> whole_numbers(Dtype dtype, std::int64_t from, std::int64_t to);
/// Whole numbers from 0 to the largest one such that all up to it have the dtype's exact representation.
void fill_random(const Tensor& y, Generator& generator);
/// 1 with probability p, else 0.
void fill_bernoulli(const Tensor& y, double p, Generator& generator);
/// 1 with the probability that stands at the same place of p, a floating tensor of y's sizes.
void fill_bernoulli(const Tensor& y, const Tensor& p, Generator& generator);
/// Density rate * exp(-rate * x) for x > 0.
void fill_exponential(const Tensor& y, double rate, Generator& generator);
/// The numbers 0 to n - 1, shuffled, into an int64 tensor of n elements.
void fill_permutation(const Tensor& y, Generator& generator);

}  // namespace halftone
