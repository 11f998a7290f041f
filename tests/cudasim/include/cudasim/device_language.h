// The device side of CUDA as C++: a kernel is an ordinary function, a block's threads are fibers of one host thread,
// and shared memory is that host thread's thread-local storage.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include <vector_types.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

// Only the simulator writes these, when it switches to another thread; a thread sees constants.
#ifndef CUDASIM_BUILTIN
#define CUDASIM_BUILTIN const
#endif
extern CUDASIM_BUILTIN uint3 threadIdx;
extern CUDASIM_BUILTIN uint3 blockIdx;
extern CUDASIM_BUILTIN dim3 blockDim;
extern CUDASIM_BUILTIN dim3 gridDim;
constexpr int warpSize = 32;

namespace cudasim {
// Where a barrier stands: threads that wait at different barriers of one block are divergent.
using Place = std::source_location;

enum class WarpOp : unsigned char { sync, shuffle, shuffle_up, shuffle_down, shuffle_xor, ballot, any, all };
std::uint64_t warp_call(WarpOp op, unsigned mask, std::uint64_t value, int argument, int width, const Place& where);

template <class T> T shuffle(WarpOp op, unsigned mask, T value, int argument, int width, const Place& where) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_call(op, mask, bits, argument, width, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace cudasim

void __syncthreads(const cudasim::Place& where = cudasim::Place::current());
int __syncthreads_or(int predicate, const cudasim::Place& where = cudasim::Place::current());
int __syncthreads_and(int predicate, const cudasim::Place& where = cudasim::Place::current());
int __syncthreads_count(int predicate, const cudasim::Place& where = cudasim::Place::current());

inline void __syncwarp(unsigned mask = 0xffffffffU, const cudasim::Place& where = cudasim::Place::current()) {
  cudasim::warp_call(cudasim::WarpOp::sync, mask, 0, 0, warpSize, where);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize,
              const cudasim::Place& where = cudasim::Place::current()) {
  return cudasim::shuffle(cudasim::WarpOp::shuffle, mask, value, lane, width, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 const cudasim::Place& where = cudasim::Place::current()) {
  return cudasim::shuffle(cudasim::WarpOp::shuffle_up, mask, value, static_cast<int>(delta), width, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   const cudasim::Place& where = cudasim::Place::current()) {
  return cudasim::shuffle(cudasim::WarpOp::shuffle_down, mask, value, static_cast<int>(delta), width, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  const cudasim::Place& where = cudasim::Place::current()) {
  return cudasim::shuffle(cudasim::WarpOp::shuffle_xor, mask, value, lane_mask, width, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const cudasim::Place& where = cudasim::Place::current()) {
  return static_cast<unsigned>(cudasim::warp_call(cudasim::WarpOp::ballot, mask, predicate != 0, 0, warpSize, where));
}
inline int __any_sync(unsigned mask, int predicate, const cudasim::Place& where = cudasim::Place::current()) {
  return static_cast<int>(cudasim::warp_call(cudasim::WarpOp::any, mask, predicate != 0, 0, warpSize, where));
}
inline int __all_sync(unsigned mask, int predicate, const cudasim::Place& where = cudasim::Place::current()) {
  return static_cast<int>(cudasim::warp_call(cudasim::WarpOp::all, mask, predicate != 0, 0, warpSize, where));
}

void __threadfence();
void __threadfence_system();
[[noreturn]] void __trap();

// Atomics return the old value.
int atomicAdd(int* address, int value);
unsigned atomicAdd(unsigned* address, unsigned value);
unsigned long long atomicAdd(unsigned long long* address, unsigned long long value);
float atomicAdd(float* address, float value);
double atomicAdd(double* address, double value);
int atomicExch(int* address, int value);
unsigned atomicExch(unsigned* address, unsigned value);
unsigned long long atomicExch(unsigned long long* address, unsigned long long value);
float atomicExch(float* address, float value);
int atomicCAS(int* address, int expected, int value);
unsigned atomicCAS(unsigned* address, unsigned expected, unsigned value);
unsigned long long atomicCAS(unsigned long long* address, unsigned long long expected, unsigned long long value);
unsigned short atomicCAS(unsigned short* address, unsigned short expected, unsigned short value);

constexpr int __popc(unsigned x) { return std::popcount(x); }

constexpr int min(int a, int b) { return b < a ? b : a; }
constexpr int max(int a, int b) { return a < b ? b : a; }
constexpr unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
constexpr unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
constexpr long min(long a, long b) { return b < a ? b : a; }
constexpr long max(long a, long b) { return a < b ? b : a; }
constexpr unsigned long min(unsigned long a, unsigned long b) { return b < a ? b : a; }
constexpr unsigned long max(unsigned long a, unsigned long b) { return a < b ? b : a; }
constexpr long long min(long long a, long long b) { return b < a ? b : a; }
constexpr long long max(long long a, long long b) { return a < b ? b : a; }
constexpr unsigned long long min(unsigned long long a, unsigned long long b) { return b < a ? b : a; }
constexpr unsigned long long max(unsigned long long a, unsigned long long b) { return a < b ? b : a; }
