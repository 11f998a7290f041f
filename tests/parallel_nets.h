// What the tests of data parallelism share: nets, values of tensors wherever they are, warnings, traffic between GPUs.
#pragma once

#include <string>
#include <vector>

#include "core/cuda_options.h"
#include "halftone.h"
#include "tests/cuda.h"

namespace halftone::test {

inline Tensor on_cpu(const Tensor& t) { return t.detach().to(Device(kCPU), kFloat64).contiguous(); }
inline std::vector<double> values(const Tensor& t) {
  const Tensor dense = on_cpu(t);
  return {dense.data_ptr<double>(), dense.data_ptr<double>() + dense.numel()};
}
inline bool close(const Tensor& a, const Tensor& b, double tolerance = 1e-5) {
  return a.sizes().equals(b.sizes()) && on_cpu(a).allclose(on_cpu(b), tolerance, tolerance);
}

/// Two layers with tanh between; Width apart from the sizes of the batch.
struct TwoLayersImpl : nn::Cloneable<TwoLayersImpl> {
  TwoLayersImpl() { reset(); }
  void reset() override {
    first = register_module("first", nn::Linear(4, 6));
    second = register_module("second", nn::Linear(6, 3));
  }
  Tensor forward(const Tensor& x) { return second(first(x).tanh()); }

  nn::Linear first{nullptr}, second{nullptr};
};
TORCH_MODULE(TwoLayers);

/// The largest difference between the gradients of two modules.
inline double gradient_difference(const nn::Module& a, const nn::Module& b) {
  double largest = 0;
  const auto left = a.parameters(), right = b.parameters();
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (!left[i].grad().defined() || !right[i].grad().defined()) return 1e9;
    largest = std::max(largest, (on_cpu(left[i].grad()) - on_cpu(right[i].grad())).abs().max().item<double>());
  }
  return largest;
}

/// Keeps the warnings that come while it lives. One at a time.
class Warnings {
 public:
  Warnings() : before_(set_warning_handler([](const std::string& text) { texts_.push_back(text); })) { texts_.clear(); }
  ~Warnings() { set_warning_handler(before_); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  static inline std::vector<std::string> texts_;
  WarningHandler before_;
};

/// While it lives GPUs copy to each other, or NCCL serves them where the build has it.
class AllowNccl {
 public:
  explicit AllowNccl(bool on) { cuda::set_allow_nccl(on); }
  ~AllowNccl() { cuda::set_allow_nccl(true); }
  AllowNccl(const AllowNccl&) = delete;
  AllowNccl& operator=(const AllowNccl&) = delete;
};

/// A write to every parameter, as an optimizer's, that changes no value: replicas need new copies.
inline void touch_parameters(const nn::Module& module) {
  for (const Tensor& p : module.parameters()) p.storage()->bump_version();
}

#if HALFTONE_SIMULATED_CUDA

/// What all simulated GPUs counted since the counters were reset.
inline std::uint64_t counted(std::uint64_t cudasim::Counters::*what) {
  std::uint64_t sum = 0;
  for (const cudasim::Counters& device : cudasim::counters()) sum += device.*what;
  return sum;
}

#endif

}  // namespace halftone::test
