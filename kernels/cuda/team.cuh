// The teams of kernels/rows.h on a GPU: one thread, some lanes of a warp, a warp or a block computes a row. What a
// formula reads and writes by position are windows: a part of a row in the registers of the team's threads, each with
// packs of neighbouring elements. A row that fits is read from memory once; of a longer one every pass of the formula
// reads pack after pack.
#pragma once

#include "kernels/cuda/access.cuh"
#include "kernels/rows.h"

namespace halftone::cuda {

/// Elements of a pack: two 16-byte loads of the arithmetic type, one of a 16-bit type.
template <class C> inline constexpr int kPackSize = 32 / sizeof(C);

__device__ inline std::int64_t bytes_of_floating(Dtype d) { return d == kFloat32 ? 4 : d == kFloat64 ? 8 : 2; }

template <class T, int Size, class C> __device__ void widen_pack(const Pack<T, Size>& raw, C* to) {
#pragma unroll
  for (int k = 0; k < Size; ++k) to[k] = widen<C>(raw.value[k]);
}

/// A row in memory. A thread's pack is what lies side by side, or every `spread`-th element: where no 16 bytes can be
/// loaded at once, neighbouring threads take neighbouring elements.
struct RowMemory {
  char* data = nullptr;  // null: a row of `otherwise`
  Dtype dtype = kFloat32;
  bool in_packs = false;  // begins at a multiple of 16 bytes, its elements side by side
  std::int64_t stride = 1;
  float otherwise = 0;

  /// The row that begins so many elements further.
  __device__ RowMemory from(std::int64_t elements) const {
    RowMemory row = *this;
    if (data != nullptr) row.data += elements * bytes_of_floating(dtype);
    return row;
  }
  /// A pack as it is stored; zeros beyond n.
  template <class T, int Size>
  __device__ Pack<T, Size> pack(std::int64_t at, std::int64_t spread, std::int64_t n) const {
    const T* x = reinterpret_cast<const T*>(data);
    if (in_packs && spread == 1 && at + Size <= n) return *reinterpret_cast<const Pack<T, Size>*>(x + at);
    Pack<T, Size> raw;
#pragma unroll
    for (int k = 0; k < Size; ++k) {
      const std::int64_t i = at + k * spread;
      raw.value[k] = i < n ? x[i * stride] : T();
    }
    return raw;
  }
  /// Packs that begin at first, first + step, ...
  template <class C, int Packs, int Size>
  __device__ void load(std::int64_t first, std::int64_t step, std::int64_t spread, std::int64_t n,
                       C (&to)[Packs * Size]) const {
    if (data == nullptr) {
#pragma unroll
      for (int k = 0; k < Packs * Size; ++k) to[k] = static_cast<C>(otherwise);
      return;
    }
    visit_as<C>(dtype, [&]<class T>(Type<T>) {
      Pack<T, Size> raw[Packs];
#pragma unroll
      for (int p = 0; p < Packs; ++p) raw[p] = pack<T, Size>(first + p * step, spread, n);
#pragma unroll
      for (int p = 0; p < Packs; ++p) widen_pack(raw[p], to + p * Size);  // when all loads are on their way
    });
  }
  template <class C, int Size>
  __device__ void store(std::int64_t at, std::int64_t spread, std::int64_t n, const C (&from)[Size]) const {
    visit_as<C>(dtype, [&]<class T>(Type<T>) {
      T* y = reinterpret_cast<T*>(data);
      if (in_packs && spread == 1 && at + Size <= n) {
        Pack<T, Size> raw;
#pragma unroll
        for (int k = 0; k < Size; ++k) raw.value[k] = narrow<T>(from[k]);
        *reinterpret_cast<Pack<T, Size>*>(y + at) = raw;
      } else {
#pragma unroll
        for (int k = 0; k < Size; ++k) {
          const std::int64_t i = at + k * spread;
          if (i < n) y[i * stride] = narrow<T>(from[k]);
        }
      }
    });
  }
};

/// How many threads a team has, and how much of a row it holds: kPacks packs a thread, all of the row if kWhole.
template <class Value, int Lanes, int Packs, bool Whole> struct TeamShape {
  using C = Value;
  static constexpr int kLanes = Lanes, kPacks = Packs, kSize = kPackSize<C>;
  static constexpr bool kWhole = Whole;
  static constexpr bool kIsHeavy = Packs > 2;                                       // in registers
  static constexpr int kBlock = Lanes > kWarp ? Lanes : kIsHeavy ? 128 : kThreads;  // threads of a block
  static constexpr int kResident = kIsHeavy && kBlock <= 128 ? 3 : 1;  // blocks that a multiprocessor's registers serve
  static constexpr std::int64_t kStep = std::int64_t{Lanes} * kSize;   // elements that a team loads at once
  static constexpr std::int64_t kReach = kStep * Packs;                // elements that it holds
};

/// Which element of its packs a thread is at. After inlining and unrolling it is a constant, and the element a
/// register.
struct Cursor {
  int pack = 0, element = 0;
};

/// The part of a row that a thread holds: element k lies in pack k / kSize.
template <class Shape, int Packs = Shape::kPacks> struct Window {
  using C = typename Shape::C;
  static constexpr int kCount = Packs * Shape::kSize;
  C value[kCount];

  __device__ static int place(Cursor at) { return Packs == 1 ? at.element : at.pack * Shape::kSize + at.element; }
};

/// A window as formulas read and write it: at the position at which their team calls them.
template <class W> struct In {
  const W* window;
  const Cursor* at;
  __device__ typename W::C operator()(std::int64_t) const { return window->value[W::place(*at)]; }
};
template <class W> struct Out {
  W* window;
  const Cursor* at;
  __device__ void operator()(std::int64_t, typename W::C value) const { window->value[W::place(*at)] = value; }
};

/// A row of which one element may be asked for by any thread: it is read apart.
template <class X, class C> struct WithOne {
  X x;
  std::int64_t index;
  C at_index;
  __device__ C operator()(std::int64_t i) const { return i == index ? at_index : x(i); }
};

/// Memory for what the warps of a block tell each other; two places, used in turn, so that one barrier is enough.
template <class C> struct Board { C of_warp[2][kWarp]; };

/// Reads `Held` inputs, of which a whole row is kept, `Late` ones, of which every pass reads what it needs, and writes
/// `Outputs` rows in each().
template <class TheShape, int Held, int Late, int Outputs> class RowTeam {
 public:
  using Shape = TheShape;
  using C = typename Shape::C;
  using Full = Window<Shape>;
  using Single = Window<Shape, 1>;

  struct Windows {
    Full held[Held > 0 ? Held : 1];
    Single late[Late > 0 ? Late : 1];
    Single out[Outputs > 0 ? Outputs : 1];
    Full kept;
    Cursor at;
  };

  __device__ RowTeam(const RowMemory (&memory)[Held + Late + Outputs], Windows* windows, Board<C>* board,
                     std::int64_t n)
      : memory_(memory), w_(windows), board_(board), lane_(static_cast<int>(threadIdx.x) % Shape::kLanes) {
    if constexpr (Shape::kWhole) load_held(0, n);
  }

  __device__ In<Full> held(int i) const { return {&w_->held[i], &w_->at}; }
  __device__ In<Single> late(int i) const { return {&w_->late[i], &w_->at}; }
  __device__ Out<Single> out(int i) const { return {&w_->out[i], &w_->at}; }
  /// A sum that a window has at the position at which the team calls.
  __device__ C& of(Full& window) const { return window.value[Full::place(w_->at)]; }
  __device__ bool leads() const { return lane_ == 0; }
  /// Goes on to another row, to which `memory` was changed; the first `stay` operands have not changed.
  template <int stay> __device__ void next(std::int64_t n) const { load_held<stay>(0, n); }
  /// Writes a window to a row of memory.
  __device__ void write(const RowMemory& row, const Full& window, std::int64_t n) const {
#pragma unroll
    for (int p = 0; p < Shape::kPacks; ++p) {
      C part[Shape::kSize];
#pragma unroll
      for (int k = 0; k < Shape::kSize; ++k) part[k] = window.value[p * Shape::kSize + k];
      row.store(first_of(p * Shape::kStep), spread(), n, part);
    }
  }
  /// Any element of an operand, from memory.
  template <class T> __device__ T read(int operand, std::int64_t i) const {
    T one[1];
    memory_[operand].template load<T, 1, 1>(i, 0, 1, i + 1, one);
    return one[0];
  }

  template <class F> __device__ auto sum(std::int64_t n, F f) const {
    C total = 0;
    passes(
        n, [&](std::int64_t i) { total += f(i); }, [](std::int64_t) {});
    return together(total, [](C a, C b) { return a + b; });
  }
  /// NaN may get lost.
  template <class F> __device__ auto max(std::int64_t n, F f) const {
    C top = -std::numeric_limits<C>::infinity();
    passes(
        n, [&](std::int64_t i) { top = larger(top, f(i)); }, [](std::int64_t) {});
    return together(top, larger);
  }
  /// Reads a long row once. The total is NaN if there is nothing but -infinity.
  template <class F> __device__ auto exp_sum(std::int64_t n, F f) const requires(!Shape::kWhole) {
    rows::ExpSum<C> sum;
    for (std::int64_t at = 0; at < n; at += Shape::kReach) {
      load_held(at, n);
      C top = sum.top;
      chunk(
          first_of(at), n, [&](std::int64_t i) { top = larger(top, f(i)); }, [](std::int64_t) {});
      sum.raise(top);
      chunk(
          first_of(at), n, [&](std::int64_t i) { sum.add(f(i)); }, [](std::int64_t) {});
    }
    sum.raise(together(sum.top, larger));
    sum.total = together(sum.total, [](C a, C b) { return a + b; }) + (sum.top - sum.top);
    return sum;
  }
  template <class F> __device__ void each(std::int64_t n, F f) const {
    passes(n, f, [&](std::int64_t first) {
#pragma unroll
      for (int i = 0; i < Outputs; ++i) memory_[Held + Late + i].store(first, spread(), n, w_->out[i].value);
    });
  }
  /// Registers for the values if the row fits in, else the formula.
  template <class Y, class F> __device__ auto keep(std::int64_t n, Y, F f) const {
    if constexpr (Shape::kWhole) {
      const Out<Full> kept{&w_->kept, &w_->at};
      passes(
          n, [&](std::int64_t i) { kept(i, f(i)); }, [](std::int64_t) {});
      return In<Full>{&w_->kept, &w_->at};
    } else {
      return f;
    }
  }

 private:
  __device__ static C larger(C a, C b) { return b > a ? b : a; }
  /// Operands are alike in this.
  __device__ std::int64_t spread() const { return memory_[0].in_packs ? 1 : Shape::kLanes; }
  __device__ std::int64_t first_of(std::int64_t chunk) const {
    return chunk + std::int64_t{lane_} * (memory_[0].in_packs ? Shape::kSize : 1);
  }

  template <int From = 0> __device__ void load_held(std::int64_t chunk, std::int64_t n) const {
#pragma unroll
    for (int i = From; i < Held; ++i) {
      memory_[i].template load<C, Shape::kPacks, Shape::kSize>(first_of(chunk), Shape::kStep, spread(), n,
                                                               w_->held[i].value);
    }
  }

  /// f(i) for this thread's positions, pack by pack; then, after each pack, done(its first position).
  template <class F, class Done> __device__ void passes(std::int64_t n, F f, Done done) const {
    if constexpr (Shape::kWhole) {
      chunk(first_of(0), n, f, done);
    } else {
      for (std::int64_t at = 0; at < n; at += Shape::kReach) {
        load_held(at, n);
        chunk(first_of(at), n, f, done);
      }
    }
  }
  template <class F, class Done>
  __device__ void chunk(std::int64_t first, std::int64_t n, const F& f, const Done& done) const {
#pragma unroll
    for (int p = 0; p < Shape::kPacks; ++p) {
      const std::int64_t at = first + p * Shape::kStep;
#pragma unroll
      for (int i = 0; i < Late; ++i) {
        memory_[Held + i].template load<C, 1, Shape::kSize>(at, Shape::kStep, spread(), n, w_->late[i].value);
      }
#pragma unroll
      for (int k = 0; k < Shape::kSize; ++k) {
        w_->at = {p, k};
        if (at + k * spread() < n) f(at + k * spread());
      }
      done(at);
    }
  }

  /// One value of all threads of the team; every thread gets it.
  template <class F> __device__ C together(C value, F f) const {
    constexpr int kInWarp = Shape::kLanes < kWarp ? Shape::kLanes : kWarp;
#pragma unroll
    for (int distance = 1; distance < kInWarp; distance *= 2) value = f(value, shuffle_xor(value, distance));
    if constexpr (Shape::kLanes > kWarp) {
      constexpr int kWarps = Shape::kLanes / kWarp;
      static_assert(Shape::kLanes == Shape::kBlock && kWarps <= kWarp);
      const int in_warp = lane_ % kWarp;
      turn_ = 1 - turn_;
      if (in_warp == 0) board_->of_warp[turn_][lane_ / kWarp] = value;
      __syncthreads();
      value = board_->of_warp[turn_][in_warp % kWarps];
#pragma unroll
      for (int distance = 1; distance < kWarps; distance *= 2) value = f(value, shuffle_xor(value, distance));
    }
    return value;
  }

  const RowMemory (&memory_)[Held + Late + Outputs];
  Windows* w_;
  Board<C>* board_;
  int lane_;
  mutable int turn_ = 0;
};

}  // namespace halftone::cuda
