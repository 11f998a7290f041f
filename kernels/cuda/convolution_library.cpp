#include "kernels/cuda/convolution_library.h"

#include <algorithm>
#include <functional>
#include <span>
#include <tuple>

#include "kernels/cuda/channel_bias.h"

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

/// Those that may be used, in their order. The kind of arithmetic is part of an algorithm, but nothing that was
/// measured may bring TF32 back.
template <class Candidate> std::vector<Choice> allowed(std::span<const Candidate> candidates, const ConvProblem& p) {
  std::vector<Choice> choices;
  for (const Candidate& c : candidates) {
    if (!is_allowed(c, p)) continue;
    choices.push_back({static_cast<int>(c.algo), c.memory, is_exact_float(p) ? CUDNN_FMA_MATH : c.mathType});
  }
  return choices;
}

/// Whether the library, asked for an algorithm, says that it has none. Anything else is a failure to be reported: a
/// direct convolution in its place would be as right and a hundred times as slow.
bool has_none(cudnnStatus_t status) { return is_unsupported(status) || status / 1000 == CUDNN_STATUS_BAD_PARAM / 1000; }

bool is_for_want_of_memory(cudnnStatus_t status) {
  return status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
         status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
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
  Plan plan(problem);  // remembered when it is whole: what throws here is asked again the next time
  in_direction(problem.result, [&]<class Direction>(Direction) {
    typename Direction::Candidate candidates[kMostCandidates];
    int found = 0;
    const cudnnStatus_t status = Direction::guess({handle_, plan.descriptors}, kMostCandidates, &found, candidates);
    if (has_none(status)) return;
    check(status);
    plan.choices = allowed(std::span<const typename Direction::Candidate>(candidates, candidates + found), problem);
  });
  return plans_.emplace(problem, std::move(plan)).first->second;
}

bool Convolutions::can(const ConvProblem& problem) { return !plan_for(problem).choices.empty(); }

/// The largest that a choice asks for and that can be had.
Tensor Convolutions::largest_workspace(const Plan& plan) {
  std::vector<std::size_t> sizes{0};
  for (const Choice& choice : plan.choices) sizes.push_back(choice.workspace);
  std::ranges::sort(sizes, std::greater{});
  Tensor workspace;
  for (std::size_t i = 0; !workspace.defined() && i < sizes.size(); ++i) {
    workspace = if_there_is_room([&] { return workspace_.of(gpu_, sizes[i]); });
  }
  return workspace;
}

void Convolutions::prepare(const ConvProblem& problem, const ConvTensors& t) {
  Plan& plan = plan_for(problem);
  if (!problem.timed || plan.timed) return;
  use(gpu_.device);
  in_direction(problem.result, [&]<class Direction>(Direction) {
    typename Direction::Candidate candidates[kMostCandidates];
    int found = 0;
    const Tensor workspace = largest_workspace(plan);
    const cudnnStatus_t status =
        Direction::time({handle_, plan.descriptors}, t, workspace, kMostCandidates, &found, candidates);
    if (has_none(status)) return;  // the guess stays
    check(status);
    auto timed = allowed(std::span<const typename Direction::Candidate>(candidates, candidates + found), problem);
    if (!timed.empty()) plan.choices = std::move(timed);
  });
  plan.timed = true;
}

cudnnStatus_t Convolutions::attempt(const Plan& plan, const ConvProblem& problem, ConvTensors& t, const Tensor& bias) {
  const Choice& choice = plan.choices.front();
  const Tensor workspace = if_there_is_room([&] { return workspace_.of(gpu_, choice.workspace); });
  if (!workspace.defined()) return CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
  check(cudnnSetConvolutionMathType(plan.descriptors.conv, choice.math));
  if (bias.defined()) fill_with_bias(bias, t.y);
  const Factor one(1), kept(bias.defined() ? 1 : 0);
  return in_direction(problem.result, [&]<class Direction>(Direction) {
    return Direction::run({handle_, plan.descriptors}, t, choice, workspace, one.in(problem.dtype),
                          kept.in(problem.dtype));
  });
}

bool Convolutions::run(const ConvProblem& problem, ConvTensors& t, const Tensor& bias) {
  Plan& plan = plan_for(problem);
  use(gpu_.device);
  cudnnStatus_t failure = CUDNN_STATUS_SUCCESS;
  for (std::size_t tries = plan.choices.size(); tries > 0; --tries) {
    const cudnnStatus_t status = attempt(plan, problem, t, bias);
    if (status == CUDNN_STATUS_SUCCESS) return true;
    std::ignore = cudaGetLastError();  // else a later, innocent call would report it again
    if (!is_unsupported(status) && !is_for_want_of_memory(status)) failure = status;
    std::ranges::rotate(plan.choices, plan.choices.begin() + 1);  // it comes last from now on
  }
  check(failure);
  return false;
}

}  // namespace halftone::cuda
