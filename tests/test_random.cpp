// The numbers are PyTorch's: rows of tests/golden/random.inc say what it drew, and what word came next.
#include <cmath>
#include <cstring>
#include <functional>
#include <thread>

#include "core/philox.h"
#include "core/random.h"
#include "tests/catch.h"

using namespace halftone;

namespace {

struct Draw {
  std::string op;
  Dtype dtype;
  std::int64_t n;
  double a, b;
  std::int32_t next_word;
  std::vector<double> values;  // all, or samples at equal distances
};

const std::vector<Draw> kDraws = {
#include "tests/golden/random.inc"
};

std::vector<double> to_doubles(const Tensor& t) {
  std::vector<double> out;
  visit_all(t.dtype(), [&]<class T>(Type<T>) {
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      out.push_back(static_cast<double>(static_cast<Compute<T>>(t.data_ptr<T>()[i])));
    }
  });
  return out;
}

Tensor probabilities(Dtype dtype, std::int64_t n) {
  Tensor p = empty(n, dtype);
  visit_floating(dtype, [&]<class T>(Type<T>) {
    for (std::int64_t i = 0; i < n; ++i) {
      const bool lower = i < n / 2;  // torch.linspace counts from both ends
      const auto step = 1 / static_cast<Compute<T>>(n - 1);
      const auto distance = static_cast<Compute<T>>(lower ? i : n - 1 - i) * step;
      p.data_ptr<T>()[i] = T(lower ? distance : 1 - distance);
    }
  });
  return p;
}

void fill(const Draw& d, const Tensor& y, Generator& g) {
  if (d.op == "uniform") return fill_uniform(y, d.a, d.b, g);
  if (d.op == "normal") return fill_normal(y, d.a, d.b, g);
  if (d.op == "exponential") return fill_exponential(y, d.a, g);
  if (d.op == "bernoulli") return fill_bernoulli(y, d.a, g);
  if (d.op == "bernoulli_of") return fill_bernoulli(y, probabilities(d.dtype, d.n), g);
  if (d.op == "random") return fill_random(y, static_cast<std::int64_t>(d.a), static_cast<std::int64_t>(d.b), g);
  if (d.op == "whole") return fill_random(y, g);
  fill_permutation(y, g);
}

/// float64 goes through the C library's functions, whose last bit differs between versions.
double tolerance(const Draw& d) {
  return d.dtype == kFloat64 && (d.op == "normal" || d.op == "exponential") ? 1e-14 : 0;
}

template <class F> std::string message_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

Tensor drawn(std::int64_t n, Generator& g) {
  Tensor y = empty(n);
  fill_uniform(y, 0, 1, g);
  return y;
}

}  // namespace

TEST_CASE("every distribution draws what PyTorch draws", "[random][cpu]") {
  Generator g;
  for (const Draw& d : kDraws) {
    INFO(d.op << " " << d.dtype << " n=" << d.n << " " << d.a << " " << d.b);
    g.manual_seed(d.op.size() + static_cast<std::uint64_t>(d.n));
    Tensor y = empty(d.n, d.dtype);
    fill(d, y, g);
    const std::vector<double> got = to_doubles(y);
    const std::size_t step = std::max<std::size_t>(1, got.size() / 24);
    for (std::size_t i = 0; i < d.values.size(); ++i) {
      INFO("element " << i * step);
      CHECK(std::abs(got[i * step] - d.values[i]) <= tolerance(d) * std::abs(d.values[i]));
    }
    CHECK(static_cast<std::int32_t>(g.random() & 0x7FFFFFFFu) == d.next_word);
  }
}

TEST_CASE("one seed, several calls: the values of PyTorch's first lesson", "[random][cpu]") {
  manual_seed(0);
  Generator& g = default_generator();
  const auto expect = [](const Tensor& y, const std::vector<double>& wanted) {
    const std::vector<double> got = to_doubles(y);
    REQUIRE(got.size() == wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) CHECK(got[i] == Approx(wanted[i]).margin(6e-5));
  };
  Tensor three = empty(3), sixteen = empty(16), whole = empty(5, kInt64), shuffled = empty(6, kInt64);
  fill_uniform(three, 0, 1, g);
  expect(three, {0.4963, 0.7682, 0.0885});
  fill_normal(three, 0, 1, g);
  expect(three, {0.3643, 0.1344, 0.1642});
  fill_normal(sixteen, 0, 1, g);
  expect(sixteen, {-0.2041, -0.0885, 0.5239, -0.6659, 0.8504, -1.3527, -1.6959, 0.5667, 0.9928, -0.1932, -0.3090,
                   0.5026, -0.8594, 0.7502, -0.5855, -0.1734});
  fill_random(whole, 0, 10, g);
  expect(whole, {9, 9, 0, 1, 2});
  fill_permutation(shuffled, g);
  expect(shuffled, {5, 1, 0, 3, 4, 2});

  manual_seed(0);  // Linear(2, 2): weight, then bias, both uniform in 1 / sqrt(2)
  Tensor weight = empty({2, 2}), bias = empty(2);
  fill_uniform(weight, -std::sqrt(0.5), std::sqrt(0.5), g);
  fill_uniform(bias, -std::sqrt(0.5), std::sqrt(0.5), g);
  expect(weight, {-0.0053, 0.3793, -0.5820, -0.5204});
  expect(bias, {-0.2723, 0.1896});
}

TEST_CASE("the state can be kept and put back, also between the two numbers of a normal pair", "[random][cpu]") {
  Generator g(7);
  for (int words = 0; words < 3; ++words) g.random();
  g.normal();
  const Tensor state = g.get_state();
  const double second = g.normal();
  const std::uint64_t next = g.random64();
  Generator other;
  other.set_state(state);
  CHECK(other.current_seed() == 7);
  CHECK(other.normal() == second);
  CHECK(other.random64() == next);
}

TEST_CASE("the state holds for every position in a block of words", "[random][cpu]") {
  Generator g(3), other;
  for (const int words : {0, 1, 623, 624, 625, 1248}) {
    INFO(words);
    g.manual_seed(3);
    for (int i = 0; i < words; ++i) g.random();
    other.set_state(g.get_state());
    CHECK(other.random() == g.random());
  }
}

TEST_CASE("a state of PyTorch's has the same fields", "[random][cpu]") {
  Generator g(0);
  g.normal();  // torch.manual_seed(0); torch.randn(1); torch.get_rng_state()
  const Tensor state = g.get_state();
  const auto at = [&]<class T>(std::size_t byte, T) {
    T value;
    std::memcpy(&value, state.data_ptr<std::uint8_t>() + byte, sizeof(T));
    return value;
  };
  CHECK(state.numel() == 5056);
  CHECK(at(0, std::uint64_t{}) == 0);   // seed
  CHECK(at(8, std::int32_t{}) == 621);  // left
  CHECK(at(12, std::int32_t{}) == 1);   // seeded
  CHECK(at(16, std::uint64_t{}) == 4);  // next
  CHECK(at(24, std::uint64_t{}) == 2443250962u);
  CHECK(at(32, std::uint64_t{}) == 1093594115u);
  CHECK(at(24 + 624 * 8 + 8, double{}) == Approx(-0.2934289057609464).epsilon(1e-14));
  CHECK(at(24 + 624 * 8 + 24, std::int32_t{}) == 1);
}

TEST_CASE("manual_seed forgets the second number of a normal pair", "[random]") {
  Generator g(1);
  const double first = g.normal();
  g.manual_seed(1);
  CHECK(g.normal() == first);
}

TEST_CASE("seeds: the default, the one given, a fresh one", "[random]") {
  Generator g;
  CHECK(g.current_seed() == 67280421310721u);
  g.manual_seed(5);
  CHECK(g.current_seed() == 5);
  const std::uint64_t fresh = g.seed();
  CHECK(g.current_seed() == fresh);
  CHECK(fresh != 5);
}

TEST_CASE("manual_seed seeds the generator of every device", "[random]") {
  manual_seed(11);
  const std::uint64_t word = default_generator(kCPU).random64();
  for (const char* name : {"cpu:1", "cpu:7", "cuda:0", "cuda:3"}) CHECK(default_generator(name).random64() == word);
  CHECK(&default_generator("cpu:0") == &default_generator(kCPU));
  CHECK(&default_generator("cuda") == &default_generator("cuda:0"));
  const DeviceGuard guard("cuda:3");
  CHECK(&default_generator("cuda") == &default_generator("cuda:3"));
}

TEST_CASE("strided tensors are filled in memory order, element by element, and nothing beside them", "[random][cpu]") {
  Generator g(2);
  const std::vector<double> stream = to_doubles(drawn(12, g));
  const auto fill_view = [&](const Dims& sizes, const Dims& strides) {
    Tensor base = empty(40);
    std::fill_n(base.data_ptr<float>(), 40, -1.0f);
    g.manual_seed(2);
    fill_uniform(alias(base, sizes, strides, 0), 0, 1, g);
    return to_doubles(base);
  };
  const std::vector<double> transposed = fill_view({3, 4}, {1, 3});
  for (std::size_t i = 0; i < 12; ++i) CHECK(transposed[i] == stream[i]);
  const std::vector<double> gaps = fill_view({4, 3}, {10, 2});
  for (std::size_t i = 0; i < 40; ++i) {
    const std::size_t row = i / 10, column = i % 10;
    const bool inside = column < 6 && column % 2 == 0;
    CHECK(gaps[i] == (inside ? stream[row * 3 + column / 2] : -1.0));
  }
}

TEST_CASE("an empty tensor draws nothing", "[random][cpu]") {
  Generator g(4);
  Tensor none = empty({0, 3});
  fill_uniform(none, 0, 1, g);
  fill_normal(none, 0, 1, g);
  fill_random(none, 0, 5, g);
  fill_permutation(empty(0, kInt64), g);
  CHECK(g.random() == Generator(4).random());
}

TEST_CASE("impossible requests name the op and the values", "[random][cpu]") {
  Generator g;
  const Tensor f = empty(3), i = empty(3, kInt32), tiny = empty(3, kUInt8), half = empty(3, kHalf);
  const std::pair<std::function<void()>, std::string> cases[] = {
      {[&] { fill_uniform(f, 2, 1, g); }, "uniform_: expects to return a [from, to) range, but found from=2 > to=1"},
      {[&] { fill_uniform(i, 0, 1, g); }, "uniform_: a floating dtype is needed, not int32"},
      {[&] { fill_normal(f, 0, -1, g); }, "normal_: expects std >= 0.0, but found std -1"},
      {[&] { fill_normal(i, 0, 1, g); }, "normal_: a floating dtype is needed, not int32"},
      {[&] { fill_random(i, 5, 5, g); }, "random_: expects 'from' to be less than 'to', but got from=5 >= to=5"},
      {[&] { fill_random(tiny, -1, 5, g); }, "random_: from=-1 is out of bounds for uint8"},
      {[&] { fill_random(tiny, 0, 257, g); }, "random_: to - 1=256 is out of bounds for uint8"},
      {[&] { fill_random(half, 0, 70000, g); }, "random_: to - 1=69999 is out of bounds for float16"},
      {[&] { fill_random(half, 4097, 4099, g); }, "random_: no whole number of float16 lies in [4097, 4099)"},
      {[&] { fill_bernoulli(f, 1.5, g); }, "bernoulli_: expects p to be in [0, 1], but got p=1.5"},
      {[&] { fill_bernoulli(f, empty(2), g); }, "bernoulli_: p has sizes [2], the tensor to fill [3]"},
      {[&] { fill_bernoulli(f, i, g); }, "bernoulli_: a floating dtype is needed, not int32"},
      {[&] { fill_exponential(f, 0, g); }, "exponential_: expects lambda > 0.0, but found lambda=0"},
      {[&] { fill_permutation(i, g); }, "randperm: a 1-dim int64 tensor is needed, not int32[3]"},
      {[&] { g.set_state(f); }, "Generator::set_state: expected a contiguous uint8 tensor on the CPU, not float32[3]"},
      {[&] { g.set_state(tiny); }, "Generator::set_state: expected 5056 bytes, not 3"},
  };
  for (const auto& [call, message] : cases) CHECK(message_of(call) == message);

  Tensor zeros = empty(5056, kUInt8);
  std::fill_n(zeros.data_ptr<std::uint8_t>(), 5056, std::uint8_t{0});
  CHECK(message_of([&] { g.set_state(zeros); }) ==
        "Generator::set_state: these bytes are not a state of the CPU generator");
}

TEST_CASE("threads that share a generator each get a run of its stream", "[random][cpu][threads]") {
  Generator g(9), reference(9);
  constexpr std::int64_t n = 2000;
  std::vector<Tensor> filled(4);
  std::vector<std::thread> threads;
  for (Tensor& y : filled) threads.emplace_back([&y, &g] { y = drawn(n, g); });
  for (std::thread& t : threads) t.join();
  std::vector<std::vector<double>> got, wanted;
  for (const Tensor& y : filled) got.push_back(to_doubles(y));
  for (int i = 0; i < 4; ++i) wanted.push_back(to_doubles(drawn(n, reference)));
  std::sort(got.begin(), got.end());
  std::sort(wanted.begin(), wanted.end());
  CHECK(got == wanted);
}

TEST_CASE("philox gives the known answers of its authors", "[random]") {
  struct Answer {
    std::uint64_t key, counter, stream;
    std::uint32_t words[4];
  };
  const Answer answers[] = {
      {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Answer& a : answers) {
    const PhiloxWords got = philox(a.key, a.counter, a.stream);
    for (int i = 0; i < 4; ++i) CHECK(got.word[i] == a.words[i]);
  }
  static_assert(philox(0, 0).word[0] == 0x6627e8d5);
}

TEST_CASE("unit_float stays below one", "[random]") {
  CHECK(unit_float(0) == 0.0f);
  CHECK(unit_float(~0u) == 1.0f - 0x1p-24f);
}
