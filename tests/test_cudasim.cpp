// The simulated CUDA runtime itself: that right programs run right, and that wrong ones are caught and told so.
#if __has_include("cudasim.h")
#include <cudasim.h>

#include <cuda_runtime.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <csignal>
#include <cstdio>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <cudasim/library.h>
#include "tests/catch.h"

namespace {
#if defined(__SANITIZE_THREAD__)
constexpr bool kChecked = true;  // this file has the instrumentation
#else
constexpr bool kChecked = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAsan = true;  // it ends the program where the simulator would report
#else
constexpr bool kAsan = false;
#endif

using Catch::Matchers::ContainsSubstring;

// A test finds the simulator as new, and leaves it so.
struct Fresh {
  Fresh() { reset(); }
  ~Fresh() {
    reset();
    cudasim::set_quiet(false);
  }
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;

  static void reset() {
    cudasim::clear_failures();
    cudasim::reset_errors();
    cudasim::clear_reports();
    cudasim::reset_counters();
    cudasim::set_late(true);
    cudasim::set_checks(true);
    cudasim::set_seed(1);
    cudasim::set_quiet(true);
    cudaSetDevice(0);
  }
};

// CUDASIM_DEVICES can say fewer than four.
void need_devices(int count) {
  int there = 0;
  cudaGetDeviceCount(&there);
  if (there < count) halftone::test::skip("it takes " + std::to_string(count) + " simulated GPUs");
}

struct Stream {
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE(cudaStreamCreateWithFlags(&value, flags) == cudaSuccess);
  }
  ~Stream() { cudaStreamDestroy(value); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return value; }
  cudaStream_t value = nullptr;
};

struct Event {
  Event() { REQUIRE(cudaEventCreateWithFlags(&value, cudaEventDisableTiming) == cudaSuccess); }
  ~Event() { cudaEventDestroy(value); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return value; }
  cudaEvent_t value = nullptr;
};

template <class T> struct Buffer {
  explicit Buffer(std::size_t n) : size(n) { REQUIRE(cudaMalloc(&data, n * sizeof(T)) == cudaSuccess); }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    REQUIRE(cudaMemcpy(data, values.data(), size * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~Buffer() { cudaFree(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::vector<T> read() const {
    std::vector<T> values(size);
    REQUIRE(cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }
  T* data = nullptr;
  std::size_t size;
};

template <class T> struct Pinned {
  explicit Pinned(std::size_t n) { REQUIRE(cudaHostAlloc(&data, n * sizeof(T), cudaHostAllocPortable) == cudaSuccess); }
  ~Pinned() { cudaFreeHost(data); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  T* data = nullptr;
};

template <class... Expected, class... Actual>
cudaError_t launch(cudaStream_t stream, dim3 blocks, dim3 threads, void (*kernel)(Expected...), Actual... actual) {
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, actual...);
}

// What a forked child wrote to stderr before it was killed or failed; empty if it ended well.
template <class Body> std::string last_words(Body body) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);  // Catch2's handler would report a failed test
    dup2(ends[1], STDERR_FILENO);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string words;
  std::array<char, 512> chunk{};
  for (ssize_t n = 0; (n = read(ends[0], chunk.data(), chunk.size())) > 0;)
    words.append(chunk.data(), static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : words + " (died)";
}

// The one report there is.
std::string only_report() {
  const auto reports = cudasim::reports();
  return reports.size() == 1 ? reports[0] : std::to_string(reports.size()) + " reports";
}

__global__ void fill_kernel(int* out, int value) { out[blockIdx.x * blockDim.x + threadIdx.x] = value; }
__global__ void add_kernel(int* out, int value) { out[blockIdx.x * blockDim.x + threadIdx.x] += value; }
__global__ void copy_kernel(int* out, const int* in) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[i];
}
__global__ void read_at_kernel(int* out, const int* in, long at) { *out = in[at]; }

__global__ void reverse_kernel(int* data) {
  __shared__ int tile[256];
  int* mine = data + blockIdx.x * blockDim.x;
  tile[threadIdx.x] = mine[threadIdx.x];
  __syncthreads();
  mine[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

// Rounds of halves, with threads that leave before the later barriers.
__global__ void leave_early_kernel(int* out) {
  __shared__ int sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  for (unsigned half = blockDim.x; half > 0; half /= 2) {
    if (threadIdx.x >= half) return;
    atomicAdd(&sum, 1);
    __syncthreads();
  }
  if (threadIdx.x == 0) *out = sum;
}

__global__ void votes_kernel(int* out) {
  const int odd = static_cast<int>(threadIdx.x & 1);
  const int count = __syncthreads_count(odd);
  const int any = __syncthreads_or(static_cast<int>(threadIdx.x == 7));
  const int all = __syncthreads_and(odd);
  if (threadIdx.x == 0) {
    out[0] = count;
    out[1] = any;
    out[2] = all;
  }
}

__global__ void shuffles_kernel(int* out) {
  constexpr unsigned kAll = 0xffffffffU;
  const int me = static_cast<int>(threadIdx.x);
  int* mine = out + 8 * threadIdx.x;
  mine[0] = __shfl_sync(kAll, me, 3);
  mine[1] = __shfl_up_sync(kAll, me, 1);
  mine[2] = __shfl_down_sync(kAll, me, 2);
  mine[3] = __shfl_xor_sync(kAll, me, 16);
  mine[4] = __shfl_down_sync(kAll, me, 1, 8);
  mine[5] = static_cast<int>(__shfl_sync(kAll, double{0.5} * me, 1, 16) * 2);
  mine[6] = static_cast<int>(__popc(__ballot_sync(kAll, me % 3 == 0)));
  mine[7] = __any_sync(kAll, me == 40) * 2 + __all_sync(kAll, me < 32);
}

// The lanes of a warp that are left after some have gone, and a mask of half of them.
__global__ void partial_warp_kernel(int* out) {
  if (threadIdx.x >= 20) return;
  const unsigned votes = __ballot_sync(0xffffffffU, 1);
  if (threadIdx.x < 8) {
    const int sum = __shfl_xor_sync(0xffU, static_cast<int>(threadIdx.x), 7);
    out[threadIdx.x] = sum + __popc(votes);
  }
}

__global__ void atomics_kernel(int* ints, unsigned long long* wide, float* floats, double* doubles) {
  const int me = static_cast<int>(threadIdx.x);
  atomicAdd(&ints[0], me);
  atomicExch(&ints[1], 5);
  atomicCAS(&ints[2], 0, 9);
  atomicAdd(wide, 1ULL << 33);
  atomicAdd(floats, 0.5F);
  atomicAdd(doubles, 0.25);
}

__global__ void race_kernel(int* out, bool fixed) {
  __shared__ int tile[64];
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (fixed) __syncthreads();
  out[threadIdx.x] = tile[(threadIdx.x + 33) % 64];
}

__global__ void warp_order_kernel(int* out, bool fixed) {
  __shared__ int tile[64];
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (fixed) __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}

__global__ void uninitialised_shared_kernel(int* out) {
  __shared__ int tile[64];
  if (threadIdx.x < 32) tile[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void same_element_kernel(int* out) { *out = static_cast<int>(blockIdx.x); }
__global__ void same_value_kernel(volatile unsigned char* out) { *out = 7; }
__global__ void neighbour_kernel(int* data) { data[blockIdx.x] = data[(blockIdx.x + 1) % gridDim.x]; }
__global__ void halves_kernel(unsigned short* data) { data[threadIdx.x] = static_cast<unsigned short>(threadIdx.x); }

// Each block leaves a partial sum; the last one, known by an atomic counter after a fence, adds them up.
__global__ void last_block_kernel(int* partial, unsigned* counter, int* out, bool fenced) {
  partial[blockIdx.x] = static_cast<int>(blockIdx.x);
  if (fenced) __threadfence();
  if (atomicAdd(counter, 1U) != gridDim.x - 1) return;
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
  *out = sum;
}

// The same with blocks of many threads, each of which leaves a number: what lies between their writes and the fence,
// between the ticket and their reads, and which thread fences, decides who has seen what.
enum class Slip { none, no_barrier_before, fence_of_others, write_after_fence };
__global__ void last_block_of_many_kernel(int* partial, unsigned* counter, int* out, Slip slip) {
  __shared__ bool last;
  int* const mine = partial + blockIdx.x * blockDim.x;
  if (slip != Slip::write_after_fence) mine[threadIdx.x] = 1;
  if (slip == Slip::fence_of_others && threadIdx.x == 1) __threadfence();
  if (slip != Slip::no_barrier_before) __syncthreads();
  if (threadIdx.x == 0) {
    if (slip != Slip::fence_of_others) __threadfence();
    if (slip == Slip::write_after_fence) mine[0] = 1;
    last = atomicAdd(counter, 1U) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  int sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) {
    if (slip != Slip::write_after_fence || threadIdx.x == 0) sum += partial[block * blockDim.x + threadIdx.x];
  }
  atomicAdd(out, sum);
}

__global__ void divergent_kernel() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void stuck_warp_kernel() {
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __ballot_sync(0xffffffffU, 1);
  }
}
__global__ void dead_lane_kernel(int* out) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_down_sync(0xffffffffU, 1, 8);
}
[[maybe_unused]] __global__ void assert_kernel([[maybe_unused]] int limit) {
  assert(static_cast<int>(threadIdx.x) < limit);
}
[[maybe_unused]] __global__ void misaligned_kernel(char* bytes) { *reinterpret_cast<double*>(bytes + 4) = 1; }
struct alignas(16) Four {
  int values[4];
};
[[maybe_unused]] __global__ void misaligned_vector_kernel(char* bytes) {
  Four four = *reinterpret_cast<const Four*>(bytes);
  four.values[0] += 1;
  *reinterpret_cast<Four*>(bytes) = four;
}
__global__ void trap_kernel() { __trap(); }
__global__ void order_kernel(int* order, int* counter) { order[atomicAdd(counter, 1)] = static_cast<int>(blockIdx.x); }
struct Table {
  const int* in;
  std::array<int, 100> offsets;
};
__global__ void table_kernel(int* out, Table table) {
  static const int kExtra[4] = {10, 20, 30, 40};
  out[threadIdx.x] = table.in[threadIdx.x] + table.offsets[threadIdx.x] + kExtra[threadIdx.x % 4];
}
}  // namespace

TEST_CASE("a block's threads meet at barriers, whoever has left", "[cudasim]") {
  const Fresh fresh;
  std::vector<int> values(256);
  std::iota(values.begin(), values.end(), 0);
  const Buffer<int> data(values);
  CHECK(launch(nullptr, 1, 256, reverse_kernel, data.data) == cudaSuccess);
  std::reverse(values.begin(), values.end());
  CHECK(data.read() == values);
  CHECK(launch(nullptr, 4, 64, reverse_kernel, data.data) == cudaSuccess);  // each block has a tile of its own
  for (auto at = values.begin(); at != values.end(); at += 64) std::reverse(at, at + 64);
  CHECK(data.read() == values);

  const Buffer<int> out(3);
  CHECK(launch(nullptr, 1, 64, leave_early_kernel, out.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(launch(nullptr, 1, 50, votes_kernel, out.data) == cudaSuccess);
  CHECK(out.read() == std::vector<int>{25, 1, 0});
  CHECK(launch(nullptr, 1, 64, leave_early_kernel, out.data) == cudaSuccess);
  CHECK(out.read()[0] == 127);
  CHECK(cudasim::reports().empty());
}

TEST_CASE("warp primitives exchange values among lanes", "[cudasim]") {
  const Fresh fresh;
  const unsigned threads = GENERATE(32U, 96U);
  const Buffer<int> out(8 * threads);
  CHECK(launch(nullptr, 1, threads, shuffles_kernel, out.data) == cudaSuccess);
  const std::vector<int> got = out.read();
  for (int i = 0; i < static_cast<int>(threads); ++i) {
    const int lane = i % 32;
    const int base = i - lane;
    const int multiples = static_cast<int>(base % 3 == 0 ? 11 : base % 3 == 1 ? 10 : 11);  // of 3 among 32 in a row
    const std::vector<int> expected{base + 3,
                                    lane == 0 ? i : i - 1,
                                    lane < 30 ? i + 2 : i,
                                    i ^ 16,
                                    lane % 8 == 7 ? i : i + 1,
                                    i / 16 * 16 + 1,
                                    multiples,
                                    (base == 32 ? 2 : 0) + (base == 0 ? 1 : 0)};
    INFO("thread " << i);
    CHECK(std::vector<int>(got.begin() + 8 * i, got.begin() + 8 * i + 8) == expected);
  }
}

TEST_CASE("lanes that have left are not waited for", "[cudasim]") {
  const Fresh fresh;
  const Buffer<int> out(8);
  CHECK(launch(nullptr, 1, 32, partial_warp_kernel, out.data) == cudaSuccess);
  CHECK(out.read() == std::vector<int>{27, 26, 25, 24, 23, 22, 21, 20});
}

TEST_CASE("atomics lose nothing", "[cudasim]") {
  const Fresh fresh;
  const Buffer<int> ints(std::vector<int>{0, 0, 0});
  const Buffer<unsigned long long> wide(std::vector<unsigned long long>{0});
  const Buffer<float> floats(std::vector<float>{0});
  const Buffer<double> doubles(std::vector<double>{0});
  CHECK(launch(nullptr, 1, 100, atomics_kernel, ints.data, wide.data, floats.data, doubles.data) == cudaSuccess);
  CHECK(ints.read() == std::vector<int>{4950, 5, 9});
  CHECK(wide.read()[0] == 100ULL << 33);
  CHECK(floats.read()[0] == 50);
  CHECK(doubles.read()[0] == 25);
}

TEST_CASE("blocks run in an order that depends on the seed", "[cudasim]") {
  const Fresh fresh;
  const auto order = [](std::uint64_t seed) {
    cudasim::set_seed(seed);
    const Buffer<int> out(20);
    const Buffer<int> counter(std::vector<int>{0});
    CHECK(launch(nullptr, 20, 1, order_kernel, out.data, counter.data) == cudaSuccess);
    return out.read();
  };
  std::vector<int> plain(20);
  std::iota(plain.begin(), plain.end(), 0);
  CHECK(order(0) == plain);
  const std::vector<int> first = order(1);
  CHECK(first != plain);
  CHECK(order(1) == first);
  CHECK(order(2) != first);
  CHECK(std::is_permutation(first.begin(), first.end(), plain.begin()));
}

TEST_CASE("a kernel reads its arguments and constant tables", "[cudasim]") {
  const Fresh fresh;
  const Buffer<int> in(std::vector<int>(100, 1));
  const Buffer<int> out(100);
  Table table{in.data, {}};
  std::iota(table.offsets.begin(), table.offsets.end(), 0);
  CHECK(launch(nullptr, 1, 100, table_kernel, out.data, table) == cudaSuccess);
  table.offsets = {};  // the launch has its own copy
  CHECK(out.read()[7] == 1 + 7 + 40);
  int* to = out.data;
  table.offsets[7] = 50;
  void* addresses[] = {static_cast<void*>(&to), static_cast<void*>(&table)};
  CHECK(cudaLaunchKernel(table_kernel, 1, 100, addresses) == cudaSuccess);
  table.offsets = {};  // so has one by address
  CHECK(out.read()[7] == 1 + 50 + 40);
  CHECK(cudasim::reports().empty());
}

TEST_CASE("launches are refused like CUDA's", "[cudasim]") {
  need_devices(2);
  const Fresh fresh;
  const Buffer<int> out(1);
  CHECK(launch(nullptr, 0, 32, fill_kernel, out.data, 1) == cudaErrorInvalidConfiguration);
  CHECK(launch(nullptr, 1, 1025, fill_kernel, out.data, 1) == cudaErrorInvalidConfiguration);
  CHECK(launch(nullptr, dim3(1, 65536), 32, fill_kernel, out.data, 1) == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaSuccess);
  const Stream stream;
  cudaSetDevice(1);
  CHECK(launch(stream, 1, 1, fill_kernel, out.data, 1) == cudaErrorInvalidResourceHandle);
  CHECK(cudaSetDevice(99) == cudaErrorInvalidDevice);
  CHECK(std::string(cudaGetErrorName(cudaErrorInvalidDevice)) == "cudaErrorInvalidDevice");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
}

TEST_CASE("device memory is not the host's", "[cudasim]") {
  const Fresh fresh;
  const Buffer<int> data(std::vector<int>{1, 2});
  const auto touch = [&] { data.data[1] = 3; };
  CHECK_THAT(last_words(touch), ContainsSubstring(kAsan ? "died" : "device memory dereferenced on the host: write to"));
  if (!kAsan) CHECK_THAT(last_words(touch), ContainsSubstring("byte 4 of 8 allocated on device 0"));
}

TEST_CASE("host memory is not a kernel's", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Buffer<int> out(1);
  std::vector<int> here{1};
  CHECK(launch(nullptr, 1, 1, read_at_kernel, out.data, here.data(), 0L) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(only_report(), ContainsSubstring("host memory dereferenced in a kernel") &&
                                ContainsSubstring("read_at_kernel") &&
                                ContainsSubstring("block (0,0,0), thread (0,0,0)"));
  cudasim::reset_errors();

  const Pinned<int> pinned(1);
  pinned.data[0] = 7;
  int* mapped = nullptr;
  CHECK(cudaHostGetDevicePointer(&mapped, pinned.data, 0) == cudaSuccess);
  CHECK(launch(nullptr, 1, 1, read_at_kernel, out.data, mapped, 0L) == cudaSuccess);
  CHECK(out.read()[0] == 7);
}

TEST_CASE("illegal addresses end the launch and stay an error", "[cudasim]") {
  need_devices(2);
  const Fresh fresh;
  const Buffer<int> out(1);
  const Buffer<int> data(std::vector<int>{1, 2, 3});
  const auto read_at = [&](long at) {
    launch(nullptr, 4, 32, read_at_kernel, out.data, data.data, at);
    return cudaDeviceSynchronize();
  };
  if (kAsan) CHECK_THAT(last_words([&] { read_at(3); }), ContainsSubstring("use-after-poison"));
  // Without the instrumentation only what was never allocated is closed.
  const auto wrong = [&] { return read_at(kChecked ? 3 : 1L << 30); };
  CHECK(wrong() == cudaErrorIllegalAddress);
  CHECK_THAT(only_report(), ContainsSubstring("bytes behind 12 bytes allocated on device 0"));
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK(launch(nullptr, 1, 1, fill_kernel, out.data, 1) == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  cudaSetDevice(1);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  cudaSetDevice(0);
  cudasim::reset_errors();
  CHECK(launch(nullptr, 1, 1, fill_kernel, out.data, 5) == cudaSuccess);
  CHECK(out.read()[0] == 5);
  if (kAsan) return;  // the undefined-behaviour sanitizer ends the program at a null pointer
  CHECK(launch(nullptr, 1, 1, fill_kernel, static_cast<int*>(nullptr), 5) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(cudasim::reports().back(), ContainsSubstring(kChecked ? "host memory" : "null pointer"));
}

TEST_CASE("a freed block is nobody's", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Stream stream;
  const Buffer<int> out(1);
  int* gone = nullptr;
  CHECK(cudaMallocAsync(&gone, 4, stream) == cudaSuccess);
  CHECK(cudaMemsetAsync(gone, 0, 4, stream) == cudaSuccess);
  CHECK(launch(stream, 1, 1, read_at_kernel, out.data, gone, 0L) == cudaSuccess);
  CHECK(cudaFreeAsync(gone, stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(launch(stream, 1, 1, read_at_kernel, out.data, gone, 0L) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorIllegalAddress);
  CHECK_THAT(only_report(), ContainsSubstring("out of bounds or freed"));
}

#if !defined(__SANITIZE_ADDRESS__)  // that build stops at it by itself
TEST_CASE("a vector that is not aligned is an error", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Buffer<char> bytes(std::vector<char>(64));
  CHECK(launch(nullptr, 1, 1, misaligned_kernel, bytes.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorMisalignedAddress);
  CHECK_THAT(only_report(), ContainsSubstring("misaligned address") && ContainsSubstring("byte 4 of 64") &&
                                ContainsSubstring("test_cudasim.cpp:") && ContainsSubstring("a multiple of 8 bytes"));
  for (const int at : {0, 4, 8, 12}) {
    INFO("16 bytes at " << at);
    Fresh::reset();
    CHECK(launch(nullptr, 1, 1, misaligned_vector_kernel, bytes.data + at) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == (at == 0 ? cudaSuccess : cudaErrorMisalignedAddress));
    if (at != 0) CHECK_THAT(only_report(), ContainsSubstring("a multiple of 16 bytes"));
  }
}
#endif

TEST_CASE("another device's memory needs peer access", "[cudasim]") {
  need_devices(2);
  const Fresh fresh;
  const Buffer<int> here(1);
  cudaSetDevice(1);
  const Buffer<int> there(std::vector<int>{42});
  cudaSetDevice(0);
  CHECK(launch(nullptr, 1, 1, copy_kernel, here.data, there.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(only_report(), ContainsSubstring("allocated on device 1"));
  cudasim::reset_errors();

  int can = 0;
  CHECK(cudaDeviceCanAccessPeer(&can, 0, 1) == cudaSuccess);
  CHECK(can == 1);
  CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaSuccess);
  CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessAlreadyEnabled);
  CHECK(launch(nullptr, 1, 1, copy_kernel, here.data, there.data) == cudaSuccess);
  CHECK(here.read()[0] == 42);
  CHECK(cudaDeviceDisablePeerAccess(1) == cudaSuccess);
  CHECK(cudaMemset(here.data, 0, 4) == cudaSuccess);
  CHECK(cudaMemcpyPeer(here.data, 0, there.data, 1, 4) == cudaSuccess);
  CHECK(here.read()[0] == 42);
}

TEST_CASE("late streams show a missing wait, and an event mends it", "[cudasim]") {
  const Fresh fresh;
  cudasim::set_seed(0);  // as late as can be
  const Stream first;
  const Stream second;
  const Event done;
  const Buffer<int> data(std::vector<int>{0});
  const Buffer<int> out(std::vector<int>{0});
  const bool waits = GENERATE(false, true);
  CHECK(launch(first, 1, 1, fill_kernel, data.data, 5) == cudaSuccess);
  CHECK(cudaEventRecord(done, first) == cudaSuccess);
  if (waits) CHECK(cudaStreamWaitEvent(second, done) == cudaSuccess);
  CHECK(launch(second, 1, 1, copy_kernel, out.data, data.data) == cudaSuccess);
  CHECK(cudaStreamSynchronize(second) == cudaSuccess);
  CHECK(out.read()[0] == (waits ? 5 : 0));
  CHECK((cudaEventQuery(done) == cudaSuccess) == waits);
}

namespace {
// What a copy reads by one stream, when another overwrites it: with an event between the two, or without.
int copied_while_overwritten(bool waits) {
  const Stream first, second;
  const Event read;
  const Buffer<int> data(std::vector<int>{5}), out(std::vector<int>{0});
  CHECK(launch(first, 1, 1, copy_kernel, out.data, data.data) == cudaSuccess);
  CHECK(cudaEventRecord(read, first) == cudaSuccess);
  if (waits) CHECK(cudaStreamWaitEvent(second, read) == cudaSuccess);
  CHECK(launch(second, 1, 1, fill_kernel, data.data, 9) == cudaSuccess);
  CHECK(cudaEventRecord(read, first) == cudaSuccess);
  CHECK(cudaStreamSynchronize(first) == cudaSuccess);
  return out.read()[0];
}

// The same across devices: the source of a peer copy is given back and used for something else.
int peer_copied_while_refilled(bool waits) {
  const Buffer<int> target(std::vector<int>{0});
  const Stream there;
  cudaSetDevice(1);
  const Stream here;
  const Event written;
  int* source = nullptr;
  int* refill = nullptr;
  CHECK(cudaMallocAsync(reinterpret_cast<void**>(&source), 4, here) == cudaSuccess);
  CHECK(launch(here, 1, 1, fill_kernel, source, 5) == cudaSuccess);
  CHECK(cudaEventRecord(written, here) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(there, written) == cudaSuccess);
  CHECK(cudaMemcpyPeerAsync(target.data, 0, source, 1, 4, there) == cudaSuccess);
  cudaSetDevice(0);
  const Event copied;
  CHECK(cudaEventRecord(copied, there) == cudaSuccess);
  if (waits) CHECK(cudaStreamWaitEvent(here, copied) == cudaSuccess);
  cudaSetDevice(1);
  CHECK(cudaFreeAsync(source, here) == cudaSuccess);
  CHECK(cudaMallocAsync(reinterpret_cast<void**>(&refill), 4, here) == cudaSuccess);
  CHECK(refill == source);
  CHECK(launch(here, 1, 1, fill_kernel, refill, 9) == cudaSuccess);
  CHECK(cudaStreamSynchronize(here) == cudaSuccess);
  CHECK(cudaStreamSynchronize(there) == cudaSuccess);
  const int found = target.read()[0];
  CHECK(cudaFreeAsync(refill, here) == cudaSuccess);
  cudaSetDevice(0);
  return found;
}

// How many of some seeds give another value than the right one.
template <class Run> int seeds_that_show(Run run, int right) {
  int wrong = 0;
  for (std::uint64_t seed = 1; seed <= 32; ++seed) {
    cudasim::set_seed(seed);
    if (run() != right) ++wrong;
  }
  return wrong;
}
}  // namespace

TEST_CASE("a write that does not wait for a read overtakes it now and then", "[cudasim]") {
  const Fresh fresh;
  CHECK(seeds_that_show([] { return copied_while_overwritten(true); }, 5) == 0);
  CHECK(seeds_that_show([] { return copied_while_overwritten(false); }, 5) > 0);
}

TEST_CASE("memory given back while another device copies from it shows", "[cudasim]") {
  need_devices(2);
  const Fresh fresh;
  CHECK(seeds_that_show([] { return peer_copied_while_refilled(true); }, 5) == 0);
  CHECK(seeds_that_show([] { return peer_copied_while_refilled(false); }, 5) > 0);
}

TEST_CASE("polling makes work advance", "[cudasim]") {
  const Fresh fresh;
  cudasim::set_seed(0);
  const Stream stream;
  const Event done;
  const Buffer<int> data(std::vector<int>{0});
  for (int i = 0; i < 3; ++i) CHECK(launch(stream, 1, 1, add_kernel, data.data, 1) == cudaSuccess);
  CHECK(cudaEventRecord(done, stream) == cudaSuccess);
  CHECK(cudaEventQuery(done) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(stream) == cudaSuccess);
  CHECK(cudaEventQuery(done) == cudaSuccess);
  CHECK(data.read()[0] == 3);
}

TEST_CASE("stream 0 and blocking streams wait for each other", "[cudasim]") {
  const Fresh fresh;
  const Stream blocking(cudaStreamDefault);
  const Buffer<int> data(std::vector<int>{0});
  const Buffer<int> out(1);
  CHECK(launch(blocking, 1, 1, fill_kernel, data.data, 5) == cudaSuccess);
  CHECK(launch(nullptr, 1, 1, add_kernel, data.data, 1) == cudaSuccess);
  CHECK(launch(blocking, 1, 1, copy_kernel, out.data, data.data) == cudaSuccess);
  CHECK(cudaStreamSynchronize(blocking) == cudaSuccess);
  CHECK(out.read()[0] == 6);
}

TEST_CASE("eager streams run at once", "[cudasim]") {
  const Fresh fresh;
  cudasim::set_late(false);
  const Stream stream;
  const Event done;
  const Buffer<int> data(1);
  CHECK(launch(stream, 1, 1, fill_kernel, data.data, 5) == cudaSuccess);
  CHECK(cudaEventRecord(done, stream) == cudaSuccess);
  CHECK(cudaEventQuery(done) == cudaSuccess);
}

TEST_CASE("a pageable source is read by the call, a pinned one when the copy runs", "[cudasim]") {
  const Fresh fresh;
  cudasim::set_seed(0);
  const Stream stream;
  const Buffer<int> data(2);
  std::vector<int> pageable{1};
  const Pinned<int> pinned(1);
  pinned.data[0] = 1;
  CHECK(cudaMemcpyAsync(data.data, pageable.data(), 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(data.data + 1, pinned.data, 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  pageable[0] = 2;
  pinned.data[0] = 2;
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(data.read() == std::vector<int>{1, 2});

  pinned.data[0] = 0;
  CHECK(cudaMemcpyAsync(pinned.data, data.data, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(pinned.data[0] == 0);  // it has not run
  CHECK(cudaMemcpyAsync(pageable.data(), data.data + 1, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(pageable[0] == 2);  // a pageable target makes the call wait
  CHECK(pinned.data[0] == 1);
}

TEST_CASE("copies check their kinds and bounds", "[cudasim]") {
  const Fresh fresh;
  const Buffer<int> data(2);
  std::vector<int> here(4);
  CHECK(cudaMemcpy(data.data, here.data(), 12, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(data.data, here.data(), 8, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(data.data, here.data(), 8, cudaMemcpyDefault) == cudaSuccess);
  CHECK(cudaMemset(data.data + 1, 0, 8) == cudaErrorInvalidValue);
  cudaPointerAttributes attributes{};
  CHECK(cudaPointerGetAttributes(&attributes, data.data + 1) == cudaSuccess);
  CHECK((attributes.type == cudaMemoryTypeDevice && attributes.device == 0));
  CHECK(cudaPointerGetAttributes(&attributes, here.data()) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
}

TEST_CASE("a race in shared memory names both threads, and a barrier ends it", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Buffer<int> out(64);
  CHECK(launch(nullptr, 1, 64, race_kernel, out.data, true) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(launch(nullptr, 1, 64, race_kernel, out.data, false) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
  CHECK_THAT(cudasim::reports().at(0),
             ContainsSubstring("memory") && ContainsSubstring("race_kernel(int*, bool)::tile"));
  const auto reports = cudasim::reports();
  CHECK(std::any_of(reports.begin(), reports.end(),
                    [](const std::string& text) { return text.find("race in shared memory") != std::string::npos; }));
  CHECK(cudaDeviceSynchronize() == cudaSuccess);  // said once: the device is not lost
}

TEST_CASE("__syncwarp orders the lanes of a warp", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Buffer<int> out(64);
  CHECK(launch(nullptr, 1, 64, warp_order_kernel, out.data, true) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(launch(nullptr, 1, 64, warp_order_kernel, out.data, false) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
}

TEST_CASE("reads of memory never written are reported", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Buffer<int> out(64);
  CHECK(launch(nullptr, 1, 64, uninitialised_shared_kernel, out.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
  CHECK_THAT(cudasim::reports().at(0),
             ContainsSubstring("uninitialised memory") && ContainsSubstring("uninitialised_shared_kernel(int*)::tile"));
  cudasim::clear_reports();

  const Buffer<int> data(4);
  const Buffer<int> copy(4);
  CHECK(cudaMemset(data.data, 0, 8) == cudaSuccess);
  CHECK(cudaMemcpy(copy.data, data.data, 16, cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(launch(nullptr, 1, 2, copy_kernel, out.data, copy.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(launch(nullptr, 1, 3, copy_kernel, out.data, copy.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
  CHECK_THAT(only_report(), ContainsSubstring("thread (2,0,0)") && ContainsSubstring("byte 8 of 16 allocated"));
  CHECK(data.read()[2] == -1);  // new memory is full of ones: NaN as a float
}

TEST_CASE("races in global memory are reported across blocks and threads", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Buffer<int> data(std::vector<int>(8, 0));
  CHECK(launch(nullptr, 2, 1, same_element_kernel, data.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
  CHECK_THAT(only_report(), ContainsSubstring("race in global memory") && ContainsSubstring("of block ("));
  cudasim::clear_reports();
  CHECK(launch(nullptr, 8, 1, neighbour_kernel, data.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
  cudasim::clear_reports();

  CHECK(launch(nullptr, 8, 8, same_value_kernel, reinterpret_cast<volatile unsigned char*>(data.data)) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);  // volatile stores may meet
  CHECK(launch(nullptr, 1, 16, halves_kernel, reinterpret_cast<unsigned short*>(data.data)) == cudaSuccess);
  CHECK(launch(nullptr, 8, 1, fill_kernel, data.data, 0) == cudaSuccess);
  CHECK(launch(nullptr, 8, 1, fill_kernel, data.data, 0) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("a fence and an atomic publish a block's writes", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const bool fenced = GENERATE(true, false);
  const Buffer<int> partial(8);
  const Buffer<unsigned> counter(std::vector<unsigned>{0});
  const Buffer<int> out(1);
  CHECK(launch(nullptr, 8, 1, last_block_kernel, partial.data, counter.data, out.data, fenced) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == (fenced ? cudaSuccess : cudaErrorAssert));
  CHECK(out.read()[0] == 28);
}

TEST_CASE("only what a barrier or the thread itself puts before the fence is published", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  const Slip slip = GENERATE(Slip::none, Slip::no_barrier_before, Slip::fence_of_others, Slip::write_after_fence);
  INFO("slip " << static_cast<int>(slip));
  const Buffer<int> partial(std::vector<int>(8 * 96, 1));
  const Buffer<unsigned> counter(std::vector<unsigned>{0});
  const Buffer<int> out(std::vector<int>{0});
  CHECK(launch(nullptr, 8, 96, last_block_of_many_kernel, partial.data, counter.data, out.data, slip) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == (slip == Slip::none ? cudaSuccess : cudaErrorAssert));
  if (slip == Slip::none) CHECK(out.read()[0] == 8 * 96);
  if (slip != Slip::none) CHECK_THAT(cudasim::reports().at(0), ContainsSubstring("race in global memory"));
}

TEST_CASE("checks can be switched off", "[cudasim]") {
  if (!kChecked) return;
  const Fresh fresh;
  cudasim::set_checks(false);
  const Buffer<int> data(8);
  CHECK(launch(nullptr, 8, 1, neighbour_kernel, data.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("threads that wait for each other at different places are reported", "[cudasim]") {
  const Fresh fresh;
  CHECK(launch(nullptr, 1, 32, divergent_kernel) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  CHECK_THAT(only_report(), ContainsSubstring("divergent barrier") && ContainsSubstring("divergent_kernel()") &&
                                ContainsSubstring("thread (16,0,0)") && ContainsSubstring("test_cudasim.cpp:"));
  cudasim::reset_errors();
  CHECK(launch(nullptr, 1, 32, stuck_warp_kernel) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  CHECK_THAT(cudasim::reports().back(), ContainsSubstring("__syncwarp") && ContainsSubstring("__ballot_sync"));
  cudasim::reset_errors();
  const Buffer<int> out(16);
  CHECK(launch(nullptr, 1, 32, dead_lane_kernel, out.data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  CHECK_THAT(cudasim::reports().back(), ContainsSubstring("does not take part"));
}

TEST_CASE("a kernel's assert and trap end the launch, not the program", "[cudasim]") {
  const Fresh fresh;
  CHECK(launch(nullptr, 1, 1, trap_kernel) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
#if !defined(NDEBUG)
  cudasim::reset_errors();
  CHECK(launch(nullptr, 1, 32, assert_kernel, 5) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
  CHECK_THAT(cudasim::reports().back(), ContainsSubstring("assertion") && ContainsSubstring("thread (5,0,0)"));
#endif
}

TEST_CASE("any call can be made to fail", "[cudasim]") {
  const Fresh fresh;
  const Stream stream;
  const Buffer<int> data(std::vector<int>{0});
  int* more = nullptr;
  const auto library = [&] { return cudasim::enqueue_library_call(stream, "gemm", [] {}); };

  cudasim::fail_call(cudasim::Kind::allocation, 2);
  CHECK(cudaMallocAsync(&more, 4, stream) == cudaSuccess);
  CHECK(cudaFreeAsync(more, stream) == cudaSuccess);
  CHECK(cudaMallocAsync(&more, 4, stream) == cudaErrorMemoryAllocation);
  cudasim::fail_call(cudasim::Kind::allocation, 1, 2);
  CHECK(cudaMallocAsync(&more, 4, stream) == cudaErrorMemoryAllocation);
  CHECK(cudaMallocAsync(&more, 4, stream) == cudaErrorMemoryAllocation);
  CHECK(cudaMallocAsync(&more, 4, stream) == cudaSuccess);
  CHECK(cudaFreeAsync(more, stream) == cudaSuccess);
  cudasim::fail_call(cudasim::Kind::launch, 1);
  CHECK(launch(stream, 1, 1, add_kernel, data.data, 1) == cudaErrorLaunchOutOfResources);
  CHECK(launch(stream, 1, 1, add_kernel, data.data, 1) == cudaSuccess);
  cudasim::fail_call(cudasim::Kind::copy, 1);
  CHECK(cudaMemsetAsync(data.data, 0, 4, stream) == cudaErrorInvalidValue);
  cudasim::fail_call(cudasim::Kind::library, 1);
  CHECK(library() == cudaErrorLaunchFailure);
  cudasim::fail_call(cudasim::Kind::library, 2);
  CHECK_FALSE(cudasim::library_call_fails("create"));
  CHECK(cudasim::library_call_fails("create"));
  cudasim::fail_call(cudasim::Kind::any, 2);
  CHECK(library() == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorUnknown);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(data.read()[0] == 1);

  const auto before = cudasim::calls_made(cudasim::Kind::launch);
  launch(stream, 1, 1, add_kernel, data.data, 1);
  CHECK(cudasim::calls_made(cudasim::Kind::launch) == before + 1);
}

TEST_CASE("library calls run in their stream with the device's memory open", "[cudasim]") {
  const Fresh fresh;
  const Stream stream;
  const Buffer<int> data(2);
  CHECK(launch(stream, 1, 1, fill_kernel, data.data, 5) == cudaSuccess);
  const auto work = [p = data.data] {
    if (!cudasim::library_reads(p, 4) || !cudasim::library_writes(p + 1, 4)) return;
    p[1] = p[0] + 1;
  };
  CHECK(cudasim::enqueue_library_call(stream, "increment", work) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(data.read() == std::vector<int>{5, 6});
  CHECK(cudasim::enqueue_library_call(stream, "stray", [p = data.data] { p[std::size_t{1} << 30] = 1; }) ==
        cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorIllegalAddress);
  CHECK_THAT(only_report(), ContainsSubstring("library call `stray`"));
}

TEST_CASE("a device's memory is finite", "[cudasim]") {
  need_devices(3);
  const Fresh fresh;
  cudaSetDevice(2);
  std::size_t available = 0;
  std::size_t whole = 0;
  std::size_t total = 0;
  CHECK(cudaMemGetInfo(&available, &whole) == cudaSuccess);
  const std::size_t held = cudasim::bytes_in_use(2);  // by other tests of this program
  cudasim::set_total_memory(2, whole - available + (1 << 20));
  CHECK(cudaMemGetInfo(&available, &total) == cudaSuccess);
  CHECK(available == 1 << 20);
  void* first = nullptr;
  void* second = nullptr;
  CHECK(cudaMalloc(&first, 3 << 18) == cudaSuccess);
  CHECK(cudasim::bytes_in_use(2) == held + (3 << 18));
  CHECK(cudaMalloc(&second, 1 << 19) == cudaErrorMemoryAllocation);
  CHECK(second == nullptr);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  const auto live = cudasim::live_allocations();
  CHECK(cudaFree(first) == cudaSuccess);
  CHECK(cudaFree(first) == cudaErrorInvalidValue);
  CHECK(cudasim::live_allocations() == live - 1);
  CHECK(cudasim::bytes_in_use(2) == held);
  cudasim::set_total_memory(2, whole);
}

TEST_CASE("the pool keeps freed memory up to its threshold", "[cudasim]") {
  need_devices(4);
  const Fresh fresh;
  cudaSetDevice(3);
  const Stream stream;
  cudaMemPool_t pool = nullptr;
  CHECK(cudaDeviceGetDefaultMemPool(&pool, 3) == cudaSuccess);
  const auto attribute = [&](cudaMemPoolAttr which) {
    std::uint64_t value = 0;
    CHECK(cudaMemPoolGetAttribute(pool, which, &value) == cudaSuccess);
    return value;
  };
  CHECK(cudaMemPoolTrimTo(pool, 0) == cudaSuccess);
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &pool) == cudaSuccess);
  const std::uint64_t used = attribute(cudaMemPoolAttrUsedMemCurrent);  // by other tests of this program
  const std::uint64_t reserved = attribute(cudaMemPoolAttrReservedMemCurrent);
  std::uint64_t threshold = attribute(cudaMemPoolAttrReleaseThreshold);
  std::uint64_t keep = ~std::uint64_t{0};
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep) == cudaSuccess);
  void* first = nullptr;
  void* second = nullptr;
  CHECK(cudaMallocAsync(&first, 4096, stream) == cudaSuccess);
  CHECK(attribute(cudaMemPoolAttrUsedMemCurrent) == used + 4096);
  CHECK(cudaFreeAsync(first, stream) == cudaSuccess);
  CHECK(cudaMallocAsync(&second, 4096, stream) == cudaSuccess);
  CHECK(second == first);  // its own stream may have it at once
  CHECK(cudaFreeAsync(second, stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(attribute(cudaMemPoolAttrUsedMemCurrent) == used);
  CHECK(attribute(cudaMemPoolAttrReservedMemCurrent) == reserved + 4096);
  CHECK(attribute(cudaMemPoolAttrUsedMemHigh) == used + 4096);
  CHECK(cudaMemPoolTrimTo(pool, 0) == cudaSuccess);
  CHECK(attribute(cudaMemPoolAttrReservedMemCurrent) == reserved);
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold) == cudaSuccess);
}

TEST_CASE("a graph replays captured work with the inputs of the day", "[cudasim]") {
  const Fresh fresh;
  const Stream stream;
  const Stream branch;
  const Event forked;
  const Event joined;
  const Buffer<int> in(std::vector<int>{1});
  const Buffer<int> left(1);
  const Buffer<int> right(1);
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  CHECK(cudaEventRecord(forked, stream) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(branch, forked) == cudaSuccess);
  CHECK(launch(stream, 1, 1, copy_kernel, left.data, in.data) == cudaSuccess);
  CHECK(launch(branch, 1, 1, copy_kernel, right.data, in.data) == cudaSuccess);
  CHECK(launch(branch, 1, 1, add_kernel, right.data, 10) == cudaSuccess);
  CHECK(cudaEventRecord(joined, branch) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(stream, joined) == cudaSuccess);
  void* scratch = nullptr;
  CHECK(cudaMallocAsync(&scratch, 64, stream) == cudaSuccess);
  CHECK(cudaMemsetAsync(scratch, 0, 64, stream) == cudaSuccess);
  CHECK(cudaFreeAsync(scratch, stream) == cudaSuccess);
  cudaStreamCaptureStatus status{};
  CHECK(cudaStreamIsCapturing(branch, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusActive);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(cudaStreamIsCapturing(branch, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusNone);
  std::size_t nodes = 0;
  CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
  CHECK(nodes == 6);
  cudaGraphExec_t exec = nullptr;
  CHECK(cudaGraphInstantiate(&exec, graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(left.read()[0] == -1);  // capturing runs nothing
  for (int value = 1; value < 4; ++value) {
    CHECK(cudaMemcpy(in.data, &value, 4, cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(cudaGraphLaunch(exec, stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
    CHECK(left.read()[0] == value);
    CHECK(right.read()[0] == value + 10);
  }
  CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
  CHECK(cudasim::reports().empty());
}

TEST_CASE("a capture refuses what would wait", "[cudasim]") {
  const Fresh fresh;
  const Stream stream;
  const Stream other;
  const Event event;
  const Buffer<int> data(1);
  std::vector<int> pageable(1);
  const Pinned<int> pinned(1);
  cudaGraph_t graph = nullptr;
  void* memory = nullptr;
  const auto begin = [&](cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    CHECK(cudaStreamBeginCapture(stream, mode) == cudaSuccess);
  };
  const auto invalidated = [&] { return cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated; };

  begin();
  CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
  CHECK(launch(stream, 1, 1, fill_kernel, data.data, 1) == cudaErrorStreamCaptureInvalidated);
  CHECK(invalidated());
  begin();
  CHECK(cudaStreamQuery(stream) == cudaErrorStreamCaptureUnsupported);
  CHECK(invalidated());
  begin();
  CHECK(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported);
  CHECK(invalidated());
  begin();
  CHECK(cudaMalloc(&memory, 4) == cudaErrorStreamCaptureUnsupported);
  CHECK(invalidated());
  begin();
  CHECK(cudaMemcpy(data.data, pageable.data(), 4, cudaMemcpyHostToDevice) == cudaErrorStreamCaptureUnsupported);
  CHECK(invalidated());
  begin();
  CHECK(cudaMemcpyAsync(data.data, pageable.data(), 4, cudaMemcpyHostToDevice, stream) ==
        cudaErrorStreamCaptureUnsupported);
  CHECK(invalidated());
  begin();
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  CHECK(cudaEventSynchronize(event) == cudaErrorCapturedEvent);
  CHECK(invalidated());
  begin();
  CHECK(cudaEventRecord(event, other) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(stream, event) == cudaErrorStreamCaptureIsolation);
  CHECK(invalidated());

  begin();
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(other, event) == cudaSuccess);
  CHECK(launch(other, 1, 1, fill_kernel, data.data, 1) == cudaSuccess);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorIllegalState);

  // A relaxed thread may allocate; pinned copies are captured.
  begin();
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
  CHECK(cudaMalloc(&memory, 4) == cudaSuccess);
  CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
  CHECK(mode == cudaStreamCaptureModeRelaxed);
  CHECK(cudaMemcpyAsync(data.data, pinned.data, 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaFree(memory) == cudaSuccess);

  // Only the thread that began may end, and others may do as they like if the mode is thread-local.
  begin(cudaStreamCaptureModeThreadLocal);
  std::thread([&] {
    CHECK(cudaMalloc(&memory, 4) == cudaSuccess);
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureWrongThread);
    CHECK(cudaFree(memory) == cudaSuccess);
  }).join();
  CHECK(invalidated());
}

TEST_CASE("counters tell what a device was asked to do", "[cudasim]") {
  need_devices(2);
  const Fresh fresh;
  const Stream stream;
  const Buffer<int> data(std::vector<int>{0});
  cudasim::reset_counters();
  launch(stream, 1, 1, add_kernel, data.data, 1);
  launch(stream, 1, 1, add_kernel, data.data, 1);
  cudasim::enqueue_library_call(stream, "gemm", [] {});
  cudaMemsetAsync(data.data, 0, 4, stream);
  CHECK(cudasim::counters()[0].host_waits == 0);
  cudaStreamSynchronize(stream);
  data.read();
  const Pinned<int> pinned(1);
  CHECK(cudaMemcpyAsync(data.data, pinned.data, 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  const cudasim::Counters counters = cudasim::counters()[0];
  CHECK(counters.launches == 2);
  CHECK(counters.library_calls == 1);
  CHECK(counters.memsets == 1);
  CHECK(counters.device_to_host == 1);
  CHECK(counters.host_to_device == 1);
  CHECK(counters.pageable_copies == 1);
  CHECK(counters.blocking_allocations == 1);
  CHECK(counters.host_waits == 2);
  CHECK(cudasim::counters()[1].launches == 0);
  const auto names = cudasim::launches_by_kernel_name();
  CHECK(std::any_of(names.begin(), names.end(), [](const auto& entry) {
    return entry.first.find("add_kernel(int*, int)") != std::string::npos && entry.second == 2;
  }));
}

TEST_CASE("what is made can be counted until it is gone", "[cudasim]") {
  const Fresh fresh;
  const auto counts = [] {
    return std::array{cudasim::live_allocations(), cudasim::live_pinned_blocks(), cudasim::live_events(),
                      cudasim::live_streams()};
  };
  const auto before = counts();
  {
    const Stream stream;
    const Event event;
    const Buffer<int> data(1);
    const Pinned<int> pinned(1);
    const auto now = counts();
    for (std::size_t i = 0; i < now.size(); ++i) CHECK(now[i] == before[i] + 1);
  }
  CHECK(counts() == before);
}

TEST_CASE("host functions run in their stream and may not call CUDA", "[cudasim]") {
  const Fresh fresh;
  const Stream stream;
  static cudaError_t inside = cudaSuccess;
  inside = cudaSuccess;
  const auto function = [](void*) { inside = cudaDeviceSynchronize(); };
  CHECK(cudaLaunchHostFunc(stream, function, nullptr) == cudaSuccess);
  CHECK(inside == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(inside == cudaErrorNotPermitted);
}

TEST_CASE("host threads have a device each and share the streams", "[cudasim]") {
  const Fresh fresh;
  const Buffer<int> data(std::vector<int>{0});
  std::vector<std::thread> threads;
  cudaSetDevice(1);
  std::thread([] {
    int mine = -1;
    CHECK(cudaGetDevice(&mine) == cudaSuccess);
    CHECK(mine == 0);
  }).join();
  cudaSetDevice(0);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) {
        launch(nullptr, 1, 1, add_kernel, data.data, 1);
        if (k % 10 == 0) cudaDeviceSynchronize();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(data.read()[0] == 200);
  CHECK(cudasim::reports().empty());
}
#endif
