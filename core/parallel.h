// Work shared out over a small pool of threads. Waiting threads sleep: a pool whose threads spin ruins the speed of
// every other process on the machine, and its own when the cores are shared.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace halftone {

/// How many threads parallel_for may use, the caller's included. At first HALFTONE_NUM_THREADS, or OMP_NUM_THREADS, or
/// the number of processors that this process may run on.
int get_num_threads();
/// Takes effect with the next parallel_for of any thread.
void set_num_threads(int threads);

/// True inside the body of a parallel_for, where another parallel_for runs serially.
bool in_parallel_region();

namespace detail {

/// A callable by reference: two words, no allocation.
class RangeBody {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_const_t<F>, RangeBody>)  // or it would take part in copying
      explicit RangeBody(F& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, std::int64_t first, std::int64_t last) { (*static_cast<F*>(object))(first, last); }) {}
  void operator()(std::int64_t first, std::int64_t last) const { call_(object_, first, last); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// How a range is cut: `count` chunks of `size`, the last one possibly shorter.
struct Chunks {
  std::int64_t size = 0, count = 0;
};

/// A few chunks for each thread, so that one that is held up does not hold up the rest, but none below the grain.
constexpr Chunks plan_chunks(std::int64_t n, std::int64_t grain, int threads) {
  constexpr std::int64_t kChunksPerThread = 4, kAlignment = 64;
  const std::int64_t pieces = n / std::max<std::int64_t>(grain, 1);
  const std::int64_t rounds = std::clamp<std::int64_t>(pieces / threads, 1, kChunksPerThread);
  const std::int64_t count = std::clamp<std::int64_t>(pieces, 1, rounds * threads);
  std::int64_t size = (n + count - 1) / count;
  if (size > kAlignment) size = (size + kAlignment - 1) / kAlignment * kAlignment;  // chunks end on cache lines
  return {size, (n + size - 1) / size};
}

void run_chunks(std::int64_t begin, std::int64_t end, Chunks chunks, RangeBody body);

}  // namespace detail

/// Calls `f(first, last)` on pieces that cover [begin, end), each at least about `grain` long, from several threads at
/// once. How the range is cut depends on its length, the grain and the number of threads alone. Runs on the calling
/// thread when there is one piece, inside another parallel_for, or while another thread keeps the pool busy. The first
/// exception of any piece is rethrown here.
template <class F> void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, F&& f) {
  if (begin >= end) return;
  const std::int64_t n = end - begin;
  if (n < 2 * grain || n < 2) {
    f(begin, end);
    return;
  }
  const int threads = in_parallel_region() ? 1 : get_num_threads();
  const detail::Chunks chunks = threads == 1 ? detail::Chunks{n, 1} : detail::plan_chunks(n, grain, threads);
  if (chunks.count <= 1) {
    f(begin, end);
    return;
  }
  detail::run_chunks(begin, end, chunks, detail::RangeBody(f));
}

}  // namespace halftone
