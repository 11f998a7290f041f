#include "nn/parallel/workers.h"

#include <unistd.h>

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "autograd/context.h"
#include "nn/parallel/group.h"

namespace halftone::nn::parallel {
namespace {

/// A thread that does one task after another.
class Worker {
 public:
  Worker() : thread_([this] { serve(); }) {}
  ~Worker() {
    post(nullptr);
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// A null task ends the thread.
  void post(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      task_ = std::move(task);
      posted_ = true;
    }
    wake_.notify_one();
  }

 private:
  std::function<void()> next() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return posted_; });
    posted_ = false;
    return std::move(task_);
  }
  void serve() {
    while (const std::function<void()> task = next()) task();
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::function<void()> task_;
  bool posted_ = false;
  std::thread thread_;  // last: it uses the others
};

/// Workers without work. Replicas may wait for each other, so each gets a thread of its own, whatever else runs: the
/// store gives out what it has and makes what it lacks.
class Store {
 public:
  std::unique_ptr<Worker> take() {
    {
      const std::lock_guard lock(mutex_);
      forget_after_fork();
      if (!idle_.empty()) {
        std::unique_ptr<Worker> worker = std::move(idle_.back());
        idle_.pop_back();
        return worker;
      }
    }
    return std::make_unique<Worker>();
  }
  void give_back(std::unique_ptr<Worker> worker) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(worker));
  }
  std::size_t size() {
    const std::lock_guard lock(mutex_);
    return idle_.size();
  }

  static Store& instance() {
    static Store only;
    return only;
  }

 private:
  // A forked child has none of its parent's threads.
  void forget_after_fork() {
    if (process_ == getpid()) return;
    for (std::unique_ptr<Worker>& worker : idle_) static_cast<void>(worker.release());
    idle_.clear();
    process_ = getpid();
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> idle_;
  pid_t process_ = getpid();
};

/// Counts what is under way.
class Countdown {
 public:
  void begin() {
    const std::lock_guard lock(mutex_);
    ++left_;
  }
  void done() {
    const std::lock_guard lock(mutex_);  // held while notifying: the waiter destroys this as soon as it is free
    if (--left_ == 0) zero_.notify_one();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    zero_.wait(lock, [this] { return left_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable zero_;
  std::size_t left_ = 0;
};

/// The workers of one call. However the call ends, it waits for those that were posted before it goes.
class Crew {
 public:
  explicit Crew(std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) workers_.push_back(Store::instance().take());
  }
  ~Crew() {
    left_.wait();
    // The last first: the next call takes them in the same order, so each goes on working with its device.
    for (auto worker = workers_.rbegin(); worker != workers_.rend(); ++worker)
      Store::instance().give_back(std::move(*worker));
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  template <class Job> void post(std::size_t i, const Job& job) {
    std::function<void()> task = [this, &job, i] {
      job(i + 1);
      left_.done();
    };
    left_.begin();
    workers_[i]->post(std::move(task));
  }

 private:
  Countdown left_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

/// Throws a new E with a longer message if `error` is an E and nothing derived from it.
template <class E> void throw_prefixed(const std::exception& error, const std::string& prefix) {
  if (typeid(error) == typeid(E)) throw E(prefix + error.what());
}

/// Where an exception has no place for it, a warning says whose it is.
[[noreturn]] void throw_again(const std::exception_ptr& failure, const std::string& who) {
  const std::string prefix = who + ": ";
  try {
    std::rethrow_exception(failure);
  } catch (Error& error) {
    error.add_prefix(prefix);
    throw;
  } catch (const std::exception& error) {
    throw_prefixed<std::runtime_error>(error, prefix);
    throw_prefixed<std::range_error>(error, prefix);
    throw_prefixed<std::overflow_error>(error, prefix);
    throw_prefixed<std::underflow_error>(error, prefix);
    throw_prefixed<std::logic_error>(error, prefix);
    throw_prefixed<std::invalid_argument>(error, prefix);
    throw_prefixed<std::domain_error>(error, prefix);
    throw_prefixed<std::length_error>(error, prefix);
    throw_prefixed<std::out_of_range>(error, prefix);
    warn(who + " failed: " + error.what());
    throw;
  } catch (...) {
    warn(who + " failed with an exception that has no message");
    throw;
  }
}

bool is_abandoned(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Abandoned&) {
    return true;
  } catch (...) {
    return false;
  }
}

void throw_first(std::span<const std::exception_ptr> failures, std::span<const Device> devices) {
  for (const bool secondary : {false, true}) {
    for (std::size_t k = 0; k < failures.size(); ++k) {
      if (failures[k] && is_abandoned(failures[k]) == secondary)
        throw_again(failures[k], str("replica ", k, " on ", devices[k]));
    }
  }
}

}  // namespace

void run_replicas(std::span<const Device> devices, const std::function<void(std::size_t)>& job, Group* group) {
  if (devices.empty()) return;
  const Context inherited = context;
  std::vector<std::exception_ptr> failures(devices.size());
  const auto run = [&](std::size_t k) {
    try {
      const ContextScope scope(inherited);
      const DeviceGuard current(devices[k]);
      job(k);
    } catch (...) {
      failures[k] = std::current_exception();
    }
    if (group) group->leave(k);
  };
  {
    Crew crew(devices.size() - 1);
    for (std::size_t k = 1; k < devices.size(); ++k) crew.post(k - 1, run);
    run(0);
  }
  throw_first(failures, devices);
}

std::size_t idle_workers() { return Store::instance().size(); }

}  // namespace halftone::nn::parallel
