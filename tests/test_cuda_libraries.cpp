// That products and convolutions are cuBLASLt's and cuDNN's, and what happens when these fail.
#include "core/cuda_library_use.h"
#include "halftone.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;

namespace {

template <class F> cuda::LibraryUse use_of(F f) {
  cuda::reset_library_use();
  f();
  return cuda::library_use();
}

TensorOptions on(Device device, Dtype dtype, MemoryFormat format = MemoryFormat::Contiguous) {
  return TensorOptions(dtype).device(device).memory_format(format);
}

Tensor draw(IntArrayRef sizes, const TensorOptions& options) {
  Tensor t = empty(sizes, options);
  t.copy_(randn(sizes, options.device()));
  return t;
}

}  // namespace

TEST_CASE("ordinary products and their gradients are computed by cuBLASLt", "[cuda][libraries]") {
  for (const Device device : cuda_devices()) {
    for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64}) {
      INFO(device << ", " << dtype);
      const Tensor x = draw({32, 64}, on(device, dtype)).requires_grad_();
      const Tensor w = draw({48, 64}, on(device, dtype)).requires_grad_();
      const Tensor bias = draw({48}, on(device, dtype)).requires_grad_();
      const cuda::LibraryUse use = use_of([&] { linear(x, w, bias).sum().backward(); });
      CHECK(use.library_products == 3);
      CHECK(use.simple_products == 0);
    }
  }
}

TEST_CASE("ordinary convolutions and their gradients are computed by cuDNN", "[cuda][libraries]") {
  for (const Device device : cuda_devices()) {
    for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64}) {
      for (const MemoryFormat format : {MemoryFormat::Contiguous, MemoryFormat::ChannelsLast}) {
        INFO(device << ", " << dtype << (format == MemoryFormat::ChannelsLast ? ", channels-last" : ""));
        const Tensor x = draw({4, 16, 10, 10}, on(device, dtype, format)).requires_grad_();
        const Tensor w = draw({32, 16, 3, 3}, on(device, dtype, format)).requires_grad_();
        const Tensor bias = draw({32}, on(device, dtype)).requires_grad_();
        const cuda::LibraryUse use = use_of([&] { conv2d(x, w, bias, 1, 1).sum().backward(); });
        CHECK(use.library_convolutions + use.other_order_convolutions == 3);
        CHECK(use.direct_convolutions == 0);
        // Half channels-last is what tensor cores are made for, and float contiguous what everybody has.
        if (dtype == (format == MemoryFormat::ChannelsLast ? kFloat16 : kFloat32)) {
          CHECK(use.library_convolutions == 3);
        }
      }
    }
  }
}

#if HALFTONE_SIMULATED_CUDA

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

// ---------------------------------------------------------------- the simulated libraries' own strictness

namespace {

struct DeviceStream {
  explicit DeviceStream(int device) {
    cudaSetDevice(device);
    REQUIRE(cudaStreamCreateWithFlags(&value, cudaStreamNonBlocking) == cudaSuccess);
  }
  ~DeviceStream() { cudaStreamDestroy(value); }
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;
  cudaStream_t value = nullptr;
};

}  // namespace

TEST_CASE("the simulated cuBLASLt refuses another device's stream, and memory both read and written",
          "[cuda][cudasim][libraries]") {
  const DeviceStream other(1), stream(0);
  const Tensor buffer = zeros({1024}, on(Device(kCUDA, 0), kFloat32));
  float* const memory = buffer.data_ptr<float>();
  cuda::synchronize(0);
  cudaSetDevice(0);
  cublasLtHandle_t handle{};
  cublasLtMatmulDesc_t product{};
  cublasLtMatrixLayout_t a{}, b{}, d{};
  cublasLtMatmulPreference_t preference{};
  REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
  cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  cublasLtMatrixLayoutCreate(&a, CUDA_R_32F, 4, 64, 8);
  cublasLtMatrixLayoutCreate(&b, CUDA_R_32F, 64, 4, 64);
  cublasLtMatrixLayoutCreate(&d, CUDA_R_32F, 4, 4, 8);
  cublasLtMatmulPreferenceCreate(&preference);
  const std::uint64_t most = 4096;
  const std::uint32_t alignment = 4;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
  for (const auto which : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                           CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES}) {
    cublasLtMatmulPreferenceSetAttribute(preference, which, &alignment, sizeof alignment);
  }
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  REQUIRE(cublasLtMatmulAlgoGetHeuristic(handle, product, a, b, d, d, preference, 1, &found, &count) ==
          CUBLAS_STATUS_SUCCESS);
  REQUIRE(found.workspaceSize > 0);
  const float one = 1, none = 0;
  const auto run = [&](int first, int second, int result, int workspace, cudaStream_t in) {
    return cublasLtMatmul(handle, product, &one, memory + first, a, memory + second, b, &none, memory + result, d,
                          memory + result, d, &found.algo, memory + workspace, 64, in);
  };
  CHECK(run(0, 512, 768, 900, stream.value) == CUBLAS_STATUS_SUCCESS);
  CHECK(run(0, 512, 4, 900, stream.value) == CUBLAS_STATUS_SUCCESS);  // between the columns of the first
  CHECK(run(0, 512, 768, 900, other.value) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run(0, 512, 3, 900, stream.value) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run(0, 512, 764, 900, stream.value) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run(0, 512, 768, 760, stream.value) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run(0, 512, 768, 776, stream.value) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cudaStreamSynchronize(stream.value) == cudaSuccess);
  cublasLtMatmulPreferenceDestroy(preference);
  for (const auto layout : {a, b, d}) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(product);
  cublasLtDestroy(handle);
}

TEST_CASE("the simulated cuDNN refuses another device's stream, and memory both read and written",
          "[cuda][cudasim][libraries]") {
  const DeviceStream other(1), stream(0);
  const Tensor buffer = zeros({1024}, on(Device(kCUDA, 0), kFloat32));
  float* const memory = buffer.data_ptr<float>();
  cuda::synchronize(0);
  cudaSetDevice(0);
  cudnnHandle_t handle{};
  cudnnTensorDescriptor_t image{};
  cudnnFilterDescriptor_t filter{};
  cudnnConvolutionDescriptor_t convolution{};
  REQUIRE(cudnnCreate(&handle) == CUDNN_STATUS_SUCCESS);
  CHECK(cudnnSetStream(handle, other.value) == CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH);
  CHECK(cudnnSetStream(handle, stream.value) == CUDNN_STATUS_SUCCESS);
  cudnnCreateTensorDescriptor(&image);
  cudnnCreateFilterDescriptor(&filter);
  cudnnCreateConvolutionDescriptor(&convolution);
  const int sizes[] = {1, 4, 4, 4}, strides[] = {64, 16, 4, 1}, weights[] = {4, 4, 1, 1}, zero[] = {0, 0},
            unit[] = {1, 1};
  cudnnSetTensorNdDescriptor(image, CUDNN_DATA_FLOAT, 4, sizes, strides);
  cudnnSetFilterNdDescriptor(filter, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW, 4, weights);
  cudnnSetConvolutionNdDescriptor(convolution, 2, zero, unit, unit, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
  const float one = 1, none = 0;
  const auto run = [&](int x, int w, int y, int workspace) {
    return cudnnConvolutionForward(handle, &one, image, memory + x, filter, memory + w, convolution,
                                   CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, memory + workspace, 64, &none,
                                   image, memory + y);
  };
  CHECK(run(0, 64, 80, 144) == CUDNN_STATUS_SUCCESS);
  CHECK(run(0, 64, 60, 144) == CUDNN_STATUS_BAD_PARAM);
  CHECK(run(0, 64, 76, 144) == CUDNN_STATUS_BAD_PARAM);
  CHECK(run(0, 64, 80, 140) == CUDNN_STATUS_BAD_PARAM);
  CHECK(run(0, 64, 80, 60) == CUDNN_STATUS_BAD_PARAM);
  CHECK(cudaStreamSynchronize(stream.value) == cudaSuccess);
  cudnnDestroyConvolutionDescriptor(convolution);
  cudnnDestroyFilterDescriptor(filter);
  cudnnDestroyTensorDescriptor(image);
  cudnnDestroy(handle);
}

#endif
