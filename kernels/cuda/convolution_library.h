// cuDNN's convolutions: descriptions, the choice of an algorithm, the call. A ConvProblem is looked up among those met
// before; only a new one is described and asked for.
#pragma once

#include <map>
#include <vector>

#include "kernels/conv_problem.h"
#include "kernels/cuda/libraries.h"

namespace halftone::cuda {

/// All three in the problem's format and dtype, at addresses divisible by 16. One of them is written.
struct ConvTensors {
  Tensor x, w, y;
};

/// Convolutions of one thread on one device.
class Convolutions {
 public:
  explicit Convolutions(Gpu& g);

  /// Whether there is an algorithm at all; asks for it without looking at the tensors. An Error if the library fails.
  bool can(const ConvProblem& problem);
  /// Finds the algorithm by timing, if the problem says so; this overwrites the result.
  void prepare(const ConvProblem& problem, const ConvTensors& t);
  /// The convolution, plus the bias if that is defined. An algorithm that fails leaves its place to the next one; false
  /// if there was none that could do without more memory.
  bool run(const ConvProblem& problem, ConvTensors& t, const Tensor& bias);

  struct Choice {
    int algorithm = 0;
    std::size_t workspace = 0;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
  };
  struct Descriptors {
    explicit Descriptors(const ConvProblem& problem);
    Handle<cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor> x, y;
    Handle<cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor> w;
    Handle<cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor> conv;
  };

 private:
  struct Plan {
    explicit Plan(const ConvProblem& problem) : descriptors(problem) {}
    Descriptors descriptors;
    std::vector<Choice> choices;  // the best first; none: the library has no algorithm
    bool timed = false;
  };
  Plan& plan_for(const ConvProblem& problem);
  cudnnStatus_t attempt(const Plan& plan, const ConvProblem& problem, ConvTensors& t, const Tensor& bias);
  Tensor largest_workspace(const Plan& plan);

  Gpu& gpu_;
  Handle<cudnnCreate, cudnnDestroy> handle_;
  Workspace workspace_;
  std::map<ConvProblem, Plan> plans_;
};

}  // namespace halftone::cuda
