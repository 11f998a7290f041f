// What the GPU programs share: their options, timing on a device, and cases that are measured one after the other.
// The Python side is twins/gpu.py.
#pragma once

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bench/common.h"

namespace bench {

struct GpuOptions {
  std::string device = "cuda";
  bool smoke = false;  // tiny sizes, each piece of work once: shows that a program runs, measures nothing
  double seconds = 60;
  std::string only;  // cases whose name contains it

  bool on_cuda() const { return Device(device).is_cuda(); }
};

inline void wait(const GpuOptions& options) {
  if (options.on_cuda()) cuda::synchronize(canonical(Device(options.device)).index());
}

/// Work queued on a device is timed by the host's clock, from one moment at which the device is idle to the next: over
/// so many calls that waiting, some ten microseconds, does not count. The median over blocks of 20 ms and more.
template <class F> double seconds_on_device(const GpuOptions& options, double budget, F f) {
  const auto block = [&](int calls) {
    wait(options);
    const Stopwatch watch;
    for (int i = 0; i < calls; ++i) f();
    wait(options);
    return watch.seconds();
  };
  if (options.smoke) return block(1);
  int calls = 1;  // the first blocks also warm up
  for (double took = block(calls); took < 0.02; took = block(calls)) {
    calls = std::max(2 * calls, static_cast<int>(calls * std::min(0.025 / took, 20.0)));
  }
  std::vector<double> times;
  const Stopwatch all;
  while (times.size() < 3 || (all.seconds() < budget && times.size() < 25)) times.push_back(block(calls) / calls);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// One line of a program's output; `measure` gets the seconds it may take, checks what it times, and emits.
struct GpuCase {
  std::string name;
  std::function<void(double)> measure;
};

/// Measures every case, in equal shares of the time. A case that fails is told on stderr and does not stop the others.
inline int run_cases(const GpuOptions& options, std::vector<GpuCase> cases) {
  std::erase_if(cases, [&](const GpuCase& c) { return c.name.find(options.only) == std::string::npos; });
  int failures = 0;
  for (const GpuCase& c : cases) {
    try {
      c.measure(options.seconds / static_cast<double>(cases.size()));
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}: FAILED: {}\n", c.name, error.what());
      ++failures;
    }
    if (options.on_cuda()) empty_cache(Device(options.device));
  }
  if (failures > 0) fmt::print(stderr, "{} of {} cases failed\n", failures, cases.size());
  return failures == 0 ? 0 : 1;
}

/// The main function of a GPU program: reads the options, sets the default device, runs the cases that `make` gives.
inline int gpu_main(int argc, char** argv, const std::string& what,
                    const std::function<std::vector<GpuCase>(const GpuOptions&)>& make) {
  GpuOptions options;
  if (const char* device = std::getenv("HALFTONE_TEST_DEVICE")) options.device = device;
  CLI::App app(what);
  app.add_option("--device", options.device, "where to measure: cuda, cuda:1; cpu only shows that the program runs");
  app.add_option("--seconds", options.seconds, "how long to measure, about");
  app.add_option("--only", options.only, "only the cases whose name contains this");
  app.add_flag("--smoke", options.smoke, "tiny sizes and one call each, to show that the program runs");
  CLI11_PARSE(app, argc, argv);
  if (options.on_cuda() && !cuda::is_available()) {
    fmt::print(stderr,
               "{}: there is no CUDA device here, or this build has no CUDA (-DHALFTONE_CUDA=ON); "
               "--device cpu --smoke shows that the program runs\n",
               argv[0]);
    return 2;
  }
  set_default_device(Device(options.device));
  manual_seed(0);
  return run_cases(options, make(options));
}

/// Throws unless every element of `actual` is within `tolerance` of `expected`'s largest magnitude. On the CPU.
inline void check_close(const std::string& what, const Tensor& actual, const Tensor& expected, double tolerance) {
  if (expected.numel() == 0) return;
  const Tensor truth = expected.to(kFloat64);
  const double largest = truth.abs().max().item<double>();
  const double error = actual.cpu().to(kFloat64).sub(truth).abs().max().item<double>();
  check(error <= tolerance * largest, what, " is wrong: off by ", error, " where the largest value is ", largest);
}

/// What a result may be off by, as a share of its largest value: some roundings of its dtype.
inline double rounding(Dtype dtype) {
  if (dtype == kBFloat16) return 2e-2;
  return dtype == kFloat16 ? 3e-3 : 1e-4;
}

}  // namespace bench
