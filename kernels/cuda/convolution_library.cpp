#include "kernels/cuda/convolution_library.h"

#include <algorithm>
#include <span>

namespace halftone::cuda {
namespace {

using Descriptors = Convolutions::Descriptors;
using Choice = Convolutions::Choice;

cudnnDataType_t data_type(Dtype d) {
  if (d == kFloat16) return CUDNN_DATA_HALF;
  if (d == kBFloat16) return CUDNN_DATA_BFLOAT16;
  return d == kFloat64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
}

bool is_exact_float(const ConvProblem& p) { return p.dtype == kFloat32 && !p.tf32; }

// The three directions have the same functions under three names. Each is a type with
//   guess     the library's candidates in the order of the time it expects
//   time      the candidates in the order of the time they took
//   run       result = kept * result + convolution
struct Call {
  cudnnHandle_t handle;
  const Descriptors& d;
};

struct Forward {
  using Candidate = cudnnConvolutionFwdAlgoPerf_t;
  static cudnnStatus_t guess(const Call& c, int count, int* found, Candidate* to) {
    return cudnnGetConvolutionForwardAlgorithm_v7(c.handle, c.d.x, c.d.w, c.d.conv, c.d.y, count, found, to);
  }
  static cudnnStatus_t time(const Call& c, const ConvTensors& t, const Tensor& workspace, int count, int* found,
                            Candidate* to) {
    return cudnnFindConvolutionForwardAlgorithmEx(c.handle, c.d.x, t.x.data_ptr(), c.d.w, t.w.data_ptr(), c.d.conv,
                                                  c.d.y, t.y.data_ptr(), count, found, to, workspace.data_ptr(),
                                                  workspace.nbytes());
  }
  static cudnnStatus_t run(const Call& c, const ConvTensors& t, const Choice& choice, const Tensor& workspace,
                           const void* one, const void* kept) {
    return cudnnConvolutionForward(c.handle, one, c.d.x, t.x.data_ptr(), c.d.w, t.w.data_ptr(), c.d.conv,
                                   static_cast<cudnnConvolutionFwdAlgo_t>(choice.algorithm), workspace.data_ptr(),
                                   choice.workspace, kept, c.d.y, t.y.data_ptr());
  }
};

struct DataGrad {
  using Candidate = cudnnConvolutionBwdDataAlgoPerf_t;
  static cudnnStatus_t guess(const Call& c, int count, int* found, Candidate* to) {
    return cudnnGetConvolutionBackwardDataAlgorithm_v7(c.handle, c.d.w, c.d.y, c.d.conv, c.d.x, count, found, to);
  }
  static cudnnStatus_t time(const Call& c, const ConvTensors& t, const Tensor& workspace, int count, int* found,
                            Candidate* to) {
    return cudnnFindConvolutionBackwardDataAlgorithmEx(c.handle, c.d.w, t.w.data_ptr(), c.d.y, t.y.data_ptr(), c.d.conv,
                                                       c.d.x, t.x.data_ptr(), count, found, to, workspace.data_ptr(),
                                                       workspace.nbytes());
  }
  static cudnnStatus_t run(const Call& c, const ConvTensors& t, const Choice& choice, const Tensor& workspace,
                           const void* one, const void* kept) {
    return cudnnConvolutionBackwardData(c.handle, one, c.d.w, t.w.data_ptr(), c.d.y, t.y.data_ptr(), c.d.conv,
                                        static_cast<cudnnConvolutionBwdDataAlgo_t>(choice.algorithm),
                                        workspace.data_ptr(), choice.workspace, kept, c.d.x, t.x.data_ptr());
  }
};

struct WeightGrad {
  using Candidate = cudnnConvolutionBwdFilterAlgoPerf_t;
  static cudnnStatus_t guess(const Call& c, int count, int* found, Candidate* to) {
    return cudnnGetConvolutionBackwardFilterAlgorithm_v7(c.handle, c.d.x, c.d.y, c.d.conv, c.d.w, count, found, to);
  }
  static cudnnStatus_t time(const Call& c, const ConvTensors& t, const Tensor& workspace, int count, int* found,
                            Candidate* to) {
    return cudnnFindConvolutionBackwardFilterAlgorithmEx(c.handle, c.d.x, t.x.data_ptr(), c.d.y, t.y.data_ptr(),
                                                         c.d.conv, c.d.w, t.w.data_ptr(), count, found, to,
                                                         workspace.data_ptr(), workspace.nbytes());
  }
  static cudnnStatus_t run(const Call& c, const ConvTensors& t, const Choice& choice, const Tensor& workspace,
                           const void* one, const void* kept) {
    return cudnnConvolutionBackwardFilter(c.handle, one, c.d.x, t.x.data_ptr(), c.d.y, t.y.data_ptr(), c.d.conv,
                                          static_cast<cudnnConvolutionBwdFilterAlgo_t>(choice.algorithm),
                                          workspace.data_ptr(), choice.workspace, kept, c.d.w, t.w.data_ptr());
  }
};

/// Calls f with the direction's type.
template <class F> auto in_direction(ConvResult result, F f) {
  if (result == ConvResult::y) return f(Forward{});
  return result == ConvResult::x ? f(DataGrad{}) : f(WeightGrad{});
}

constexpr int kMostCandidates = 16;

template <class Candidate> bool is_allowed(const Candidate& c, const ConvProblem& p) {
  return c.status == CUDNN_STATUS_SUCCESS && c.memory <= p.workspace_limit &&
         (!p.deterministic || c.determinism == CUDNN_DETERMINISTIC);
}

/// The best of the candidates. The kind of arithmetic is part of an algorithm, but nothing that was measured may bring
/// TF32 back.
template <class Candidate> std::optional<Choice> best_of(std::span<const Candidate> candidates, const ConvProblem& p) {
  const auto best = std::ranges::find_if(candidates, [&](const Candidate& c) { return is_allowed(c, p); });
  if (best == candidates.end()) return std::nullopt;
  return Choice{static_cast<int>(best->algo), best->memory, is_exact_float(p) ? CUDNN_FMA_MATH : best->mathType};
}

template <class Candidate> std::size_t largest_workspace(std::span<const Candidate> candidates, const ConvProblem& p) {
  std::size_t bytes = 0;
  for (const Candidate& c : candidates) {
    if (is_allowed(c, p)) bytes = std::max(bytes, c.memory);
  }
  return bytes;
}

cudnnMathType_t permitted_math(const ConvProblem& p) {
  if (is_exact_float(p)) return CUDNN_FMA_MATH;
  return is_low_precision(p.dtype) ? CUDNN_TENSOR_OP_MATH : CUDNN_DEFAULT_MATH;
}

template <class Descriptor> void set_tensor(const Descriptor& to, Dtype dtype, const ConvTensor& t) {
  check(cudnnSetTensorNdDescriptor(to, data_type(dtype), static_cast<int>(t.sizes.size()), t.sizes.data(),
                                   t.strides.data()));
}

}  // namespace

Convolutions::Descriptors::Descriptors(const ConvProblem& p) {
  const ConvDescription shape = describe(p.shape, p.format);
  set_tensor(x, p.dtype, shape.x);
  set_tensor(y, p.dtype, shape.y);
  check(cudnnSetFilterNdDescriptor(w, data_type(p.dtype),
                                   p.format == MemoryFormat::ChannelsLast ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW,
                                   static_cast<int>(shape.w.sizes.size()), shape.w.sizes.data()));
  check(cudnnSetConvolutionNdDescriptor(conv, static_cast<int>(shape.padding.size()), shape.padding.data(),
                                        shape.stride.data(), shape.dilation.data(), CUDNN_CROSS_CORRELATION,
                                        p.dtype == kFloat64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT));
  check(cudnnSetConvolutionGroupCount(conv, static_cast<int>(p.shape.groups)));
  check(cudnnSetConvolutionMathType(conv, permitted_math(p)));
}

Convolutions::Convolutions(Gpu& g) : gpu_(g) { check(cudnnSetStream(handle_, g.stream)); }

Convolutions::Plan& Convolutions::plan_for(const ConvProblem& problem) {
  if (const auto known = plans_.find(problem); known != plans_.end()) return known->second;
  constexpr std::size_t kMostPlans = 4096;  // shapes may never repeat
  if (plans_.size() >= kMostPlans) plans_.clear();
  use(gpu_.device);
  Plan& plan = plans_.try_emplace(problem, problem).first->second;
  in_direction(problem.result, [&]<class Direction>(Direction) {
    typename Direction::Candidate candidates[kMostCandidates];
    int found = 0;
    const Call call{handle_, plan.descriptors};
    if (Direction::guess(call, kMostCandidates, &found, candidates) != CUDNN_STATUS_SUCCESS) return;
    const std::span<const typename Direction::Candidate> all(candidates, static_cast<std::size_t>(found));
    plan.chosen = best_of(all, problem);
    plan.largest_workspace = largest_workspace(all, problem);
  });
  return plan;
}

bool Convolutions::can(const ConvProblem& problem) { return plan_for(problem).chosen.has_value(); }

void Convolutions::prepare(const ConvProblem& problem, const ConvTensors& t) {
  Plan& plan = plan_for(problem);
  if (!problem.timed || plan.timed) return;
  plan.timed = true;
  use(gpu_.device);
  in_direction(problem.result, [&]<class Direction>(Direction) {
    typename Direction::Candidate candidates[kMostCandidates];
    int found = 0;
    const Tensor workspace = workspace_.of(gpu_, plan.largest_workspace);
    const Call call{handle_, plan.descriptors};
    if (Direction::time(call, t, workspace, kMostCandidates, &found, candidates) != CUDNN_STATUS_SUCCESS) return;
    const std::span<const typename Direction::Candidate> all(candidates, static_cast<std::size_t>(found));
    if (const auto fastest = best_of(all, problem)) plan.chosen = fastest;
  });
}

void Convolutions::run(const ConvProblem& problem, const ConvTensors& t, double kept) {
  const Plan& plan = plan_for(problem);
  use(gpu_.device);
  check(cudnnSetConvolutionMathType(plan.descriptors.conv, plan.chosen->math));
  const Tensor workspace = workspace_.of(gpu_, plan.chosen->workspace);
  const Factor one(1), of_result(kept);
  in_direction(problem.result, [&]<class Direction>(Direction) {
    check(Direction::run({handle_, plan.descriptors}, t, *plan.chosen, workspace, one.in(problem.dtype),
                         of_result.in(problem.dtype)));
  });
}

}  // namespace halftone::cuda
