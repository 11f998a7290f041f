// Datasets, transforms and samplers.
#include <algorithm>
#include <numeric>
#include <set>
#include <sstream>

#include "autograd/ops.h"
#include "core/random.h"
#include "core/serialize.h"
#include "data/data.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::data;
using Catch::Matchers::ContainsSubstring;
using Indices = std::vector<std::size_t>;

namespace {

// Example i is the vector {i, i} with target 10 i.
struct Numbers : datasets::Dataset<Numbers> {
  explicit Numbers(std::size_t count = 10) : count_(count) {}
  Example<> get(std::size_t index) override {
    const auto value = static_cast<std::int64_t>(index);
    return {full({2}, static_cast<double>(value)), full({}, value * 10)};
  }
  std::optional<std::size_t> size() const override { return count_; }

 private:
  std::size_t count_;
};

struct Squares : datasets::Dataset<Squares, int> {
  int get(std::size_t index) override { return static_cast<int>(index * index); }
  std::optional<std::size_t> size() const override { return 100; }
};

// Stacks itself, and counts which way its examples went.
struct Stackable : datasets::Dataset<Stackable> {
  explicit Stackable(int& single_calls, int& stacked_calls) : single(single_calls), stacked(stacked_calls) {}
  Example<> get(std::size_t index) override {
    ++single;
    return {full({3, 2, 2}, static_cast<double>(index)), full({}, static_cast<std::int64_t>(index))};
  }
  Example<> get_stacked(ArrayRef<std::size_t> indices) {
    ++stacked;
    const Tensor data = empty({static_cast<std::int64_t>(indices.size()), 3, 2, 2});
    const Tensor target = empty(static_cast<std::int64_t>(indices.size()), kInt64);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      data[at].fill_(static_cast<double>(indices[i]));
      target[at].fill_(static_cast<std::int64_t>(indices[i]));
    }
    return {data, target};
  }
  std::optional<std::size_t> size() const override { return 8; }

  int& single;
  int& stacked;
};

template <class SamplerType> Indices rest_of(SamplerType& sampler, std::size_t batch_size) {
  Indices all;
  while (const auto batch = sampler.next(batch_size)) all.insert(all.end(), batch->begin(), batch->end());
  return all;
}

Indices sorted(Indices values) {
  std::ranges::sort(values);
  return values;
}

Indices count_to(std::size_t n) {
  Indices all(n);
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

template <class SamplerType> void save_and_load(const SamplerType& from, SamplerType& to) {
  std::stringstream stream;
  save(from, stream);
  load(to, stream);
}

}  // namespace

TEST_CASE("a dataset's batch is the vector of its examples", "[data]") {
  Numbers numbers;
  const std::vector<Example<>> batch = numbers.get_batch(Indices{3, 1});
  REQUIRE(batch.size() == 2);
  CHECK(batch[0].data[0].item<float>() == 3);
  CHECK(batch[1].target.item<std::int64_t>() == 10);
  CHECK(Squares().get_batch(Indices{2, 5}) == std::vector<int>{4, 25});
}

TEST_CASE("an example without a target converts to its data", "[data]") {
  const TensorExample example(ones({2}));
  const Tensor data = example;
  CHECK(data.is_same(example.data));
}

TEST_CASE("a TensorDataset gives the rows of a tensor", "[data]") {
  datasets::TensorDataset rows(eye(4));
  CHECK(rows.size() == std::optional<std::size_t>(4));
  CHECK(equal(rows.get(2).data, eye(4)[2]));
  datasets::TensorDataset stacked(std::vector<Tensor>{zeros({2}), ones({2})});
  CHECK(stacked.size() == std::optional<std::size_t>(2));
  CHECK(equal(stacked.get_batch(Indices{1})[0].data, ones({2})));
}

TEST_CASE("map works on named datasets and on temporaries, and chains", "[data]") {
  Squares squares;
  const auto add_one = [](int x) { return x + 1; };
  auto mapped = squares.map(transforms::Lambda<int>(add_one));
  auto twice = Squares().map(transforms::Lambda<int>(add_one)).map(transforms::Lambda<int, std::string>([](int x) {
    return std::to_string(x);
  }));
  CHECK(mapped.get_batch(Indices{3}) == std::vector<int>{10});
  CHECK(twice.get_batch(Indices{3, 4}) == std::vector<std::string>{"10", "17"});
  CHECK(mapped.size() == std::optional<std::size_t>(100));
}

TEST_CASE("a BatchLambda sees the whole batch, a Collate makes one thing of it", "[data]") {
  auto sums = Squares().map(
      transforms::Collate<int>([](std::vector<int> batch) { return std::accumulate(batch.begin(), batch.end(), 0); }));
  auto reversed = Squares().map(transforms::BatchLambda<std::vector<int>>([](std::vector<int> batch) {
    std::ranges::reverse(batch);
    return batch;
  }));
  CHECK(sums.get_batch(Indices{1, 2, 3}) == 14);
  CHECK(reversed.get_batch(Indices{1, 2, 3}) == std::vector<int>{9, 4, 1});
}

TEST_CASE("Stack joins examples along a new axis", "[data]") {
  auto stacked = Numbers().map(transforms::Stack<>());
  const Example<> batch = stacked.get_batch(Indices{0, 2, 4});
  CHECK(batch.data.sizes() == IntArrayRef({3, 2}));
  CHECK(equal(batch.target, arange(0, 60, 20)));
  auto rows = datasets::TensorDataset(eye(3)).map(transforms::Stack<TensorExample>());
  CHECK(equal(rows.get_batch(Indices{0, 1, 2}).data, eye(3)));
  CHECK_THROWS_WITH(transforms::Stack<>().apply_batch({}), ContainsSubstring("without examples"));
}

TEST_CASE("Normalize takes one number or one a channel, and leaves its input alone", "[data]") {
  const Tensor x = ones({2, 1, 2});
  const Tensor y = transforms::Normalize<>({0.5, 2}, {0.5, 4})(x);
  CHECK(y[0].equal(ones({1, 2})));
  CHECK(y[1].allclose(full({1, 2}, -0.25)));
  CHECK(transforms::Normalize<>(1.0, 2.0)(x).equal(zeros({2, 1, 2})));
  CHECK(x.equal(ones({2, 1, 2})));
}

TEST_CASE("a TensorLambda changes data and not targets", "[data]") {
  auto negated = Numbers().map(transforms::TensorLambda<>([](Tensor x) { return -x; }));
  const auto batch = negated.get_batch(Indices{3});
  CHECK(batch[0].data[1].item<float>() == -3);
  CHECK(batch[0].target.item<std::int64_t>() == 30);
}

TEST_CASE("a chain that ends in Stack takes the short cut exactly when all its parts can", "[data]") {
  int single = 0, stacked = 0;
  const Indices wanted{5, 0, 5};
  const transforms::Normalize<> normalize({1, 2, 3}, {2, 3, 4});
  auto quick = Stackable(single, stacked).map(normalize).map(transforms::Stack<>());
  const Example<> batch = quick.get_batch(wanted);
  CHECK(single == 0);
  CHECK(stacked == 1);

  auto slow = Stackable(single, stacked)
                  .map(transforms::TensorLambda<>([](Tensor x) { return x; }))
                  .map(normalize)
                  .map(transforms::Stack<>());
  const Example<> expected = slow.get_batch(wanted);
  CHECK(single == 3);
  CHECK(stacked == 1);
  CHECK(equal(batch.data, expected.data));
  CHECK(equal(batch.target, expected.target));
}

TEST_CASE("a SequentialSampler counts", "[data]") {
  samplers::SequentialSampler sampler(5);
  CHECK(sampler.next(2) == std::optional(Indices{0, 1}));
  CHECK(sampler.index() == 2);
  CHECK(sampler.next(2) == std::optional(Indices{2, 3}));
  CHECK(sampler.next(2) == std::optional(Indices{4}));
  CHECK_FALSE(sampler.next(2));
  sampler.reset();
  CHECK(sampler.next(5) == std::optional(Indices{0, 1, 2, 3, 4}));
  sampler.reset(std::size_t{2});
  CHECK(rest_of(sampler, 3) == Indices{0, 1});
}

TEST_CASE("a RandomSampler gives every index once, in another order each pass", "[data]") {
  manual_seed(3);
  samplers::RandomSampler sampler(50);
  const Indices first = rest_of(sampler, 7);
  sampler.reset();
  const Indices second = rest_of(sampler, 50);
  CHECK(sorted(first) == count_to(50));
  CHECK(sorted(second) == count_to(50));
  CHECK(first != second);
  sampler.reset(std::size_t{4});
  CHECK(sorted(rest_of(sampler, 3)) == count_to(4));
}

TEST_CASE("a RandomSampler's order is that of randperm for the seed", "[data]") {
  manual_seed(11);
  samplers::RandomSampler sampler(20);
  manual_seed(11);
  const Tensor order = randperm(20, kCPU);
  const Indices given = rest_of(sampler, 6);
  for (std::size_t i = 0; i < given.size(); ++i)
    CHECK(static_cast<std::int64_t>(given[i]) == order[static_cast<std::int64_t>(i)].item<std::int64_t>());
}

TEST_CASE("a RandomSampler's indices may be kept in 32 bits", "[data]") {
  samplers::RandomSampler sampler(9, kInt32);
  CHECK(sorted(rest_of(sampler, 4)) == count_to(9));
}

TEST_CASE("a StreamSampler gives numbers of examples", "[data]") {
  samplers::StreamSampler sampler(5);
  CHECK(sampler.next(3) == std::optional<std::size_t>(3));
  CHECK(sampler.next(3) == std::optional<std::size_t>(2));
  CHECK_FALSE(sampler.next(3));
  sampler.reset(std::size_t{1});
  CHECK(sampler.next(3) == std::optional<std::size_t>(1));
}

TEST_CASE("saved samplers go on where they stood", "[data]") {
  SECTION("sequential") {
    samplers::SequentialSampler a(10), b(10);
    a.next(3);
    save_and_load(a, b);
    CHECK(b.next(2) == std::optional(Indices{3, 4}));
    samplers::SequentialSampler shorter(2);
    CHECK_THROWS_WITH(save_and_load(a, shorter), ContainsSubstring("beyond 2 examples"));
  }
  SECTION("random") {
    samplers::RandomSampler a(20), b(20);
    a.next(6);
    save_and_load(a, b);
    CHECK(b.index() == 6);
    std::stringstream stream;
    save(a, stream);
    CHECK(rest_of(a, 3) == rest_of(b, 3));
    samplers::RandomSampler c(20);
    load(c, stream, get_default_device());
    CHECK(c.index() == 6);
    CHECK(sorted(rest_of(c, 3)).size() == 14);
  }
  SECTION("stream") {
    samplers::StreamSampler a(10), b(10);
    a.next(4);
    save_and_load(a, b);
    CHECK(b.next(100) == std::optional<std::size_t>(6));
  }
  SECTION("distributed") {
    samplers::DistributedRandomSampler a(20, 2, 1), b(20, 2, 1);
    a.set_epoch(4);
    a.reset();
    a.next(3);
    save_and_load(a, b);
    CHECK(b.epoch() == 4);
    CHECK(rest_of(a, 2) == rest_of(b, 2));
  }
}

TEST_CASE("distributed samplers share the examples out", "[data]") {
  const std::size_t replicas = GENERATE(1, 2, 3, 7);
  const std::size_t size = GENERATE(0, 1, 6, 20);
  const bool duplicates = GENERATE(true, false);
  INFO(size << " examples on " << replicas << ", duplicates " << duplicates);
  Indices sequential, random;
  for (std::size_t rank = 0; rank < replicas; ++rank) {
    samplers::DistributedSequentialSampler a(size, replicas, rank, duplicates);
    samplers::DistributedRandomSampler b(size, replicas, rank, duplicates);
    const Indices part = rest_of(a, 4);
    if (duplicates) CHECK(part.size() == (size + replicas - 1) / replicas);
    std::ranges::copy(part, std::back_inserter(sequential));
    std::ranges::copy(rest_of(b, 4), std::back_inserter(random));
  }
  if (!duplicates) {
    CHECK(sequential == count_to(size));
    CHECK(sorted(random) == count_to(size));
  }
  CHECK(std::set(sequential.begin(), sequential.end()).size() == size);
  CHECK(std::set(random.begin(), random.end()).size() == size);
}

TEST_CASE("a distributed random sampler shuffles by its epoch", "[data]") {
  samplers::DistributedRandomSampler a(50), b(50);
  CHECK(rest_of(a, 50) == rest_of(b, 50));
  a.set_epoch(1);
  a.reset();
  b.reset();
  CHECK(rest_of(a, 50) != rest_of(b, 50));
  CHECK_THROWS_WITH(samplers::DistributedRandomSampler(50, 2, 2), ContainsSubstring("rank 2"));
}
