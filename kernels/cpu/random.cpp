// Random fills, which core/random.h draws from a sequential generator, and dropout, whose decisions are a function of
// the position and so can be drawn by any thread, a block at a time.
#include "core/random.h"

#include "core/parallel.h"
#include "core/philox.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/staged.h"

namespace halftone {

void CpuBackend::random(const RandomFill& f, Tensor& y, Generator& generator) {
  switch (f.kind) {
    case Distribution::uniform: return fill_uniform(y, f.a, f.b, generator);
    case Distribution::normal: return fill_normal(y, f.a, f.b, generator);
    case Distribution::bernoulli: return fill_bernoulli(y, f.a, generator);
    case Distribution::exponential: return fill_exponential(y, f.a, generator);
    case Distribution::integer: return fill_random(y, f.low, f.high, generator);
  }
}

void CpuBackend::randperm(Tensor& y, Generator& generator) {
  if (y.dtype() == kInt64) return fill_permutation(y, generator);
  Tensor order = empty(y.sizes(), y.options().dtype(kInt64));
  fill_permutation(order, generator);
  copy(order, y);
}

namespace {

/// Draws the random words of consecutive decisions, at most kStagedBlock at a time.
class Decisions {
 public:
  explicit Decisions(const DropoutMask& mask) : key_(mask.seed), stream_(mask.offset) {}

  const std::uint32_t* draw(std::int64_t first, std::int64_t count) {
    const auto counter = static_cast<std::uint64_t>(first) / 4;
    const auto skipped = static_cast<std::size_t>(first % 4);
    const std::size_t counters = (skipped + static_cast<std::size_t>(count) + 3) / 4;
    for (std::size_t i = 0; i < counters; ++i) {  // vectorizes: several counters at once
      const PhiloxWords drawn = philox(key_, counter + i, stream_);
      for (std::size_t k = 0; k < 4; ++k) words_[4 * i + k] = drawn.word[k];
    }
    return words_ + skipped;
  }

 private:
  std::uint64_t key_, stream_;
  std::uint32_t words_[cpu::kStagedBlock + 8];
};

template <class C>
void drop_each(const std::uint32_t* words, std::uint32_t limit, C scale, const C* x, C* y, std::int64_t n) {
#pragma GCC ivdep  // y may be x, element on element
  for (std::int64_t i = 0; i < n; ++i) {
    const C kept = x[i] * scale;
    y[i] = words[i] >= limit ? kept : C(0);
  }
}

/// The elements at positions [first, first + n), where `group` consecutive ones share a decision.
template <class C>
void drop_groups(const std::uint32_t* words, const DropoutMask& mask, C scale, std::int64_t first, const C* x, C* y,
                 std::int64_t n) {
  for (std::int64_t done = 0; done < n; ++words) {
    const std::int64_t end = std::min(n, done + mask.group - (first + done) % mask.group);
    if (*words >= mask.limit()) {
      for (; done < end; ++done) y[done] = x[done] * scale;
    } else {
      for (; done < end; ++done) y[done] = C(0);
    }
  }
}

template <class C>
void drop(const DropoutMask& mask, const Tensor& from, Tensor& to, std::int64_t first, std::int64_t last) {
  cpu::Staged<C> x(from, false), y(to, false);
  Decisions decisions(mask);
  const C scale = static_cast<C>(1 / (1 - mask.p));
  for (std::int64_t n; first < last; first += n) {
    n = std::min(last - first, cpu::kStagedBlock);
    const C* in = x.open(first, n);
    C* out = y.open_to_write(first, n);
    const std::int64_t decision = first / mask.group;
    const std::uint32_t* words = decisions.draw(decision, (first + n - 1) / mask.group - decision + 1);
    if (mask.group == 1) {
      drop_each(words, mask.limit(), scale, in, out, n);
    } else {
      drop_groups(words, mask, scale, first, in, out, n);
    }
    y.write();
  }
}

}  // namespace

void CpuBackend::dropout(const DropoutMask& mask, const Tensor& x, Tensor& y) {
  if (mask.p >= 1) return fill(y, 0.0);
  constexpr std::int64_t kGrain = 1 << 13;
  parallel_for(0, x.numel(), kGrain, [&](std::int64_t first, std::int64_t last) {
    if (x.dtype() == kFloat64) {
      drop<double>(mask, x, y, first, last);
    } else {
      drop<float>(mask, x, y, first, last);
    }
  });
}

}  // namespace halftone
