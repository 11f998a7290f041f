// What the GPU programs share: their options, timing on a device, and cases that are measured one after the other.
// The Python side is twins/gpu.py.
#pragma once

#include <dlfcn.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/common.h"

namespace bench {

struct GpuOptions {
  std::string device = "cuda";
  bool smoke = false;      // tiny sizes, each piece of work once: shows that a program runs, measures nothing
  bool unchecked = false;  // for later rounds: the results were compared with the CPU's in the first
  double seconds = 25;
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

/// Tells people and, by a line for the table, what was not measured and why.
inline void emit_failure(const std::string& name, const std::string& why) {
  using nlohmann::json;
  const json line{{"name", name}, {"failed", why}};
  fmt::print(stderr, "{}: FAILED: {}\n", name, why);
  fmt::print("{}\n", line.dump(-1, ' ', false, json::error_handler_t::replace));
  std::fflush(stdout);
}

/// Whether the device is still there. After some errors, a write to foreign memory for one, every call of this process
/// fails, and only another process can go on.
inline bool device_works(const GpuOptions& options) {
  try {
    wait(options);
    if (options.on_cuda()) empty_cache(Device(options.device));
    return true;
  } catch (const std::exception& error) {
    fmt::print(stderr, "device lost: {}\n", error.what());
    return false;
  }
}

/// Why a case failed; empty when it did not.
inline std::string run_case(const GpuCase& c, double budget) {
  try {
    c.measure(budget);
    return {};
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// Measures every case, in equal shares of the time. A case that fails is told and does not stop the others, unless the
/// device is lost with it. The prefix is what the names of a program's lines begin with.
inline int run_cases(const GpuOptions& options, const std::string& prefix, std::vector<GpuCase> cases) {
  std::erase_if(cases, [&](const GpuCase& c) { return c.name.find(options.only) == std::string::npos; });
  std::size_t failures = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::string why = run_case(cases[i], options.seconds / static_cast<double>(cases.size()));
    if (!why.empty()) emit_failure(prefix + cases[i].name, why), ++failures;
    if (device_works(options)) continue;
    emit_failure(prefix + cases[i].name, str("device lost, and with it the other ", cases.size() - i - 1, " cases"));
    std::_Exit(3);  // destructors would call the lost device
  }
  if (failures > 0) fmt::print(stderr, "{} of {} cases failed\n", failures, cases.size());
  return failures == 0 ? 0 : 1;
}

/// The versions of the libraries that this process has loaded, asked of themselves: `cuDNN=9.13.0`, one a line. They
/// are found by name, so that no header of theirs is needed, and none of them either.
inline void print_software() {
  const auto find = [](const char* function) { return dlsym(RTLD_DEFAULT, function); };
  const auto given = [&](const char* function) {  // by functions that write it to an int
    int version = 0;
    if (auto* const ask = reinterpret_cast<int (*)(int*)>(find(function))) ask(&version);
    return static_cast<std::size_t>(version);
  };
  const auto returned = [&](const char* function) {
    auto* const ask = reinterpret_cast<std::size_t (*)()>(find(function));
    return ask == nullptr ? 0 : ask();
  };
  const auto cuda = [](std::size_t version) {
    return version == 0 ? "" : str(version / 1000, '.', version % 1000 / 10);
  };
  const auto library = [](std::size_t version) {
    return version == 0 ? "" : str(version / 10000, '.', version / 100 % 100, '.', version % 100);
  };
  for (const auto& [name, version] : {std::pair{"CUDA of the driver", cuda(given("cudaDriverGetVersion"))},
                                      {"CUDA runtime", cuda(given("cudaRuntimeGetVersion"))},
                                      {"cuBLASLt", library(returned("cublasLtGetVersion"))},
                                      {"cuDNN", library(returned("cudnnGetVersion"))},
                                      {"NCCL", library(given("ncclGetVersion"))}})
    if (!version.empty()) fmt::print("{}={}\n", name, version);
}

/// The main function of a GPU program <name>: reads the options, sets the default device, runs the cases that `make`
/// gives. Whatever goes wrong is told by a line, never by an abort, which would lose what was measured.
inline int gpu_main(int argc, char** argv, const std::string& name, const std::string& what,
                    const std::function<std::vector<GpuCase>(const GpuOptions&)>& make) try {
  GpuOptions options;
  bool software = false;
  if (const char* device = std::getenv("HALFTONE_TEST_DEVICE")) options.device = device;
  CLI::App app(what);
  app.add_option("--device", options.device, "where to measure: cuda, cuda:1; cpu only shows that the program runs");
  app.add_option("--seconds", options.seconds, "how long to measure, about");
  app.add_option("--only", options.only, "only the cases whose name contains this");
  app.add_flag("--smoke", options.smoke, "tiny sizes and one call each, to show that the program runs");
  app.add_flag("--unchecked", options.unchecked, "do not compare results with the CPU's");
  app.add_flag("--software", software, "print the versions of the GPU's libraries, and end");
  CLI11_PARSE(app, argc, argv);
  if (software) {
    print_software();
    return 0;
  }
  if (options.on_cuda() && !cuda::is_available()) {
    fmt::print(stderr,
               "{}: there is no CUDA device here, or this build has no CUDA (-DHALFTONE_CUDA=ON); "
               "--device cpu --smoke shows that the program runs\n",
               argv[0]);
    return 2;
  }
  set_default_device(Device(options.device));
  manual_seed(0);
  return run_cases(options, name + "/", make(options));
} catch (const std::exception& error) {
  emit_failure(name, error.what());
  std::_Exit(3);
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
