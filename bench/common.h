// What the programs share: the output lines and timing. The Python side is twins/common.py.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "halftone.h"

namespace bench {

using namespace halftone;

/// One JSON object a line: what the table is made from.
inline void emit(const std::string& name, double value, const std::string& unit, Dtype dtype, int threads) {
  fmt::print(R"({{"name": "{}", "value": {}, "unit": "{}", "dtype": "{}", "threads": {}}})"
             "\n",
             name, value, unit, str(dtype), threads);
  std::fflush(stdout);
}

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// The median over blocks of calls of the time one call takes.
template <class F> double seconds_a_call(F f, double budget = 1.0, int blocks = 7) {
  f();
  const Stopwatch first;
  f();
  const double once = std::max(first.seconds(), 1e-9);
  const int calls = std::max(1, static_cast<int>(budget / blocks / once));
  std::vector<double> times;
  for (int block = 0; block < blocks; ++block) {
    const Stopwatch watch;
    for (int i = 0; i < calls; ++i) f();
    times.push_back(watch.seconds() / calls);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// The thread counts to measure with: 1 and 2, or those of the command line.
inline std::vector<int> thread_counts(int argc, char** argv) {
  std::vector<int> counts;
  for (int i = 1; i < argc; ++i) counts.push_back(std::stoi(argv[i]));
  return counts.empty() ? std::vector<int>{1, 2} : counts;
}

inline const std::string kMnist = HALFTONE_SOURCE_DIR "/examples/data/mnist";

/// The first `count` test images, normalized, with their labels.
inline data::Example<> test_images(std::int64_t count) {
  const data::datasets::MNIST mnist(kMnist, data::datasets::MNIST::Mode::kTest);
  return {mnist.images().slice(0, 0, count).sub(0.1307).div(0.3081), mnist.targets().slice(0, 0, count).clone()};
}

}  // namespace bench
