// The CPU as a device, and seven more that share its memory: statistics a device, blocks from one cache.
#include <array>
#include <atomic>
#include <cstring>

#include "core/block_cache.h"
#include "core/error.h"
#include "core/runtime.h"

namespace halftone {
namespace {

/// What one device has handed out. A cache line each: devices are used by different threads.
class alignas(block_cache::kAlignment) Ledger {
 public:
  void add(std::int64_t bytes) {
    const std::int64_t now = current_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    std::int64_t peak = peak_.load(std::memory_order_relaxed);
    while (now > peak && !peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
    allocations_.fetch_add(1, std::memory_order_relaxed);
  }
  void subtract(std::int64_t bytes) { current_.fetch_sub(bytes, std::memory_order_relaxed); }
  void reset_peak() { peak_.store(current_.load(std::memory_order_relaxed), std::memory_order_relaxed); }
  MemoryStats read() const {
    return {.current = current_.load(std::memory_order_relaxed),
            .peak = peak_.load(std::memory_order_relaxed),
            .reserved = block_cache::bytes_held(),
            .allocations = allocations_.load(std::memory_order_relaxed)};
  }

 private:
  std::atomic<std::int64_t> current_{0}, peak_{0}, allocations_{0};
};

class CpuRuntime final : public Runtime {
 public:
  int device_count() const override { return kCpuDevices; }

  void* allocate(Device device, std::size_t bytes) override {
    Ledger& ledger = ledgers_[slot(device)];
    void* block = block_cache::take(bytes);
    if (!block) [[unlikely]]
      fail_to_allocate(device, bytes, ledger.read());
    ledger.add(static_cast<std::int64_t>(bytes));
    return block;
  }

  void free(Device device, void* data, std::size_t bytes) noexcept override {
    if (!data) return;
    block_cache::give(data, bytes);
    ledgers_[static_cast<std::size_t>(std::max<int>(device.index(), 0))].subtract(static_cast<std::int64_t>(bytes));
  }

  void copy(void* to, Device, const void* from, Device, std::size_t bytes, bool) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  // The CPU needs none: its own memory is as good.
  void* allocate_pinned(std::size_t bytes) override { return allocate(Device(kCPU), bytes); }
  void free_pinned(void* data, std::size_t bytes) noexcept override { free(Device(kCPU), data, bytes); }
  bool is_pinned(const void*) const override { return false; }

  void synchronize(Device device) override { slot(device); }
  MemoryStats memory_stats(Device device) const override { return ledgers_[slot(device)].read(); }
  void reset_peak_memory(Device device) override { ledgers_[slot(device)].reset_peak(); }
  void empty_cache(Device device) override {
    slot(device);
    block_cache::release_idle();
  }

 private:
  static std::size_t slot(Device device) {
    const int index = std::max<int>(device.index(), 0);
    check(device.is_cpu() && index < kCpuDevices, "the CPU runtime has no device ", device,
          ", only cpu:0 to cpu:", kCpuDevices - 1);
    return static_cast<std::size_t>(index);
  }

  [[noreturn, gnu::noinline]] static void fail_to_allocate(Device device, std::size_t bytes, const MemoryStats& stats) {
    fail(device, ": out of memory: cannot allocate ", bytes, " bytes; ", stats.current, " bytes are in use on ", device,
         ", ", stats.reserved, " bytes are held by all CPU devices, and the limit is ", block_cache::limit(), " bytes");
  }

  std::array<Ledger, kCpuDevices> ledgers_;
};

}  // namespace

std::unique_ptr<Runtime> make_cpu_runtime() { return std::make_unique<CpuRuntime>(); }

}  // namespace halftone
