// What the tests of data parallelism share: nets, and values of tensors wherever they are.
#pragma once

#include <vector>

#include "halftone.h"
#include "tests/devices.h"

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

}  // namespace halftone::test
