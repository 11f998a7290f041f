#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/parallel.h"
#include "core/random.h"
#include "kernels/backend.h"
#include "kernels/indexing.h"
#include "tests/catch.h"
#include "tests/cuda.h"
#include "tests/op_cases.h"

namespace halftone {
namespace {

using Catch::Matchers::ContainsSubstring;
using Ints = std::vector<std::int64_t>;
using Values = std::vector<double>;

constexpr Dtype kFloats[] = {kFloat16, kBFloat16, kFloat32, kFloat64};

/// The arithmetic of the device under test.
Backend& here() { return backend(get_default_device().type()); }
bool on_cpu() { return get_default_device().is_cpu(); }
TensorOptions on_host(Dtype dtype) { return TensorOptions(dtype).device(kCPU); }

Tensor filled(IntArrayRef sizes, Dtype dtype, const Values& values) {
  Tensor dense = empty(sizes, on_host(kFloat64)), t = empty(sizes, dtype);
  std::copy(values.begin(), values.end(), dense.data_ptr<double>());
  here().copy(dense.to(t.device()), t);
  return t;
}
Tensor indices_of(IntArrayRef sizes, const Ints& values) {
  const Tensor t = empty(sizes, on_host(kInt64));
  std::copy(values.begin(), values.end(), t.data_ptr<std::int64_t>());
  return t.to(get_default_device());
}
Values read(const Tensor& t) {
  Tensor dense = empty(t.sizes(), kFloat64);
  here().copy(t, dense);
  const Tensor host = dense.cpu();
  return {host.data_ptr<double>(), host.data_ptr<double>() + host.numel()};
}
Values counted(std::int64_t n, std::int64_t modulus = 2) {
  Values v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(static_cast<double>((i * 5 + i / 3) % modulus));
  return v;
}
/// The same elements with gaps and the axes reversed in memory.
Tensor scattered_copy(const Tensor& t) {
  Dims strides(static_cast<std::size_t>(t.dim()), 2);
  for (std::size_t i = 1; i < strides.size(); ++i) strides[i] = strides[i - 1] * t.sizes()[i - 1];
  Tensor copy = empty_strided(t.sizes(), strides, t.dtype());
  here().copy(t, copy);
  return copy;
}

// ---------------------------------------------------------------- places

TEST_CASE("places merge even axes and find every element", "[indexing]") {
  const Dims sizes{2, 1, 3, 4}, dense{12, 12, 4, 1}, permuted{1, 7, 8, 2};
  CHECK(places(sizes, dense).rank == 1);
  CHECK(places(sizes, dense).in_line(0));
  CHECK(places(sizes, dense, permuted).rank == 2);  // the last two lie evenly in both
  CHECK(places(Dims{}, Dims{}).in_line(0));
  const Places<2> p = places(sizes, dense, permuted);
  std::int64_t position = 0;
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 12; ++j, ++position) {
      std::int64_t at[2];
      p.find(position, at);
      CHECK(at[0] == position);
      CHECK(at[1] == i + 2 * j);
    }
  }
}

TEST_CASE("runs cover any range of positions in order", "[indexing]") {
  const Places<1> p = places(Dims{3, 4, 5}, Dims{1, 100, 10});
  for (std::int64_t first = 0; first <= 60; first += 7) {
    for (std::int64_t last = first; last <= 60; last += 11) {
      std::int64_t position = first;
      for_each_run(p, first, last, [&](const std::int64_t(&at)[1], std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i, ++position) {
          std::int64_t wanted[1];
          p.find(position, wanted);
          CHECK(at[0] + i * p.step(0) == wanted[0]);
        }
      });
      CHECK(position == last);
    }
  }
}

// ---------------------------------------------------------------- gather and scatter

struct GatherCase {
  Dims x, index;
  std::int64_t dim;
};
const GatherCase kGathers[] = {
    {{5}, {8}, 0},       {{4, 3}, {4, 2}, 1}, {{4, 3}, {6, 3}, 0}, {{2, 3, 4}, {2, 5, 3}, 1}, {{2, 3, 4}, {1, 3, 7}, 2},
    {{4, 3}, {0, 3}, 0}, {{6, 1}, {6, 1}, 1}, {{}, {}, 0}};

Ints some_indices(std::int64_t count, std::int64_t size) {
  Ints v;
  for (std::int64_t i = 0; i < count; ++i) v.push_back((i * i + 3 * i + 1) % size);
  return v;
}

/// Calls f(position of the index, offset in a contiguous x) in the order of the index.
template <class F> void walk(const GatherCase& c, const Ints& index, F f) {
  const Dims strides = contiguous_strides(c.x);
  for (std::size_t i = 0; i < index.size(); ++i) {
    std::int64_t rest = static_cast<std::int64_t>(i), offset = 0;
    for (std::size_t axis = c.index.size(); axis-- > 0; rest /= c.index[axis]) {
      const bool indexed = static_cast<std::int64_t>(axis) == c.dim;
      offset += (indexed ? index[i] : rest % c.index[axis]) * strides[axis];
    }
    f(i, static_cast<std::size_t>(offset));
  }
}

TEST_CASE("gather takes and scatter writes along an axis", "[kernels][indexing]") {
  for (const GatherCase& c : kGathers) {
    const std::int64_t size = c.x.empty() ? 1 : c.x[static_cast<std::size_t>(c.dim)];
    const Ints index = some_indices(count_elements(c.index), size);
    for (const Dtype dtype : kDtypes) {
      for (const bool strided : {false, true}) {
        INFO("x " << c.x << " index " << c.index << " dim " << c.dim << " " << dtype << " strided " << strided);
        const auto lay = [&](const Tensor& t) { return strided ? scattered_copy(t) : t; };
        const Values values = counted(count_elements(c.x), dtype == kBool ? 2 : 50),
                     source = counted(count_elements(c.index), dtype == kBool ? 2 : 9);
        const Tensor x = lay(filled(c.x, dtype, values)), at = lay(indices_of(c.index, index)),
                     from = lay(filled(c.index, dtype, source));
        Tensor y = lay(filled(c.index, dtype, Values(index.size()))), set = lay(filled(c.x, dtype, values)),
               sum = lay(filled(c.x, dtype, values));
        here().gather(x, c.dim, at, y);
        here().scatter(Write::add, c.dim, at, from, sum);

        Values wanted(index.size()), wanted_set = values, wanted_sum = values;
        bool repeats = false;
        std::vector<bool> written(values.size());
        walk(c, index, [&](std::size_t i, std::size_t offset) {
          wanted[i] = values[offset];
          wanted_set[offset] = source[i];  // the last one stays
          repeats = repeats || written[offset];
          written[offset] = true;
          wanted_sum[offset] =
              dtype == kBool ? std::max(wanted_sum[offset], source[i]) : wanted_sum[offset] + source[i];
        });
        CHECK(read(y) == wanted);
        if (on_cpu() || !repeats) {  // on a GPU it is not determined which of several values stays
          here().scatter(Write::set, c.dim, at, from, set);
          CHECK(read(set) == wanted_set);
        }
        CHECK(read(sum) == wanted_sum);
      }
    }
  }
}

TEST_CASE("16-bit sums of scattered values are rounded once", "[kernels][indexing]") {
  for (const Dtype dtype : {kFloat16, kBFloat16}) {
    const Tensor index = indices_of({600}, Ints(600, 0)), ones = filled({600}, dtype, Values(600, 1));
    Tensor y = filled({2}, dtype, {1000, 7});
    here().scatter(Write::add, 0, index, ones, y);
    CHECK(read(y)[0] == 1600);
    CHECK(read(y)[1] == 7);
    const std::vector<Tensor> indices{index};
    here().index_put({indices, {2}, {1}, {}, {}}, Write::add, ones, y);
    CHECK(read(y)[0] == (dtype == kFloat16 ? 2200 : 2208));
  }
}

TEST_CASE("an index out of range is named and nothing is written", "[kernels][indexing][cpu]") {
  const Tensor x = filled({2, 3}, kFloat32, counted(6, 50)), ones = filled({2, 2}, kFloat32, Values(4, 1));
  Tensor y = filled({2, 3}, kFloat32, counted(6, 50)), out = empty({2, 2}, kFloat32);
  for (const std::int64_t bad : {3, -1}) {
    const Tensor index = indices_of({2, 2}, {0, 1, 2, bad});
    const std::string text = str("index ", bad, " at position [1, 1] is out of bounds for dimension 1 with size 3");
    CHECK_THROWS_WITH(here().gather(x, 1, index, out), "gather: " + text);
    CHECK_THROWS_WITH(here().scatter(Write::set, 1, index, ones, y), "scatter: " + text);
    CHECK_THROWS_WITH(here().scatter(Write::add, 1, index, ones, y), "scatter_add: " + text);
  }
  for (const std::int64_t bad : {3, -4}) {
    const std::vector<Tensor> indices{indices_of({3}, {0, bad, 1})};
    const IndexPlan plan{indices, {3}, {1}, {2}, {3}};  // x[:, index], the index's axis first
    const std::string text = str("index ", bad, " at position [1] is out of bounds for dimension 1 with size 3");
    Tensor taken = empty({3, 2}, kFloat32);
    CHECK_THROWS_AS(here().index(plan, x, taken), IndexError);
    CHECK_THROWS_WITH(here().index(plan, x, taken), "index: " + text);
    CHECK_THROWS_WITH(here().index_put(plan, Write::add, taken, y), "index_put: " + text);
  }
  CHECK(read(y) == counted(6, 50));
}

// ---------------------------------------------------------------- advanced indexing

TEST_CASE("index takes slices and index_put writes them", "[kernels][indexing]") {
  // x is [4, 3, 2]; the axes 0 and 2 are indexed by tensors of shape [2, 3], axis 1 stays.
  const Ints rows{0, 3, -1, 1, 3, 0}, columns{1, 0, -2, 1, 0, 1};
  const std::vector<Tensor> indices{indices_of({2, 3}, rows), indices_of({2, 3}, columns)};
  // On a GPU it is not determined which of several values stays, so each place is set once.
  const Ints set_rows = on_cpu() ? rows : Ints{0, 3, -2, 1, 3, 1},
             set_columns = on_cpu() ? columns : Ints{1, 0, -2, 1, 1, 0};
  const std::vector<Tensor> set_indices{indices_of({2, 3}, set_rows), indices_of({2, 3}, set_columns)};
  for (const Dtype dtype : kDtypes) {
    for (const bool strided : {false, true}) {
      const auto lay = [&](const Tensor& t) { return strided ? scattered_copy(t) : t; };
      const Values values = counted(24, dtype == kBool ? 2 : 90), source = counted(18, dtype == kBool ? 2 : 7);
      const Tensor x = lay(filled({4, 3, 2}, dtype, values)), from = lay(filled({2, 3, 3}, dtype, source));
      Tensor y = lay(filled({2, 3, 3}, dtype, Values(18))), set = lay(filled({4, 3, 2}, dtype, values)),
             sum = lay(filled({4, 3, 2}, dtype, values));
      const IndexPlan plan{indices, {4, 2}, {x.stride(0), x.stride(2)}, {3}, {x.stride(1)}};
      here().index(plan, x, y);
      here().index_put({set_indices, {4, 2}, {x.stride(0), x.stride(2)}, {3}, {x.stride(1)}}, Write::set, from, set);
      here().index_put(plan, Write::add, from, sum);

      Values wanted(18), wanted_set = values, wanted_sum = values;
      const auto place = [](std::int64_t row, std::size_t i, std::int64_t column) {
        return static_cast<std::size_t>(wrap_index(row, 4) * 6 + static_cast<std::int64_t>(i % 3) * 2 +
                                        wrap_index(column, 2));
      };
      for (std::size_t i = 0; i < 18; ++i) {
        const std::size_t offset = place(rows[i / 3], i, columns[i / 3]);
        wanted[i] = values[offset];
        wanted_set[place(set_rows[i / 3], i, set_columns[i / 3])] = source[i];
        wanted_sum[offset] = dtype == kBool ? std::max(wanted_sum[offset], source[i]) : wanted_sum[offset] + source[i];
      }
      INFO(dtype << " strided " << strided);
      CHECK(read(y) == wanted);
      CHECK(read(set) == wanted_set);
      CHECK(read(sum) == wanted_sum);
    }
  }
}

TEST_CASE("index_put takes expanded values and empty indices", "[kernels][indexing]") {
  Tensor x = filled({4, 2}, kFloat32, Values(8, 1));
  const std::vector<Tensor> indices{indices_of({3}, {1, 1, 3})}, none{indices_of({0}, {})};
  const Tensor two = filled({}, kFloat32, {2});
  here().index_put({indices, {4}, {2}, {2}, {1}}, Write::add, alias(two, {3, 2}, {0, 0}, 0), x);
  CHECK(read(x) == Values{1, 1, 5, 5, 1, 1, 3, 3});
  here().index_put({none, {4}, {2}, {2}, {1}}, Write::set, alias(two, {0, 2}, {0, 0}, 0), x);
  CHECK(read(x) == Values{1, 1, 5, 5, 1, 1, 3, 3});
}

TEST_CASE("duplicates add up in the same order on any number of threads", "[kernels][indexing][cpu]") {
  const int threads = get_num_threads();
  const std::int64_t rows = 500, width = 200;
  Values values;
  for (std::int64_t i = 0; i < rows * width; ++i)
    values.push_back(std::sin(static_cast<double>(i)) * std::pow(10.0, static_cast<double>(i % 7)));
  const Tensor source = filled({rows, width}, kFloat32, values), index = indices_of({rows}, some_indices(rows, 10));
  const std::vector<Tensor> indices{index};
  const auto run = [&](int n) {
    set_num_threads(n);
    Tensor x = filled({10, width}, kFloat32, Values(static_cast<std::size_t>(10 * width), 0)),
           y = filled({10, width}, kFloat32, read(x));
    here().index_put({indices, {10}, {width}, {width}, {1}}, Write::add, source, x);
    here().scatter(Write::add, 0, alias(index, {rows, width}, {1, 0}, 0), source, y);
    CHECK(read(x) == read(y));
    return read(x);
  };
  CHECK(run(1) == run(4));
  set_num_threads(threads);
}

TEST_CASE("nonzero lists coordinates in row-major order", "[kernels][indexing]") {
  for (const Dtype dtype : kDtypes) {
    for (const bool strided : {false, true}) {
      Tensor x = filled({2, 3, 2}, dtype, {0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1});
      if (strided) x = scattered_copy(x);
      const Tensor y = here().nonzero(x);
      CHECK(y.dtype() == kInt64);
      CHECK(y.sizes() == Dims{4, 3});
      CHECK(read(y) == Values{0, 0, 1, 0, 2, 0, 0, 2, 1, 1, 2, 1});
    }
  }
  CHECK(here().nonzero(filled({}, kFloat32, {3})).sizes() == Dims{1, 0});
  CHECK(here().nonzero(filled({0, 2}, kFloat32, {})).sizes() == Dims{0, 2});
  for (const Dtype dtype : kFloats)
    CHECK(read(here().nonzero(filled({3}, dtype, {-0.0, std::nan(""), 0x1p-24}))) == Values{1, 2});
  const Values many = counted(100000);
  const Values found = read(here().nonzero(filled({10, 100, 100}, kUInt8, many)));
  Values wanted;
  for (int i = 0; i < 100000; ++i) {
    if (many[static_cast<std::size_t>(i)] == 0) continue;
    for (const int coordinate : {i / 10000, i / 100 % 100, i % 100}) wanted.push_back(coordinate);
  }
  CHECK(found == wanted);
}

// ---------------------------------------------------------------- random

TEST_CASE("dropout keeps what its mask says, in any layout, dtype and number of threads", "[kernels][random]") {
  const int threads = get_num_threads();
  const Dims sizes{3, 5, 40, 30};
  for (const DropoutMask& mask :
       {DropoutMask{.p = 0.25, .seed = 7, .offset = 3}, DropoutMask{.p = 0.5, .seed = 1, .offset = 9, .group = 1200},
        DropoutMask{.p = 0.75, .seed = 5, .offset = 1, .group = 7}}) {
    Values wanted;
    for (std::int64_t i = 0; i < 18000; ++i) wanted.push_back(mask.keeps(i) ? 4 / (1 - mask.p) : 0);
    const double kept = static_cast<double>(18000 - std::count(wanted.begin(), wanted.end(), 0.0)) / 18000;
    if (mask.group < 10) CHECK(kept == Catch::Approx(1 - mask.p).margin(0.02));
    for (const Dtype dtype : kFloats) {
      for (const int n : {1, 3}) {
        set_num_threads(n);
        const Tensor x = filled(sizes, dtype, Values(18000, 4)),
                     last = empty(sizes, TensorOptions(dtype).memory_format(MemoryFormat::ChannelsLast));
        Tensor y = empty(sizes, dtype), of_last = empty_like(last), in_place = last;
        here().copy(x, in_place);
        here().dropout(mask, x, y);
        here().dropout(mask, last, of_last);
        here().dropout(mask, last, in_place);
        Values rounded = wanted;
        if (mask.p == 0.25) rounded = read(filled(sizes, dtype, wanted));
        const double tolerance = dtype == kFloat64 ? 1e-15 : 0.01;
        const Values got = read(y);
        CHECK(std::equal(got.begin(), got.end(), rounded.begin(),
                         [&](double a, double b) { return std::abs(a - b) <= tolerance; }));
        CHECK(read(of_last) == got);
        CHECK(read(in_place) == got);
      }
    }
  }
  set_num_threads(threads);
}

TEST_CASE("dropout of everything and of nothing", "[kernels][random]") {
  const Tensor x = filled({3}, kFloat32, {1, std::nan(""), 3});
  Tensor y = empty({3}, kFloat32);
  here().dropout({.p = 1}, x, y);
  CHECK(read(y) == Values{0, 0, 0});
  here().dropout({.p = 0, .seed = 4}, filled({3}, kFloat32, {1, 2, 3}), y);
  CHECK(read(y) == Values{1, 2, 3});
}

TEST_CASE("random fills have their distribution's mean and deviation in every dtype", "[kernels][random]") {
  struct Case {
    RandomFill fill;
    double mean, deviation;
    bool for_integers;
  };
  const Case cases[] = {{{Distribution::uniform, 2, 4, 0, 1}, 3, 2 / std::sqrt(12.0), false},
                        {{Distribution::normal, 1, 2, 0, 1}, 1, 2, false},
                        {{Distribution::bernoulli, 0.3, 1, 0, 1}, 0.3, std::sqrt(0.21), true},
                        {{Distribution::exponential, 2, 1, 0, 1}, 0.5, 0.5, false},
                        {{Distribution::integer, 0, 1, 2, 12}, 6.5, std::sqrt(99.0 / 12), true}};
  for (const Case& c : cases) {
    for (const Dtype dtype : kDtypes) {
      if (!is_floating_point(dtype) && (!c.for_integers || dtype == kBool)) continue;
      Generator generator(3);
      Tensor y = empty({100, 200}, dtype);
      here().random(c.fill, y, generator);
      const Values v = read(y);
      const double mean = std::accumulate(v.begin(), v.end(), 0.0) / 20000;
      double square = 0;
      for (const double x : v) square += (x - mean) * (x - mean) / 20000;
      INFO("distribution " << static_cast<int>(c.fill.kind) << " " << dtype);
      CHECK(mean == Catch::Approx(c.mean).margin(0.05 * c.deviation));
      CHECK(std::sqrt(square) == Catch::Approx(c.deviation).epsilon(0.05));
    }
  }
}

TEST_CASE("randperm shuffles the numbers from 0", "[kernels][random]") {
  for (const Dtype dtype : {kInt64, kInt32, kFloat32}) {
    Generator generator(1);
    Tensor y = empty({100}, dtype);
    here().randperm(y, generator);
    Values v = read(y);
    CHECK(!std::is_sorted(v.begin(), v.end()));
    std::sort(v.begin(), v.end());
    for (std::size_t i = 0; i < 100; ++i) CHECK(v[i] == static_cast<double>(i));
  }
}

// ---------------------------------------------------------------- products

TEST_CASE("gemm takes matrices and batches in any layout, bias, activation and accumulation", "[kernels][gemm]") {
  for (const Dtype dtype : kFloats) {
    for (const bool batched : {false, true}) {
      for (const bool strided : {false, true}) {
        for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
          const auto lay = [&](const Tensor& t) { return strided ? scattered_copy(t) : t; };
          const auto shape = [&](std::int64_t rows, std::int64_t cols) {
            return batched ? Dims{2, rows, cols} : Dims{rows, cols};
          };
          const std::int64_t batch = batched ? 2 : 1;
          Values a = counted(batch * 12, 5), b = counted(batch * 8, 3), bias{-20, 1}, start = counted(batch * 6, 4);
          Tensor y = lay(filled(shape(3, 2), dtype, start));
          here().gemm(lay(filled(shape(3, 4), dtype, a)), lay(filled(shape(4, 2), dtype, b)),
                      filled({2}, kFloat32, bias), activation, true, y);
          const Values got = read(y);
          for (std::size_t i = 0; i < got.size(); ++i) {
            const std::size_t n = i / 6, row = i / 2 % 3, col = i % 2;
            double sum = start[i] + bias[col];
            for (std::size_t k = 0; k < 4; ++k) sum += a[n * 12 + row * 4 + k] * b[n * 8 + k * 2 + col];
            if (activation == Activation::relu) sum = std::max(sum, 0.0);
            if (activation == Activation::gelu) sum *= 0.5 * (1 + std::erf(sum / std::sqrt(2.0)));
            CHECK(got[i] == Catch::Approx(sum).epsilon(0.01).margin(1e-6));
          }
        }
      }
    }
  }
}

TEST_CASE("convolutions take tensors in either order of memory", "[kernels][conv]") {
  ConvShape s;
  s.batch = 2, s.in_channels = 2, s.out_channels = 3;
  s.window.in = {4, 5, 1}, s.window.kernel = {2, 3, 1}, s.window.padding = {0, 1, 0}, s.window.out = {3, 5, 1};
  const Values x = counted(80, 7), w = counted(36, 5), bias{1, 2, 3};
  const auto cell = [&](std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t width) {
    return width < 0 || width >= 5 ? 0.0 : x[static_cast<std::size_t>(((n * 2 + c) * 4 + h) * 5 + width)];
  };
  Values wanted;
  for (std::int64_t i = 0; i < 90; ++i) {
    const std::int64_t n = i / 45, o = i / 15 % 3, h = i / 5 % 3, width = i % 5;
    double sum = bias[static_cast<std::size_t>(o)];
    for (std::int64_t k = 0; k < 12; ++k)
      sum += cell(n, k / 6, h + k / 3 % 2, width - 1 + k % 3) * w[static_cast<std::size_t>(o * 12 + k)];
    wanted.push_back(sum);
  }
  for (const MemoryFormat order : {MemoryFormat::Contiguous, MemoryFormat::ChannelsLast}) {
    for (const Dtype dtype : kFloats) {
      const auto lay = [&](const Tensor& t) {
        Tensor copy = empty(t.sizes(), TensorOptions(dtype).memory_format(order));
        here().copy(t, copy);
        return copy;
      };
      const Tensor input = lay(filled({2, 2, 4, 5}, dtype, x)), weight = lay(filled({3, 2, 2, 3}, dtype, w));
      const TensorOptions laid = TensorOptions(dtype).memory_format(order);
      Tensor y = empty({2, 3, 3, 5}, laid), dx = empty({2, 2, 4, 5}, laid), dw = empty({3, 2, 2, 3}, laid),
             db = empty({3}, kFloat32);
      here().conv(s, input, weight, filled({3}, kFloat32, bias), y);
      const double most = test::convolutions_are_sums() ? 0 : 4 * test::tolerance(dtype, 12) * std::ranges::max(wanted);
      CHECK(std::ranges::equal(read(y), wanted, [&](double a, double b) { return std::abs(a - b) <= most; }));
      // Both gradients are the other factor of one bilinear form: <g, conv(x, w)> = <dx, x> = <dw, w>.
      const Tensor g = lay(filled({2, 3, 3, 5}, dtype, counted(90, 3)));
      here().conv_data_grad(s, g, weight, dx);
      here().conv_weight_grad(s, input, g, dw, db);
      const auto dot = [](const Values& a, const Values& b) {
        return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
      };
      const Values gs = counted(90, 3);
      double form = dot(gs, wanted);
      for (std::size_t i = 0; i < 90; ++i) form -= gs[i] * bias[i / 15 % 3];
      CHECK(dot(read(dx), x) == Catch::Approx(form).epsilon(0.01));
      CHECK(dot(read(dw), w) == Catch::Approx(form).epsilon(0.01));
      double sum = 0;
      for (std::size_t i = 0; i < 90; ++i) sum += i / 15 % 3 == 1 ? gs[i] : 0;
      CHECK(read(db)[1] == Catch::Approx(sum));
    }
  }
}

}  // namespace
}  // namespace halftone
