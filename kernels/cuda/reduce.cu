// Reductions over any set of axes. What is folded of an element is chosen by a number, not by a type, where that costs
// next to nothing: memory is the limit.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/folds.cuh"

namespace halftone {

using namespace cuda;

namespace {

enum class Map : std::int8_t { itself, not_zero, magnitude };

template <class C> __device__ C mapped(Map map, C x) {
  switch (map) {
    case Map::not_zero: return x != 0 ? C(1) : C(0);
    case Map::magnitude: return x < 0 ? fn::times(C(-1), x) : x;
    default: return x;
  }
}

// ---------------------------------------------------------------- sums

struct Mapped {
  Map map;
  template <class C> __device__ C operator()(C x) const { return mapped(map, x); }
};
/// Squares leave the range of float long before the norm does.
struct WideSquare {
  template <class C> __device__ double operator()(C x) const { return static_cast<double>(x) * static_cast<double>(x); }
};
struct PowerOf {
  double p;
  template <class C> __device__ C operator()(C x) const {
    using std::pow;
    return pow(mapped(Map::magnitude, x), static_cast<C>(p));
  }
};

struct Itself {
  template <class A> __device__ A operator()(A sum) const { return sum; }
};
/// A sum may be divided, by the count for a mean.
struct Divided {
  double by;
  bool divides;
  __device__ double operator()(double sum) const { return divides ? sum / by : sum; }
};
struct SquareRoot {
  __device__ double operator()(double sum) const { return sqrt(sum); }
};
struct Power {
  double p;
  __device__ double operator()(double sum) const { return pow(sum, p); }
};

// ---------------------------------------------------------------- products, extremes, variances

template <class Value> struct ProductFold {
  using C = Value;
  using Acc = Sum<C>;  // a product leaves the range of float on its way to a result within it
  using Near = Acc;
  static constexpr int kInputs = 1;
  Memory y;

  __device__ static Acc none() { return 1; }
  __device__ static Near start(std::int64_t) { return 1; }
  template <int N> __device__ static void take(Near& near, C (&in)[1][N], const std::int64_t (&)[N]) {
#pragma unroll
    for (int k = 0; k < N; ++k) near = merge(near, static_cast<Acc>(in[0][k]));
  }
  __device__ static Acc settle(Near near) { return near; }
  __device__ static Acc merge(Acc a, Acc b) { return fn::times(a, b); }
  __device__ void store(std::int64_t i, Acc product) const { y.store(i, product); }
};

/// NaN wins. A minimum is a maximum of what `flipped` makes of the elements.
template <class Value> struct MaxFold {
  using C = Value;
  using Acc = C;
  using Near = C;
  static constexpr int kInputs = 1;
  Map map;
  bool flips;
  bool or_zero;  // the result if there is no element
  Memory y;

  /// Turns the order round; of integers without overflow.
  __device__ static C flipped(C x) {
    if constexpr (std::is_integral_v<C>) {
      return ~x;
    } else {
      return -x;
    }
  }
  __device__ static Acc none() {
    return std::is_integral_v<C> ? std::numeric_limits<C>::min() : -std::numeric_limits<C>::infinity();
  }
  __device__ static Near start(std::int64_t) { return none(); }
  template <int N> __device__ void take(Near& near, C (&in)[1][N], const std::int64_t (&)[N]) const {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const C x = mapped(map, in[0][k]);
      near = merge(near, flips ? flipped(x) : x);
    }
  }
  __device__ static Acc settle(Near near) { return near; }
  __device__ static Acc merge(Acc a, Acc b) { return b > a || b != b ? b : a; }
  __device__ void store(std::int64_t i, Acc top) const { y.store(i, or_zero ? C(0) : flips ? flipped(top) : top); }
};

template <class C> struct VarianceFold : MomentsFold<C> {
  double divisor;
  Memory y;
  __device__ void store(std::int64_t i, const rows::Moments<double>& m) const { y.store(i, m.squares / divisor); }
};

// ---------------------------------------------------------------- the kinds

struct Job {
  const Tensor& x;
  unsigned mask;
  Tensor& y;
  std::int64_t count = 1;  // elements that make one output

  Job(const Tensor& from, unsigned axes, Tensor& to) : x(from), mask(axes), y(to) {
    for (std::size_t i = 0; i < x.sizes().size(); ++i) {
      if (mask >> i & 1u) count *= x.sizes()[i];
    }
  }
  template <class Op> void run(const Op& op) const { fold(x.device(), op, x.sizes(), mask, std::array{fold_input(x)}); }
  template <class C, class M, class Finish> void sum(M map, Finish finish) const {
    run(SumFold<C, M, Finish>{map, finish, memory_of(y)});
  }
  template <class C> void max(Map map, bool flips, bool or_zero = false) const {
    run(MaxFold<C>{map, flips, or_zero, memory_of(y)});
  }
};

template <class C> void norm(const Job& job, double p) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (p == 0 || p == 1) return job.sum<C>(Mapped{p == 0 ? Map::not_zero : Map::magnitude}, Divided{1, false});
  if (p == 2) return job.sum<C>(WideSquare{}, SquareRoot{});
  if (p == kInfinity || p == -kInfinity) return job.max<C>(Map::magnitude, p < 0, job.count == 0);
  job.sum<C>(PowerOf{p}, Power{1 / p});
}

template <class C> void reduce_floating(const Reduce& r, const Job& job) {
  const auto n = static_cast<double>(job.count);
  switch (r.kind) {
    case ReduceKind::sum: return job.sum<C>(Mapped{Map::itself}, Divided{1, false});
    case ReduceKind::mean: return job.sum<C>(Mapped{Map::itself}, Divided{n, true});
    case ReduceKind::variance:
      return job.run(VarianceFold<C>{{}, std::max(n - r.correction, 0.0), memory_of(job.y)});
    default: return norm<C>(job, r.p);
  }
}

template <class C> void reduce_as(const Reduce& r, const Job& job) {
  switch (r.kind) {
    case ReduceKind::prod: return job.run(ProductFold<C>{memory_of(job.y)});
    case ReduceKind::max: return job.max<C>(Map::itself, false);
    case ReduceKind::min: return job.max<C>(Map::itself, true);
    case ReduceKind::all: return job.max<C>(Map::not_zero, true);
    case ReduceKind::any: return job.max<C>(Map::not_zero, false, job.count == 0);
    default: break;
  }
  if constexpr (std::is_floating_point_v<C>) {
    reduce_floating<C>(r, job);
  } else {
    check<TypeError>(r.kind == ReduceKind::sum, "this reduction needs a floating dtype, not ", job.x.dtype());
    job.sum<C>(Mapped{Map::itself}, Itself{});
  }
}

}  // namespace

void CudaBackend::reduce(const Reduce& r, const Tensor& x, unsigned mask, Tensor& y) {
  const Job job(x, mask, y);
  with_arithmetic<true>(x.dtype(), [&]<class C>(Type<C>) { reduce_as<C>(r, job); });
}

}  // namespace halftone
