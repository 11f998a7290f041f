// DataParallel's threads: errors, what is inherited, random numbers, several wrappers at once.
#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "nn/parallel/group.h"
#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using test::close;

namespace {

struct KeyError : Error {
  using Error::Error;
};

/// Fails on the devices it is told to.
template <class E> auto failing(std::vector<Device> where, std::atomic<int>& finished) {
  return Functional([where, &finished](const Tensor& x) {
    for (const Device& d : where) {
      if (x.device() != d) continue;
      if constexpr (std::is_default_constructible_v<E>) {
        throw E();
      } else {
        throw E("no such key");
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++finished;
    return x;
  });
}

template <class E> void check_error(const std::vector<Device>& on) {
  std::atomic<int> finished = 0;
  DataParallel parallel(failing<E>({on[1], on[2]}, finished), on);
  try {
    parallel(ones({4, 2}));
    FAIL("no error");
  } catch (const std::exception& error) {
    CHECK(typeid(error) == typeid(E));
    CHECK(std::string(error.what()) == "replica 1 on " + on[1].str() + ": no such key");
  }
  CHECK(finished == 2);  // the others ended first
}

}  // namespace

TEST_CASE("P5, test_parallel_apply_passes_exception: the first replica's error, of its own type, when all have ended",
          "[parallel][errors][threads]") {
  const auto on = devices(4);
  check_error<KeyError>(on);
  check_error<Error>(on);
  check_error<ValueError>(on);
  check_error<std::runtime_error>(on);
  check_error<std::invalid_argument>(on);
  check_error<std::out_of_range>(on);

  std::atomic<int> finished = 0;
  DataParallel strange(Functional([](const Tensor& x) -> Tensor {
                         if (x.size(0) > 0) throw 5;
                         return x;
                       }),
                       on);
  const Warnings warnings;
  CHECK_THROWS_AS(strange(ones({4})), int);
  struct Odd : std::exception {
    const char* what() const noexcept override { return "odd"; }
  };
  DataParallel odd(failing<Odd>({on[2]}, finished), on);
  CHECK_THROWS_AS(odd(ones({4})), Odd);
  CHECK(warnings.texts() ==
        std::vector<std::string>{"replica 0 on " + on[0].str() + " failed with an exception that has no message",
                                 "replica 2 on " + on[2].str() + " failed: odd"});

  Linear net(2, 2);
  DataParallel parallel(net, on);
  CHECK_THROWS_WITH(parallel(ones({4, 3})), ContainsSubstring("replica 0 on " + on[0].str() + ": "));
  CHECK(parallel(ones({4, 2})).size(0) == 4);  // and it goes on working
}

// ------------------------------------------------------------------------------------------------ threads

TEST_CASE("replicas run at once, in threads that stay", "[parallel][threads]") {
  const auto on = devices(4);
  std::atomic<int> inside = 0;
  std::mutex mutex;
  std::array<std::vector<std::thread::id>, 4> ran_in;
  const auto index = [&](const Tensor& x) {
    return static_cast<std::size_t>(std::find(on.begin(), on.end(), x.device()) - on.begin());
  };
  DataParallel parallel(Functional([&](const Tensor& x) {
                          ++inside;
                          while (inside % 4 != 0) std::this_thread::yield();  // would hang if one waited for another
                          const std::scoped_lock lock(mutex);
                          ran_in[index(x)].push_back(std::this_thread::get_id());
                          return x;
                        }),
                        on);
  parallel(ones({4}));
  const std::size_t idle = parallel::idle_workers();
  CHECK(idle >= 3);
  parallel(ones({4}));
  CHECK(parallel::idle_workers() == idle);
  CHECK(ran_in[0] == std::vector<std::thread::id>(2, std::this_thread::get_id()));
  CHECK(ran_in[1][0] != ran_in[2][0]);
}

TEST_CASE("a replica keeps its thread", "[parallel][threads]") {
  const auto on = devices(4);
  std::mutex mutex;
  std::array<std::vector<std::thread::id>, 4> ran_in;
  DataParallel parallel(Functional([&](const Tensor& x) {
                          const std::scoped_lock lock(mutex);
                          const auto k =
                              static_cast<std::size_t>(std::find(on.begin(), on.end(), x.device()) - on.begin());
                          ran_in[k].push_back(std::this_thread::get_id());
                          return x;
                        }),
                        on);
  for (int i = 0; i < 4; ++i) parallel(ones({4}));
  for (const auto& threads : ran_in) CHECK(threads == std::vector<std::thread::id>(4, threads[0]));
}

TEST_CASE("one wrapper in two threads at once, or in its own forward, is refused", "[parallel][threads][errors]") {
  const auto on = devices(2);
  std::atomic<bool> is_inside = false, may_end = false;
  DataParallel parallel(Functional([&](const Tensor& x) {
                          is_inside = true;
                          while (!may_end) std::this_thread::yield();
                          return x;
                        }),
                        on);
  std::thread other([&] { parallel(ones({2})); });
  while (!is_inside) std::this_thread::yield();
  CHECK_THROWS_WITH(parallel(ones({2})), ContainsSubstring("this one is in the middle of a forward") &&
                                             ContainsSubstring("give each thread a DataParallel of its own"));
  CHECK_THROWS_WITH(parallel->reset_replicas(), ContainsSubstring("in the middle of a forward"));
  may_end = true;
  other.join();
  CHECK(parallel(ones({2})).size(0) == 2);

  std::function<Tensor(const Tensor&)> again;
  DataParallel recursive(Functional([&](const Tensor& x) { return again(x); }), on);
  again = [&](const Tensor& x) { return recursive(x); };
  CHECK_THROWS_WITH(recursive(ones({4})), ContainsSubstring("in the module's own forward"));
}

TEST_CASE("backward of an earlier forward runs in another thread meanwhile", "[parallel][amp][threads]") {
  const auto on = devices(2);
  TwoLayers net;
  const TwoLayers plain = net.clone();
  DataParallel parallel(net, on);
  const Tensor x = randn({4, 4});
  for (const bool in_region : {false, true}) {
    const amp::autocast region(on[0].type(), kBFloat16, in_region);
    for (int i = 0; i < 10; ++i) {
      const Tensor loss = parallel(x).to(kFloat32).sum();
      std::thread backward([&] { loss.backward(); });
      parallel(x);
      backward.join();
    }
  }
  for (int i = 0; i < 20; ++i) plain(x).sum().backward();
  CHECK(gradient_difference(*net, *plain) < 1);
}

TEST_CASE("tensors that do not go together are an error in every replica of a group", "[parallel][threads][errors]") {
  const auto on = devices(3);
  parallel::Group group(on);
  std::atomic<int> errors = 0;
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < 3; ++k) {
    threads.emplace_back([&, k] {
      const Tensor x = ones({k == 1 ? 4 : 3}, TensorOptions(kFloat32).device(on[k]));
      try {
        group.sum(k, x, 0, "a test");
      } catch (const ValueError& e) {
        const std::string text = e.what();
        errors += text.find("a test: replica ") == 0 && text.find("float32[4]") != std::string::npos &&
                  text.find("all must bring the same") != std::string::npos;
      }
      group.leave(k);
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(errors == 3);
}

TEST_CASE("wrappers in wrappers and in several threads", "[parallel][threads]") {
  const auto on = devices(4);
  TwoLayers net;
  const Tensor x = randn({8, 4});
  const Tensor expected = net(x);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  std::vector<DataParallel<TwoLayersImpl>> wrappers;  // each registers the module, which is no work for several threads
  for (int t = 0; t < 3; ++t) wrappers.emplace_back(net, on);
  for (const auto& parallel : wrappers) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        const Tensor y = parallel(x);
        if (!close(y, expected)) ++wrong;
        y.sum().backward();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
  const Tensor once = net->second->bias.grad();
  CHECK(values(once) == std::vector<double>(3, 8. * 15));

  DataParallel outer(Functional([&](const Tensor& t) {
                       DataParallel inner(Functional([](const Tensor& u) { return u * 2; }), {t.device(), on[3]});
                       return inner(t);
                     }),
                     {on[0], on[1]});
  CHECK(close(outer(x), x * 2));
}

TEST_CASE("dropout depends on the seed alone, not on the threads", "[parallel][threads]") {
  const auto on = devices(4);
  TwoLayers net;
  const Sequential model(net, Dropout(0.5), Linear(3, 64), Dropout(0.5));
  DataParallel parallel(model, on);
  const Tensor x = randn({8, 4});
  const auto run = [&] {
    manual_seed(11);
    return parallel(x);
  };
  const Tensor first = run();
  for (int i = 0; i < 20; ++i) CHECK(run().equal(first));
  CHECK_FALSE(parallel(x).equal(first));
}

TEST_CASE("replicas drop different elements, and the first device those of its seed", "[parallel]") {
  const DefaultDevice first(devices(2)[0].is_cpu() ? Device(kCPU) : Device(kCUDA, 0));
  const auto on = devices(2);
  if (on[0] == on[1]) return;
  DataParallel parallel(Dropout(0.5), on);
  const Tensor x = ones({2, 256});
  manual_seed(3);
  const Tensor y = parallel(x);
  CHECK_FALSE(y[0].equal(y[1]));
  manual_seed(3);
  CHECK(y[0].equal(dropout(x[0], 0.5, true)));
}

TEST_CASE("making replicas draws no random numbers of the caller", "[parallel]") {
  TwoLayers net;
  manual_seed(5);
  const Tensor expected = randn({3});
  manual_seed(5);
  DataParallel(net, devices(3))->forward(zeros({3, 4}));
  CHECK(randn({3}).equal(expected));
}

TEST_CASE("the current device, anomaly mode and the observer are inherited", "[parallel][threads]") {
  const auto on = devices(2);
  std::atomic<int> anomalies = 0, current = 0;
  DataParallel parallel(Functional([&](const Tensor& x) {
                          anomalies += context.anomaly;
                          current += canonical(Device(x.device().type())) == x.device() || x.is_cpu();
                          return x * 2;
                        }),
                        on);
  const DetectAnomalyGuard anomaly;
  const amp::trace trace;
  parallel(ones({4}));
  CHECK(anomalies == 2);
  CHECK(current == 2);
  const auto records = trace.records();
  CHECK(std::count_if(records.begin(), records.end(), [](const auto& r) { return r.op == "mul"; }) == 2);
}

TEST_CASE("deferred contents are fetched once, by whoever asks first; a failed fetch is tried again",
          "[storage][threads]") {
  const Tensor x = zeros({4}, Device(kCPU));
  Storage& storage = *x.storage();
  std::atomic<int> fetches = 0;
  storage.defer([&](void* memory) {
    if (++fetches == 1) fail("not yet");
    std::fill_n(static_cast<float*>(memory), 4, 7.f);
  });
  CHECK(storage.is_deferred());
  CHECK(x.size(0) == 4);  // what is known without the contents stays known
  CHECK(storage.is_deferred());
  CHECK_THROWS_WITH(x.clone(), ContainsSubstring("not yet"));
  CHECK(storage.is_deferred());

  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back([&] { right += x.data_ptr<float>()[3] == 7; });
  for (std::thread& t : threads) t.join();
  CHECK(right == 4);
  CHECK(fetches == 2);
  CHECK_FALSE(storage.is_deferred());

  storage.defer([&](void*) { ++fetches; });
  storage.defer(nullptr);
  CHECK(values(x) == std::vector<double>(4, 7.0));
  CHECK(fetches == 2);
}
