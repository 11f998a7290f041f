// Rates of matrix products and convolutions in GFLOP/s: halftone with one thread and with two, oneDNN called directly,
// and the portable path. Shapes: cubes, the layers of an MLP for MNIST at batch 64, and convolutions of MNIST and CIFAR
// nets.
//   gemm --benchmark_filter='product/bfloat16' --benchmark_format=json
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/onednn.h"

namespace halftone::cpu {
namespace {

/// Who does the work.
enum class By { one_thread, two_threads, library, portable };
constexpr By kAll[] = {By::one_thread, By::two_threads, By::library, By::portable};

const char* name_of(By by) {
  switch (by) {
    case By::one_thread: return "1_thread";
    case By::two_threads: return "2_threads";
    case By::library: return "oneDNN_alone";
    default: return "portable";
  }
}

/// Small numbers that are not all the same: zeros would flatter some processors.
std::vector<std::byte> numbers(std::int64_t n, Dtype dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(n * element_size(dtype)));
  visit_floating(dtype, [&]<class T>(Type<T>) {
    auto* to = reinterpret_cast<T*>(bytes.data());
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(static_cast<Compute<T>>(i * 37 % 101 - 50) / 64);
  });
  return bytes;
}

template <class F> void measure(benchmark::State& state, By by, double operations, F f) {
  const int before = get_num_threads();
  set_num_threads(by == By::two_threads ? 2 : 1);
  f();
  for (auto _ : state) {
    f();
    benchmark::ClobberMemory();
  }
  set_num_threads(before);
  state.counters["GFLOP/s"] = benchmark::Counter(operations * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

struct Product {
  std::int64_t m, k, n;
  bool a_transposed, b_transposed;
};

void run_library_product(const GemmArgs& args, const Product& p) {
  if (args.dtype == kBFloat16) return onednn::matmul_bf16(args);
  onednn::sgemm({p.a_transposed, p.b_transposed, p.m, p.n, p.k, static_cast<const float*>(args.a.data),
                 p.a_transposed ? p.m : p.k, static_cast<const float*>(args.b.data), p.b_transposed ? p.k : p.n, false,
                 static_cast<float*>(args.y.data), p.n});
}

void product(benchmark::State& state, By by, Dtype dtype, Product p) {
  if (by == By::library && !onednn::serves(dtype)) return state.SkipWithError("oneDNN does not serve this dtype here");
  const auto a = numbers(p.m * p.k, dtype), b = numbers(p.k * p.n, dtype);
  auto y = numbers(p.m * p.n, dtype);
  GemmArgs args;
  args.dtype = dtype;
  args.a = p.a_transposed ? ConstMatrix{a.data(), p.m, p.k, 1, p.m} : ConstMatrix{a.data(), p.m, p.k, p.k, 1};
  args.b = p.b_transposed ? ConstMatrix{b.data(), p.k, p.n, 1, p.k} : ConstMatrix{b.data(), p.k, p.n, p.n, 1};
  args.y = {y.data(), p.m, p.n, p.n, 1};
  const double operations = 2.0 * static_cast<double>(p.m * p.k) * static_cast<double>(p.n);
  if (by == By::library) return measure(state, by, operations, [&] { run_library_product(args, p); });
  if (by != By::portable) return measure(state, by, operations, [&] { gemm(args); });
  const PortableScope scope;
  measure(state, by, operations, [&] { gemm(args); });
}

struct Conv {
  const char* name;
  std::int64_t batch, in_channels, size, out_channels, kernel, stride, padding;
};

constexpr Conv kConvs[] = {
    {"mnist_first", 64, 1, 28, 32, 3, 1, 0},      {"mnist_second", 64, 32, 26, 64, 3, 1, 0},
    {"lenet_first", 64, 1, 28, 6, 5, 1, 2},       {"lenet_second", 64, 6, 14, 16, 5, 1, 0},
    {"cifar_first", 64, 3, 32, 16, 3, 1, 1},      {"resnet20_16", 64, 16, 32, 16, 3, 1, 1},
    {"resnet20_32", 64, 32, 16, 32, 3, 1, 1},     {"resnet20_64", 64, 64, 8, 64, 3, 1, 1},
    {"resnet20_stride", 64, 16, 32, 32, 3, 2, 1}, {"airbench_second", 64, 24, 31, 64, 3, 1, 1},
    {"airbench_last", 64, 256, 7, 256, 3, 1, 1},  {"one_image", 1, 64, 56, 64, 3, 1, 1},
};

ConvShape shape_of(const Conv& c) {
  ConvShape s{.rank = 2, .batch = c.batch, .in_channels = c.in_channels, .out_channels = c.out_channels};
  for (int i = 0; i < 2; ++i) {
    s.in[i] = c.size;
    s.kernel[i] = c.kernel;
    s.stride[i] = c.stride;
    s.padding[i] = c.padding;
    s.out[i] = (c.size + 2 * c.padding - c.kernel) / c.stride + 1;
  }
  return s;
}

enum class Pass { forward, data, weight };

void convolution(benchmark::State& state, By by, Dtype dtype, Conv c, Pass pass, bool last) {
  if (by == By::library && !onednn::serves(dtype)) return state.SkipWithError("oneDNN does not serve this dtype here");
  const ConvShape s = shape_of(c);
  const std::int64_t weights = s.out_channels * s.in_channels * c.kernel * c.kernel, outputs = s.out[0] * s.out[1];
  auto x = numbers(s.batch * s.in_channels * c.size * c.size, dtype), w = numbers(weights, dtype);
  auto y = numbers(s.batch * s.out_channels * outputs, dtype), sums = numbers(weights, kFloat32);
  const double operations = 2.0 * static_cast<double>(s.batch * outputs) * static_cast<double>(weights);
  const auto by_library = [&] {
    if (pass == Pass::forward)
      onednn::conv_forward(s, {x.data(), dtype, last}, {w.data(), dtype, last}, {}, {y.data(), dtype, last});
    if (pass == Pass::data)
      onednn::conv_backward_data(s, {y.data(), dtype, last}, {w.data(), dtype, last}, {x.data(), dtype, last});
    if (pass == Pass::weight)
      onednn::conv_backward_weight(s, {x.data(), dtype, last}, {y.data(), dtype, last}, {sums.data(), kFloat32, last},
                                   {});
  };
  const auto by_us = [&] {
    if (pass == Pass::forward)
      conv_forward(s, {x.data(), dtype, last}, {w.data(), dtype, last}, {}, {y.data(), dtype, last});
    if (pass == Pass::data)
      conv_backward_data(s, {y.data(), dtype, last}, {w.data(), dtype, last}, {x.data(), dtype, last});
    if (pass == Pass::weight)
      conv_backward_weight(s, {x.data(), dtype, last}, {y.data(), dtype, last}, {w.data(), dtype, last}, {});
  };
  if (by == By::library) return measure(state, by, operations, by_library);
  if (by != By::portable) return measure(state, by, operations, by_us);
  const PortableScope scope;
  measure(state, by, operations, by_us);
}

std::vector<Product> products() {
  std::vector<Product> all;
  for (const std::int64_t n : {32, 64, 128, 256, 512, 1024}) all.push_back({n, n, n, false, false});
  for (const auto& [in, out] : {std::pair<std::int64_t, std::int64_t>{784, 128}, {128, 10}}) {
    all.push_back({64, in, out, false, true});   // forward: x w'
    all.push_back({64, out, in, false, false});  // gradient of x: g w
    all.push_back({out, 64, in, true, false});   // gradient of w: g' x
  }
  return all;
}

void add_products() {
  for (const Dtype dtype : {kFloat32, kBFloat16, kFloat16})
    for (const Product& p : products())
      for (const By by : kAll) {
        if (dtype == kFloat16 && by == By::library) continue;
        const std::string letters = std::string(p.a_transposed ? "T" : "N") + (p.b_transposed ? "T" : "N");
        const std::string label = str("product/", dtype, '/', p.m, 'x', p.k, 'x', p.n, letters, '/', name_of(by));
        benchmark::RegisterBenchmark(label.c_str(), product, by, dtype, p)->UseRealTime();
      }
}

void add_convolutions() {
  constexpr const char* kPasses[] = {"forward", "data", "weight"};
  for (const bool last : {true, false})
    for (const Dtype dtype : {kFloat32, kBFloat16})
      for (const Conv& c : kConvs)
        for (const Pass pass : {Pass::forward, Pass::data, Pass::weight})
          for (const By by : kAll) {
            const std::string label = str("convolution/", last ? "channels_last/" : "channels_first/", dtype, '/',
                                          c.name, '/', kPasses[static_cast<int>(pass)], '/', name_of(by));
            benchmark::RegisterBenchmark(label.c_str(), convolution, by, dtype, c, pass, last)->UseRealTime();
          }
}

}  // namespace
}  // namespace halftone::cpu

int main(int argc, char** argv) {
  benchmark::AddCustomContext("cpu", std::string(halftone::cpu::cpu_capability()));
  halftone::cpu::add_products();
  halftone::cpu::add_convolutions();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
