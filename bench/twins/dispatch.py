"""PyTorch's cost of one op on tiny tensors, timed from C++ as bench/dispatch.cpp is, so that no Python is in the loop."""

import torch
from torch.utils.cpp_extension import load_inline

from common import emit

SOURCE = r"""
#include <torch/torch.h>
#include <ATen/autocast_mode.h>
#include <algorithm>
#include <chrono>
#include <vector>

template <class F>
double microseconds_a_call(F f) {
  for (int i = 0; i < 2000; ++i) f();
  std::vector<double> times;
  for (int block = 0; block < 9; ++block) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 20000; ++i) f();
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / 20000);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

std::vector<double> measure() {
  pybind11::gil_scoped_release no_gil;  // the engine demands it
  std::vector<double> costs;
  const auto a = torch::rand({4}), b = torch::rand({4}), g = torch::ones({4});
  {
    torch::NoGradGuard no_grad;
    costs.push_back(microseconds_a_call([&] { auto c = a * b; }));
  }
  const auto x = torch::rand({4}, torch::requires_grad());
  costs.push_back(microseconds_a_call([&] { auto c = x * b; }));
  costs.push_back(microseconds_a_call([&] {
    auto c = x * b;
    c.backward(g);
  }));
  const auto rows = torch::rand({4, 8}), weight = torch::rand({8, 8}, torch::requires_grad());
  costs.push_back(microseconds_a_call([&] { auto c = torch::linear(rows, weight); }));
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::increment_nesting();
  const auto low = rows.to(torch::kBFloat16);
  costs.push_back(microseconds_a_call([&] { auto c = torch::linear(low, weight); }));
  at::autocast::decrement_nesting();
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  return costs;
}
"""

torch.set_num_threads(1)
module = load_inline("halftone_dispatch_twin", SOURCE, functions=["measure"], extra_cflags=["-O2"])
names = ["no_grad", "grad", "forward_backward", "linear", "linear_autocast_cached"]
for name, cost in zip(names, module.measure()):
    emit("dispatch/" + name, cost, "us", "bfloat16" if "autocast" in name else "float32", 1)
