// Lists of tensors in one launch. The addresses, sizes and dtypes of all tensors travel as an argument of the kernel,
// which is safe inside a captured graph, and a block finds its tensor by a binary search. An argument of 4 KB holds a
// small net; one of 32 KB, which costs the host a few microseconds more, some 1,500 tensors (600 with Adam's state).
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/elements.cuh"

namespace halftone {
class CudaBackend;
}

namespace halftone::cuda {

inline constexpr int kSmallArgument = 4096, kLargeArgument = 32764;
inline constexpr int kOtherArguments = 256;  // what is left of both for a kernel's other arguments

/// Tensors that an argument of so many bytes holds.
constexpr int list_capacity(int operands, int bytes) {
  return (bytes - kOtherArguments - 64) / (operands * static_cast<int>(sizeof(void*) + sizeof(Dtype)) + 13);
}

/// Consecutive elements of one tensor: a block's work.
struct ListSlice {
  int tensor;
  std::int64_t first;
  int count;
};

/// `Operands` lists whose tensors correspond, element by element as they lie in memory.
template <int Operands, int Capacity> struct ListArgument {
  void* data[Operands][Capacity];
  std::int64_t count[Capacity];
  std::int32_t first_piece[Capacity + 1];  // pieces of the tensors before
  Dtype dtype[Operands][Capacity];
  bool aligned[Capacity];  // every operand begins at a multiple of 16 bytes
  std::int32_t tensors;
  std::int32_t piece;  // elements of one; a multiple of 1024

  __device__ Memory memory(int operand, int tensor) const { return {data[operand][tensor], dtype[operand][tensor]}; }

  __device__ ListSlice slice(std::int32_t number) const {
    int low = 0, high = tensors;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first_piece[middle] <= number ? low : high) = middle;
    }
    const std::int64_t first = static_cast<std::int64_t>(number - first_piece[low]) * piece;
    const std::int64_t rest = count[low] - first;
    return {low, first, static_cast<int>(rest < piece ? rest : piece)};
  }
};

template <int Operands> struct ListEntry {
  Memory memory[Operands];
  std::int64_t count;
};

/// Small enough that a short list still gives every multiprocessor several blocks.
std::int32_t elements_of_piece(const Gpu& g, std::int64_t elements);

template <int Capacity, int Operands>
ListArgument<Operands, Capacity> pack_list(std::span<const ListEntry<Operands>> entries, std::int32_t piece) {
  ListArgument<Operands, Capacity> list;
  list.tensors = static_cast<std::int32_t>(entries.size());
  list.piece = piece;
  std::int64_t pieces = 0;
  for (std::size_t t = 0; t < entries.size(); ++t) {
    std::uintptr_t bits = 0;
    for (int k = 0; k < Operands; ++k) {
      list.data[k][t] = entries[t].memory[k].data;
      list.dtype[k][t] = entries[t].memory[k].dtype;
      bits |= reinterpret_cast<std::uintptr_t>(entries[t].memory[k].data);
    }
    list.count[t] = entries[t].count;
    list.aligned[t] = bits % 16 == 0;
    list.first_piece[t] = static_cast<std::int32_t>(pieces);
    pieces += ceil_div(entries[t].count, piece);
    check(pieces <= kMaxBlocks, "a list of tensors has too many elements for one launch");
  }
  list.first_piece[entries.size()] = static_cast<std::int32_t>(pieces);
  return list;
}

/// Calls run(argument, pieces, whether it is the last) for each launch that the entries take: one, unless there are
/// more than the large argument holds.
template <int Operands, class Run>
void for_each_launch(const Gpu& g, const std::vector<ListEntry<Operands>>& entries, Run run) {
  constexpr int kSmall = list_capacity(Operands, kSmallArgument), kLarge = list_capacity(Operands, kLargeArgument);
  static_assert(sizeof(ListArgument<Operands, kSmall>) + kOtherArguments <= kSmallArgument);
  static_assert(sizeof(ListArgument<Operands, kLarge>) + kOtherArguments <= kLargeArgument);
  std::int64_t elements = 0;
  for (const ListEntry<Operands>& e : entries) elements += e.count;
  const std::int32_t piece = elements_of_piece(g, elements);
  std::span<const ListEntry<Operands>> rest(entries);
  while (!rest.empty()) {
    const auto taken = std::min(rest.size(), static_cast<std::size_t>(kLarge));
    const bool last = taken == rest.size();
    if (taken <= kSmall) {
      const auto list = pack_list<kSmall, Operands>(rest.first(taken), piece);
      run(list, list.first_piece[taken], last);
    } else {
      const auto list = pack_list<kLarge, Operands>(rest.first(taken), piece);
      run(list, list.first_piece[taken], last);
    }
    rest = rest.subspan(taken);
  }
}

/// Dense memory for tensors that lie otherwise: copies, made when asked for and written back at the end. That costs a
/// launch or two for each such tensor; the others are used where they are.
class Stage {
 public:
  explicit Stage(CudaBackend& backend) : backend_(backend) {}

  /// The elements of t in the order of `lead`, which is dense, and in the dtype, if one is given.
  Memory beside(const Tensor& lead, const Tensor& t, bool written, Dtype dtype = Dtype::Undefined);
  /// The elements of t in any order, dense.
  Tensor dense(const Tensor& t, bool written);
  /// The places in memory behind t, each once.
  Tensor distinct_places(const Tensor& t);
  void write_back();

 private:
  struct Copy {
    Tensor original, dense;
    Tensor covered;  // of a line of memory that a tensor does not fill: which places are its own
  };
  Tensor covered_line(const Tensor& t);

  CudaBackend& backend_;
  std::vector<Copy> written_;
  std::vector<Tensor> kept_;  // until the kernel that reads them is queued
};

template <class C> __device__ bool is_finite(C x) { return std::abs(x) <= std::numeric_limits<C>::max(); }

/// Sets the flag if any thread of the warp found an element that is not finite.
__device__ inline void report_overflow(bool overflowed, float* found_inf) {
  if (__ballot_sync(~0u, overflowed) != 0 && threadIdx.x % kWarp == 0) atomicExch(found_inf, 1.0f);
}

/// visit_floating() for kernels.
template <class F> __device__ void visit_floating_dtype(Dtype d, F f) {
  switch (d) {
    case kFloat32: return f(Type<float>{});
    case kFloat16: return f(Type<Half>{});
    case kBFloat16: return f(Type<BFloat16>{});
    default: return f(Type<double>{});
  }
}

/// Calls f(value) for the elements of a slice, which the threads of the block share; with `Writes` the value is written
/// back. Four loads of 16 bytes are under way at once.
template <bool Writes, class T, class F> __device__ void for_each_value(T* data, int count, bool aligned, F f) {
  constexpr int kPack = 16 / sizeof(T), kAhead = 4;
  const int stride = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const int packs = aligned ? count / kPack : 0;
  auto* const memory = reinterpret_cast<Pack<T, kPack>*>(data);
  for (int first = thread; first < packs; first += kAhead * stride) {
    Pack<T, kPack> in[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (first + k * stride < packs) in[k] = memory[first + k * stride];
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (first + k * stride >= packs) continue;
#pragma unroll
      for (int i = 0; i < kPack; ++i) f(in[k].value[i]);
      if constexpr (Writes) memory[first + k * stride] = in[k];
    }
  }
  for (int i = packs * kPack + thread; i < count; i += stride) {
    T value = data[i];
    f(value);
    if constexpr (Writes) data[i] = value;
  }
}

/// Whether this is the last block of the grid to come here, told to all its threads. What other blocks wrote before
/// they came can be read then. `tickets` are the device's (Gpu::tickets): its kernels share a stream, so one counter
/// serves them all.
__device__ inline bool is_last_block(unsigned* tickets) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(tickets, 1u) == gridDim.x - 1;
    if (last) *tickets = 0;
    __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace halftone::cuda
