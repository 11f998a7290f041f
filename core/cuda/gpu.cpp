#include "core/cuda/gpu.h"

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <tuple>

namespace halftone::cuda {
namespace {

constexpr std::size_t kMaxGpus = 64;

std::array<std::atomic<Gpu*>, kMaxGpus> gpus{};
std::mutex making;

Gpu* make_gpu(DeviceIndex index) {
  check(cudaSetDevice(index));
  auto g = std::make_unique<Gpu>();
  g->device = Device(kCUDA, index);
  check(cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking));
  check(cudaEventCreateWithFlags(&g->reached, cudaEventDisableTiming));
  check(cudaDeviceGetAttribute(&g->multiprocessors, cudaDevAttrMultiProcessorCount, index));
  check(cudaDeviceGetDefaultMemPool(&g->pool, index));
  // Kept for reuse rather than given back to the system whenever the stream is waited for.
  std::uint64_t all = UINT64_MAX;
  check(cudaMemPoolSetAttribute(g->pool, cudaMemPoolAttrReleaseThreshold, &all));
  void* shared = nullptr;
  check(cudaHostAlloc(&shared, sizeof(BadIndex), cudaHostAllocMapped | cudaHostAllocPortable));
  g->bad_index = new (shared) BadIndex{};
  check(cudaHostGetDevicePointer(reinterpret_cast<void**>(&g->bad_index_on_device), shared, 0));
  check(cudaMalloc(reinterpret_cast<void**>(&g->tickets), sizeof(unsigned)));
  check(cudaMemsetAsync(g->tickets, 0, sizeof(unsigned), g->stream));
  return g.release();
}

}  // namespace

int count_gpus() {
  static const int count = [] {
    int found = 0;
    if (cudaGetDeviceCount(&found) != cudaSuccess) std::ignore = cudaGetLastError();  // no driver, no GPU
    return std::min<int>(found, kMaxGpus);
  }();
  return count;
}

Gpu& gpu(Device device) {
  const DeviceIndex index = canonical(device).index();
  check(index < count_gpus(), "there is no ", canonical(device), ", only ", count_gpus(),
        " CUDA devices: cuda:0 to cuda:", count_gpus() - 1);
  std::atomic<Gpu*>& slot = gpus[static_cast<std::size_t>(index)];
  if (Gpu* g = slot.load(std::memory_order_acquire)) [[likely]]
    return *g;
  const std::lock_guard lock(making);
  if (Gpu* g = slot.load(std::memory_order_acquire)) return *g;
  // The thread stays with this device: choosing another would make a context there, which nobody may have asked for.
  slot.store(make_gpu(index), std::memory_order_release);
  return *slot.load();
}

Gpu& any_gpu() {
  int current = 0;
  check(cudaGetDevice(&current));
  if (Gpu* g = gpus.at(static_cast<std::size_t>(current)).load(std::memory_order_acquire)) return *g;
  for (const std::atomic<Gpu*>& slot : gpus) {
    if (Gpu* g = slot.load(std::memory_order_acquire)) return *g;
  }
  return gpu(Device(kCUDA));
}

void for_each_gpu_in_use(void (*f)(Gpu&, void*), void* argument) {
  for (const std::atomic<Gpu*>& slot : gpus) {
    if (Gpu* g = slot.load(std::memory_order_acquire)) f(*g, argument);
  }
}

void use(Device device) { check(try_use(device)); }

cudaError_t try_use(Device device) noexcept {
  int current = -1;
  if (const cudaError_t failed = cudaGetDevice(&current)) return failed;
  return current == device.index() ? cudaSuccess : cudaSetDevice(device.index());
}

// One event a device is enough: a wait is for what the event was last recorded behind, and if another thread records it
// in between, that is later work, which only makes the wait longer.
void order(Gpu& earlier, Gpu& later) {
  if (&earlier == &later) return;
  use(earlier.device);
  check(cudaEventRecord(earlier.reached, earlier.stream));
  use(later.device);
  check(cudaStreamWaitEvent(later.stream, earlier.reached, 0));
}

void wait_for(Gpu& g) {
  check(!g.arena.load(std::memory_order_acquire), "cuda::Graph: waiting for ", g.device, " cannot be captured");
  use(g.device);
  check(cudaStreamSynchronize(g.stream));
  const std::atomic_ref state(g.bad_index->state);  // work queued by other threads may be writing
  if (state.load(std::memory_order_acquire) != BadIndex::told) [[likely]]
    return;
  const BadIndex bad = *g.bad_index;
  state.store(BadIndex::none, std::memory_order_release);
  fail<IndexError>(bad.op, ": index ", bad.index, " is out of range for a size of ", bad.size, " (met by a kernel on ",
                   g.device, "; its element was left out)");
}

}  // namespace halftone::cuda
