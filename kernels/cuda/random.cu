// Random fills. Element i, in the order of memory, takes its share of the words of counter i / 4 (i / 2 where an
// element needs two). The numbers are not those of the CPU's sequential generator.
#include <cmath>
#include <numbers>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/draws.cuh"
#include "kernels/cuda/elements.cuh"
#include "kernels/indexing.h"

namespace halftone {

using namespace cuda;

namespace {

/// Numbers of type C that the words of a counter make.
template <class C> inline constexpr int kNumbers = std::is_same_v<C, double> ? 2 : 4;

__device__ std::uint64_t two_words(const PhiloxWords& w, int k) {
  return std::uint64_t{w.word[2 * k]} << 32 | w.word[2 * k + 1];
}

/// The k-th number in [0, 1): 24 bits for float, 53 for double.
template <class C> __device__ C unit(const PhiloxWords& w, int k) {
  if constexpr (std::is_same_v<C, double>) {
    return static_cast<double>(two_words(w, k) >> 11) * 0x1p-53;
  } else {
    return unit_float(w.word[k]);
  }
}
/// The k-th number in (0, 1], finer towards 0: logarithms are taken of it.
template <class C> __device__ C positive_unit(const PhiloxWords& w, int k) {
  if constexpr (std::is_same_v<C, double>) {
    return static_cast<double>((two_words(w, k) >> 11) + 1) * 0x1p-53;
  } else {
    return static_cast<float>(w.word[k]) * 0x1p-32f + 0x1p-33f;
  }
}

// Distributions: fill() makes the elements of a counter's words.

template <class C> struct UniformDraw {
  static constexpr bool kOnIntegers = false;
  static constexpr int kCount = kNumbers<C>;
  C low, width;
  C first, end;  // numbers of the dtype: rounding to it must leave neither the one side nor the other

  template <class T> __device__ void fill(const PhiloxWords& w, T (&out)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const T rounded = narrow<T>(std::fma(unit<C>(w, k), width, low));
      const C value = widen<C>(rounded);
      out[k] = value >= first && value < end ? rounded : narrow<T>(first);
    }
  }
};

/// The method of Box and Muller: two uniform numbers make two normal ones.
template <class C> struct NormalDraw {
  static constexpr bool kOnIntegers = false;
  static constexpr int kCount = kNumbers<C>;
  C mean, deviation;

  template <class T> __device__ void fill(const PhiloxWords& w, T (&out)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; k += 2) {
      const C radius = std::sqrt(-2 * std::log(positive_unit<C>(w, k)));
      const C angle = static_cast<C>(2 * std::numbers::pi) * unit<C>(w, k + 1);
      out[k] = narrow<T>(std::fma(radius * std::cos(angle), deviation, mean));
      out[k + 1] = narrow<T>(std::fma(radius * std::sin(angle), deviation, mean));
    }
  }
};

template <class C> struct ExponentialDraw {
  static constexpr bool kOnIntegers = false;
  static constexpr int kCount = kNumbers<C>;
  C rate;

  /// Neither 0 nor infinite, whatever the rate and the dtype: both are divided by.
  template <class T> __device__ void fill(const PhiloxWords& w, T (&out)[kCount]) const {
    using Limits = std::numeric_limits<T>;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const T value = narrow<T>(-std::log(positive_unit<C>(w, k)) / rate);
      const C wide = widen<C>(value);
      out[k] = wide > widen<C>(Limits::max()) ? Limits::max() : (wide > 0 ? value : Limits::min());
    }
  }
};

struct BernoulliDraw {
  static constexpr bool kOnIntegers = true;
  static constexpr int kCount = 4;
  std::uint64_t limit;  // the probability times 2^32

  template <class T> __device__ void fill(const PhiloxWords& w, T (&out)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) out[k] = narrow<T>(w.word[k] < limit ? 1.0f : 0.0f);
  }
};

/// Word is 32 bits wide for ranges below 2^28, of which a remainder is even enough, else 64.
template <class Word> struct IntegerDraw {
  static constexpr bool kOnIntegers = true;
  static constexpr int kCount = 16 / sizeof(Word);
  std::uint64_t low;
  Word range;

  template <class T> __device__ void fill(const PhiloxWords& w, T (&out)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      Word word;
      if constexpr (sizeof(Word) == 8) {
        word = two_words(w, k);
      } else {
        word = w.word[k];
      }
      out[k] = narrow<T>(static_cast<std::int64_t>(word % range + low));
    }
  }
};

template <class Draw>
__global__ void __launch_bounds__(kThreads)
    fill_elements(Draw draw, DrawStream stream, Memory y, Places<1> places, bool packed, std::int64_t n) {
  constexpr int kCount = Draw::kCount;
  const std::int64_t counter = thread_in_grid(), first = counter * kCount;
  if (first >= n) return;
  const PhiloxWords words = stream.words(static_cast<std::uint64_t>(counter));
  visit_dtype(y.dtype, [&]<class T>(Type<T>) {
    if constexpr (Draw::kOnIntegers || is_half_type<T> || std::is_floating_point_v<T>) {
      Pack<T, kCount> out;
      draw.fill(words, out.value);
      if (packed && first + kCount <= n) {
        static_cast<Pack<T, kCount>*>(y.data)[counter] = out;
        return;
      }
      for (int k = 0; k < kCount && first + k < n; ++k) {
        std::int64_t at[1];
        places.find(first + k, at);
        static_cast<T*>(y.data)[at[0]] = out.value[k];
      }
    }
  });
}

template <class Draw> void fill_with(const Draw& draw, Tensor& y, Generator& generator) {
  Gpu& g = gpu(y);
  const Loop in_memory = coalesce(y.sizes(), {y.strides()});
  const Places<1> order = places(in_memory.sizes, in_memory.strides[0]);
  const bool packed = order.in_line(0) && reinterpret_cast<std::uintptr_t>(y.data_ptr()) % 16 == 0;
  const std::int64_t counters = ceil_div(y.numel(), Draw::kCount);
  launch(g, &fill_elements<Draw>, grid(ceil_div(counters, kThreads)), kThreads, draw, new_stream(generator, g),
         memory_of(y), order, packed, y.numel());
}

/// The smallest number of a dtype that is not below x.
template <class T> double at_least(double x) {
  T t(static_cast<Compute<T>>(x));
  if (static_cast<double>(static_cast<Compute<T>>(t)) >= x) return static_cast<double>(static_cast<Compute<T>>(t));
  if constexpr (is_half_type<T>) {
    const bool negative = (t.bits & 0x8000u) != 0;
    const bool zero = (t.bits & 0x7FFFu) == 0;
    t = T::from_bits(zero ? std::uint16_t{1} : static_cast<std::uint16_t>(negative ? t.bits - 1 : t.bits + 1));
    return static_cast<double>(static_cast<float>(t));
  } else {
    return static_cast<double>(std::nextafter(t, std::numeric_limits<T>::infinity()));
  }
}

template <class C> void fill_floating(const RandomFill& f, Tensor& y, Generator& generator) {
  const auto a = static_cast<C>(f.a), b = static_cast<C>(f.b);
  if (f.kind == Distribution::normal) return fill_with(NormalDraw<C>{a, b}, y, generator);
  if (f.kind == Distribution::exponential) return fill_with(ExponentialDraw<C>{a}, y, generator);
  visit_floating(y.dtype(), [&]<class T>(Type<T>) {
    const auto first = static_cast<C>(at_least<T>(f.a)), end = static_cast<C>(at_least<T>(f.b));
    fill_with(UniformDraw<C>{a, b - a, first, end}, y, generator);
  });
}

void fill_integers(std::int64_t from, std::int64_t to, Tensor& y, Generator& generator) {
  const auto [low, high] = whole_numbers(y.dtype(), from, to);
  const auto first = static_cast<std::uint64_t>(low), range = static_cast<std::uint64_t>(high) - first;
  if (range >= 1u << 28) return fill_with(IntegerDraw<std::uint64_t>{first, range}, y, generator);
  fill_with(IntegerDraw<std::uint32_t>{first, static_cast<std::uint32_t>(range)}, y, generator);
}

}  // namespace

void CudaBackend::random(const RandomFill& f, Tensor& y, Generator& generator) {
  if (y.numel() == 0) return;
  if (f.kind == Distribution::integer) return fill_integers(f.low, f.high, y, generator);
  if (f.kind == Distribution::bernoulli) {
    return fill_with(BernoulliDraw{static_cast<std::uint64_t>(std::ceil(f.a * 0x1p32))}, y, generator);
  }
  check<TypeError>(is_floating_point(y.dtype()), "a random fill: a floating dtype is needed, not ", y.dtype());
  if (y.dtype() == kFloat64) return fill_floating<double>(f, y, generator);
  fill_floating<float>(f, y, generator);
}

}  // namespace halftone
