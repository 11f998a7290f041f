// A group: the replicas of one forward, as far as one needs what the others know.
#pragma once

#include <condition_variable>
#include <mutex>
#include <span>
#include <vector>

#include "autograd/node.h"
#include "nn/parallel/workers.h"

namespace halftone::nn::parallel {

class Group {
 public:
  /// As many replicas take part as there are devices.
  explicit Group(std::span<const Device> devices) : devices_(devices.begin(), devices.end()), gone_(devices.size()) {}

  struct Sums {
    Tensor tensor;  // on the caller's device
    double number;
  };
  /// The sum of what all replicas bring, for each of them, once all have come. The tensors have one shape; the sum is
  /// differentiable, in backward too. `what` names the caller in errors. Throws ValueError, in all of them, when the
  /// tensors differ in sizes or dtype, and Abandoned when a replica has ended without coming.
  Sums sum(std::size_t rank, const Tensor& x, double number, const char* what);
  /// This replica has ended: nobody is to wait for it.
  void leave(std::size_t rank);

 private:
  struct Meeting {  // of all replicas, at one place of their forwards
    std::vector<Tensor> brought;
    std::vector<Edge> edges;
    std::vector<Tensor> sums;
    double number = 0;
    std::size_t arrived = 0;
    std::exception_ptr failure;
  };
  void compare(Meeting& meeting, std::size_t rank, const char* what) const;
  void finish(Meeting& meeting) const;

  std::vector<Device> devices_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Meeting>> meetings_;  // the i-th is of everyone's i-th call
  std::vector<std::size_t> calls_ = std::vector<std::size_t>(devices_.size());
  std::vector<bool> gone_;
};

}  // namespace halftone::nn::parallel
