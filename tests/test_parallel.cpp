#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "core/parallel.h"
#include "tests/catch.h"

// A child that starts threads is what one of these tests is about; the thread sanitizer forbids it unless told
// otherwise.
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace halftone {
namespace {

class ThreadsScope {
 public:
  explicit ThreadsScope(int n) : previous_(get_num_threads()) { set_num_threads(n); }
  ~ThreadsScope() { set_num_threads(previous_); }

 private:
  int previous_;
};

std::int64_t parallel_sum(std::int64_t n, std::int64_t grain) {
  std::atomic<std::int64_t> sum{0};
  parallel_for(0, n, grain, [&](std::int64_t first, std::int64_t last) {
    std::int64_t part = 0;
    for (std::int64_t i = first; i < last; ++i) part += i;
    sum += part;
  });
  return sum;
}

TEST_CASE("parallel_for visits every index once", "[parallel][threads]") {
  const int threads = GENERATE(1, 2, 3, 8);
  const ThreadsScope scope(threads);
  for (const std::int64_t n : {0, 1, 2, 3, 7, 64, 65, 1000, 4097})
    for (const std::int64_t grain : {0, 1, 5, 64, 10000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
      parallel_for(10, 10 + n, grain, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; ++i) ++visits[static_cast<std::size_t>(i - 10)];
      });
      INFO("threads " << threads << ", n " << n << ", grain " << grain);
      CHECK(std::all_of(visits.begin(), visits.end(), [](const auto& v) { return v == 1; }));
    }
}

TEST_CASE("a range is cut by its length, the grain and the threads", "[parallel]") {
  constexpr auto whole = detail::plan_chunks(100, 64, 8);
  STATIC_REQUIRE(whole.count == 1);
  constexpr auto two = detail::plan_chunks(2, 1, 4);
  STATIC_REQUIRE((two.count == 2 && two.size == 1));
  constexpr auto even = detail::plan_chunks(8, 1, 2);
  STATIC_REQUIRE((even.count == 8 && even.size == 1));
  constexpr auto lines = detail::plan_chunks(1000, 1, 2);
  STATIC_REQUIRE((lines.size == 128 && lines.count == 8));
}

TEST_CASE("work below the grain runs on the calling thread", "[parallel][threads]") {
  const ThreadsScope scope(4);
  const auto caller = std::this_thread::get_id();
  int calls = 0;
  parallel_for(0, 100, 64, [&](std::int64_t first, std::int64_t last) {
    ++calls;
    CHECK(first == 0);
    CHECK(last == 100);
    CHECK(std::this_thread::get_id() == caller);
    CHECK_FALSE(in_parallel_region());
  });
  CHECK(calls == 1);
}

TEST_CASE("a nested parallel_for runs serially on the thread it is in", "[parallel][threads]") {
  const ThreadsScope scope(3);
  std::atomic<int> strangers{0};
  std::atomic<std::int64_t> total{0};
  parallel_for(0, 6, 1, [&](std::int64_t first, std::int64_t last) {
    const auto outer = std::this_thread::get_id();
    parallel_for(0, 100, 1, [&](std::int64_t a, std::int64_t b) {
      if (std::this_thread::get_id() != outer || !in_parallel_region()) ++strangers;
      total += (b - a) * (last - first);
    });
  });
  CHECK(strangers == 0);
  CHECK(total == 600);
  CHECK_FALSE(in_parallel_region());
}

TEST_CASE("an exception of any piece is rethrown in the caller", "[parallel][threads]") {
  const ThreadsScope scope(3);
  for (int round = 0; round < 50; ++round)
    CHECK_THROWS_AS(parallel_for(0, 64, 1,
                                 [&](std::int64_t first, std::int64_t last) {
                                   if (first <= round && round < last) throw std::out_of_range("piece");
                                 }),
                    std::out_of_range);
  CHECK(parallel_sum(1000, 1) == 499500);
}

TEST_CASE("several threads may call parallel_for at once", "[parallel][threads]") {
  const ThreadsScope scope(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> users;
  for (int u = 0; u < 4; ++u)
    users.emplace_back([&] {
      for (int i = 0; i < 300; ++i)
        if (parallel_sum(500 + i, 1) != std::int64_t{500 + i} * (499 + i) / 2) ++wrong;
    });
  for (std::thread& u : users) u.join();
  CHECK(wrong == 0);
}

TEST_CASE("the pool wakes up after a pause", "[parallel][threads]") {
  const ThreadsScope scope(2);
  for (int i = 0; i < 20; ++i) {
    CHECK(parallel_sum(1000, 1) == 499500);
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 3));
  }
}

TEST_CASE("a forked child has a pool of its own", "[parallel][threads]") {
  const ThreadsScope scope(2);
  CHECK(parallel_sum(1000, 1) == 499500);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(parallel_sum(1000, 1) == 499500 && parallel_sum(77, 1) == 2926 ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(parallel_sum(1000, 1) == 499500);
}

TEST_CASE("set_num_threads refuses less than one thread", "[parallel]") {
  CHECK_THROWS_WITH(set_num_threads(0), "set_num_threads: at least one thread is needed, not 0");
  CHECK(get_num_threads() >= 1);
}

}  // namespace
}  // namespace halftone
