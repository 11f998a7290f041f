#include "core/random.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>
#include <random>

#include "core/runtime.h"

namespace halftone {

void Generator::restart(std::uint64_t seed) {
  seed_ = seed;
  words_[0] = static_cast<std::uint32_t>(seed);
  for (std::size_t i = 1; i < kWords; ++i) {
    words_[i] = 1812433253u * (words_[i - 1] ^ (words_[i - 1] >> 30)) + static_cast<std::uint32_t>(i);
  }
  next_ = kWords;
  second_normal_.reset();
}

void Generator::refill() {
  constexpr std::size_t kShift = 397;
  const auto twist = [this](std::size_t i, std::size_t following, std::size_t shifted) {
    const std::uint32_t mixed = (words_[i] & 0x80000000u) | (words_[following] & 0x7FFFFFFFu);
    words_[i] = words_[shifted] ^ (mixed >> 1) ^ (0x9908B0DFu & (0u - (words_[following] & 1u)));
  };
  std::size_t i = 0;
  for (; i < kWords - kShift; ++i) twist(i, i + 1, i + kShift);
  for (; i < kWords - 1; ++i) twist(i, i + 1, i + kShift - kWords);
  twist(i, 0, i + kShift - kWords);
  next_ = 0;
}

void Generator::manual_seed(std::uint64_t seed) {
  const std::lock_guard lock(mutex_);
  restart(seed);
}

std::uint64_t Generator::current_seed() const {
  const std::lock_guard lock(mutex_);
  return seed_;
}

std::uint64_t Generator::seed() {
  std::random_device device;
  const std::uint64_t fresh = std::uint64_t{device()} << 32 | device();
  manual_seed(fresh);
  return fresh;
}

double Generator::normal() {
  if (second_normal_) {
    const double kept = *second_normal_;
    second_normal_.reset();
    return kept;
  }
  const auto uniform = [this] { return static_cast<double>(random64() & ((1ull << 53) - 1)) * 0x1p-53; };
  const double angle = 2 * std::numbers::pi * uniform();
  const double radius = std::sqrt(-2 * std::log1p(-uniform()));
  second_normal_ = radius * std::sin(angle);
  return radius * std::cos(angle);
}

namespace {

/// The bytes of torch.get_rng_state(). `left` is one more than the words that are left; 1 also stands for a stream that
/// has just been seeded, where `next` is 0.
struct State {
  std::uint64_t seed = 0;
  std::int32_t left = 1;
  std::int32_t seeded = 1;
  std::uint64_t next = 0;
  std::uint64_t words[624] = {};
  double unused_x = 0;
  double second_normal = 0;
  double unused_rho = 0;
  std::int32_t has_second_normal = 0;
  std::int32_t padding = 0;
  float second_float_normal = 0;
  std::int32_t has_second_float_normal = 0;
};
static_assert(sizeof(State) == 5056);

}  // namespace

Tensor Generator::get_state() const {
  const std::lock_guard lock(mutex_);
  State state;
  state.seed = seed_;
  state.left = static_cast<std::int32_t>(kWords - next_) + 1;
  state.next = next_ % kWords;
  std::copy(words_.begin(), words_.end(), state.words);
  state.second_normal = second_normal_.value_or(0);
  state.has_second_normal = second_normal_.has_value();
  Tensor bytes = empty(sizeof(State), TensorOptions(kUInt8).device(kCPU));
  std::memcpy(bytes.data_ptr(), &state, sizeof(State));
  return bytes;
}

void Generator::set_state(const Tensor& bytes) {
  check<TypeError>(bytes.dtype() == kUInt8 && bytes.is_cpu() && bytes.is_contiguous(),
                   "Generator::set_state: expected a contiguous uint8 tensor on the CPU, not ", describe(bytes));
  check<ValueError>(bytes.nbytes() == sizeof(State), "Generator::set_state: expected ", sizeof(State), " bytes, not ",
                    bytes.nbytes());
  State state;
  std::memcpy(&state, bytes.data_ptr(), sizeof(State));
  const auto left = static_cast<std::size_t>(state.left);
  check<ValueError>(state.seeded == 1 && 1 <= left && left <= kWords && state.next <= kWords,
                    "Generator::set_state: these bytes are not a state of the CPU generator");
  const std::lock_guard lock(mutex_);
  seed_ = state.seed;
  next_ = kWords - (left - 1);
  for (std::size_t i = 0; i < kWords; ++i) words_[i] = static_cast<std::uint32_t>(state.words[i]);
  second_normal_.reset();
  if (state.has_second_normal) second_normal_ = state.second_normal;
}

namespace {

constexpr std::size_t kMaxCudaDevices = 64;

/// Never destroyed, as the runtimes: a global may draw while the program ends.
struct Generators {
  std::array<Generator, kCpuDevices> cpu;
  std::array<Generator, kMaxCudaDevices> cuda;
};

Generators& generators() {
  static Generators& only = *new Generators;
  return only;
}

}  // namespace

Generator& default_generator(Device device) {
  const Device d = canonical(device);
  const auto index = static_cast<std::size_t>(d.has_index() ? d.index() : 0);
  if (d.is_cpu()) return generators().cpu[index];
  check(index < kMaxCudaDevices, "default_generator: ", d, " is beyond cuda:", kMaxCudaDevices - 1);
  return generators().cuda[index];
}

void manual_seed(std::uint64_t seed) {
  for (Generator& g : generators().cpu) g.manual_seed(seed);
  for (Generator& g : generators().cuda) g.manual_seed(seed);
}

namespace cuda {

void manual_seed(std::uint64_t seed) { default_generator(kCUDA).manual_seed(seed); }
void manual_seed_all(std::uint64_t seed) {
  for (Generator& g : generators().cuda) g.manual_seed(seed);
}

}  // namespace cuda

}  // namespace halftone
