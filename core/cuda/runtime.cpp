// CUDA devices as far as bytes go.
#include "core/runtime.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/cuda/arena.h"
#include "core/cuda/gpu.h"
#include "core/cuda/pinned.h"

namespace halftone {

using namespace cuda;

namespace {

/// What one device has handed out.
class Ledger {
 public:
  void add(std::size_t bytes) {
    const std::int64_t now = current_ += static_cast<std::int64_t>(bytes);
    std::int64_t peak = peak_;
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
    ++allocations_;
  }
  void subtract(std::size_t bytes) { current_ -= static_cast<std::int64_t>(bytes); }
  void reset_peak() { peak_ = current_.load(); }
  MemoryStats read() const { return {current_, peak_, 0, allocations_}; }

 private:
  std::atomic<std::int64_t> current_{0}, peak_{0}, allocations_{0};
};

class CudaRuntime final : public Runtime {
 public:
  int device_count() const override { return count_gpus(); }
  DeviceProperties properties(Device device) const override {
    cudaDeviceProp found{};
    check(cudaGetDeviceProperties(&found, gpu(device).device.index()));
    return {found.name, static_cast<std::int64_t>(found.totalGlobalMem), found.multiProcessorCount};
  }

  bool has_bfloat16(Device device) const override {
    int major = 0;  // of the compute capability
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index()));
    return major >= 8;
  }

  void* allocate(Device device, std::size_t bytes) override {
    Gpu& g = gpu(device);
    check_capture(g);
    Arena* const arena = g.arena.load(std::memory_order_acquire);
    void* const block = arena ? arena->take(bytes) : allocate_in_order(g, bytes);
    if (!block) fail_to_allocate(g, bytes);
    ledger(device).add(bytes);
    return block;
  }

  void free(Device device, void* data, std::size_t bytes) noexcept override {
    if (!data) return;
    ledger(device).subtract(bytes);
    Gpu& g = gpu(device);
    if (g.arena.load(std::memory_order_acquire) && Arena::keep(g, data)) return;
    if (Arena::give(data)) return;  // one of a graph's
    std::ignore = try_use(g.device);
    std::ignore = cudaFreeAsync(data, g.stream);
  }

  void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
            bool non_blocking) override {
    if (bytes == 0) return;
    if (from_device.is_cuda() && to_device.is_cuda()) return copy_between(to, to_device, from, from_device, bytes);
    Gpu& g = gpu(to_device.is_cuda() ? to_device : from_device);
    check_capture(g);
    use(g.device);
    if (g.arena.load(std::memory_order_acquire)) [[unlikely]]
      check(is_pinned(to_device.is_cuda() ? from : to), "cuda::Graph: a copy between ordinary host memory and ",
            g.device,
            " cannot be captured (item() and printing make one); pin the host's tensor, or copy outside the graph");
    if (to_device.is_cuda()) return copy_to_device(g, to, from, bytes);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, g.stream));
    if (!(non_blocking && is_pinned(to))) wait_for(g);
  }

  void* allocate_pinned(std::size_t bytes) override { return pinned::take(bytes); }
  void free_pinned(void* data, std::size_t bytes) noexcept override { pinned::give(data, bytes); }
  bool is_pinned(const void* data) const override { return pinned::contains(data); }

  void synchronize(Device device) override { wait_for(gpu(device)); }

  MemoryStats memory_stats(Device device) const override {
    MemoryStats stats = ledger(device).read();
    std::uint64_t reserved = 0;
    check(cudaMemPoolGetAttribute(gpu(device).pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    stats.reserved = static_cast<std::int64_t>(reserved);
    return stats;
  }
  void reset_peak_memory(Device device) override { ledger(device).reset_peak(); }
  void empty_cache(Device device) override {
    wait_for(gpu(device));  // blocks are given back in the stream's order
    check(cudaMemPoolTrimTo(gpu(device).pool, 0));
  }

 private:
  /// The source may change as soon as this returns, unless it is pinned. CUDA promises that of other memory by waiting
  /// for the stream, if at all; a copy in pinned memory makes nobody wait.
  static void copy_to_device(Gpu& g, void* to, const void* from, std::size_t bytes) {
    constexpr std::size_t kMostStaged = std::size_t{8} << 20;  // more takes the host longer than the wait
    const auto queue = [&](const void* source) {
      return cudaMemcpyAsync(to, source, bytes, cudaMemcpyHostToDevice, g.stream);
    };
    if (pinned::contains(from)) return check(queue(from));
    if (bytes > kMostStaged) {
      check(queue(from));
      return wait_for(g);
    }
    void* const staged = pinned::take(bytes);
    std::memcpy(staged, from, bytes);
    use(g.device);
    const cudaError_t status = queue(staged);
    pinned::give(staged, bytes);
    check(status);
  }

  static void copy_between(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) {
    Gpu &source = gpu(from_device), &target = gpu(to_device);
    check_capture(target);
    use(target.device);
    if (&source == &target) {
      check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, target.stream));
      return;
    }
    check(!source.arena.load() && !target.arena.load(), "cuda::Graph: a copy from ", source.device, " to ",
          target.device, " cannot be captured: a graph holds one device's work");
    open_pool(source, target);
    open_pool(target, source);
    order(source, target);
    check(cudaMemcpyPeerAsync(to, target.device.index(), from, source.device.index(), bytes, target.stream));
    order_or_wait(target, source);  // the source's memory may be given back right away, in its own stream's order
  }

  // For work that is queued already: if `later` cannot be made to wait, the host does before it tells why.
  static void order_or_wait(Gpu& earlier, Gpu& later) {
    try {
      order(earlier, later);
    } catch (const Error&) {
      std::ignore = cudaStreamSynchronize(earlier.stream);
      throw;
    }
  }

  /// Null when the device's memory is used up.
  static void* allocate_in_order(Gpu& g, std::size_t bytes) {
    use(g.device);
    void* block = nullptr;
    cudaError_t status = cudaMallocAsync(&block, bytes, g.stream);
    if (status == cudaErrorMemoryAllocation) {  // what was given back but not yet reached by the stream may do
      std::ignore = cudaGetLastError();
      if (cudaStreamSynchronize(g.stream) == cudaSuccess) std::ignore = cudaMemPoolTrimTo(g.pool, 0);
      status = cudaMallocAsync(&block, bytes, g.stream);
    }
    if (status == cudaErrorMemoryAllocation) return nullptr;
    check(status);
    return block;
  }

  [[noreturn, gnu::noinline]] void fail_to_allocate(const Gpu& g, std::size_t bytes) {
    std::ignore = cudaGetLastError();
    std::size_t free_bytes = 0, total = 0;
    std::ignore = cudaMemGetInfo(&free_bytes, &total);
    fail(g.device, ": out of memory: cannot allocate ", bytes, " bytes; tensors hold ", ledger(g.device).read().current,
         " bytes, and ", free_bytes, " of the device's ", total, " bytes are free");
  }

  Ledger& ledger(Device device) const { return ledgers_[static_cast<std::size_t>(gpu(device).device.index())]; }

  mutable std::array<Ledger, 64> ledgers_;
};

}  // namespace

std::unique_ptr<Runtime> make_cuda_runtime() { return count_gpus() > 0 ? std::make_unique<CudaRuntime>() : nullptr; }

}  // namespace halftone
