#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/onednn.h"
#include "tests/catch.h"

namespace halftone::cpu {
namespace {

/// How a matrix lies in memory.
enum class Layout { rows, cols, padded_rows, padded_cols, sparse, broadcast_row, broadcast_col };
constexpr Layout kInputLayouts[] = {Layout::rows,   Layout::cols,          Layout::padded_rows,  Layout::padded_cols,
                                    Layout::sparse, Layout::broadcast_row, Layout::broadcast_col};
constexpr Layout kOutputLayouts[] = {Layout::rows, Layout::cols, Layout::padded_rows, Layout::padded_cols,
                                     Layout::sparse};

struct Strides {
  std::int64_t row, col;
};

Strides strides_of(Layout layout, std::int64_t rows, std::int64_t cols) {
  switch (layout) {
    case Layout::rows: return {cols, 1};
    case Layout::cols: return {1, rows};
    case Layout::padded_rows: return {cols + 3, 1};
    case Layout::padded_cols: return {1, rows + 5};
    case Layout::sparse: return {2 * cols + 1, 2};
    case Layout::broadcast_row: return {0, 1};
    default: return {1, 0};
  }
}

/// Elements of a batch of matrices, as doubles that the dtype holds exactly.
struct Values {
  std::vector<double> at;
  std::int64_t rows, cols, row, col, batch_stride;

  Values(std::int64_t batch, std::int64_t rows_, std::int64_t cols_, Layout layout, bool shared = false)
      : rows(rows_), cols(cols_) {
    const Strides s = strides_of(layout, rows, cols);
    row = s.row;
    col = s.col;
    const std::int64_t span = (rows > 0 ? (rows - 1) * row : 0) + (cols > 0 ? (cols - 1) * col : 0) + 1;
    batch_stride = shared ? 0 : span;
    at.resize(static_cast<std::size_t>(span * (shared ? 1 : batch)));
  }
  double& operator()(std::int64_t b, std::int64_t i, std::int64_t j) {
    return at[static_cast<std::size_t>(b * batch_stride + i * row + j * col)];
  }
};

void fill(std::vector<double>& v, Dtype dtype, std::mt19937& random) {
  std::uniform_int_distribution<int> whole(dtype == kUInt8 ? 0 : -5, 5);
  for (double& x : v)
    x = is_floating_point(dtype) ? whole(random) / 4.0 : whole(random);  // exact in every floating dtype
}

std::vector<std::byte> encode(const std::vector<double>& v, Dtype dtype) {
  std::vector<std::byte> bytes(v.size() * static_cast<std::size_t>(element_size(dtype)));
  visit_all(dtype, [&]<class T>(Type<T>) {
    auto* to = reinterpret_cast<T*>(bytes.data());
    for (std::size_t i = 0; i < v.size(); ++i) to[i] = static_cast<T>(static_cast<Compute<T>>(v[i]));
  });
  return bytes;
}

std::vector<double> decode(const std::vector<std::byte>& bytes, Dtype dtype) {
  std::vector<double> v(bytes.size() / static_cast<std::size_t>(element_size(dtype)));
  visit_all(dtype, [&]<class T>(Type<T>) {
    const auto* from = reinterpret_cast<const T*>(bytes.data());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(static_cast<Compute<T>>(from[i]));
  });
  return v;
}

/// The dtype's own view of a value: rounded for the 16-bit types, wrapped for integers.
double as_dtype(double value, Dtype dtype) {
  return visit_all(dtype, [&]<class T>(Type<T>) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<double>(static_cast<T>(static_cast<std::int64_t>(value)));
    else
      return static_cast<double>(static_cast<Compute<T>>(static_cast<T>(static_cast<Compute<T>>(value))));
  });
}

struct Case {
  Dtype dtype = kFloat32;
  std::int64_t batch = 1, m = 1, k = 1, n = 1;
  Layout a = Layout::rows, b = Layout::rows, y = Layout::rows;
  bool a_shared = false, b_shared = false;
  Dtype bias = Dtype::Undefined;  // none
  Activation activation = Activation::none;
  bool accumulate = false;
};

/// Compares gemm with a triple loop. The values are such that every sum is exact before its one rounding.
void check_case(const Case& c) {
  std::mt19937 random(7);
  Values a(c.batch, c.m, c.k, c.a, c.a_shared), b(c.batch, c.k, c.n, c.b, c.b_shared), y(c.batch, c.m, c.n, c.y);
  std::vector<double> bias(static_cast<std::size_t>(c.n));
  for (auto* v : {&a.at, &b.at, &y.at, &bias}) fill(*v, c.dtype, random);
  Values wanted = y;
  for (std::int64_t s = 0; s < c.batch; ++s)
    for (std::int64_t i = 0; i < c.m; ++i)
      for (std::int64_t j = 0; j < c.n; ++j) {
        double sum = c.accumulate ? y(s, i, j) : 0;
        for (std::int64_t l = 0; l < c.k; ++l) sum += a(s, i, l) * b(s, l, j);
        if (c.bias != Dtype::Undefined) sum += bias[static_cast<std::size_t>(j)];
        wanted(s, i, j) = as_dtype(c.activation == Activation::relu ? std::max(sum, 0.0) : sum, c.dtype);
      }
  const auto a_bytes = encode(a.at, c.dtype), b_bytes = encode(b.at, c.dtype);
  const auto bias_bytes = c.bias == Dtype::Undefined ? std::vector<std::byte>() : encode(bias, c.bias);
  auto y_bytes = encode(y.at, c.dtype);
  GemmArgs args{.dtype = c.dtype,
                .a = {a_bytes.data(), c.m, c.k, a.row, a.col, a.batch_stride},
                .b = {b_bytes.data(), c.k, c.n, b.row, b.col, b.batch_stride},
                .y = {y_bytes.data(), c.m, c.n, y.row, y.col, y.batch_stride},
                .batch = c.batch,
                .activation = c.activation,
                .accumulate = c.accumulate};
  if (c.bias != Dtype::Undefined) {
    args.bias = bias_bytes.data();
    args.bias_dtype = c.bias;
  }
  gemm(args);
  const std::vector<double> got =
      decode(y_bytes, c.dtype);  // gaps between the elements must have kept their values too
  INFO(c.dtype << " batch " << c.batch << ": " << c.m << "x" << c.k << "x" << c.n << " layouts " << int(c.a) << int(c.b)
               << int(c.y) << " bias " << c.bias << " accumulate " << c.accumulate << " relu " << int(c.activation));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) wrong += got[i] != wanted.at[i];
  CHECK(wrong == 0);
}

/// Runs the rest of the test with the portable path alone and as the machine would.
struct Path {
  std::unique_ptr<PortableScope> portable;
  explicit Path(bool only_portable) : portable(only_portable ? std::make_unique<PortableScope>() : nullptr) {}
};

constexpr Dtype kProductDtypes[] = {kFloat16, kBFloat16, kFloat32, kFloat64, kUInt8, kInt8, kInt16, kInt32, kInt64};
constexpr Dtype kFloatingDtypes[] = {kFloat16, kBFloat16, kFloat32, kFloat64};

TEST_CASE("gemm multiplies every dtype from every layout into every layout", "[cpu][gemm]") {
  const Path path(GENERATE(false, true));
  for (const Dtype dtype : kProductDtypes)
    for (const Layout a : kInputLayouts)
      for (const Layout b : kInputLayouts)
        for (const Layout y : kOutputLayouts)
          check_case({.dtype = dtype, .m = 5, .k = 7, .n = 6, .a = a, .b = b, .y = y});
}

TEST_CASE("gemm handles every combination of small sizes", "[cpu][gemm]") {
  const Path path(GENERATE(false, true));
  constexpr std::int64_t sizes[] = {0, 1, 2, 17};
  for (const Dtype dtype : kProductDtypes)
    for (const std::int64_t m : sizes)
      for (const std::int64_t k : sizes)
        for (const std::int64_t n : sizes)
          for (const Layout layout : {Layout::rows, Layout::cols})
            check_case({.dtype = dtype, .m = m, .k = k, .n = n, .a = layout, .b = layout});
}

TEST_CASE("gemm adds to y, adds the bias and applies the activation, rounding once", "[cpu][gemm]") {
  const Path path(GENERATE(false, true));
  for (const Dtype dtype : kProductDtypes)
    for (const std::int64_t k : {0, 9})
      for (const bool accumulate : {false, true})
        for (const Activation activation : {Activation::none, Activation::relu})
          for (const bool with_bias : {false, true})
            for (const Layout y : kOutputLayouts)
              check_case({.dtype = dtype,
                          .m = 8,
                          .k = k,
                          .n = 5,
                          .y = y,
                          .bias = with_bias ? dtype : Dtype::Undefined,
                          .activation = activation,
                          .accumulate = accumulate});
  for (const Dtype dtype : {kFloat16, kBFloat16})
    check_case({.dtype = dtype, .m = 9, .k = 20, .n = 33, .bias = kFloat32});
}

TEST_CASE("gemm shares a matrix among a batch", "[cpu][gemm]") {
  const Path path(GENERATE(false, true));
  for (const Dtype dtype : kProductDtypes)
    for (const std::int64_t batch : {0, 1, 3, 16})
      for (const bool a_shared : {false, true})
        for (const bool b_shared : {false, true})
          check_case(
              {.dtype = dtype, .batch = batch, .m = 4, .k = 5, .n = 6, .a_shared = a_shared, .b_shared = b_shared});
}

TEST_CASE("gemm gives the same result from any number of threads", "[cpu][gemm][threads]") {
  const Path path(GENERATE(false, true));
  const int before = get_num_threads();
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    for (const Dtype dtype : kFloatingDtypes) {
      check_case({.dtype = dtype,
                  .m = 301,
                  .k = 65,
                  .n = 120,
                  .a = Layout::cols,
                  .bias = kFloat32 == dtype ? dtype : Dtype::Undefined});
      check_case({.dtype = dtype, .m = 33, .k = 64, .n = 1200, .b = Layout::cols, .bias = dtype});
      check_case({.dtype = dtype, .batch = 40, .m = 33, .k = 40, .n = 50});
      check_case({.dtype = dtype, .batch = 2, .m = 130, .k = 128, .n = 130, .y = Layout::cols});
    }
  }
  set_num_threads(before);
}

TEST_CASE("gemm multiplies a few rows by a large matrix", "[cpu][gemm]") {
  const Path path(GENERATE(false, true));
  for (const Dtype dtype : kFloatingDtypes)
    for (const std::int64_t m : {1, 2, 3, 4})
      for (const Layout b : {Layout::rows, Layout::cols, Layout::padded_rows, Layout::padded_cols})
        for (const bool accumulate : {false, true})
          check_case({.dtype = dtype, .m = m, .k = 133, .n = 150, .b = b, .bias = dtype, .accumulate = accumulate});
}

TEST_CASE("gemm takes a wide matrix in panels", "[cpu][gemm]") {
  for (const Layout b : {Layout::rows, Layout::cols})
    check_case(
        {.dtype = kBFloat16, .m = 256, .k = 512, .n = 1030, .b = b, .bias = kBFloat16, .activation = Activation::relu});
}

TEST_CASE("gemm may be called from several threads at once", "[cpu][gemm][threads]") {
  std::vector<std::thread> users;
  std::atomic<int> wrong{0};
  for (const Dtype dtype : {kFloat32, kBFloat16, kFloat16})
    users.emplace_back([&wrong, dtype] {
      const std::int64_t n = 128;
      std::vector<double> ones(static_cast<std::size_t>(n * n), 1.0);
      const auto a = encode(ones, dtype);
      auto y = encode(ones, dtype);
      for (int i = 0; i < 20; ++i)
        gemm({.dtype = dtype, .a = {a.data(), n, n, n, 1}, .b = {a.data(), n, n, 1, n}, .y = {y.data(), n, n, n, 1}});
      for (const double v : decode(y, dtype)) wrong += v != 128.0;
    });
  for (std::thread& u : users) u.join();
  CHECK(wrong == 0);
}

TEST_CASE("16-bit products are summed in float32", "[cpu][gemm]") {
  const Path path(GENERATE(false, true));
  for (const Dtype dtype : {kFloat16, kBFloat16}) {
    const std::int64_t k = 5000;  // a sum kept in the dtype would stop at 2048 or 256
    const auto ones = encode(std::vector<double>(static_cast<std::size_t>(k * 16), 1.0), dtype);
    std::vector<std::byte> y(16 * 16 * 2);
    gemm({.dtype = dtype,
          .a = {ones.data(), 16, k, k, 1},
          .b = {ones.data(), k, 16, 16, 1},
          .y = {y.data(), 16, 16, 16, 1}});
    for (const double v : decode(y, dtype)) CHECK(v == as_dtype(5000, dtype));
  }
}

TEST_CASE("integer products wrap around", "[cpu][gemm]") {
  const std::int16_t a[] = {300, -7}, b[] = {300, 1000};
  std::int16_t y[] = {0};
  gemm({.dtype = kInt16, .a = {a, 1, 2, 2, 1}, .b = {b, 2, 1, 1, 1}, .y = {y, 1, 1, 1, 1}});
  CHECK(y[0] == static_cast<std::int16_t>(90000 - 7000));
}

TEST_CASE("infinities and NaN go through a product and its relu", "[cpu][gemm]") {
  const Path path(GENERATE(false, true));
  const float inf = std::numeric_limits<float>::infinity();
  const float a[] = {inf, 1, inf, -inf, 1, 2}, b[] = {1, 1};
  float y[] = {0, 0, 0};
  gemm({.a = {a, 3, 2, 2, 1}, .b = {b, 2, 1, 1, 1}, .y = {y, 3, 1, 1, 1}, .activation = Activation::relu});
  CHECK(y[0] == inf);
  CHECK(std::isnan(y[1]));
  CHECK(y[2] == 3);
}

template <class T> std::int64_t widen_differences() {
  std::vector<T> from(65536);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = T::from_bits(static_cast<std::uint16_t>(i));
  std::vector<float> to(from.size());
  widen(from.data(), to.data(), static_cast<std::int64_t>(from.size()));
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < from.size(); ++i)
    wrong += std::bit_cast<std::uint32_t>(to[i]) != std::bit_cast<std::uint32_t>(T::widen(from[i].bits));
  return wrong;
}

/// Every float whose upper bits matter to the rounding, with `low` below them.
template <class T> std::int64_t narrow_differences(std::uint32_t low) {
  constexpr std::uint32_t kBlock = 1u << 16;
  std::vector<float> from(kBlock);
  std::vector<T> to(kBlock);
  std::int64_t wrong = 0;
  for (std::uint32_t high = 0; high < 1u << 20; high += kBlock) {
    for (std::uint32_t i = 0; i < kBlock; ++i) from[i] = std::bit_cast<float>(((high + i) << 12) | low);
    narrow(from.data(), to.data(), kBlock);
    for (std::uint32_t i = 0; i < kBlock; ++i) wrong += to[i].bits != T::round(from[i]);
  }
  return wrong;
}

TEST_CASE("bulk conversions give the bits of the scalar ones", "[cpu][gemm][convert]") {
  CHECK(widen_differences<Half>() == 0);
  CHECK(widen_differences<BFloat16>() == 0);
  for (const std::uint32_t low : {0x000u, 0x001u, 0x7FFu, 0x800u, 0x801u, 0xFFFu}) {
    CHECK(narrow_differences<Half>(low) == 0);
    CHECK(narrow_differences<BFloat16>(low) == 0);
  }
}

TEST_CASE("bulk conversions touch nothing outside their range", "[cpu][gemm][convert]") {
  for (std::int64_t n = 0; n < 40; ++n) {
    std::vector<float> wide(48, 3.0f);
    std::vector<Half> narrow_to(48, Half(5.0f));
    narrow(wide.data(), narrow_to.data(), n);
    for (std::int64_t i = 0; i < 48; ++i) CHECK(float(narrow_to[static_cast<std::size_t>(i)]) == (i < n ? 3.0f : 5.0f));
    widen(narrow_to.data() + 1, wide.data(), n);
    CHECK(wide[static_cast<std::size_t>(n)] == 3.0f);
  }
}

TEST_CASE("the note on the processor says something", "[cpu][gemm]") {
  CHECK_FALSE(cpu_capability().empty());
  if (!has_onednn()) CHECK_FALSE(has_fast_bf16());
}

}  // namespace
}  // namespace halftone::cpu
