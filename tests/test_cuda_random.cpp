// The GPU's random numbers: bounds, distributions, layouts and captured graphs. They need a GPU, real or simulated.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "core/random.h"
#include "core/runtime.h"
#include "kernels/backend.h"
#include "tests/catch.h"

namespace halftone {
namespace {

TensorOptions on_gpu(Dtype dtype = kFloat32) { return TensorOptions(dtype).device(kCUDA); }

Tensor draw(const RandomFill& f, Tensor y, std::uint64_t seed) {
  Generator generator(seed);
  backend(kCUDA).random(f, y, generator);
  return y;
}

std::vector<double> values_of(const Tensor& t) {
  const Tensor host = t.cpu().to(kFloat64).contiguous();
  return {host.data_ptr<double>(), host.data_ptr<double>() + host.numel()};
}

std::vector<double> permutation(std::int64_t n, std::uint64_t seed) {
  Generator generator(seed);
  Tensor y = empty({n}, on_gpu(kInt64));
  backend(kCUDA).randperm(y, generator);
  return values_of(y);
}

TEST_CASE("numbers depend on the seed and the place alone", "[cuda][random]") {
  if (!cuda::is_available()) return;
  for (const Dtype dtype : {kFloat16, kFloat32, kFloat64}) {
    for (const Distribution kind : {Distribution::uniform, Distribution::normal, Distribution::exponential}) {
      const RandomFill f{.kind = kind, .a = 1, .b = 3};
      const std::vector<double> all = values_of(draw(f, empty({5001}, on_gpu(dtype)), 5));
      CHECK(values_of(draw(f, empty({5001}, on_gpu(dtype)), 5)) == all);
      CHECK(values_of(draw(f, empty({5001}, on_gpu(dtype)), 6)) != all);
      for (const std::int64_t n : {1, 31, 32, 33, 1000}) {
        const std::vector<double> some = values_of(draw(f, empty({n}, on_gpu(dtype)), 5));
        CHECK(std::equal(some.begin(), some.end(), all.begin()));
      }
      const Tensor apart = empty({4, 3}, on_gpu(dtype)).slice(1, 1, 3);  // neither dense nor aligned
      const std::vector<double> filled = values_of(draw(f, apart, 5));
      CHECK(std::equal(filled.begin(), filled.end(), all.begin()));
    }
  }
}

TEST_CASE("uniform numbers stay in their range whatever the dtype rounds", "[cuda][random]") {
  if (!cuda::is_available()) return;
  const std::pair<double, double> ranges[] = {{0, 1}, {-1, 1}, {0.1, 0.3}, {1, 1.01}, {-0.3, -0.1}, {1e-7, 3e-7}};
  for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64}) {
    for (const auto& [a, b] : ranges) {
      INFO(dtype << " [" << a << ", " << b << ")");
      const std::vector<double> v = values_of(draw({.a = a, .b = b}, empty({20000}, on_gpu(dtype)), 1));
      const auto [low, high] = std::minmax_element(v.begin(), v.end());
      CHECK(*low >= a);
      CHECK(*high < b);
      CHECK(*low < a + 0.02 * (b - a) + 0x1p-8 * std::abs(b) + 0x1p-24);
    }
  }
}

TEST_CASE("exponential numbers are neither 0 nor infinite", "[cuda][random]") {
  if (!cuda::is_available()) return;
  for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64}) {
    for (const double rate : {1e-4, 1.0, 1e4}) {
      const RandomFill f{.kind = Distribution::exponential, .a = rate};
      const std::vector<double> v = values_of(draw(f, empty({20000}, on_gpu(dtype)), 2));
      CHECK(*std::min_element(v.begin(), v.end()) > 0);
      CHECK(std::isfinite(*std::max_element(v.begin(), v.end())));
    }
  }
}

TEST_CASE("normal numbers fill the deciles, and neighbours do not tell of each other", "[cuda][random]") {
  if (!cuda::is_available()) return;
  const double deciles[] = {-1.2816, -0.8416, -0.5244, -0.2533, 0, 0.2533, 0.5244, 0.8416, 1.2816};
  for (const Dtype dtype : {kFloat32, kFloat64}) {
    const RandomFill f{.kind = Distribution::normal, .a = 0, .b = 1};
    const std::vector<double> v = values_of(draw(f, empty({40000}, on_gpu(dtype)), 3));
    int counts[10] = {};
    double product = 0;
    for (std::size_t i = 0; i < v.size(); ++i) {
      ++counts[std::upper_bound(std::begin(deciles), std::end(deciles), v[i]) - deciles];
      if (i > 0) product += v[i] * v[i - 1] / 40000;
    }
    double chi_square = 0;
    for (const int count : counts) chi_square += (count - 4000.0) * (count - 4000.0) / 4000;
    CHECK(chi_square < 27.9);  // one in a thousand, with nine degrees of freedom
    CHECK(std::abs(product) < 0.02);
  }
}

TEST_CASE("integers reach both ends of their range, wide ranges included", "[cuda][random]") {
  if (!cuda::is_available()) return;
  const std::vector<double> v =
      values_of(draw({.kind = Distribution::integer, .low = -3, .high = 4}, empty({5000}, on_gpu(kInt8)), 1));
  CHECK(*std::min_element(v.begin(), v.end()) == -3);
  CHECK(*std::max_element(v.begin(), v.end()) == 3);
  const std::int64_t huge = std::int64_t{1} << 62;
  const std::vector<double> w =
      values_of(draw({.kind = Distribution::integer, .low = -huge, .high = huge}, empty({5000}, on_gpu(kInt64)), 1));
  CHECK(*std::min_element(w.begin(), w.end()) < -0.99 * 0x1p62);
  CHECK(*std::max_element(w.begin(), w.end()) > 0.99 * 0x1p62);
  const RandomFill none{.kind = Distribution::integer, .low = 4097, .high = 4099};
  CHECK_THROWS_WITH(draw(none, empty({3}, on_gpu(kFloat16)), 1),
                    Catch::Matchers::ContainsSubstring("no whole number of float16 lies in [4097, 4099)"));
}

TEST_CASE("a shuffle has every number once", "[cuda][random]") {
  if (!cuda::is_available()) return;
  for (const std::int64_t n : {0, 1, 2, 255, 257, 2048, 2049, 5000, 16384, 70000}) {
    std::vector<double> v = permutation(n, 4);
    if (n > 100) CHECK(v != permutation(n, 5));
    CHECK(v == permutation(n, 4));
    std::int64_t at_home = 0;
    for (std::size_t i = 0; i < v.size(); ++i) at_home += v[i] == static_cast<double>(i);
    if (n > 100) CHECK(at_home < 10);
    std::sort(v.begin(), v.end());
    for (std::size_t i = 0; i < v.size(); ++i) REQUIRE(v[i] == static_cast<double>(i));
  }
}

TEST_CASE("every order of few numbers is equally likely, and the first of many may be any", "[cuda][random]") {
  if (!cuda::is_available()) return;
  std::map<std::vector<double>, int> seen;
  for (std::uint64_t seed = 0; seed < 2400; ++seed) ++seen[permutation(4, seed)];
  CHECK(seen.size() == 24);
  double chi_square = 0;
  for (const auto& [order, count] : seen) chi_square += (count - 100.0) * (count - 100.0) / 100;
  CHECK(chi_square < 49.7);  // one in a thousand, with 23 degrees of freedom

  constexpr int kDraws = 400;
  int counts[8] = {};
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) ++counts[static_cast<int>(permutation(3000, seed)[7] / 375)];
  chi_square = 0;
  for (const int count : counts) chi_square += (count - kDraws / 8.0) * (count - kDraws / 8.0) / (kDraws / 8.0);
  CHECK(chi_square < 24.3);  // seven degrees of freedom
}

TEST_CASE("a large shuffle has as many rises as a random one", "[cuda][random]") {
  if (!cuda::is_available()) return;
  const std::vector<double> v = permutation(50000, 11);
  int rises = 0;
  for (std::size_t i = 1; i < v.size(); ++i) rises += v[i] > v[i - 1];
  CHECK(std::abs(rises - 24999.5) < 4 * std::sqrt(50001.0 / 12));
}

TEST_CASE("every replay of a graph draws anew, and its dropouts agree", "[cuda][random]") {
  if (!cuda::is_available()) return;
  Generator generator(8);
  Tensor uniform = empty({1000}, on_gpu()), shuffled = empty({1000}, on_gpu(kInt64)),
         many = empty({3000}, on_gpu(kInt64)), forward = empty({1000}, on_gpu()), backward = empty({1000}, on_gpu());
  const Tensor ones_of = ones({1000}, on_gpu()), ones_apart = ones({1000, 2}, on_gpu()).select(1, 0);
  const DropoutMask mask{.p = 0.5, .seed = 3};
  cuda::Graph graph;
  graph.capture([&] {
    backend(kCUDA).random({}, uniform, generator);
    backend(kCUDA).randperm(shuffled, generator);
    backend(kCUDA).randperm(many, generator);
    backend(kCUDA).dropout(mask, ones_of, forward);
    backend(kCUDA).dropout(mask, ones_apart, backward);
  });
  std::vector<std::vector<double>> drawn;
  for (int run = 0; run < 3; ++run) {
    graph.replay();
    for (const Tensor& t : {uniform, shuffled, many, forward}) {
      const std::vector<double> v = values_of(t);
      CHECK(std::find(drawn.begin(), drawn.end(), v) == drawn.end());
      drawn.push_back(v);
    }
    CHECK(values_of(backward) == drawn.back());
  }
}

}  // namespace
}  // namespace halftone
