// That products and convolutions are cuBLASLt's and cuDNN's, and what happens when these fail.
#include <thread>

#include "core/cuda_library_use.h"
#include "core/cuda_options.h"
#include "halftone.h"
#include "kernels/backend.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;

namespace {

/// Switches that a test leaves as it found them.
struct Switches {
  bool benchmark = cuda::benchmark(), deterministic = cuda::deterministic();
  std::size_t workspace = cuda::workspace_limit();
  ~Switches() {
    cuda::set_benchmark(benchmark);
    cuda::set_deterministic(deterministic);
    cuda::set_workspace_limit(workspace);
  }
};

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

namespace {

struct Convolution {
  const char* name;
  int rank;
  bool transposed;
  Tensor (*run)(const Tensor& x, const Tensor& w, const Tensor& bias);
};

const Convolution kConvolutions[] = {
    {"conv1d", 1, false, [](const Tensor& x, const Tensor& w, const Tensor& b) { return conv1d(x, w, b, 1, 1); }},
    {"conv2d", 2, false, [](const Tensor& x, const Tensor& w, const Tensor& b) { return conv2d(x, w, b, 1, 1); }},
    {"conv3d", 3, false, [](const Tensor& x, const Tensor& w, const Tensor& b) { return conv3d(x, w, b, 1, 1); }},
    {"conv_transpose1d", 1, true,
     [](const Tensor& x, const Tensor& w, const Tensor& b) { return conv_transpose1d(x, w, b, 2, 1); }},
    {"conv_transpose2d", 2, true,
     [](const Tensor& x, const Tensor& w, const Tensor& b) { return conv_transpose2d(x, w, b, 2, 1); }},
    {"conv_transpose3d", 3, true,
     [](const Tensor& x, const Tensor& w, const Tensor& b) { return conv_transpose3d(x, w, b, 2, 1); }},
};

void check_computed_by_library(const Convolution& c, Device device, Dtype dtype, MemoryFormat format) {
  INFO(c.name << " on " << device << ", " << dtype << (format == MemoryFormat::ChannelsLast ? ", channels-last" : ""));
  const auto sizes = [&](std::int64_t outer, std::int64_t channels, std::int64_t side) {
    std::vector<std::int64_t> all{outer, channels};
    all.resize(static_cast<std::size_t>(c.rank) + 2, side);
    return all;
  };
  const Tensor x = draw(sizes(2, 8, 6), on(device, dtype, format)).requires_grad_();
  const Tensor w = draw(c.transposed ? sizes(8, 16, 3) : sizes(16, 8, 3), on(device, dtype, format)).requires_grad_();
  const Tensor bias = draw({16}, on(device, dtype)).requires_grad_();
  const cuda::LibraryUse use = use_of([&] { c.run(x, w, bias).sum().backward(); });
  CHECK(use.library_convolutions + use.other_order_convolutions == 3);
  CHECK(use.direct_convolutions == 0);
  // Half channels-last is what tensor cores are made for, and float contiguous what everybody has.
  if (dtype == (format == MemoryFormat::ChannelsLast ? kFloat16 : kFloat32)) CHECK(use.library_convolutions == 3);
}

}  // namespace

TEST_CASE("convolutions of every kind and their gradients are computed by cuDNN", "[cuda][libraries]") {
  for (const Device device : cuda_devices()) {
    for (const Convolution& c : kConvolutions) {
      for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64}) {
        check_computed_by_library(c, device, dtype, MemoryFormat::Contiguous);
        if (c.rank > 1) check_computed_by_library(c, device, dtype, MemoryFormat::ChannelsLast);
      }
    }
  }
}

#if HALFTONE_SIMULATED_CUDA

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

namespace {

using Catch::Matchers::ContainsSubstring;

/// A product and a convolution with its gradients, of shapes that no other `n` has.
struct Work {
  Work(Device device, std::int64_t n)
      : a(draw({n + 2, 80}, on(device, kFloat32))),
        b(draw({80, 6}, on(device, kFloat32))),
        x(draw({n + 2, 4, 6, 5}, on(device, kFloat32)).requires_grad_()),
        w(draw({5, 4, 3, 3}, on(device, kFloat32)).requires_grad_()),
        bias(draw({5}, on(device, kFloat32)).requires_grad_()) {}

  std::vector<Tensor> operator()() const {
    for (const Tensor& t : {x, w, bias}) t.mutable_grad().reset();
    const Tensor y = conv2d(x, w, bias);
    y.sum().backward();
    return {a.matmul(b), y.detach(), x.grad(), w.grad(), bias.grad()};
  }

  Tensor a, b, x, w, bias;
};

std::vector<Tensor> read(const std::vector<Tensor>& all) {
  std::vector<Tensor> copies;
  for (const Tensor& t : all) copies.push_back(t.cpu());
  return copies;
}

/// Fails the first, second, ... call of this kind that the work makes with shapes it has not met, and lets `check` look
/// at each; then the work is the libraries' again.
template <class F> void fail_each_call(cudasim::Kind kind, Device device, std::int64_t first, F check) {
  for (std::int64_t n = 1;; ++n) {
    const Work work(device, first + n);
    cuda::synchronize(device.index());
    const std::uint64_t before = cudasim::calls_made(kind);
    // An allocation is tried again after idle memory was given back.
    cudasim::fail_call(kind, static_cast<std::uint64_t>(n), kind == cudasim::Kind::allocation ? 2 : 1);
    const std::string message = message_of_error([&] { read(work()); });
    cudasim::clear_failures();
    if (cudasim::calls_made(kind) - before < static_cast<std::uint64_t>(n)) {
      CHECK(n > 5);
      return;
    }
    INFO("call " << n << ": " << message);
    check(message);
    std::vector<Tensor> again;
    const cuda::LibraryUse use = use_of([&] { again = read(work()); });
    CHECK(use.library_products == 1);
    CHECK(use.library_convolutions == 3);
    CHECK(use.simple_products + use.direct_convolutions + use.other_order_convolutions == 0);
    CHECK(again[0].allclose(work.a.cpu().matmul(work.b.cpu()), 1e-4, 1e-4));
  }
}

}  // namespace

TEST_CASE("a library that fails while it looks for an algorithm is asked again", "[cuda][libraries][failures]") {
  need_gpus(4);
  const Switches before;
  const Device device(kCUDA, 3);
  for (const bool benchmark : {false, true}) {
    cuda::set_benchmark(benchmark);
    const std::int64_t first = benchmark ? 300 : 200;
    fail_each_call(cudasim::Kind::library, device, first, [](const std::string& message) {
      CHECK_THAT(message,
                 ContainsSubstring("cuBLAS: ") || ContainsSubstring("cuDNN: ") || ContainsSubstring("no error"));
    });
    fail_each_call(cudasim::Kind::allocation, device, first + 50, [](const std::string& message) {
      CHECK_THAT(message, ContainsSubstring("out of memory") || ContainsSubstring("no error"));
    });
  }
}

namespace {

/// Contexts that ended threads have left serve the next ones, so this goes on until a thread has to open the library.
void fail_to_open(const Work& work, bool product, int depth = 0) {
  std::thread([&] {
    cudasim::fail_call(cudasim::Kind::library, 1);
    const std::string message = message_of_error([&] { product ? work.a.matmul(work.b) : conv2d(work.x, work.w); });
    cudasim::clear_failures();
    const std::string wanted = product ? "cublasLtCreate" : "cudnnCreate";
    if (message.find(wanted) == message.npos && depth < 100) return fail_to_open(work, product, depth + 1);
    CHECK_THAT(message, ContainsSubstring(wanted));
    const cuda::LibraryUse use = use_of(work);
    CHECK(use.library_products == 1);
    CHECK(use.library_convolutions == 3);
  }).join();
}

/// Nothing more can be allocated on the device while it lives.
class NoRoom {
 public:
  explicit NoRoom(DeviceIndex device) : device_(device) {
    cuda::synchronize(device);
    cudaSetDevice(device);
    std::size_t available = 0;
    REQUIRE(cudaMemGetInfo(&available, &total_) == cudaSuccess);
    cudasim::set_total_memory(device, cudasim::bytes_in_use(device));
  }
  ~NoRoom() { cudasim::set_total_memory(device_, total_); }
  NoRoom(const NoRoom&) = delete;
  NoRoom& operator=(const NoRoom&) = delete;

 private:
  DeviceIndex device_;
  std::size_t total_ = 0;
};

ConvShape three_by_three(std::int64_t batch, std::int64_t channels, std::int64_t side) {
  ConvShape s{{}, batch, channels, channels, 1};
  s.window.in = {side, side, 1}, s.window.kernel = {3, 3, 1}, s.window.out = {side - 2, side - 2, 1};
  return s;
}

}  // namespace

TEST_CASE("a library that cannot be opened says so, and is opened the next time", "[cuda][libraries][failures]") {
  need_gpus(4);
  const Work work(Device(kCUDA, 3), 100);
  for (const bool product : {false, true}) fail_to_open(work, product);
}

TEST_CASE("where there is no memory for a workspace, a convolution does without", "[cuda][libraries][failures]") {
  need_gpus(3);
  const Switches before;
  const Device device(kCUDA, 2);
  for (const bool benchmark : {false, true}) {
    cuda::set_benchmark(benchmark);
    const std::int64_t side = benchmark ? 6 : 7;
    const ConvShape s = three_by_three(1, 64, side);
    const Tensor x = draw({1, 64, side, side}, on(device, kFloat32)), w = draw({64, 64, 3, 3}, on(device, kFloat32));
    Tensor y = empty({1, 64, side - 2, side - 2}, on(device, kFloat32)), dw = empty_like(w), none;
    const cuda::LibraryUse use = use_of([&] {
      const NoRoom no_room(2);
      const std::uint64_t tries = cudasim::calls_made(cudasim::Kind::allocation);
      backend(y).conv(s, x, w, none, y);
      backend(y).conv_weight_grad(s, x, y, dw, none);
      CHECK(cudasim::calls_made(cudasim::Kind::allocation) > tries);
    });
    CHECK(use.library_convolutions == 2);
    CHECK(y.cpu().allclose(conv2d(x.cpu(), w.cpu()), 1e-3, 1e-3));
    CHECK(message_of_error([&] { backend(y).conv(s, x, w, none, y); }) == "no error");
  }
}

TEST_CASE("where there is no memory to time products in, the library's own choice is taken",
          "[cuda][libraries][failures]") {
  need_gpus(3);
  const Switches before;
  cuda::set_benchmark(true);
  const Device device(kCUDA, 2);
  const Tensor a = draw({67, 80}, on(device, kFloat32)), b = draw({80, 66}, on(device, kFloat32));
  Tensor y = a.matmul(b);
  const Tensor wanted = y.cpu(), other = draw({80, 65}, on(device, kFloat32));
  Tensor narrower = empty({67, 65}, on(device, kFloat32));
  {
    const NoRoom no_room(2);
    backend(y).gemm(a, other, {}, Activation::none, false, narrower);
  }
  CHECK(narrower.cpu().allclose(a.cpu().matmul(other.cpu()), 1e-3, 1e-3));
}

TEST_CASE("an algorithm that fails leaves its place to the next one", "[cuda][libraries][failures]") {
  need_gpus(2);
  const Switches before;
  const Device device(kCUDA, 1);
  const Work work(device, 400);
  const std::vector<Tensor> wanted = read(work());
  cudasim::fail_call(cudasim::Kind::library, 1);
  CHECK(conv2d(work.x, work.w, work.bias).cpu().allclose(wanted[1]));
  cudasim::clear_failures();
  const cuda::LibraryUse use = use_of([&] {
    cudasim::fail_call(cudasim::Kind::library, 1, 2);  // all that there are
    CHECK_THAT(message_of_error([&] { conv2d(work.x, work.w, work.bias); }), ContainsSubstring("cuDNN: "));
    cudasim::clear_failures();
    CHECK(conv2d(work.x, work.w, work.bias).cpu().allclose(wanted[1]));
  });
  CHECK(use.library_convolutions == 1);
  CHECK(use.direct_convolutions == 0);

  cuda::set_benchmark(true);
  const Tensor product = work.a.narrow(0, 0, 70).matmul(work.b).cpu();
  cudasim::fail_call(cudasim::Kind::library, 2);  // the first is the question which algorithms there are
  CHECK(work.a.narrow(0, 0, 71).matmul(work.b).cpu().narrow(0, 0, 70).allclose(product));
  cudasim::clear_failures();
}

TEST_CASE("channels-last kernels are read and their gradients written as they lie", "[cuda][libraries][launches]") {
  for (const int spatial : {2, 3}) {
    const auto sizes = [&](std::int64_t outer, std::int64_t side) {
      std::vector<std::int64_t> all{outer, 8};
      all.resize(static_cast<std::size_t>(spatial) + 2, side);
      return all;
    };
    const auto launches = [&](MemoryFormat kernels) {
      nn::Sequential net;
      if (spatial == 2) net->push_back(nn::Conv2d(nn::Conv2dOptions(8, 8, 3).bias(false)));
      if (spatial == 3) net->push_back(nn::Conv3d(nn::Conv3dOptions(8, 8, 3).bias(false)));
      net->to(Device(kCUDA, 0), kFloat16);
      net->to(kernels);
      const Tensor x = draw(sizes(2, 5), on(Device(kCUDA, 0), kFloat16, MemoryFormat::ChannelsLast)).requires_grad_();
      const Tensor g = draw(sizes(2, 3), on(Device(kCUDA, 0), kFloat16, MemoryFormat::ChannelsLast));
      cudasim::reset_counters();
      const cuda::LibraryUse use = use_of([&] { net->forward(x).backward(g); });
      CHECK(use.library_convolutions == 3);
      CHECK(net->parameters()[0].grad().suggest_memory_format() == kernels);
      const cudasim::Counters counters = cudasim::counters()[0];
      return counters.launches + counters.library_calls + counters.memsets + counters.device_to_device;
    };
    CHECK(launches(MemoryFormat::ChannelsLast) == 3);
    CHECK(launches(MemoryFormat::Contiguous) == 6);
  }
}

TEST_CASE("nothing is timed where results must not differ from run to run", "[cuda][libraries]") {
  const Switches before;
  cuda::set_benchmark(true);
  for (const bool deterministic : {true, false}) {
    cuda::set_deterministic(deterministic);
    const Work work(Device(kCUDA, 0), deterministic ? 500 : 501);
    cudasim::reset_counters();
    work();
    auto calls = cudasim::launches_by_kernel_name();
    CHECK((calls["cudnnFind"] == 0) == deterministic);
    CHECK((calls["cublasLtMatmul"] == 1) == deterministic);
  }
}

TEST_CASE("an algorithm keeps to the memory, and to the fixed order of sums, that it is told of", "[cuda][libraries]") {
  need_gpus(1);
  const Switches before;
  constexpr std::size_t kEnough = 5 * 4 * 3 * 3 * sizeof(float);  // for those that take memory
  struct Row {
    bool deterministic;
    std::size_t workspace;
    bool benchmark;
    int forward, gradients;  // the algorithms' numbers
  };
  const Row rows[] = {
      {false, kEnough, false, 1, 0},
      {false, kEnough - 1, false, 0, 1},
      {true, kEnough, false, 1, 2},
      {true, kEnough - 1, false, 0, 1},
      {false, kEnough, true, 0, 2},  // as measured, not as recommended
      {false, kEnough - 1, true, 0, 1},
      {true, kEnough, true, 1, 2},  // nothing is timed
      {true, 0, true, 0, 1},
  };
  for (const Row& row : rows) {
    INFO("deterministic " << row.deterministic << ", workspace " << row.workspace << ", benchmark " << row.benchmark);
    cuda::set_deterministic(row.deterministic);
    cuda::set_workspace_limit(row.workspace);
    cuda::set_benchmark(row.benchmark);
    const Work work(Device(kCUDA, 0), 600);
    for (int again = 0; again < 2; ++again) {  // what was found is remembered
      cudasim::reset_counters();
      work();
      auto calls = cudasim::launches_by_kernel_name();
      CHECK(calls[str("cudnnConvolutionForward, algorithm ", row.forward)] == 1);
      CHECK(calls[str("cudnnConvolutionBackwardData, algorithm ", row.gradients)] == 1);
      CHECK(calls[str("cudnnConvolutionBackwardFilter, algorithm ", row.gradients)] == 1);
    }
  }
}

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
  need_gpus(2);
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
  need_gpus(2);
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
