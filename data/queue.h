// How a loader and its workers talk: a blocking queue, a pair of them with a count of what is under way, and the
// sequencers that put results back in order.
#pragma once

#include <condition_variable>  // and durations: all of <chrono> costs a third of a second
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "core/error.h"

namespace halftone::data::detail {

/// A first-in, first-out queue for several threads; popping waits.
template <class T> class Queue {
 public:
  void push(T value) {
    {
      const std::lock_guard lock(mutex_);
      values_.push_back(std::move(value));
    }
    arrived_.notify_one();
  }

  /// Throws Error when nothing arrives within `timeout`.
  T pop(std::optional<std::chrono::milliseconds> timeout = std::nullopt) {
    std::unique_lock lock(mutex_);
    const auto has_value = [this] { return !values_.empty(); };
    if (timeout) {
      check(arrived_.wait_for(lock, *timeout, has_value), "DataLoader: timeout while waiting for the next batch (",
            timeout->count(), " ms)");
    } else {
      arrived_.wait(lock, has_value);
    }
    T value = std::move(values_.front());
    values_.pop_front();
    return value;
  }

  /// Empties the queue and says how many values it held.
  std::size_t clear() {
    const std::lock_guard lock(mutex_);
    const std::size_t count = values_.size();
    values_.clear();
    return count;
  }

 private:
  std::deque<T> values_;
  std::mutex mutex_;
  std::condition_variable arrived_;
};

/// Carries jobs to workers and results back, and knows how many jobs are under way. One thread pushes jobs and pops
/// results, the workers do the reverse.
template <class Job, class Result> class DataShuttle {
 public:
  void push_job(Job job) {
    new_jobs_.push(std::move(job));
    ++in_flight_jobs_;
  }
  Job pop_job() { return new_jobs_.pop(); }

  void push_result(Result result) { results_.push(std::move(result)); }
  /// The next result, or nothing when no job is under way.
  std::optional<Result> pop_result(std::optional<std::chrono::milliseconds> timeout = std::nullopt) {
    if (in_flight_jobs_ == 0) return std::nullopt;
    Result result = results_.pop(timeout);
    --in_flight_jobs_;
    return result;
  }

  /// Takes back jobs that no worker has begun, and waits for the others.
  void drain() {
    in_flight_jobs_ -= new_jobs_.clear();
    while (in_flight_jobs_ > 0) pop_result();
  }

  std::size_t in_flight_jobs() const { return in_flight_jobs_; }

 private:
  Queue<Job> new_jobs_;
  Queue<Result> results_;
  std::size_t in_flight_jobs_ = 0;
};

namespace sequencers {

/// Hands on results as they come, or in order; Result has a member sequence_number.
template <class Result> class Sequencer {
 public:
  using ResultProducer = std::function<std::optional<Result>()>;
  virtual ~Sequencer() = default;
  virtual std::optional<Result> next(const ResultProducer& next_result) = 0;
};

template <class Result> class NoSequencer final : public Sequencer<Result> {
 public:
  using typename Sequencer<Result>::ResultProducer;
  std::optional<Result> next(const ResultProducer& next_result) override { return next_result(); }
};

/// Keeps results that come early until those before them have come.
template <class Result> class OrderedSequencer : public Sequencer<Result> {
 public:
  using typename Sequencer<Result>::ResultProducer;

  std::optional<Result> next(const ResultProducer& next_result) override {
    if (auto early = early_.extract(next_)) {
      ++next_;
      return std::move(early.mapped());
    }
    while (std::optional<Result> result = next_result()) {
      if (result->sequence_number == next_) {
        ++next_;
        return result;
      }
      early_.emplace(result->sequence_number, std::move(*result));
    }
    return std::nullopt;
  }

 private:
  std::size_t next_ = 0;
  std::unordered_map<std::size_t, Result> early_;
};

}  // namespace sequencers
}  // namespace halftone::data::detail
