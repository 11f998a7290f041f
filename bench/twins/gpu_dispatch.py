"""PyTorch's host cost of one op on a tiny tensor of a GPU, timed from C++ as bench/gpu_dispatch.cpp is: no Python in it."""

import torch
from torch.utils.cpp_extension import load_inline

from common import emit
from gpu import options

SOURCE = r"""
#include <torch/torch.h>
#include <ATen/autocast_mode.h>
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

template <class F> double microseconds_a_call(bool on_cuda, int calls, F f) {
  std::vector<double> times;
  for (int block = 0; block < 10; ++block) {
    if (on_cuda) torch::cuda::synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) f();
    if (on_cuda) torch::cuda::synchronize();
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / calls);
  }
  times.erase(times.begin());  // the warm-up
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

std::vector<double> measure(const std::string& name, int64_t calls) {
  pybind11::gil_scoped_release no_gil;  // the engine demands it
  const torch::Device device(name);
  const auto type = device.type();
  const auto cost = [&](auto f) { return microseconds_a_call(device.is_cuda(), static_cast<int>(calls), f); };
  std::vector<double> costs;
  const auto a = torch::rand({4}, device), b = torch::rand({4}, device), g = torch::ones({4}, device);
  {
    torch::NoGradGuard no_grad;
    costs.push_back(cost([&] { auto c = a * b; }));
  }
  const auto x = torch::rand({4}, torch::TensorOptions(device).requires_grad(true));
  costs.push_back(cost([&] { auto c = x * b; }));
  costs.push_back(cost([&] { (x * b).backward(g); }));
  const auto rows = torch::rand({4, 8}, device);
  const auto weight = torch::rand({8, 8}, torch::TensorOptions(device).requires_grad(true));
  costs.push_back(cost([&] { auto c = torch::linear(rows, weight); }));
  at::autocast::set_autocast_enabled(type, true);
  at::autocast::set_autocast_dtype(type, at::kHalf);
  at::autocast::increment_nesting();
  const auto low = rows.to(torch::kHalf);
  costs.push_back(cost([&] { auto c = torch::linear(low, weight); }));
  at::autocast::decrement_nesting();
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(type, false);
  return costs;
}
"""

asked = options()
torch.set_default_device("cpu")
module = load_inline("halftone_gpu_dispatch_twin", SOURCE, functions=["measure"], extra_cflags=["-O2"])
if asked.prepare:
    raise SystemExit
names = ["no_grad", "grad", "forward_backward", "linear", "linear_autocast_cached"]
for name, cost in zip(names, module.measure(asked.device, 1 if asked.smoke else 5000)):
    emit("gpu_dispatch/" + name, cost, "us", "float16" if "autocast" in name else "float32", 1)
