#include "core/runtime.h"

#include "core/error.h"

namespace halftone {
namespace {

// Each is made when first asked for, so that a program that stays on the CPU never wakes a GPU; and never destroyed,
// because tensors in globals are given back after main has ended.
Runtime* find_runtime(DeviceType type) {
  if (type == kCPU) {
    static Runtime* const cpu = make_cpu_runtime().release();
    return cpu;
  }
  static Runtime* const cuda = make_cuda_runtime().release();
  return cuda;
}

}  // namespace

Runtime& runtime(DeviceType type) {
  Runtime* found = find_runtime(type);
  if (!found) [[unlikely]]
    fail("no ", type, " device: halftone was built without CUDA, or this machine has no usable GPU");
  return *found;
}

bool has_runtime(DeviceType type) { return find_runtime(type) != nullptr; }

MemoryStats memory_stats(Device device) { return runtime(device.type()).memory_stats(canonical(device)); }
void reset_peak_memory_stats(Device device) { runtime(device.type()).reset_peak_memory(canonical(device)); }
void empty_cache(Device device) { runtime(device.type()).empty_cache(canonical(device)); }

namespace cuda {

bool is_available() { return device_count() > 0; }
int device_count() { return has_runtime(kCUDA) ? runtime(kCUDA).device_count() : 0; }

bool is_bf16_supported(DeviceIndex index) {
  return is_available() && runtime(kCUDA).has_bfloat16(canonical(Device(kCUDA, index)));
}

void synchronize(DeviceIndex index) { runtime(kCUDA).synchronize(canonical(Device(kCUDA, index))); }

}  // namespace cuda

}  // namespace halftone
