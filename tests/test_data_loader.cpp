// The loader: passes, order, workers, errors; and the queue, shuttle and sequencer it is made of.
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>

#include "autograd/ops.h"
#include "core/random.h"
#include "data/data.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::data;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using Indices = std::vector<std::size_t>;

namespace {

// Gives back the indices it is asked for.
struct Echo : datasets::BatchDataset<Echo, Indices> {
  explicit Echo(std::size_t count) : count_(count) {}
  Indices get_batch(ArrayRef<std::size_t> indices) override { return indices.vec(); }
  std::optional<std::size_t> size() const override { return count_; }

 private:
  std::size_t count_;
};

struct Failing : datasets::BatchDataset<Failing, Indices> {
  Indices get_batch(ArrayRef<std::size_t> indices) override {
    if (indices[0] == 4) throw std::invalid_argument("example 4 is bad");
    return indices.vec();
  }
  std::optional<std::size_t> size() const override { return 8; }
};

// Takes longer for small indices, so that workers finish out of order.
struct Uneven : datasets::BatchDataset<Uneven, Indices> {
  Indices get_batch(ArrayRef<std::size_t> indices) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(indices[0] % 4 == 0 ? 20 : 1));
    return indices.vec();
  }
  std::optional<std::size_t> size() const override { return 16; }
};

struct Counter : datasets::StatefulDataset<Counter, int> {
  std::optional<int> get_batch(std::size_t step) override {
    const std::lock_guard lock(*mutex);
    if (*value >= 10) return std::nullopt;
    *value += static_cast<int>(step);
    return *value;
  }
  void reset() override {
    const std::lock_guard lock(*mutex);
    *value = 0;
  }
  std::optional<std::size_t> size() const override { return std::nullopt; }

  std::shared_ptr<int> value = std::make_shared<int>(0);
  std::shared_ptr<std::mutex> mutex = std::make_shared<std::mutex>();
};

template <class Loader> std::vector<Indices> batches_of(Loader& loader) {
  std::vector<Indices> all;
  for (const Indices& batch : loader) all.push_back(batch);
  return all;
}

Indices joined(const std::vector<Indices>& batches) {
  Indices all;
  for (const Indices& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

Indices count_to(std::size_t n) {
  Indices all(n);
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

}  // namespace

TEST_CASE("a loader goes through all batches, as often as it is asked", "[data][threads]") {
  const std::size_t workers = GENERATE(0, 1, 3);
  auto loader = make_data_loader<samplers::SequentialSampler>(Echo(7), DataLoaderOptions(3).workers(workers));
  for (int pass = 0; pass < 3; ++pass) CHECK(batches_of(*loader) == std::vector<Indices>{{0, 1, 2}, {3, 4, 5}, {6}});
}

TEST_CASE("drop_last leaves a short last batch out", "[data][threads]") {
  const std::size_t workers = GENERATE(0, 2);
  const std::size_t size = GENERATE(0, 2, 6, 7);
  auto loader =
      make_data_loader<samplers::SequentialSampler>(Echo(size), DataLoaderOptions(3).drop_last(true).workers(workers));
  CHECK(joined(batches_of(*loader)) == count_to(size / 3 * 3));
}

TEST_CASE("make_data_loader has a form with a sampler, a sampler's type, or neither", "[data]") {
  manual_seed(5);
  auto random = make_data_loader(Echo(30), 7);
  const Indices order = joined(batches_of(*random));
  CHECK(order != count_to(30));
  CHECK(std::set(order.begin(), order.end()).size() == 30);

  auto by_type = make_data_loader<samplers::SequentialSampler>(Echo(5));
  CHECK(by_type->options().batch_size == 1);
  auto by_object = make_data_loader(Echo(5), samplers::SequentialSampler(3), DataLoaderOptions().batch_size(2));
  CHECK(joined(batches_of(*by_object)) == Indices{0, 1, 2});
}

TEST_CASE("a dataset without a size needs a sampler", "[data]") {
  struct Endless : datasets::BatchDataset<Endless, int, std::size_t> {
    int get_batch(std::size_t count) override { return static_cast<int>(count); }
    std::optional<std::size_t> size() const override { return std::nullopt; }
  };
  auto loader = make_data_loader(Endless(), samplers::StreamSampler(5), 2);
  CHECK(std::vector<int>(loader->begin(), loader->end()) == std::vector<int>{2, 2, 1});
  struct Unsized : datasets::Dataset<Unsized, int> {
    int get(std::size_t index) override { return static_cast<int>(index); }
    std::optional<std::size_t> size() const override { return std::nullopt; }
  };
  CHECK_THROWS_WITH(make_data_loader(Unsized()), ContainsSubstring("without a size"));
}

TEST_CASE("without Stack a batch is a vector of examples", "[data]") {
  auto loader = make_data_loader<samplers::SequentialSampler>(datasets::TensorDataset(eye(5)), 2);
  const std::vector<TensorExample> batch = *loader->begin();
  REQUIRE(batch.size() == 2);
  CHECK(equal(batch[1].data, eye(5)[1]));
}

TEST_CASE("options fill in what was not said", "[data]") {
  const FullDataLoaderOptions options(DataLoaderOptions(3).workers(5));
  CHECK(options.batch_size == 3);
  CHECK(options.max_jobs == 10);
  CHECK(options.enforce_ordering);
  CHECK_FALSE(options.drop_last);
  CHECK_FALSE(options.timeout);
  CHECK(FullDataLoaderOptions(DataLoaderOptions().workers(5).max_jobs(2)).max_jobs == 2);
  CHECK_THROWS_WITH(FullDataLoaderOptions(DataLoaderOptions(0)), ContainsSubstring("batch_size"));
  CHECK_THROWS_WITH(FullDataLoaderOptions(DataLoaderOptions().workers(1).max_jobs(0)), ContainsSubstring("max_jobs"));
}

TEST_CASE("workers that finish out of order are put back in order", "[data][threads]") {
  auto loader = make_data_loader<samplers::SequentialSampler>(Uneven(), DataLoaderOptions(1).workers(4));
  CHECK(joined(batches_of(*loader)) == count_to(16));
}

TEST_CASE("without ordering every batch still comes once", "[data][threads]") {
  auto loader =
      make_data_loader<samplers::SequentialSampler>(Uneven(), DataLoaderOptions(1).workers(4).enforce_ordering(false));
  const Indices all = joined(batches_of(*loader));
  CHECK(std::set(all.begin(), all.end()).size() == 16);
}

TEST_CASE("every worker has a dataset of its own, unless it is shared", "[data][threads]") {
  struct CopyCounter : datasets::BatchDataset<CopyCounter, int> {
    explicit CopyCounter(std::atomic<int>& counter) : copies(&counter) {}
    CopyCounter(const CopyCounter& other) : BatchDataset(other), copies(other.copies) { ++*copies; }
    CopyCounter(CopyCounter&&) = default;
    int get_batch(ArrayRef<std::size_t>) override { return 1; }
    std::optional<std::size_t> size() const override { return 4; }
    std::atomic<int>* copies;
  };
  std::atomic<int> copies = 0;
  make_data_loader(CopyCounter(copies), DataLoaderOptions(1).workers(3));
  CHECK(copies >= 3);
  copies = 0;
  auto shared = datasets::make_shared_dataset<CopyCounter>(copies);
  auto loader = make_data_loader(shared, DataLoaderOptions(1).workers(3));
  CHECK(copies == 0);
  CHECK(std::distance(loader->begin(), loader->end()) == 4);
}

TEST_CASE("an exception of a worker comes out where the batch is asked for", "[data][threads]") {
  auto loader = make_data_loader<samplers::SequentialSampler>(Failing(), DataLoaderOptions(2).workers(2));
  auto place = loader->begin();
  ++place;
  CHECK(*place == Indices{2, 3});
  CHECK_THROWS_WITH(++place, "Caught exception in DataLoader worker thread. Original message: example 4 is bad");
}

TEST_CASE("the original exception of a worker is kept", "[data][threads]") {
  auto loader = make_data_loader<samplers::SequentialSampler>(Failing(), DataLoaderOptions(8).workers(1));
  auto fails_at_4 = make_data_loader(Failing(), samplers::SequentialSampler(5), DataLoaderOptions(1).workers(1));
  try {
    for ([[maybe_unused]] const Indices& batch : *fails_at_4) {
    }
    FAIL("nothing was thrown");
  } catch (const WorkerException& e) {
    CHECK_THROWS_AS(std::rethrow_exception(e.original_exception), std::invalid_argument);
  }
}

TEST_CASE("without workers the dataset's own exception comes through", "[data]") {
  auto loader = make_data_loader<samplers::SequentialSampler>(Failing(), 2);
  CHECK_THROWS_AS(batches_of(*loader), std::invalid_argument);
}

TEST_CASE("waiting longer than the timeout is an error", "[data][threads]") {
  struct Slow : datasets::BatchDataset<Slow, int> {
    int get_batch(ArrayRef<std::size_t>) override {
      std::this_thread::sleep_for(100ms);
      return 1;
    }
    std::optional<std::size_t> size() const override { return 1; }
  };
  auto loader = make_data_loader(Slow(), DataLoaderOptions(1).workers(1).timeout(5ms));
  CHECK_THROWS_WITH(*loader->begin(), ContainsSubstring("timeout") && ContainsSubstring("5 ms"));
}

TEST_CASE("a second pass cannot begin while workers are at the first", "[data][threads]") {
  auto loader = make_data_loader<samplers::SequentialSampler>(Echo(10), DataLoaderOptions(1).workers(2));
  auto place = loader->begin();
  CHECK_THROWS_WITH(loader->begin(), ContainsSubstring("not yet exhausted"));
  while (place != loader->end()) ++place;
  CHECK(batches_of(*loader).size() == 10);
}

TEST_CASE("the end can be neither incremented nor dereferenced", "[data]") {
  auto loader = make_data_loader(Echo(1), 1);
  auto end = loader->end();
  CHECK_THROWS_WITH(++end, ContainsSubstring("past the end"));
  CHECK_THROWS_WITH(*end, ContainsSubstring("past the end"));
  auto place = loader->begin();
  ++place;
  CHECK_THROWS_WITH(++place, ContainsSubstring("past the end"));
  CHECK_THROWS_WITH(place->size(), ContainsSubstring("past the end"));
}

TEST_CASE("iterators compare as a pass goes on, and copies share their place", "[data]") {
  auto loader = make_data_loader<samplers::SequentialSampler>(Echo(2), 1);
  auto place = loader->begin();
  auto copy = place;
  CHECK(place == copy);
  CHECK(place != loader->end());
  CHECK(loader->end() == loader->end());
  ++place;
  CHECK(*copy == Indices{1});
  ++copy;
  CHECK(place == loader->end());
}

TEST_CASE("an empty dataset has no batches", "[data][threads]") {
  const std::size_t workers = GENERATE(0, 2);
  auto loader = make_data_loader<samplers::SequentialSampler>(Echo(0), DataLoaderOptions(4).workers(workers));
  CHECK(loader->begin() == loader->end());
}

TEST_CASE("join may be repeated, and nothing can be loaded after it", "[data][threads]") {
  const std::size_t workers = GENERATE(0, 2);
  auto loader = make_data_loader<samplers::SequentialSampler>(Echo(8), DataLoaderOptions(1).workers(workers));
  {
    const auto place = loader->begin();
    CHECK(*place == Indices{0});
  }
  loader->join();
  loader->join();
  CHECK_THROWS_WITH(batches_of(*loader), ContainsSubstring("after join()"));
}

TEST_CASE("a loader can go while its workers are busy", "[data][threads]") {
  for (int i = 0; i < 20; ++i) {
    auto loader = make_data_loader(Uneven(), DataLoaderOptions(1).workers(2));
    CHECK(loader->begin()->size() == 1);
  }
}

TEST_CASE("a stateful dataset ends its passes itself", "[data][threads]") {
  auto loader = make_data_loader(Counter(), DataLoaderOptions(4));
  CHECK(std::vector<int>(loader->begin(), loader->end()) == std::vector<int>{4, 8, 12});
  CHECK(std::vector<int>(loader->begin(), loader->end()) == std::vector<int>{4, 8, 12});

  auto shared = make_data_loader(datasets::make_shared_dataset<Counter>(), DataLoaderOptions(1).workers(3));
  for (int pass = 0; pass < 2; ++pass) {
    std::set<int> seen;
    for (const int value : *shared) seen.insert(value);
    CHECK(seen.size() == 10);
  }
}

TEST_CASE("a stateful dataset can be mapped", "[data]") {
  auto loader = make_data_loader(Counter().map(transforms::BatchLambda<int, double>([](int x) { return x / 2.0; })), 4);
  CHECK(std::vector<double>(loader->begin(), loader->end()) == std::vector<double>{2, 4, 6});
}

TEST_CASE("a queue gives values in order and waits no longer than told", "[data][threads]") {
  halftone::data::detail::Queue<int> queue;
  queue.push(1);
  queue.push(2);
  CHECK(queue.pop() == 1);
  CHECK(queue.pop() == 2);
  CHECK_THROWS_WITH(queue.pop(10ms), ContainsSubstring("10 ms"));
  queue.push(3);
  CHECK(queue.pop(10ms) == 3);
  queue.push(4);
  queue.push(5);
  CHECK(queue.clear() == 2);
  CHECK(queue.clear() == 0);

  std::thread late([&] {
    std::this_thread::sleep_for(10ms);
    queue.push(6);
  });
  CHECK(queue.pop() == 6);
  late.join();
}

TEST_CASE("a shuttle knows what is under way", "[data][threads]") {
  halftone::data::detail::DataShuttle<int, int> shuttle;
  CHECK_FALSE(shuttle.pop_result());
  shuttle.push_job(1);
  shuttle.push_job(2);
  CHECK(shuttle.in_flight_jobs() == 2);
  CHECK(shuttle.pop_job() == 1);
  shuttle.push_result(10);
  CHECK(shuttle.pop_result() == std::optional(10));
  CHECK(shuttle.in_flight_jobs() == 1);
  shuttle.drain();
  CHECK(shuttle.in_flight_jobs() == 0);
  CHECK_FALSE(shuttle.pop_result());
}

TEST_CASE("draining a shuttle waits for jobs that a worker has begun", "[data][threads]") {
  halftone::data::detail::DataShuttle<int, int> shuttle;
  shuttle.push_job(1);
  shuttle.push_job(2);
  const int job = shuttle.pop_job();
  std::thread worker([&] {
    std::this_thread::sleep_for(10ms);
    shuttle.push_result(job);
  });
  shuttle.drain();
  CHECK(shuttle.in_flight_jobs() == 0);
  worker.join();
}

TEST_CASE("an ordered sequencer holds early results back, the other does not", "[data]") {
  struct Numbered {
    std::size_t sequence_number;
  };
  const Indices arrival{3, 1, 0, 2, 4};
  const auto pass = [&](halftone::data::detail::sequencers::Sequencer<Numbered>& sequencer) {
    std::size_t next = 0;
    Indices order;
    while (const auto result = sequencer.next([&]() -> std::optional<Numbered> {
      if (next == arrival.size()) return std::nullopt;
      return Numbered{arrival[next++]};
    }))
      order.push_back(result->sequence_number);
    return order;
  };
  halftone::data::detail::sequencers::OrderedSequencer<Numbered> ordered;
  halftone::data::detail::sequencers::NoSequencer<Numbered> as_it_comes;
  CHECK(pass(ordered) == count_to(5));
  CHECK(pass(as_it_comes) == arrival);
}

TEST_CASE("a loader that pins gives the same batches, in pinned memory where there is a GPU", "[data]") {
  struct Numbers : datasets::Dataset<Numbers> {
    Example<> get(std::size_t i) override {
      const TensorOptions options = TensorOptions(kFloat32).device(kCPU);
      return {full({2}, static_cast<double>(i), options), full({}, static_cast<double>(i), options)};
    }
    std::optional<std::size_t> size() const override { return 6; }
  };
  for (const std::size_t workers : {0, 2}) {
    auto loader = make_data_loader(Numbers().map(transforms::Stack<>()), samplers::SequentialSampler(6),
                                   DataLoaderOptions(4).workers(workers).pin_memory(true));
    double sum = 0;
    for (const auto& batch : *loader) {
      CHECK(batch.data.is_pinned() == cuda::is_available());
      CHECK(batch.target.is_pinned() == cuda::is_available());
      sum += batch.data.sum().item<double>() + batch.target.sum().item<double>();
    }
    CHECK(sum == 45);
  }
}
