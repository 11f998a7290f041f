// The loader: draws requests from a sampler, has the batches made here or by worker threads, and is iterated over once
// a pass: `for (auto& batch : *loader)`.
#pragma once

#include <exception>
#include <iterator>
#include <memory>
#include <thread>

#include "data/map.h"
#include "data/pin.h"
#include "data/queue.h"
#include "data/samplers.h"

namespace halftone::data {

/// An exception of a worker thread, thrown where the batch is asked for.
class WorkerException : public Error {
 public:
  explicit WorkerException(std::exception_ptr original);
  std::exception_ptr original_exception;
};

/// How to load: `DataLoaderOptions().batch_size(64).workers(2)`; a number is a batch size.
class DataLoaderOptions {
 public:
  DataLoaderOptions() = default;
  DataLoaderOptions(std::size_t batch_size) : batch_size_(batch_size) {}  // NOLINT: a number is a batch size

  DataLoaderOptions& batch_size(std::size_t value) { return set(batch_size_, value); }
  /// Threads that make batches ahead of their use; 0 makes them when asked.
  DataLoaderOptions& workers(std::size_t value) { return set(workers_, value); }
  /// Batches made ahead, twice the workers if not said.
  DataLoaderOptions& max_jobs(std::optional<std::size_t> value) { return set(max_jobs_, value); }
  /// How long to wait for a worker's batch before giving up.
  DataLoaderOptions& timeout(std::optional<std::chrono::milliseconds> value) { return set(timeout_, value); }
  /// Whether batches come in the sampler's order; without it, those that are ready first.
  DataLoaderOptions& enforce_ordering(bool value) { return set(enforce_ordering_, value); }
  /// Whether a last batch with too few examples is left out.
  DataLoaderOptions& drop_last(bool value) { return set(drop_last_, value); }
  /// Whether the batches' tensors lie in page-locked memory: `batch.data.to(device, kFloat32, /*non_blocking=*/true)`
  /// then copies while the host goes on. On a machine without a GPU it changes nothing.
  DataLoaderOptions& pin_memory(bool value) { return set(pin_memory_, value); }

  std::size_t batch_size() const { return batch_size_; }
  std::size_t workers() const { return workers_; }
  std::optional<std::size_t> max_jobs() const { return max_jobs_; }
  std::optional<std::chrono::milliseconds> timeout() const { return timeout_; }
  bool enforce_ordering() const { return enforce_ordering_; }
  bool drop_last() const { return drop_last_; }
  bool pin_memory() const { return pin_memory_; }

 private:
  template <class T> DataLoaderOptions& set(T& field, T value) {
    field = value;
    return *this;
  }

  std::size_t batch_size_ = 1;
  std::size_t workers_ = 0;
  std::optional<std::size_t> max_jobs_;
  std::optional<std::chrono::milliseconds> timeout_;
  bool enforce_ordering_ = true;
  bool drop_last_ = false;
  bool pin_memory_ = false;
};

/// The options with every default filled in.
struct FullDataLoaderOptions {
  explicit FullDataLoaderOptions(const DataLoaderOptions& options);

  std::size_t batch_size;
  std::size_t workers;
  std::size_t max_jobs;
  std::optional<std::chrono::milliseconds> timeout;
  bool enforce_ordering;
  bool drop_last;
  bool pin_memory;
};

/// Goes once through the batches. Copies share their place; the end is an iterator without a place.
template <class Batch> class Iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using difference_type = std::ptrdiff_t;
  using value_type = Batch;
  using pointer = Batch*;
  using reference = Batch&;

  Iterator() = default;
  explicit Iterator(std::function<std::optional<Batch>()> next_batch)
      : place_(std::make_shared<Place>(std::move(next_batch))) {}

  Iterator& operator++() {
    check(place_ && place_->current(), "DataLoader: attempted to increment an iterator past the end");
    place_->advance();
    return *this;
  }
  Batch& operator*() const {
    check(place_ && place_->current(), "DataLoader: attempted to dereference an iterator past the end");
    return *place_->current();
  }
  Batch* operator->() const { return &**this; }

  bool operator==(const Iterator& other) const {
    if (place_ == other.place_) return true;
    return at_end() && other.at_end();
  }

 private:
  // The first batch is made when it is first needed.
  struct Place {
    explicit Place(std::function<std::optional<Batch>()> next_batch) : next(std::move(next_batch)) {}
    std::optional<Batch>& current() {
      if (!started) advance();
      return batch;
    }
    void advance() {
      started = true;
      batch.reset();  // before the next one is made: a batch may be large
      batch = next();
    }
    std::function<std::optional<Batch>()> next;
    std::optional<Batch> batch;
    bool started = false;
  };

  bool at_end() const { return !place_ || !place_->current(); }

  std::shared_ptr<Place> place_;
};

/// What all loaders share: iteration, workers and their end. A worker thread has its own copy of the dataset.
template <class Dataset, class Batch, class BatchRequest> class DataLoaderBase {
 public:
  using BatchType = Batch;
  using BatchRequestType = BatchRequest;

  explicit DataLoaderBase(const DataLoaderOptions& options) : options_(options), sequencer_(make_sequencer()) {}
  virtual ~DataLoaderBase() { join(); }
  DataLoaderBase(const DataLoaderBase&) = delete;
  DataLoaderBase& operator=(const DataLoaderBase&) = delete;

  /// Starts a pass. The one before must be over.
  Iterator<Batch> begin() {
    check(!joined_, "DataLoader: batches were asked for after join()");
    check(shuttle_.in_flight_jobs() == 0,
          "DataLoader: attempted to get a new iterator while another one is not yet exhausted");
    reset();
    return Iterator<Batch>([this] { return next(); });
  }
  Iterator<Batch> end() { return {}; }

  /// Ends the worker threads. Harmless when repeated; the destructor does it too.
  void join() {
    if (joined_) return;
    shuttle_.drain();
    for (std::size_t i = 0; i < workers_.size(); ++i) shuttle_.push_job({});
    for (std::thread& worker : workers_) worker.join();
    joined_ = true;
  }

  const FullDataLoaderOptions& options() const { return options_; }

 protected:
  // Null asks a worker to quit.
  struct Job {
    std::optional<BatchRequest> request;
    std::size_t sequence_number = 0;
  };
  struct Result {
    std::optional<Batch> batch;
    std::exception_ptr exception;
    std::size_t sequence_number = 0;
  };

  virtual std::optional<BatchRequest> next_request() = 0;
  /// Nothing: the dataset itself has ended the pass.
  virtual std::optional<Batch> make_batch(Dataset& dataset, BatchRequest& request) = 0;
  virtual void reset() {
    sequencer_ = make_sequencer();
    sequence_number_ = 0;
    if (options_.workers > 0) prefetch(options_.max_jobs);
  }

  /// Gives the main thread its dataset, and every worker a copy.
  void start(Dataset dataset) {
    if (options_.workers == 0) {
      dataset_ = std::make_unique<Dataset>(std::move(dataset));
      return;
    }
    workers_.reserve(options_.workers);
    for (std::size_t i = 0; i < options_.workers; ++i) {
      workers_.emplace_back([this, copy = dataset]() mutable { work(copy); });
    }
  }

  std::unique_ptr<Dataset> dataset_;

 private:
  using Sequencer = detail::sequencers::Sequencer<Result>;

  std::unique_ptr<Sequencer> make_sequencer() const {
    if (options_.enforce_ordering) return std::make_unique<detail::sequencers::OrderedSequencer<Result>>();
    return std::make_unique<detail::sequencers::NoSequencer<Result>>();
  }

  std::optional<Batch> next() {
    if (options_.workers > 0) return next_of_workers();
    std::optional<BatchRequest> request = next_request();
    if (!request) return std::nullopt;
    check(!joined_, "DataLoader: batches were asked for after join()");
    return finished(make_batch(*dataset_, *request));
  }

  std::optional<Batch> finished(std::optional<Batch> batch) const {
    if (options_.pin_memory) detail::pin(batch);
    return batch;
  }

  std::optional<Batch> next_of_workers() {
    const auto pop = [this] { return shuttle_.pop_result(options_.timeout); };
    while (std::optional<Result> result = sequencer_->next(pop)) {
      if (result->exception) throw WorkerException(result->exception);
      if (!result->batch) continue;
      prefetch(1);
      return std::move(result->batch);
    }
    return std::nullopt;
  }

  void prefetch(std::size_t jobs) {
    for (std::size_t i = 0; i < jobs; ++i) {
      std::optional<BatchRequest> request = next_request();
      if (!request) return;
      shuttle_.push_job({std::move(request), sequence_number_++});
    }
  }

  void work(Dataset& dataset) {
    while (true) {
      Job job = shuttle_.pop_job();
      if (!job.request) return;
      Result result{std::nullopt, nullptr, job.sequence_number};
      try {
        result.batch = finished(make_batch(dataset, *job.request));
      } catch (...) {
        result.exception = std::current_exception();
      }
      shuttle_.push_result(std::move(result));
    }
  }

  const FullDataLoaderOptions options_;
  std::vector<std::thread> workers_;
  detail::DataShuttle<Job, Result> shuttle_;
  std::unique_ptr<Sequencer> sequencer_;
  std::size_t sequence_number_ = 0;
  bool joined_ = false;
};

/// A loader whose sampler says which examples come.
template <class Dataset, class Sampler>
class StatelessDataLoader final
    : public DataLoaderBase<Dataset, typename Dataset::BatchType, typename Sampler::BatchRequestType> {
  using Base = DataLoaderBase<Dataset, typename Dataset::BatchType, typename Sampler::BatchRequestType>;

 public:
  using typename Base::BatchRequestType;
  using typename Base::BatchType;

  StatelessDataLoader(Dataset dataset, Sampler sampler, const DataLoaderOptions& options)
      : Base(options), sampler_(std::move(sampler)) {
    this->start(std::move(dataset));
  }
  ~StatelessDataLoader() override { this->join(); }  // before the sampler goes

 private:
  std::optional<BatchRequestType> next_request() override {
    auto request = sampler_.next(this->options().batch_size);
    if (request && this->options().drop_last && count(*request) < this->options().batch_size) return std::nullopt;
    return request;
  }
  std::optional<BatchType> make_batch(Dataset& dataset, BatchRequestType& request) override {
    return dataset.get_batch(request);
  }
  void reset() override {
    sampler_.reset();
    Base::reset();
  }

  static std::size_t count(std::size_t request) { return request; }
  template <class Request> static std::size_t count(const Request& request) { return request.size(); }

  Sampler sampler_;
};

/// A loader whose dataset knows where it stands. With workers, the dataset should be a shared one.
template <class Dataset>
class StatefulDataLoader final
    : public DataLoaderBase<Dataset, typename Dataset::BatchType::value_type, typename Dataset::BatchRequestType> {
  using Base = DataLoaderBase<Dataset, typename Dataset::BatchType::value_type, typename Dataset::BatchRequestType>;

 public:
  using typename Base::BatchRequestType;
  using typename Base::BatchType;

  StatefulDataLoader(Dataset dataset, const DataLoaderOptions& options) : Base(options), first_(dataset) {
    this->start(std::move(dataset));
  }
  ~StatefulDataLoader() override { this->join(); }

 private:
  std::optional<BatchRequestType> next_request() override {
    return static_cast<BatchRequestType>(this->options().batch_size);
  }
  std::optional<BatchType> make_batch(Dataset& dataset, BatchRequestType& request) override {
    return dataset.get_batch(request);
  }
  void reset() override {
    (this->dataset_ ? *this->dataset_ : first_).reset();
    Base::reset();
  }

  Dataset first_;  // with workers: a handle on what they share
};

/// A loader over a stateful dataset.
template <class Dataset>
requires Dataset::is_stateful std::unique_ptr<StatefulDataLoader<Dataset>> make_data_loader(
    Dataset dataset, const DataLoaderOptions& options = {}) {
  return std::make_unique<StatefulDataLoader<Dataset>>(std::move(dataset), options);
}

/// A loader that visits the examples in a sampler's order.
template <class Dataset, samplers::IsSampler Sampler>
requires(!Dataset::is_stateful) std::unique_ptr<StatelessDataLoader<Dataset, Sampler>> make_data_loader(
    Dataset dataset, Sampler sampler, const DataLoaderOptions& options = {}) {
  return std::make_unique<StatelessDataLoader<Dataset, Sampler>>(std::move(dataset), std::move(sampler), options);
}

/// A loader with a sampler made for the dataset's size, a RandomSampler if not said.
template <class Sampler = samplers::RandomSampler, class Dataset>
requires(!Dataset::is_stateful && std::constructible_from<Sampler, std::size_t>)
    std::unique_ptr<StatelessDataLoader<Dataset, Sampler>> make_data_loader(Dataset dataset,
                                                                            const DataLoaderOptions& options = {}) {
  const std::optional<std::size_t> size = dataset.size();
  check<ValueError>(size.has_value(), "make_data_loader: a dataset without a size needs a sampler of its own");
  return make_data_loader(std::move(dataset), Sampler(static_cast<std::size_t>(*size)), options);
}

}  // namespace halftone::data
