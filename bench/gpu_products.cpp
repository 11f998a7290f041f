// TFLOP/s of matrix products and of convolutions with tensor cores in mind: cubes, shapes that fit no tile, a layer of
// a large net in its three passes, and the convolutions of residual nets, channels last.
#include "bench/gpu.h"
#include "core/cuda_options.h"
#include "kernels/backend.h"

namespace {

using namespace bench;

struct Product {
  std::int64_t m, k, n;
  bool a_transposed = false, b_transposed = false;

  std::string label() const {
    const std::string letters = std::string(a_transposed ? "T" : "N") + (b_transposed ? "T" : "N");
    return m == k && k == n && letters == "NN" ? std::to_string(n) : str(m, 'x', k, 'x', n, letters);
  }
};

const std::vector<Product> kProducts = {
    {1024, 1024, 1024},
    {4096, 4096, 4096},
    {8192, 8192, 8192},
    {4097, 1023, 2049},               // nothing is a multiple of anything
    {64, 784, 128, false, true},      // a layer for MNIST
    {8192, 1024, 4096, false, true},  // a layer of a transformer: forward,
    {8192, 4096, 1024},               // gradient of x,
    {4096, 8192, 1024, true, false},  // gradient of the weight
    {32768, 64, 64},                  // tall: memory limits it
};

/// [rows, columns], with `transposed` as a view of the transpose.
Tensor matrix(std::int64_t rows, std::int64_t columns, bool transposed, Dtype dtype) {
  const auto numbers = [&](std::int64_t r, std::int64_t c) { return rand({r, c}).sub(0.5).to(dtype); };
  return transposed ? numbers(columns, rows).t() : numbers(rows, columns);
}

/// A corner of the product, computed on the CPU from what it depends on.
void check_product(const std::string& name, const Tensor& a, const Tensor& b, const Tensor& y, double tolerance) {
  const auto head = [](const Tensor& t, std::int64_t dim) {
    return t.slice(dim, 0, std::min<std::int64_t>(16, t.size(dim)));
  };
  const auto plain = [](const Tensor& t) { return t.contiguous().cpu().to(kFloat32); };
  check_close(name, head(head(y, 0), 1).contiguous(), matmul(plain(head(a, 0)), plain(head(b, 1))), tolerance);
}

void measure_product(const GpuOptions& options, const std::string& name, const Product& p, Dtype dtype, bool tf32,
                     double budget) {
  const std::int64_t divisor = options.smoke ? 64 : 1;
  const auto size = [&](std::int64_t n) { return std::max<std::int64_t>(1, n / divisor); };
  const Tensor a = matrix(size(p.m), size(p.k), p.a_transposed, dtype);
  const Tensor b = matrix(size(p.k), size(p.n), p.b_transposed, dtype);
  Tensor y = empty({a.size(0), b.size(1)}, dtype);
  Backend& device = backend(y);
  const auto multiply = [&] { device.gemm(a, b, {}, Activation::none, false, y); };
  cuda::set_allow_tf32(tf32);
  multiply();
  if (!options.unchecked) check_product(name, a, b, y, tf32 ? rounding(kFloat16) : rounding(dtype));
  const double seconds = seconds_on_device(options, budget, multiply);
  cuda::set_allow_tf32(false);
  const double operations = 2.0 * static_cast<double>(a.numel()) * static_cast<double>(b.size(1));
  emit("gpu_products/" + name, 1e-12 * operations / seconds, "TFLOP/s", dtype, 1);
}

struct Convolution {
  const char* name;
  std::int64_t batch, in_channels, size, out_channels, kernel, stride;
};

constexpr Convolution kConvolutions[] = {
    {"resnet50_first", 128, 3, 224, 64, 7, 2},     {"resnet50_3x3_64", 128, 64, 56, 64, 3, 1},
    {"resnet50_1x1_256", 128, 64, 56, 256, 1, 1},  {"resnet50_3x3_128_stride", 128, 128, 56, 128, 3, 2},
    {"resnet50_3x3_256", 128, 256, 14, 256, 3, 1}, {"resnet50_3x3_512", 128, 512, 7, 512, 3, 1},
    {"resnet20_16", 128, 16, 32, 16, 3, 1},        {"resnet20_64", 128, 64, 8, 64, 3, 1},
};

enum class Pass { forward, data, weight };

/// A convolution's tensors, channels last; positive numbers, so that the sums by which it is checked do not cancel.
struct ConvolutionTensors {
  ConvShape shape;
  Tensor x, w, y, g, dx, dw;

  ConvolutionTensors(Convolution c, bool tiny, Dtype dtype) {
    if (tiny) c.batch = 2, c.size = std::min<std::int64_t>(c.size, 8), c.in_channels = c.out_channels = 3;
    const std::int64_t padding = c.kernel / 2, out = (c.size + 2 * padding - c.kernel) / c.stride + 1;
    shape.batch = c.batch, shape.in_channels = c.in_channels, shape.out_channels = c.out_channels;
    shape.window.in = {c.size, c.size, 1}, shape.window.kernel = {c.kernel, c.kernel, 1};
    shape.window.stride = {c.stride, c.stride, 1}, shape.window.padding = {padding, padding, 0};
    shape.window.out = {out, out, 1};
    const auto make = [&](std::int64_t n, std::int64_t channels, std::int64_t side, double largest) {
      return rand({n, channels, side, side}).mul(largest).to(dtype).contiguous(MemoryFormat::ChannelsLast);
    };
    x = make(c.batch, c.in_channels, c.size, 1), w = make(c.out_channels, c.in_channels, c.kernel, 1);
    y = make(c.batch, c.out_channels, out, 1), g = make(c.batch, c.out_channels, out, 1.0 / 64);
    dx = empty_like(x), dw = empty_like(w);
  }

  void run(Pass pass) {
    Backend& device = backend(x);
    Tensor no_bias_gradient;
    if (pass == Pass::forward) device.conv(shape, x, w, {}, y);
    if (pass == Pass::data) device.conv_data_grad(shape, g, w, dx);
    if (pass == Pass::weight) device.conv_weight_grad(shape, x, g, dw, no_bias_gradient);
  }

  /// The first image against the CPU; the gradients by <conv(x, w), g> = <x, dx> = <w, dw>.
  void check_all(const std::string& name) {
    for (const Pass pass : {Pass::forward, Pass::data, Pass::weight}) run(pass);
    const auto first = [](const Tensor& t) { return t.slice(0, 0, 1).cpu().to(kFloat32).contiguous(); };
    const Window& s = shape.window;
    const Tensor image =
        conv2d(first(x), w.cpu().to(kFloat32), {}, {s.stride[0], s.stride[1]}, {s.padding[0], s.padding[1]});
    check_close(name, first(y), image, rounding(x.dtype()));
    const auto inner = [](const Tensor& a, const Tensor& b) { return a.to(kFloat32).mul(b.to(kFloat32)).sum().cpu(); };
    const Tensor expected = inner(y, g);
    check_close(name + "'s gradient of x", inner(x, dx), expected, rounding(x.dtype()));
    check_close(name + "'s gradient of w", inner(w, dw), expected, rounding(x.dtype()));
  }
};

void measure_convolution(const GpuOptions& options, const Convolution& c, Dtype dtype, double budget) {
  ConvolutionTensors tensors(c, options.smoke, dtype);
  if (!options.unchecked) tensors.check_all(c.name);
  const ConvShape& s = tensors.shape;
  const double operations =
      2.0 * static_cast<double>(tensors.y.numel()) * static_cast<double>(s.in_channels * s.window.kernel_size());
  constexpr const char* kPasses[] = {"forward", "data", "weight"};
  for (const Pass pass : {Pass::forward, Pass::data, Pass::weight}) {
    const double seconds = seconds_on_device(options, budget / 3, [&] { tensors.run(pass); });
    emit(str("gpu_products/", c.name, '/', kPasses[static_cast<int>(pass)]), 1e-12 * operations / seconds, "TFLOP/s",
         dtype, 1);
  }
}

std::vector<GpuCase> cases(const GpuOptions& options) {
  cuda::set_benchmark(true);  // the best algorithms, as the twin's torch.backends.cudnn.benchmark
  std::vector<GpuCase> all;
  const auto add = [&](const Product& p, Dtype dtype, bool tf32) {
    const std::string name = (tf32 ? "gemm_tf32_" : "gemm_") + p.label();
    all.push_back({name, [=](double budget) { measure_product(options, name, p, dtype, tf32, budget); }});
  };
  for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32})
    for (const Product& p : kProducts) add(p, dtype, false);
  for (const Product& p : kProducts)
    if (p.m == p.n) add(p, kFloat32, true);
  for (const Dtype dtype : {kFloat16, kBFloat16})
    for (const Convolution& c : kConvolutions)
      all.push_back({c.name, [=](double budget) { measure_convolution(options, c, dtype, budget); }});
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::gpu_main(argc, argv, "gpu_products", "Rates of matrix products and convolutions.", cases);
}
