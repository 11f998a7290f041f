// cuDNN's convolutions by plain loops. Strict where the library is: what it refuses, or leaves undefined, is refused
// here too.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <cudasim/library.h>
#include "tests/cudasim/library_values.h"

struct cudnnContext {
  int device = 0;
  cudaStream_t stream = nullptr;
};
struct cudnnTensorStruct {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::vector<std::int64_t> sizes, strides;
};
struct cudnnFilterStruct {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;
  std::vector<std::int64_t> sizes;
};
struct cudnnConvolutionStruct {
  std::vector<std::int64_t> padding, stride, dilation;
  cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
  std::int64_t groups = 1;
};

namespace {
using Sizes = std::vector<std::int64_t>;

enum class Result { y, x, w };

cudaDataType_t data_type(cudnnDataType_t type) {
  if (type == CUDNN_DATA_HALF) return CUDA_R_16F;
  if (type == CUDNN_DATA_BFLOAT16) return CUDA_R_16BF;
  return type == CUDNN_DATA_DOUBLE ? CUDA_R_64F : CUDA_R_32F;
}

std::int64_t count(const Sizes& sizes) {
  std::int64_t n = 1;
  for (const std::int64_t s : sizes) n *= s;
  return n;
}

Sizes dense_strides(const Sizes& sizes, bool channels_last) {
  Sizes strides(sizes.size());
  std::int64_t stride = 1;
  if (channels_last) strides[1] = 1, stride = sizes[1];
  for (std::size_t i = sizes.size() - 1; i > 1; --i) strides[i] = stride, stride *= sizes[i];
  if (!channels_last) strides[1] = stride, stride *= sizes[1];
  strides[0] = stride;
  return strides;
}

/// A convolution whose descriptors agree with each other.
struct Problem {
  Sizes x, w, y;                          // sizes
  Sizes x_strides, w_strides, y_strides;  // in elements
  cudnnConvolutionStruct conv;
  cudaDataType_t type = CUDA_R_32F;
  bool channels_last = false;
  Result result = Result::y;
};

cudnnStatus_t describe(Result result, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
                       cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y, Problem& p) {
  if (!x || !w || !conv || !y) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  p = {x->sizes, w->sizes, y->sizes, x->strides, {}, y->strides, *conv, data_type(x->type), false, result};
  p.channels_last = w->format == CUDNN_TENSOR_NHWC;
  p.w_strides = dense_strides(p.w, p.channels_last);
  const std::size_t rank = p.x.size();
  if (rank < 4 || p.w.size() != rank || p.y.size() != rank || conv->padding.size() + 2 != rank) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  if (w->type != x->type || y->type != x->type) return CUDNN_STATUS_BAD_PARAM;
  if ((conv->compute == CUDNN_DATA_DOUBLE) != (x->type == CUDNN_DATA_DOUBLE)) return CUDNN_STATUS_BAD_PARAM;
  const bool fit =
      p.x[0] == p.y[0] && p.w[0] == p.y[1] && p.w[1] * conv->groups == p.x[1] && p.w[0] % conv->groups == 0;
  if (!fit) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  for (std::size_t i = 0; i + 2 < rank; ++i) {
    const std::int64_t room = p.x[i + 2] + 2 * conv->padding[i] - conv->dilation[i] * (p.w[i + 2] - 1) - 1;
    if (room < 0 || room / conv->stride[i] + 1 != p.y[i + 2]) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  }
  return CUDNN_STATUS_SUCCESS;
}

/// Images in the order of the filter, without gaps; channels-last for neither double nor groups of float.
cudnnStatus_t support(const Problem& p) {
  if (p.x_strides != dense_strides(p.x, p.channels_last) || p.y_strides != dense_strides(p.y, p.channels_last)) {
    return CUDNN_STATUS_NOT_SUPPORTED_LAYOUT;
  }
  const bool exact = !cudasim::is_16_bit(p.type);
  if (p.channels_last && (p.type == CUDA_R_64F || (exact && p.conv.groups > 1)))
    return CUDNN_STATUS_NOT_SUPPORTED_LAYOUT;
  return CUDNN_STATUS_SUCCESS;
}

/// In the order in which the library recommends them. The first of each direction is one that a program may have to do
/// without: it takes memory, and the gradients' does not add up in a fixed order. The next one of the gradients does,
/// in as much memory. Which one ran is part of a call's name.
struct Algorithm {
  int number;
  std::size_t workspace;
  bool deterministic;
};
std::vector<Algorithm> algorithms(const Problem& p) {
  if (support(p) != CUDNN_STATUS_SUCCESS) return {};
  const auto bytes = static_cast<std::size_t>(count(p.w)) * 4;
  if (p.result == Result::y) return {{CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, bytes, true}, {0, 0, true}};
  return {{0, bytes, false}, {2, bytes, true}, {1, 0, true}};
}

bool is_current(cudnnHandle_t handle) {
  int device = -1;
  return handle != nullptr && cudaGetDevice(&device) == cudaSuccess && device == handle->device;
}

/// The candidates, without running them.
template <class Perf>
cudnnStatus_t list(cudnnHandle_t handle, const Problem& p, int requested, int* returned, Perf* results) {
  if (!is_current(handle) || requested < 1 || returned == nullptr || results == nullptr) return CUDNN_STATUS_BAD_PARAM;
  if (cudasim::library_call_fails("cudnnGet")) return CUDNN_STATUS_INTERNAL_ERROR;
  *returned = 0;
  for (const Algorithm& a : algorithms(p)) {
    if (*returned == requested) break;
    Perf& r = results[*returned] = {};
    r.algo = static_cast<decltype(r.algo)>(a.number);
    r.status = CUDNN_STATUS_SUCCESS;
    r.time = -1;
    r.memory = a.workspace;
    r.determinism = a.deterministic ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
    r.mathType = p.conv.math;
    ++*returned;
  }
  if (*returned < requested) {
    Perf& r = results[*returned] = {};
    r.status = CUDNN_STATUS_NOT_SUPPORTED;
    ++*returned;
  }
  return CUDNN_STATUS_SUCCESS;
}

struct Call {
  Problem p;
  int algorithm;
  double alpha, beta;
  const void *x, *w, *y;
  void* workspace;
  std::size_t workspace_bytes;
};

std::int64_t place(const Sizes& strides, std::int64_t outer, std::int64_t channel, const Sizes& at) {
  std::int64_t i = outer * strides[0] + channel * strides[1];
  for (std::size_t d = 0; d < at.size(); ++d) i += at[d] * strides[d + 2];
  return i;
}

/// Calls f(position) for all positions of the spatial axes, in row-major order.
template <class F> void for_each_position(const Sizes& sizes, F f) {
  Sizes at(sizes.size() - 2, 0);
  for (std::int64_t n = count({sizes.begin() + 2, sizes.end()}); n > 0; --n) {
    f(at);
    for (std::size_t d = at.size(); d-- > 0;) {
      if (++at[d] < sizes[d + 2]) break;
      at[d] = 0;
    }
  }
}

/// Calls f(index of x, index of w, index of y) for every product of the convolution.
template <class F> void for_each_product(const Problem& p, F f) {
  const std::int64_t outs = p.w[0] / p.conv.groups;
  Sizes in(p.x.size() - 2);
  for_each_position(p.y, [&](const Sizes& o) {
    for_each_position(p.w, [&](const Sizes& k) {
      for (std::size_t d = 0; d < in.size(); ++d) {
        in[d] = o[d] * p.conv.stride[d] - p.conv.padding[d] + k[d] * p.conv.dilation[d];
        if (in[d] < 0 || in[d] >= p.x[d + 2]) return;
      }
      for (std::int64_t n = 0; n < p.x[0]; ++n) {
        for (std::int64_t to = 0; to < p.w[0]; ++to) {
          for (std::int64_t c = 0; c < p.w[1]; ++c) {
            f(place(p.x_strides, n, to / outs * p.w[1] + c, in), place(p.w_strides, to, c, k),
              place(p.y_strides, n, to, o));
          }
        }
      }
    });
  });
}

void* target_of(const Call& call) {
  const Result r = call.p.result;
  return const_cast<void*>(r == Result::y ? call.y : r == Result::x ? call.x : call.w);
}

std::int64_t elements_of(const Problem& p, Result which) {
  return count(which == Result::y ? p.y : which == Result::x ? p.x : p.w);
}

std::vector<double> read(const Call& call, Result which, const void* from) {
  const Problem& p = call.p;
  std::vector<double> values(static_cast<std::size_t>(elements_of(p, which)));
  const bool tf32 = p.type == CUDA_R_32F && p.conv.math != CUDNN_FMA_MATH;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = cudasim::load(p.type, from, static_cast<std::int64_t>(i));
    if (tf32) values[i] = static_cast<double>(cudasim::as_tf32(static_cast<float>(values[i])));
  }
  return values;
}

bool may_touch(const Call& call) {
  const std::size_t size = cudasim::bytes_of(call.p.type);
  const struct {
    Result which;
    const void* data;
  } tensors[] = {{Result::x, call.x}, {Result::w, call.w}, {Result::y, call.y}};
  for (const auto& t : tensors) {
    const std::size_t bytes = static_cast<std::size_t>(elements_of(call.p, t.which)) * size;
    const bool is_target = t.which == call.p.result;
    if ((!is_target || call.beta != 0) && !cudasim::library_reads(t.data, bytes)) return false;
    if (is_target && !cudasim::library_writes(const_cast<void*>(t.data), bytes)) return false;
  }
  return call.workspace_bytes == 0 || cudasim::library_writes(call.workspace, call.workspace_bytes);
}

/// The result shares no memory with the two that are read, and the workspace with none of the three.
bool is_apart(const Call& call) {
  const struct {
    Result which;
    const void* data;
  } tensors[] = {{Result::x, call.x}, {Result::w, call.w}, {Result::y, call.y}};
  std::vector<cudasim::Run> given, result;
  for (const auto& t : tensors) {
    const auto bytes = static_cast<std::size_t>(elements_of(call.p, t.which)) * cudasim::bytes_of(call.p.type);
    (t.which == call.p.result ? result : given).push_back(cudasim::run_of(t.data, bytes));
  }
  if (cudasim::overlap(given, result)) return false;
  given.push_back(result.front());
  return call.workspace_bytes == 0 || !cudasim::overlap(given, {cudasim::run_of(call.workspace, call.workspace_bytes)});
}

void run(const Call& call) {
  if (!may_touch(call)) return;
  const Problem& p = call.p;
  std::vector<double> x, w, y;
  if (p.result != Result::x) x = read(call, Result::x, call.x);
  if (p.result != Result::w) w = read(call, Result::w, call.w);
  if (p.result != Result::y) y = read(call, Result::y, call.y);
  std::vector<cudasim::Sum> sums(static_cast<std::size_t>(elements_of(p, p.result)),
                                 cudasim::Sum(p.type == CUDA_R_64F));
  for_each_product(p, [&](std::int64_t i, std::int64_t j, std::int64_t o) {
    const auto xi = static_cast<std::size_t>(i), wi = static_cast<std::size_t>(j), yi = static_cast<std::size_t>(o);
    if (p.result == Result::y) sums[yi].add(x[xi], w[wi]);
    if (p.result == Result::x) sums[xi].add(y[yi], w[wi]);
    if (p.result == Result::w) sums[wi].add(y[yi], x[xi]);
  });
  if (call.workspace_bytes > 0) std::memset(call.workspace, 0xFF, call.workspace_bytes);
  void* const target = target_of(call);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const double kept = call.beta == 0 ? 0 : call.beta * cudasim::load(p.type, target, at);
    cudasim::store(p.type, target, at, call.alpha * sums[i].value() + kept);
  }
}

constexpr std::size_t kAlignment = 16;  // the kernels load 16 bytes at once

cudnnStatus_t convolve(cudnnHandle_t handle, const char* name, cudnnStatus_t described, Call call, const void* alpha,
                       const void* beta) {
  if (described != CUDNN_STATUS_SUCCESS) return described;
  if (!is_current(handle)) return CUDNN_STATUS_BAD_PARAM;
  if (!alpha || !beta || !call.x || !call.w || !call.y) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  for (const void* p : {call.x, call.w, call.y}) {
    if (!cudasim::is_aligned(p, kAlignment)) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  }
  const auto all = algorithms(call.p);
  const auto chosen =
      std::find_if(all.begin(), all.end(), [&](const Algorithm& a) { return a.number == call.algorithm; });
  if (chosen == all.end()) return CUDNN_STATUS_NOT_SUPPORTED;
  if (call.workspace_bytes < chosen->workspace) return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
  call.workspace_bytes = chosen->workspace;
  if (!is_apart(call)) return CUDNN_STATUS_BAD_PARAM;
  const cudaDataType_t scale = call.p.type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F;
  call.alpha = cudasim::load(scale, alpha, 0);
  call.beta = cudasim::load(scale, beta, 0);
  const std::string full_name = std::string(name) + ", algorithm " + std::to_string(call.algorithm);
  const cudaError_t status = cudasim::enqueue_library_call(handle->stream, full_name.c_str(), [call] { run(call); });
  return status == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

/// Times what fits the workspace. It runs the algorithms, so the result is overwritten and the host waits. What is
/// recommended second comes out the quickest, so that whether somebody asked shows in the choice.
template <class Perf>
cudnnStatus_t find(cudnnHandle_t handle, cudnnStatus_t described, Call call, int requested, int* returned,
                   Perf* results) {
  if (described != CUDNN_STATUS_SUCCESS) return described;
  if (!is_current(handle) || requested < 1 || !returned || !results) return CUDNN_STATUS_BAD_PARAM;
  if (cudasim::library_call_fails("cudnnFind")) return CUDNN_STATUS_INTERNAL_ERROR;
  cudaStreamCaptureStatus capturing{};
  if (cudaStreamIsCapturing(handle->stream, &capturing) != cudaSuccess || capturing != cudaStreamCaptureStatusNone) {
    return CUDNN_STATUS_EXECUTION_FAILED;
  }
  *returned = 0;
  const float one = 1, zero = 0;
  const double wide_one = 1, wide_zero = 0;
  const bool wide = call.p.type == CUDA_R_64F;
  std::vector<Algorithm> all = algorithms(call.p);
  if (all.size() > 1) std::swap(all[0], all[1]);
  for (const Algorithm& a : all) {
    if (*returned == requested) break;
    Perf& r = results[*returned] = {};
    call.algorithm = a.number;
    r.algo = static_cast<decltype(r.algo)>(a.number);
    r.memory = a.workspace;
    r.determinism = a.deterministic ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
    r.mathType = CUDNN_DEFAULT_MATH;
    r.time = static_cast<float>(*returned + 1);
    r.status =
        convolve(handle, "cudnnFind", CUDNN_STATUS_SUCCESS, call, wide ? static_cast<const void*>(&wide_one) : &one,
                 wide ? static_cast<const void*>(&wide_zero) : &zero);
    ++*returned;
  }
  const cudaError_t spoilt = cudasim::enqueue_library_call(handle->stream, "cudnnFind", [call] {
    void* const target = target_of(call);
    const auto bytes = static_cast<std::size_t>(elements_of(call.p, call.p.result)) * cudasim::bytes_of(call.p.type);
    if (cudasim::library_writes(target, bytes)) std::memset(target, 0xFF, bytes);
  });
  if (spoilt != cudaSuccess || cudaStreamSynchronize(handle->stream) != cudaSuccess)
    return CUDNN_STATUS_EXECUTION_FAILED;
  return CUDNN_STATUS_SUCCESS;
}

template <class T> cudnnStatus_t create(T** to) {
  if (to == nullptr) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  *to = new T;
  return CUDNN_STATUS_SUCCESS;
}
template <class T> cudnnStatus_t destroy(T* object) {
  delete object;
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_BAD_PARAM_NULL_POINTER: return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
    case CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER: return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
    case CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH: return "CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH";
    case CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH: return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_NOT_SUPPORTED_LAYOUT: return "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT";
    case CUDNN_STATUS_INTERNAL_ERROR: return "CUDNN_STATUS_INTERNAL_ERROR";
    default: return "CUDNN_STATUS_EXECUTION_FAILED";
  }
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (handle == nullptr) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  int device = -1;
  if (cudasim::library_call_fails("cudnnCreate")) return CUDNN_STATUS_INTERNAL_ERROR;
  if (cudaGetDevice(&device) != cudaSuccess) return CUDNN_STATUS_NOT_INITIALIZED;
  *handle = new cudnnContext{device, nullptr};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (!is_current(handle)) return CUDNN_STATUS_BAD_PARAM;
  if (cudasim::device_of(stream) != handle->device) return CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH;
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensor) { return create(tensor); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) { return destroy(tensor); }
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int count,
                                         const int sizes[], const int strides[]) {
  if (!tensor || !sizes || !strides) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  if (count < 4 || count > 8) return CUDNN_STATUS_NOT_SUPPORTED;
  for (int i = 0; i < count; ++i) {
    if (sizes[i] < 1 || strides[i] < 1) return CUDNN_STATUS_BAD_PARAM;
  }
  *tensor = {type, {sizes, sizes + count}, {strides, strides + count}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filter) { return create(filter); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) { return destroy(filter); }
cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int count, const int sizes[]) {
  if (!filter || !sizes) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  if (count < 4 || count > 8) return CUDNN_STATUS_NOT_SUPPORTED;
  if (std::any_of(sizes, sizes + count, [](int size) { return size < 1; })) return CUDNN_STATUS_BAD_PARAM;
  *filter = {type, format, {sizes, sizes + count}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* convolution) {
  return create(convolution);
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t convolution) {
  return destroy(convolution);
}
cudnnStatus_t cudnnSetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t convolution, int count, const int padding[],
                                              const int stride[], const int dilation[], cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
  if (!convolution || !padding || !stride || !dilation) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  if (count < 2 || count > 6 || mode != CUDNN_CROSS_CORRELATION) return CUDNN_STATUS_NOT_SUPPORTED;
  if (compute != CUDNN_DATA_FLOAT && compute != CUDNN_DATA_DOUBLE) return CUDNN_STATUS_NOT_SUPPORTED;
  for (int i = 0; i < count; ++i) {
    if (padding[i] < 0 || stride[i] < 1 || dilation[i] < 1) return CUDNN_STATUS_BAD_PARAM;
  }
  convolution->padding = {padding, padding + count};
  convolution->stride = {stride, stride + count};
  convolution->dilation = {dilation, dilation + count};
  convolution->compute = compute;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t convolution, int groups) {
  if (!convolution || groups < 1) return CUDNN_STATUS_BAD_PARAM;
  convolution->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convolution, cudnnMathType_t math) {
  if (!convolution) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  convolution->math = math;
  return CUDNN_STATUS_SUCCESS;
}

// ---------------------------------------------------------------- the three directions

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                                                     cudnnFilterDescriptor_t w,
                                                     cudnnConvolutionDescriptor_t convolution,
                                                     cudnnTensorDescriptor_t y, int requested, int* returned,
                                                     cudnnConvolutionFwdAlgoPerf_t* results) {
  Problem p;
  const cudnnStatus_t status = describe(Result::y, x, w, convolution, y, p);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  return list(handle, p, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t handle, cudnnFilterDescriptor_t w,
                                                          cudnnTensorDescriptor_t dy,
                                                          cudnnConvolutionDescriptor_t convolution,
                                                          cudnnTensorDescriptor_t dx, int requested, int* returned,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* results) {
  Problem p;
  const cudnnStatus_t status = describe(Result::x, dx, w, convolution, dy, p);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  return list(handle, p, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                                                            cudnnTensorDescriptor_t dy,
                                                            cudnnConvolutionDescriptor_t convolution,
                                                            cudnnFilterDescriptor_t dw, int requested, int* returned,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* results) {
  Problem p;
  const cudnnStatus_t status = describe(Result::w, x, dw, convolution, dy, p);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  return list(handle, p, requested, returned, results);
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t handle, cudnnTensorDescriptor_t x_desc,
                                                     const void* x, cudnnFilterDescriptor_t w_desc, const void* w,
                                                     cudnnConvolutionDescriptor_t convolution,
                                                     cudnnTensorDescriptor_t y_desc, void* y, int requested,
                                                     int* returned, cudnnConvolutionFwdAlgoPerf_t* results,
                                                     void* workspace, std::size_t workspace_bytes) {
  Call call{{}, 0, 1, 0, x, w, y, workspace, workspace_bytes};
  const cudnnStatus_t status = describe(Result::y, x_desc, w_desc, convolution, y_desc, call.p);
  return find(handle, status, call, requested, returned, results);
}

cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t handle, cudnnFilterDescriptor_t w_desc,
                                                          const void* w, cudnnTensorDescriptor_t dy_desc,
                                                          const void* dy, cudnnConvolutionDescriptor_t convolution,
                                                          cudnnTensorDescriptor_t dx_desc, void* dx, int requested,
                                                          int* returned, cudnnConvolutionBwdDataAlgoPerf_t* results,
                                                          void* workspace, std::size_t workspace_bytes) {
  Call call{{}, 0, 1, 0, dx, w, dy, workspace, workspace_bytes};
  const cudnnStatus_t status = describe(Result::x, dx_desc, w_desc, convolution, dy_desc, call.p);
  return find(handle, status, call, requested, returned, results);
}

cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t handle, cudnnTensorDescriptor_t x_desc,
                                                            const void* x, cudnnTensorDescriptor_t dy_desc,
                                                            const void* dy, cudnnConvolutionDescriptor_t convolution,
                                                            cudnnFilterDescriptor_t dw_desc, void* dw, int requested,
                                                            int* returned, cudnnConvolutionBwdFilterAlgoPerf_t* results,
                                                            void* workspace, std::size_t workspace_bytes) {
  Call call{{}, 0, 1, 0, x, dw, dy, workspace, workspace_bytes};
  const cudnnStatus_t status = describe(Result::w, x_desc, dw_desc, convolution, dy_desc, call.p);
  return find(handle, status, call, requested, returned, results);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t x_desc,
                                      const void* x, cudnnFilterDescriptor_t w_desc, const void* w,
                                      cudnnConvolutionDescriptor_t convolution, cudnnConvolutionFwdAlgo_t algo,
                                      void* workspace, std::size_t workspace_bytes, const void* beta,
                                      cudnnTensorDescriptor_t y_desc, void* y) {
  Call call{{}, algo, 1, 0, x, w, y, workspace, workspace_bytes};
  const cudnnStatus_t status = describe(Result::y, x_desc, w_desc, convolution, y_desc, call.p);
  return convolve(handle, "cudnnConvolutionForward", status, call, alpha, beta);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha, cudnnFilterDescriptor_t w_desc,
                                           const void* w, cudnnTensorDescriptor_t dy_desc, const void* dy,
                                           cudnnConvolutionDescriptor_t convolution, cudnnConvolutionBwdDataAlgo_t algo,
                                           void* workspace, std::size_t workspace_bytes, const void* beta,
                                           cudnnTensorDescriptor_t dx_desc, void* dx) {
  Call call{{}, algo, 1, 0, dx, w, dy, workspace, workspace_bytes};
  const cudnnStatus_t status = describe(Result::x, dx_desc, w_desc, convolution, dy_desc, call.p);
  return convolve(handle, "cudnnConvolutionBackwardData", status, call, alpha, beta);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t x_desc,
                                             const void* x, cudnnTensorDescriptor_t dy_desc, const void* dy,
                                             cudnnConvolutionDescriptor_t convolution,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void* workspace,
                                             std::size_t workspace_bytes, const void* beta,
                                             cudnnFilterDescriptor_t dw_desc, void* dw) {
  Call call{{}, algo, 1, 0, x, dw, dy, workspace, workspace_bytes};
  const cudnnStatus_t status = describe(Result::w, x_desc, dw_desc, convolution, dy_desc, call.p);
  return convolve(handle, "cudnnConvolutionBackwardFilter", status, call, alpha, beta);
}
