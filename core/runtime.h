// A kind of device, as far as bytes go: memory, copies, waiting, statistics. One implementation per kind; a build
// without CUDA links one whose factory returns null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/device.h"

namespace halftone {

/// Bytes handed out to tensors on one device. `reserved` counts what is kept for reuse too.
struct MemoryStats {
  std::int64_t current = 0;
  std::int64_t peak = 0;
  std::int64_t reserved = 0;
  std::int64_t allocations = 0;  // calls of allocate so far
};

/// What a device is, as far as its runtime can tell; 0 is unknown.
struct DeviceProperties {
  std::string name;
  std::int64_t total_memory = 0;  // bytes
  int multiprocessors = 0;
};

class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual int device_count() const = 0;
  virtual DeviceProperties properties(Device) const { return {}; }
  /// Whether the device computes products of bfloat16 itself.
  virtual bool has_bfloat16(Device) const { return true; }
  /// 64-byte aligned memory, uninitialised. Throws Error naming the size, the device and what is in use.
  virtual void* allocate(Device device, std::size_t bytes) = 0;
  /// Takes back what allocate gave, with the same size.
  virtual void free(Device device, void* data, std::size_t bytes) noexcept = 0;
  /// Copies within or between devices of this kind, and to and from the host; ordered with the devices' work. What goes
  /// to the host has arrived when it returns, unless `non_blocking` and pinned. What comes from the host may be changed
  /// when it returns, unless pinned.
  virtual void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
                    bool non_blocking = false) = 0;
  /// Page-locked host memory, from and to which devices of this kind copy while the host goes on. Given back like other
  /// memory; it is not used again before the copies queued so far are done.
  virtual void* allocate_pinned(std::size_t bytes) = 0;
  virtual void free_pinned(void* data, std::size_t bytes) noexcept = 0;
  virtual bool is_pinned(const void* data) const = 0;
  /// Waits for everything queued on the device.
  virtual void synchronize(Device device) = 0;
  virtual MemoryStats memory_stats(Device device) const = 0;
  virtual void reset_peak_memory(Device device) = 0;
  /// Gives memory that is only kept for reuse back to the system.
  virtual void empty_cache(Device device) = 0;
};

/// The runtime of a kind of device; throws Error when this build or machine has none.
Runtime& runtime(DeviceType type);
bool has_runtime(DeviceType type);

std::unique_ptr<Runtime> make_cpu_runtime();
/// Null when the build has no CUDA or the machine no usable device.
std::unique_ptr<Runtime> make_cuda_runtime();

/// CPU devices exist so that data parallelism can be used and studied anywhere: cpu:0 .. cpu:7 share one memory.
inline constexpr int kCpuDevices = 8;

/// Bytes held by tensors on a device: now, at most since the last reset, and kept for reuse.
MemoryStats memory_stats(Device device);
void reset_peak_memory_stats(Device device);
void empty_cache(Device device);

namespace cuda {
bool is_available();
int device_count();
/// Whether the device multiplies bfloat16: from compute capability 8.0 on. The current device when no index is given;
/// false without CUDA.
bool is_bf16_supported(DeviceIndex index = -1);
/// Waits for the device's work; the current device when no index is given.
void synchronize(DeviceIndex index = -1);
}  // namespace cuda

}  // namespace halftone
