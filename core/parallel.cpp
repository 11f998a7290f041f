#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"

namespace halftone {

namespace {

thread_local bool inside_region = false;
std::atomic<int> thread_count{0};  // 0: not asked for yet

struct RegionScope {
  RegionScope() { inside_region = true; }
  ~RegionScope() { inside_region = false; }
  RegionScope(const RegionScope&) = delete;
  RegionScope& operator=(const RegionScope&) = delete;
};

/// One parallel_for. It lives on the caller's stack; the caller leaves only when no worker is inside.
class Job {
 public:
  Job(std::int64_t begin, std::int64_t end, detail::Chunks chunks, detail::RangeBody body)
      : begin_(begin), end_(end), chunks_(chunks), body_(body) {}

  /// Takes chunks until none is left.
  void work() {
    const RegionScope scope;
    for (std::int64_t i = next_++; i < chunks_.count; i = next_++) run(i);
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void run(std::int64_t chunk) {
    const std::int64_t first = begin_ + chunk * chunks_.size;
    try {
      body_(first, std::min(first + chunks_.size, end_));
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
      next_ = chunks_.count;
    }
  }

  const std::int64_t begin_, end_;
  const detail::Chunks chunks_;
  const detail::RangeBody body_;
  std::atomic<std::int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // written by the one that set failed_, read after every worker has left
};

/// Waits some 50 microseconds for `ready`: about what a sleep and a wake cost on a virtual machine, and longer than the
/// pause between two ops of a small net, whose step it halves. Every turn gives the processor away, so a busy neighbour
/// loses nothing (measured with two such processes on two cores; three times as long did harm).
template <class F> bool spin_until(F ready) {
  constexpr int kTurns = 300;
  for (int i = 0; i < kTurns; ++i) {
    if (ready()) return true;
    std::this_thread::yield();
  }
  return ready();
}

class Pool {
 public:
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      ++generation_;
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  /// False when another thread is using the pool.
  bool try_run(Job& job, int helpers) {
    const std::unique_lock only(caller_, std::try_to_lock);
    if (!only.owns_lock()) return false;
    grow(helpers);
    post(job, helpers);
    job.work();
    finish();
    return true;
  }

 private:
  void grow(int helpers) {
    while (static_cast<int>(workers_.size()) < helpers) workers_.emplace_back([this] { serve(); });
  }

  void post(Job& job, int helpers) {
    int sleeping = 0;
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      places_ = helpers;
      sleeping = sleeping_;
      ++generation_;
    }
    if (sleeping == 1 || helpers == 1)
      wake_.notify_one();
    else if (sleeping > 1)
      wake_.notify_all();
  }

  void finish() {
    {
      const std::lock_guard lock(mutex_);
      job_ = nullptr;
    }
    if (spin_until([this] { return inside_ == 0; })) return;
    std::unique_lock lock(mutex_);
    left_.wait(lock, [this] { return inside_ == 0; });
  }

  void serve() {
    std::uint64_t seen = 0;
    while (true) {
      spin_until([&] { return generation_ != seen; });
      Job* job = enter(seen);
      if (stop_) return;
      if (job == nullptr) continue;
      job->work();
      leave();
    }
  }

  /// Sleeps until something was posted; null when it was taken or done by then.
  Job* enter(std::uint64_t& seen) {
    std::unique_lock lock(mutex_);
    ++sleeping_;
    wake_.wait(lock, [&] { return generation_ != seen; });
    --sleeping_;
    seen = generation_;
    if (stop_ || job_ == nullptr || places_ == 0) return nullptr;
    --places_;
    ++inside_;
    return job_;
  }

  void leave() {
    const std::lock_guard lock(mutex_);
    if (--inside_ == 0) left_.notify_one();
  }

  std::mutex caller_;  // held for the whole of a parallel_for
  std::mutex mutex_;   // guards what follows
  std::condition_variable wake_, left_;
  Job* job_ = nullptr;
  int places_ = 0;  // workers that may still join the job
  int sleeping_ = 0;
  std::atomic<int> inside_{0};
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

/// Makes the pool on first use and ends it at exit. A forked child has none of its parent's threads, so there the pool
/// is forgotten, not destroyed, and made anew when needed.
class PoolOwner {
 public:
  PoolOwner() { pthread_atfork(lock_all, unlock_all, forget); }
  ~PoolOwner() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    delete pool_.exchange(nullptr);
  }
  PoolOwner(const PoolOwner&) = delete;
  PoolOwner& operator=(const PoolOwner&) = delete;

  /// Null once the program is ending.
  Pool* get() {
    if (Pool* pool = pool_.load(std::memory_order_acquire)) return pool;
    const std::lock_guard lock(mutex_);
    if (pool_ == nullptr && !closed_) pool_ = new Pool;
    return pool_;
  }

  static PoolOwner& instance() {
    static PoolOwner owner;
    return owner;
  }

 private:
  static void lock_all() { instance().mutex_.lock(); }
  static void unlock_all() { instance().mutex_.unlock(); }
  static void forget() {
    instance().pool_ = nullptr;
    inside_region = false;
    instance().mutex_.unlock();
  }

  std::mutex mutex_;
  std::atomic<Pool*> pool_{nullptr};
  bool closed_ = false;
};

int processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

int positive_environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::max(std::atoi(text), 0);
}

int default_threads() {
  if (const int n = positive_environment("HALFTONE_NUM_THREADS"); n > 0) return n;
  if (const int n = positive_environment("OMP_NUM_THREADS"); n > 0) return n;
  return processors();
}

}  // namespace

int get_num_threads() {
  int n = thread_count.load(std::memory_order_relaxed);
  if (n > 0) [[likely]]
    return n;
  n = default_threads();
  int unset = 0;
  return thread_count.compare_exchange_strong(unset, n) ? n : unset;
}

void set_num_threads(int threads) {
  check<ValueError>(threads > 0, "set_num_threads: at least one thread is needed, not ", threads);
  thread_count = threads;
}

bool in_parallel_region() { return inside_region; }

namespace detail {

void run_chunks(std::int64_t begin, std::int64_t end, Chunks chunks, RangeBody body) {
  const int helpers = static_cast<int>(std::min<std::int64_t>(get_num_threads(), chunks.count)) - 1;
  Job job(begin, end, chunks, body);
  Pool* pool = helpers > 0 ? PoolOwner::instance().get() : nullptr;
  if (pool == nullptr || !pool->try_run(job, helpers)) {
    body(begin, end);
    return;
  }
  job.rethrow();
}

}  // namespace detail

}  // namespace halftone
