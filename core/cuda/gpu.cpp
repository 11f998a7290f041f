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

std::atomic<int> captures{0};

// Only of one that could not be made: those in use live to the end.
Gpu::~Gpu() {
  if (tickets) std::ignore = cudaFree(tickets);
  if (bad_index) std::ignore = cudaFreeHost(bad_index);
  if (reached) std::ignore = cudaEventDestroy(reached);
  if (stream) std::ignore = cudaStreamDestroy(stream);
}

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
  check(cudaSetDevice(index));
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

void refuse_foreign_work(const Gpu& g) {
  const std::thread::id self = std::this_thread::get_id();
  const auto is_captured = [](const Gpu& other) { return other.arena.load(std::memory_order_acquire) != nullptr; };
  check(!is_captured(g) || g.capturer.load() == self, "cuda::Graph: a graph is being captured on ", g.device,
        " by another thread, whose graph this thread's work there would become part of");
  if (is_captured(g)) return;
  for (const std::atomic<Gpu*>& slot : gpus) {
    const Gpu* other = slot.load(std::memory_order_acquire);
    check(!other || !is_captured(*other) || other->capturer.load() != self, "cuda::Graph: work on ", g.device,
          " cannot be captured: a graph holds one device's work, this one that of ", other ? other->device : g.device);
  }
}

void use(Device device) { check(try_use(device)); }

cudaError_t try_use(Device device) noexcept {
  int current = -1;
  if (const cudaError_t failed = cudaGetDevice(&current)) return failed;
  return current == device.index() ? cudaSuccess : cudaSetDevice(device.index());
}

void return_to(int index) noexcept {
  const auto slot = static_cast<std::size_t>(index);
  if (slot < kMaxGpus && gpus[slot].load(std::memory_order_acquire)) std::ignore = cudaSetDevice(index);
}

std::mutex& crossing() {
  static std::mutex only;
  return only;
}

void order(Gpu& earlier, Gpu& later) {
  if (&earlier == &later) return;
  const std::lock_guard lock(crossing());  // one event a device is enough
  use(earlier.device);
  check(cudaEventRecord(earlier.reached, earlier.stream));
  use(later.device);
  check(cudaStreamWaitEvent(later.stream, earlier.reached, 0));
}

void open_pool(Gpu& owner, const Gpu& reader) {
  const std::uint64_t bit = std::uint64_t{1} << reader.device.index();
  if (&owner == &reader || (owner.readers.load(std::memory_order_acquire) & bit) != 0) return;
  int can = 0;
  check(cudaDeviceCanAccessPeer(&can, reader.device.index(), owner.device.index()));
  if (can) {
    cudaMemAccessDesc access{};
    access.location.type = cudaMemLocationTypeDevice;
    access.location.id = reader.device.index();
    access.flags = cudaMemAccessFlagsProtReadWrite;
    // Where that is refused for all that, copies between the two go through the host.
    if (cudaMemPoolSetAccess(owner.pool, &access, 1) != cudaSuccess) std::ignore = cudaGetLastError();
  }
  owner.readers.fetch_or(bit, std::memory_order_release);
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
