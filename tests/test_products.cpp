// Products and convolutions of the device under test against the CPU's in float64. Values are such that every sum is
// exact before its one rounding, so results must be equal; but for convolutions that a real GPU may compute by
// transforms.
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "core/cuda_options.h"
#include "kernels/backend.h"
#include "kernels/conv_parts.h"
#include "kernels/conv_problem.h"
#include "kernels/gemm_problem.h"
#include "tests/catch.h"
#include "tests/cuda.h"
#include "tests/op_cases.h"

namespace halftone {
namespace {

constexpr Dtype kFloats[] = {kFloat16, kBFloat16, kFloat32, kFloat64};

bool on_gpu() { return get_default_device().is_cuda(); }
TensorOptions on_host(Dtype dtype) { return TensorOptions(dtype).device(kCPU); }

/// Quarters between -1.5 and 1.5, in float64 on the CPU; whole numbers for integers.
Tensor numbers(IntArrayRef sizes, std::int64_t seed, bool whole = false) {
  Tensor t = empty(sizes, on_host(kFloat64));
  double* const to = t.data_ptr<double>();
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    const auto value = static_cast<double>((i * 7 + i / 5 * 3 + seed * 11) % 13 - 6);
    to[i] = whole ? value : value / 4;
  }
  return t;
}

Tensor to_device(const Tensor& t, Dtype dtype) { return t.to(dtype).to(get_default_device()); }
/// What the dtype makes of exact numbers, as float64 on the CPU.
Tensor rounded(const Tensor& exact, Dtype dtype) { return exact.to(dtype).to(kFloat64).contiguous(); }
Tensor read(const Tensor& t) { return t.cpu().to(kFloat64).contiguous(); }

/// Just above 1, where TF32 is 1. A sum of products of two such is 1 + 2^-12 times their count in float32.
constexpr double kBesideOne = 1 + 0x1p-13;

/// Whether the device rounds to TF32 where it may: a real library need not.
enum class Takes { never, maybe, always };
Takes takes_tf32() {
  if (!on_gpu()) return Takes::never;
  return HALFTONE_SIMULATED_CUDA ? Takes::always : Takes::maybe;
}

std::int64_t differences(const Tensor& got, const Tensor& wanted) {
  const Tensor a = read(got), b = wanted.contiguous();
  REQUIRE(a.sizes() == b.sizes());
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) count += a.data_ptr<double>()[i] != b.data_ptr<double>()[i];
  return count;
}

/// `allowed`: of what a real GPU may be off beyond the rounding of sums, as a part of the largest result.
void check_convolved(const Tensor& got, const Tensor& exact, Dtype dtype, std::int64_t length, double allowed = 0) {
  if (test::convolutions_are_sums()) {
    CHECK(differences(got, rounded(exact, dtype)) == 0);
    return;
  }
  REQUIRE(got.sizes() == exact.sizes());
  const double error = (read(got) - exact).abs().max().item<double>();
  CHECK(error <= (4 * test::tolerance(dtype, length) + allowed) * exact.abs().max().item<double>());
}

/// Switches that a test leaves as it found them.
struct Options {
  bool tf32 = cuda::allow_tf32(), benchmark = cuda::benchmark(), deterministic = cuda::deterministic();
  std::size_t workspace = cuda::workspace_limit();
  ~Options() {
    cuda::set_allow_tf32(tf32);
    cuda::set_benchmark(benchmark);
    cuda::set_deterministic(deterministic);
    cuda::set_workspace_limit(workspace);
  }
};

// ---------------------------------------------------------------- matrix products

enum class Layout { rows, columns, padded, sparse };
constexpr Layout kLayouts[] = {Layout::rows, Layout::columns, Layout::padded, Layout::sparse};

/// A matrix of the device with these values, lying in memory so.
Tensor lying(const Tensor& values, Dtype dtype, Layout layout) {
  const std::int64_t rows = values.size(0), cols = values.size(1);
  const TensorOptions how(dtype);
  Tensor t;
  if (layout == Layout::rows) t = empty({rows, cols}, how);
  if (layout == Layout::columns) t = empty({cols, rows}, how).t();
  if (layout == Layout::padded) t = empty({rows, cols + 3}, how).narrow(1, 1, cols);
  if (layout == Layout::sparse) t = empty({rows, cols, 2}, how).select(2, 1);
  t.copy_(to_device(values, dtype));
  return t;
}

struct Product {
  Dtype dtype = kFloat32;
  std::int64_t m = 6, k = 8, n = 10;
  Layout a = Layout::rows, b = Layout::rows, y = Layout::rows;
  Dtype bias = Dtype::Undefined;
  Activation activation = Activation::none;
  bool accumulate = false;
};

void check_product(const Product& c) {
  const bool whole = !is_floating_point(c.dtype);
  const auto positive = [&](const Tensor& t) { return c.dtype == kUInt8 ? t.abs() : t; };
  const Tensor a = positive(numbers({c.m, c.k}, 1, whole)), b = positive(numbers({c.k, c.n}, 2, whole));
  const Tensor old = positive(numbers({c.m, c.n}, 3, whole)), bias = positive(numbers({c.n}, 4, whole));
  Tensor exact = old.clone();
  const bool has_bias = c.bias != Dtype::Undefined;
  backend(kCPU).gemm(a, b, has_bias ? bias : Tensor{}, c.activation, c.accumulate, exact);

  Tensor y = lying(old, c.dtype, c.y);
  backend(y).gemm(lying(a, c.dtype, c.a), lying(b, c.dtype, c.b), has_bias ? to_device(bias, c.bias) : Tensor{},
                  c.activation, c.accumulate, y);
  INFO(c.dtype << ": " << c.m << "x" << c.k << "x" << c.n << " layouts " << int(c.a) << int(c.b) << int(c.y) << " bias "
               << c.bias << " accumulate " << c.accumulate << " activation " << int(c.activation));
  CHECK(differences(y, rounded(exact, c.dtype)) == 0);
}

TEST_CASE("products of every dtype, from every layout into every layout", "[gemm][products]") {
  for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64, kUInt8, kInt8, kInt16, kInt32, kInt64}) {
    for (const Layout a : kLayouts) {
      for (const Layout b : kLayouts) check_product({.dtype = dtype, .a = a, .b = b});
      check_product({.dtype = dtype, .m = 5, .k = 7, .n = 3, .a = a, .b = Layout::columns, .y = a});
      check_product({.dtype = dtype, .m = 1, .k = 40, .n = 33, .y = a});
    }
  }
}

TEST_CASE("products add to y, add a bias and apply an activation", "[gemm][products]") {
  for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64, kInt32}) {
    for (const std::int64_t k : {0, 8, 80}) {
      for (const Layout y : kLayouts) {
        for (const bool accumulate : {false, true}) {
          for (const bool bias : {false, true}) {
            const Activation activation = bias == accumulate ? Activation::relu : Activation::none;
            check_product({dtype, 4, k, 6, Layout::rows, Layout::rows, y, bias ? dtype : Dtype::Undefined, activation,
                           accumulate});
          }
        }
      }
    }
    check_product({.dtype = dtype, .m = 3, .n = 5, .bias = dtype});  // rows that start between words
  }
  for (const Dtype dtype : {kFloat16, kBFloat16}) {
    check_product({.dtype = dtype, .bias = kFloat32});
    check_product({.dtype = dtype, .y = Layout::columns, .bias = kFloat32, .accumulate = true});
  }
}

TEST_CASE("gelu after a product is the exact one", "[gemm][products]") {
  const Tensor a = numbers({2, 1}, 1), one = numbers({1, 1}, 0);
  for (const Dtype dtype : {kFloat32, kFloat64}) {
    Tensor y = empty({2, 1}, dtype);
    backend(y).gemm(to_device(a, dtype), to_device(one, dtype), {}, Activation::gelu, false, y);
    for (int i = 0; i < 2; ++i) {
      const double x = a.data_ptr<double>()[i] * one.data_ptr<double>()[0];
      CHECK(read(y).data_ptr<double>()[i] == Approx(x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)))).epsilon(1e-6));
    }
  }
}

TEST_CASE("a relu after a product lets NaN pass", "[gemm][products]") {
  const double inf = std::numeric_limits<double>::infinity();
  Tensor a = numbers({1, 2}, 0), b = numbers({2, 1}, 0);
  a.data_ptr<double>()[0] = inf, a.data_ptr<double>()[1] = -inf;
  b.data_ptr<double>()[0] = b.data_ptr<double>()[1] = 1;
  Tensor y = empty({1, 1}, kFloat32);
  backend(y).gemm(to_device(a, kFloat32), to_device(b, kFloat32), {}, Activation::relu, false, y);
  CHECK(std::isnan(read(y).item<double>()));
}

TEST_CASE("batches of products share a matrix without copying it", "[gemm][products]") {
  for (const Dtype dtype : kFloats) {
    for (const bool share_a : {false, true}) {
      for (const bool share_b : {false, true}) {
        for (const bool transposed : {false, true}) {
          const Tensor a = numbers({share_a ? 1 : 3, 4, 6}, 1), b = numbers({share_b ? 1 : 3, 6, 8}, 2);
          Tensor exact = empty({3, 4, 8}, on_host(kFloat64));
          backend(kCPU).gemm(a.expand({3, 4, 6}), b.expand({3, 6, 8}), {}, Activation::none, false, exact);
          Tensor left = to_device(a, dtype), y = empty({3, 4, 8}, dtype);
          if (transposed) left = left.transpose(1, 2).contiguous().transpose(1, 2);
          backend(y).gemm(left.expand({3, 4, 6}), to_device(b, dtype).expand({3, 6, 8}), {}, Activation::none, false,
                          y);
          CHECK(differences(y, rounded(exact, dtype)) == 0);
        }
      }
    }
  }
}

TEST_CASE("products of 16-bit matrices into float32 are not rounded to 16 bits", "[gemm][products]") {
  const Tensor ones = numbers({1, 1}, 0).fill_(1.0);
  for (const Dtype dtype : {kFloat16, kBFloat16}) {
    const Tensor a = to_device(ones.expand({1, 2049}), dtype), b = to_device(ones.expand({2049, 2}), dtype);
    Tensor y = empty({1, 2}, kFloat32), low = empty({1, 2}, dtype);
    backend(y).gemm(a, b, {}, Activation::none, false, y);
    CHECK(read(y).data_ptr<double>()[1] == 2049);
    backend(y).gemm(a, b, {}, Activation::none, false, low);
    CHECK(differences(low, rounded(ones.expand({1, 2}) * 2049, dtype)) == 0);
  }
}

TEST_CASE("products of tensors that start anywhere", "[gemm][products]") {
  for (const Dtype dtype : kFloats) {
    const Tensor values = numbers({1 + 4 * 6}, 1);
    const Tensor a = to_device(values, dtype).narrow(0, 1, 24).view({4, 6}), b = to_device(numbers({6, 4}, 2), dtype);
    Tensor y = empty({17}, dtype).narrow(0, 1, 16).view({4, 4});
    Tensor exact = empty({4, 4}, on_host(kFloat64));
    backend(kCPU).gemm(values.narrow(0, 1, 24).view({4, 6}), numbers({6, 4}, 2), numbers({4}, 3), Activation::none,
                       false, exact);
    const Tensor bias = to_device(numbers({1 + 4}, 0), dtype).narrow(0, 1, 4);
    bias.copy_(to_device(numbers({4}, 3), dtype));
    backend(y).gemm(a, b, bias, Activation::none, false, y);
    CHECK(differences(y, rounded(exact, dtype)) == 0);
  }
}

TEST_CASE("float32 is multiplied as float32 unless TF32 is allowed", "[gemm][products]") {
  const Options before;
  const Tensor x = numbers({3, 80}, 0).fill_(kBesideOne), w = numbers({80, 2}, 0).fill_(kBesideOne);
  const auto product = [&] {
    Tensor y = empty({3, 2}, kFloat32);
    backend(y).gemm(to_device(x, kFloat32), to_device(w, kFloat32), {}, Activation::none, false, y);
    return read(y);
  };
  const Tensor exact = numbers({3, 2}, 0).fill_(80 * (1 + 0x1p-12)), coarse = numbers({3, 2}, 0).fill_(80.0);
  for (const bool benchmark : {false, true}) {
    cuda::set_benchmark(benchmark);
    cuda::set_allow_tf32(false);
    CHECK(differences(product(), exact) == 0);
    cuda::set_allow_tf32(true);
    if (takes_tf32() == Takes::maybe) {
      CHECK((product() - exact).abs().max().item<double>() <= 80 * 0x1p-9);
    } else {
      CHECK(differences(product(), takes_tf32() == Takes::always ? coarse : exact) == 0);
    }
  }
}

TEST_CASE("what is told of a matrix says how it lies", "[gemm]") {
  CHECK(as_blas({3, 4, 4, 1}) == BlasMatrix{false, 4, 0});
  CHECK(as_blas({3, 4, 9, 1}) == BlasMatrix{false, 9, 0});
  CHECK(as_blas({3, 4, 1, 3}) == BlasMatrix{true, 3, 0});
  CHECK(as_blas({3, 4, 1, 8, 70}) == BlasMatrix{true, 8, 70});
  CHECK(as_blas({1, 4, 0, 1}) == BlasMatrix{false, 4, 0});
  CHECK(as_blas({4, 1, 1, 0}) == BlasMatrix{false, 1, 0});
  CHECK_FALSE(as_blas({3, 4, 0, 1}));  // rows in one place
  CHECK_FALSE(as_blas({3, 4, 2, 1}));  // rows that overlap
  CHECK_FALSE(as_blas({3, 4, 8, 2}));
}

TEST_CASE("a problem tells products apart and leaves out what must be copied", "[gemm]") {
  const StridedMatrix a{3, 4, 4, 1, 12}, b{4, 5, 5, 1, 0}, y{3, 5, 5, 1, 15};
  const auto problem = gemm_problem(a, b, y, 2);
  REQUIRE(problem);
  CHECK(problem->m == 3);
  CHECK(problem->n == 5);
  CHECK(problem->k == 4);
  CHECK(*problem == *gemm_problem(a, b, y, 2));
  CHECK(*problem != *gemm_problem(a, b, y, 3));
  CHECK(*problem != *gemm_problem(a, {4, 5, 1, 4}, y, 2));
  CHECK_FALSE(gemm_problem(a, b, {3, 5, 1, 3, 15}, 2));  // columns of y
  CHECK_FALSE(gemm_problem(a, b, {3, 5, 10, 1, 5}, 2));  // rows of two matrices in turn
}

// ---------------------------------------------------------------- convolutions

ConvShape shape(int rank, std::int64_t batch, std::int64_t in_channels, std::int64_t out_channels, std::int64_t groups,
                std::array<std::int64_t, 3> in, std::array<std::int64_t, 3> kernel,
                std::array<std::int64_t, 3> stride = {1, 1, 1}, std::array<std::int64_t, 3> padding = {0, 0, 0},
                std::array<std::int64_t, 3> dilation = {1, 1, 1}) {
  ConvShape s{{rank, in, kernel, stride, padding, dilation, {1, 1, 1}}, batch, in_channels, out_channels, groups};
  for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
    s.window.out[i] = window_count(in[i], kernel[i], stride[i], padding[i], dilation[i]);
  }
  return s;
}

struct Row {
  const char* name;
  ConvShape s;
};

ConvShape with_unreached_cells() {
  ConvShape s = shape(2, 2, 2, 3, 1, {7, 7, 1}, {2, 2, 1}, {1, 1, 1}, {0, 0, 0}, {2, 2, 1});
  s.window.in[0] = s.window.in[1] = 8;
  return s;
}

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {"three by three", shape(2, 2, 3, 4, 1, {6, 5, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 0})},
      {"wide kernel and stride", shape(2, 2, 4, 6, 1, {9, 8, 1}, {5, 4, 1}, {2, 3, 1}, {2, 1, 0})},
      {"dilated", shape(2, 1, 4, 3, 1, {8, 8, 1}, {3, 3, 1}, {1, 1, 1}, {2, 2, 0}, {2, 3, 1})},
      {"one by one", shape(2, 3, 8, 8, 1, {4, 4, 1}, {1, 1, 1})},
      {"two groups", shape(2, 2, 8, 6, 2, {5, 5, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 0})},
      {"depthwise", shape(2, 2, 8, 8, 8, {5, 5, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 0})},
      {"kernel as large as the image", shape(2, 2, 5, 7, 1, {4, 3, 1}, {4, 3, 1})},
      {"sequence", shape(1, 3, 4, 6, 1, {21, 1, 1}, {5, 1, 1}, {2, 1, 1}, {2, 0, 0})},
      {"volume", shape(3, 2, 3, 4, 1, {4, 5, 4}, {3, 2, 3}, {1, 2, 2}, {1, 0, 1})},
      {"cells that no window reaches", with_unreached_cells()},
  };
  return all;
}

Dims sizes_of(std::int64_t outer, std::int64_t channels, const std::array<std::int64_t, 3>& spatial, int rank) {
  Dims sizes{outer, channels};
  for (int i = 0; i < rank; ++i) sizes.push_back(spatial[static_cast<std::size_t>(i)]);
  return sizes;
}

TensorOptions in_order(Dtype dtype, bool last, int rank) {
  return TensorOptions(dtype).memory_format(last && rank > 1 ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

/// The three primitives in float64 on the CPU.
struct Exact {
  ConvShape s;
  Tensor x, w, g, bias, y, dx, dw, dbias;

  /// With all of x, w and g of one value, if it is given.
  explicit Exact(const ConvShape& shape, std::optional<double> value = {})
      : s(shape),
        x(numbers(sizes_of(s.batch, s.in_channels, s.window.in, s.window.rank), 1)),
        w(numbers(sizes_of(s.out_channels, s.in_channels / s.groups, s.window.kernel, s.window.rank), 2)),
        g(numbers(sizes_of(s.batch, s.out_channels, s.window.out, s.window.rank), 3)),
        bias(numbers({s.out_channels}, 4)),
        y(empty_like(g)),
        dx(empty_like(x)),
        dw(empty_like(w)),
        dbias(empty_like(bias)) {
    if (value) x.fill_(*value), w.fill_(*value), g.fill_(*value);
    backend(kCPU).conv(s, x, w, bias, y);
    backend(kCPU).conv_data_grad(s, g, w, dx);
    backend(kCPU).conv_weight_grad(s, x, g, dw, dbias);
  }
};

void check_convolution(const Exact& e, Dtype dtype, bool x_last, bool w_last, bool y_last, double allowed = 0) {
  const auto made = [&](const Tensor& values, bool last) {
    Tensor t = empty(values.sizes(), in_order(dtype, last, e.s.window.rank));
    t.copy_(to_device(values, dtype));
    return t;
  };
  const Tensor x = made(e.x, x_last), w = made(e.w, w_last), g = made(e.g, y_last), bias = to_device(e.bias, dtype);
  Tensor y = empty_like(g), dx = empty_like(x), dw = empty_like(w), dbias = empty_like(bias), none;
  const std::int64_t kernel = e.s.window.kernel_size(), ins = e.s.in_channels / e.s.groups;
  backend(x).conv(e.s, x, w, bias, y);
  check_convolved(y, e.y, dtype, ins * kernel, allowed);
  backend(x).conv(e.s, x, w, {}, y);
  const Tensor plain = e.y - e.bias.view(sizes_of(1, e.s.out_channels, {1, 1, 1}, e.s.window.rank));
  check_convolved(y, plain, dtype, ins * kernel, allowed);
  backend(x).conv_data_grad(e.s, g, w, dx);
  check_convolved(dx, e.dx, dtype, e.s.out_channels / e.s.groups * kernel, allowed);
  backend(x).conv_weight_grad(e.s, x, g, dw, dbias);
  check_convolved(dw, e.dw, dtype, e.s.batch * e.s.window.out_size(), allowed);
  CHECK(differences(dbias, rounded(e.dbias, dtype)) == 0);
}

TEST_CASE("convolutions of every shape, dtype and order of memory", "[convolution][products]") {
  for (const Row& row : rows()) {
    const Exact exact(row.s);
    for (const Dtype dtype : kFloats) {
      for (const int last : {0b000, 0b111, 0b101, 0b010}) {
        INFO(row.name << ", " << dtype << ", channels-last x w y " << last);
        check_convolution(exact, dtype, last & 4, last & 2, last & 1);
      }
    }
  }
}

TEST_CASE("float32 is convolved as float32 unless TF32 is allowed", "[convolution][products]") {
  const Options before;
  for (const int row : {0, 4, 8}) {
    const Exact exact(rows()[row].s, kBesideOne), ones(rows()[row].s, 1.0);
    Exact coarse = exact;
    coarse.y = ones.y, coarse.dx = ones.dx, coarse.dw = ones.dw;
    for (const bool benchmark : {false, true}) {
      for (const int last : {0b000, 0b111}) {
        INFO(rows()[row].name << (benchmark ? ", timed" : "") << (last ? ", channels-last" : ""));
        cuda::set_benchmark(benchmark);
        cuda::set_allow_tf32(false);
        check_convolution(exact, kFloat32, last, last, last);
        cuda::set_allow_tf32(true);
        if (takes_tf32() == Takes::maybe) {
          check_convolution(exact, kFloat32, last, last, last, 0x1p-9);
        } else {
          check_convolution(takes_tf32() == Takes::always ? coarse : exact, kFloat32, last, last, last);
        }
      }
    }
  }
}

TEST_CASE("however an algorithm is chosen, the convolution is the same", "[convolution][products]") {
  const Options before;
  const Exact exact(rows()[0].s);
  for (const bool benchmark : {false, true}) {
    for (const bool deterministic : {false, true}) {
      for (const std::size_t workspace : {std::size_t{0}, std::size_t{1} << 20}) {
        cuda::set_benchmark(benchmark);
        cuda::set_deterministic(deterministic);
        cuda::set_workspace_limit(workspace);
        for (int repeat = 0; repeat < 2; ++repeat) {
          check_convolution(exact, kFloat32, false, false, false);
          check_product({.dtype = kBFloat16, .m = 4, .k = 80, .n = 6, .bias = kBFloat16, .accumulate = true});
        }
      }
    }
  }
}

TEST_CASE("convolutions of tensors that start anywhere", "[convolution][products]") {
  const Exact e(rows()[3].s);
  for (const Dtype dtype : kFloats) {
    const auto shifted = [&](const Tensor& values) {
      Tensor t = empty({values.numel() + 1}, dtype).narrow(0, 1, values.numel()).view(values.sizes());
      t.copy_(to_device(values, dtype));
      return t;
    };
    Tensor y = shifted(e.g);
    backend(y).conv(e.s, shifted(e.x), shifted(e.w), shifted(e.bias), y);
    check_convolved(y, e.y, dtype, e.s.in_channels);
    const Tensor apart = to_device(e.bias, dtype).view({-1, 1}).expand({-1, 2}).contiguous().select(1, 1);
    backend(y).conv(e.s, shifted(e.x), shifted(e.w), apart, y);
    check_convolved(y, e.y, dtype, e.s.in_channels);
  }
}

TEST_CASE("a convolution of a part of the batch at a time is that of the whole", "[convolution][products]") {
  for (const Row& row : rows()) {
    const Exact e(row.s);
    for (const std::int64_t images : {1, 2}) {
      INFO(row.name << ", " << images << " at a time");
      const auto given = [](const Tensor& t) { return to_device(t, kFloat32); };
      const Tensor x = given(e.x), w = given(e.w), g = given(e.g), bias = given(e.bias);
      Tensor y = empty_like(g), dx = empty_like(x), dw = empty_like(w), dbias = empty_like(bias), none;
      conv_in_parts(backend(x), images, e.s, x, w, bias, y);
      check_convolved(y, e.y, kFloat32, e.w.numel());
      conv_data_grad_in_parts(backend(x), images, e.s, g, w, dx);
      check_convolved(dx, e.dx, kFloat32, e.w.numel());
      conv_weight_grad_in_parts(backend(x), images, e.s, x, g, dw, dbias);
      check_convolved(dw, e.dw, kFloat32, e.g.numel());
      CHECK(differences(dbias, rounded(e.dbias, kFloat32)) == 0);
      conv_weight_grad_in_parts(backend(x), images, e.s, x, g, dw, none);
      check_convolved(dw, e.dw, kFloat32, e.g.numel());
    }
  }
}

TEST_CASE("as many images go into a part as keep x and y below the limit", "[convolution]") {
  const ConvShape s = rows()[0].s;  // 2 images of 3 x 30 and 4 x 30 elements
  CHECK(images_in_part(s, 119) == 0);
  CHECK(images_in_part(s, 120) == 1);
  CHECK(images_in_part(s, 239) == 1);
  CHECK(images_in_part(s, std::numeric_limits<int>::max()) > s.batch);
}

TEST_CASE("a captured graph computes products and convolutions, choosing without timing", "[products][graph]") {
  if (!on_gpu()) return;
  const Options before;
  const Exact e(rows()[0].s);
  for (const bool benchmark : {false, true}) {
    cuda::set_benchmark(benchmark);
    const Tensor x = to_device(e.x, kFloat16), w = to_device(e.w, kFloat16), bias = to_device(e.bias, kFloat16);
    const Tensor a = to_device(numbers({4, 80}, 1), kFloat32), b = to_device(numbers({80, 6}, 2), kFloat32);
    Tensor y = empty(e.y.sizes(), kFloat16), product = empty({4, 6}, kFloat32),
           exact = empty({4, 6}, on_host(kFloat64));
    backend(kCPU).gemm(numbers({4, 80}, 1), numbers({80, 6}, 2), {}, Activation::none, false, exact);
    const auto work = [&] {
      backend(y).conv(e.s, x, w, bias, y);
      backend(y).gemm(a, b, {}, Activation::none, false, product);
    };
    work();
    y.zero_();
    product.zero_();
    cuda::Graph graph(get_default_device());
    graph.capture(work);
    graph.replay();
    check_convolved(y, e.y, kFloat16, 27);
    CHECK(differences(product, exact) == 0);
  }
}

TEST_CASE("what is told of a convolution counts two spatial axes at least", "[convolution]") {
  const ConvDescription sequence = describe(rows()[7].s, MemoryFormat::Contiguous);
  CHECK(sequence.x.sizes == std::vector<int>{3, 4, 1, 21});
  CHECK(sequence.x.strides == std::vector<int>{84, 21, 21, 1});
  CHECK(sequence.w.sizes == std::vector<int>{6, 4, 1, 5});
  CHECK(sequence.padding == std::vector<int>{0, 2});
  CHECK(sequence.stride == std::vector<int>{1, 2});
  const ConvDescription groups = describe(rows()[4].s, MemoryFormat::ChannelsLast);
  CHECK(groups.x.strides == std::vector<int>{200, 1, 40, 8});
  CHECK(groups.w.sizes == std::vector<int>{6, 4, 3, 3});
}

TEST_CASE("a library is asked only for what it can take", "[convolution]") {
  CHECK(is_plain(rows()[0].s));
  CHECK_FALSE(is_plain(with_unreached_cells()));
  ConvShape empty_batch = rows()[0].s;
  empty_batch.batch = 0;
  CHECK_FALSE(is_plain(empty_batch));
  const auto formats = [](int row, Dtype dtype, bool last) {
    return formats_for(rows()[static_cast<std::size_t>(row)].s, dtype, last);
  };
  CHECK(formats(0, kFloat16, true) == std::vector{MemoryFormat::ChannelsLast, MemoryFormat::Contiguous});
  CHECK(formats(0, kFloat32, false) == std::vector{MemoryFormat::Contiguous, MemoryFormat::ChannelsLast});
  CHECK(formats(0, kFloat64, true) == std::vector{MemoryFormat::Contiguous});
  CHECK(formats(7, kFloat16, false) == std::vector{MemoryFormat::Contiguous});
}

}  // namespace
}  // namespace halftone
