// Allocation: addresses are given out when a call is made; memory comes to life and dies in the order of the streams.
#include <algorithm>
#include <cstring>
#include <new>

#include "tests/cudasim/arena.h"
#include "tests/cudasim/asan.h"
#include "tests/cudasim/checks.h"
#include "tests/cudasim/state.h"

using namespace cudasim;
using namespace cudasim::detail;

namespace {
// Half, float and double read it as NaN, an index as -1.
constexpr int kPoison = 0xFF;

void come_to_life(std::uintptr_t start, std::size_t bytes) {
  auto* memory = reinterpret_cast<void*>(start);
  asan::unpoison(memory, bytes);
  std::memset(memory, kPoison, bytes);
  mark(memory, bytes, Byte::undefined);
}

void die(std::uintptr_t start, std::size_t bytes) {
  auto* memory = reinterpret_cast<void*>(start);
  asan::unpoison(memory, bytes);
  std::memset(memory, kPoison, bytes);
  mark(memory, bytes, Byte::unallocated);
  asan::poison(memory, bytes);
}

std::uintptr_t allocate(Device& d, std::size_t bytes, bool pooled,
                        std::map<std::uintptr_t, PendingFree>* reusable = nullptr) {
  ++d.counters.allocations;
  if (!pooled) ++d.counters.blocking_allocations;
  std::uintptr_t start = d.heap.allocate(bytes, pooled, reusable);
  if (start == 0) {
    // Memory that other streams have freed but not yet given back may help.
    force_device(d.index);
    start = d.heap.allocate(bytes, pooled);
  }
  return start;
}

cudaError_t pool_of(cudaMemPool_t pool, Device** found) {
  for (int i = 0; i < world().count; ++i) {
    if (&device(i).pool == pool) {
      *found = &device(i);
      return cudaSuccess;
    }
  }
  return cudaErrorInvalidValue;
}
}  // namespace

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return api(Call::allocation, [&] {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    const cudaError_t refused = refuse_unsafe_call();
    if (refused != cudaSuccess || bytes == 0) return refused;
    Device& d = current_device();
    const std::uintptr_t start = allocate(d, bytes, false);
    if (start == 0) return cudaErrorMemoryAllocation;
    run_on(
        d.index, [&] { come_to_life(start, bytes); }, true);
    *pointer = reinterpret_cast<void*>(start);
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* pointer) {
  return api(Call::uncounted, [&] {
    if (pointer == nullptr) return cudaSuccess;
    if (!in_arenas(pointer)) return cudaErrorInvalidValue;
    const auto start = reinterpret_cast<std::uintptr_t>(pointer);
    Device& d = device(device_of(start));
    if (!d.heap.find(start)) return cudaErrorInvalidValue;
    const cudaError_t refused = refuse_unsafe_call();
    if (refused != cudaSuccess) return refused;
    ++d.counters.frees;
    ++d.counters.host_waits;
    force_device(d.index);
    const Allocation gone = d.heap.remove(start);
    run_on(
        d.index, [&] { die(start, gone.bytes); }, true);
    if (gone.span != 0) d.heap.give_back(start, gone.span);
    return settle(d);
  });
}

cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t stream) {
  return api(Call::allocation, [&] {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    CUstream_st* s = find_stream(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (bytes == 0) return cudaSuccess;
    Device& d = device(s->queue->device);
    const std::uintptr_t start = allocate(d, bytes, true, s->capture ? nullptr : &s->queue->pending_frees);
    if (start == 0) return cudaErrorMemoryAllocation;
    if (s->capture) keep_with_graph(*s, start, d.heap.detach(start));
    *pointer = reinterpret_cast<void*>(start);
    return enqueue(
        *s, [start, bytes] { come_to_life(start, bytes); }, true);
  });
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return api(Call::uncounted, [&] {
    ++current_device().counters.contexts;
    CUstream_st* s = find_stream(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (pointer == nullptr) return cudaSuccess;
    if (!in_arenas(pointer)) return cudaErrorInvalidValue;
    const auto start = reinterpret_cast<std::uintptr_t>(pointer);
    Device& d = device(device_of(start));
    if (!d.heap.find(start)) return cudaErrorInvalidValue;
    ++d.counters.frees;
    const Allocation gone = d.heap.remove(start);
    if (s->capture) {
      if (gone.span != 0) keep_with_graph(*s, start, gone.span);
      return enqueue(
          *s, [start, bytes = gone.bytes] { die(start, bytes); }, true);
    }
    static std::uint64_t serial = 0;
    const PendingFree pending{gone.span, ++serial};
    // A graph keeps its own addresses, and another device's memory is not this stream's to reuse early.
    const bool reusable = gone.span != 0 && d.index == s->queue->device;
    if (reusable) s->queue->pending_frees.emplace(start, pending);
    const auto end = [=, queue = s->queue.get(), bytes = gone.bytes] {
      const int owner = device_of(start);
      run_on(
          owner, [&] { die(start, bytes); }, true);
      if (pending.span == 0) return;
      if (reusable) {
        const auto found = queue->pending_frees.find(start);
        if (found == queue->pending_frees.end() || found->second.serial != pending.serial) return;  // it was reused
        queue->pending_frees.erase(found);
      }
      device(owner).heap.give_back(start, pending.span);
    };
    const cudaError_t queued = enqueue(*s, end, true);
    return d.sticky != cudaSuccess ? d.sticky : queued;
  });
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int index) {
  return api(Call::other, [&] {
    if (index < 0 || index >= world().count) return cudaErrorInvalidDevice;
    *pool = &device(index).pool;
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return api(Call::other, [&] {
    Device* d = nullptr;
    if (pool_of(pool, &d) != cudaSuccess || value == nullptr) return cudaErrorInvalidValue;
    Heap& heap = d->heap;
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold: heap.release_threshold = *static_cast<std::uint64_t*>(value); break;
      // The high-water marks can only be reset to the present.
      case cudaMemPoolAttrReservedMemHigh: heap.reserved_high = heap.reserved(); break;
      case cudaMemPoolAttrUsedMemHigh: heap.pooled_high = heap.pooled(); break;
      case cudaMemPoolAttrReservedMemCurrent:
      case cudaMemPoolAttrUsedMemCurrent: return cudaErrorInvalidValue;
      default: break;  // what may be reused early: accepted and ignored
    }
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return api(Call::uncounted, [&] {
    Device* d = nullptr;
    if (pool_of(pool, &d) != cudaSuccess || value == nullptr) return cudaErrorInvalidValue;
    const Heap& heap = d->heap;
    auto& out = *static_cast<std::uint64_t*>(value);
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold: out = heap.release_threshold; break;
      case cudaMemPoolAttrReservedMemCurrent: out = heap.reserved(); break;
      case cudaMemPoolAttrReservedMemHigh: out = heap.reserved_high; break;
      case cudaMemPoolAttrUsedMemCurrent: out = heap.pooled(); break;
      case cudaMemPoolAttrUsedMemHigh: out = heap.pooled_high; break;
      default: *static_cast<int*>(value) = 1; break;
    }
    return cudaSuccess;
  });
}

// For NCCL and copies. Kernels of another device that touch the memory are still reported: halftone's never should.
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const cudaMemAccessDesc* list, std::size_t count) {
  return api(Call::other, [&] {
    Device* d = nullptr;
    if (pool_of(pool, &d) != cudaSuccess || (list == nullptr && count > 0)) return cudaErrorInvalidValue;
    for (std::size_t i = 0; i < count; ++i) {
      const int reader = list[i].location.id;
      if (list[i].location.type != cudaMemLocationTypeDevice) return cudaErrorInvalidValue;
      if (reader < 0 || reader >= world().count) return cudaErrorInvalidDevice;
      if (reader == d->index && list[i].flags != cudaMemAccessFlagsProtReadWrite) return cudaErrorInvalidDevice;
      if (reader != d->index && !world().peer_access) return cudaErrorPeerAccessUnsupported;
      const std::uint32_t bit = std::uint32_t{1} << reader;
      d->pool.readers =
          list[i].flags == cudaMemAccessFlagsProtReadWrite ? d->pool.readers | bit : d->pool.readers & ~bit;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t bytes_to_keep) {
  return api(Call::other, [&] {
    Device* d = nullptr;
    if (pool_of(pool, &d) != cudaSuccess) return cudaErrorInvalidValue;
    d->heap.trim(bytes_to_keep);
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  return api(Call::uncounted, [&] {
    *available = current_device().heap.available();
    *total = current_device().heap.total;
    return cudaSuccess;
  });
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned flags) {
  return api(Call::allocation, [&] {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    const cudaError_t refused = refuse_unsafe_call();
    if (refused != cudaSuccess || bytes == 0) return refused;
    constexpr std::size_t kPage = 4096;
    if (bytes > kArenaBytes) return cudaErrorMemoryAllocation;
    void* memory = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
    if (memory == nullptr) return cudaErrorMemoryAllocation;
    std::memset(memory, kPoison, bytes);
    ++current_device().counters.blocking_allocations;
    world().pinned[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, flags, host().device};
    *pointer = memory;
    return cudaSuccess;
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return api(Call::uncounted, [&] {
    if (pointer == nullptr) return cudaSuccess;
    const auto found = world().pinned.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == world().pinned.end()) return cudaErrorInvalidValue;
    const cudaError_t refused = refuse_unsafe_call();
    if (refused != cudaSuccess) return refused;
    // It waits for everything, or work still queued would use the memory after this.
    for (int i = 0; i < world().count; ++i) force_device(i);
    ++current_device().counters.host_waits;
    world().pinned.erase(found);
    std::free(pointer);
    return settle(current_device());
  });
}

cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* host_pointer, unsigned) {
  return api(Call::other, [&] {
    if (!find_pinned(reinterpret_cast<std::uintptr_t>(host_pointer))) return cudaErrorInvalidValue;
    *device_pointer = host_pointer;
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return api(Call::uncounted, [&] {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, const_cast<void*>(pointer)};
    if (in_arenas(address) && device(device_of(address)).heap.around(address)) {
      *attributes = {cudaMemoryTypeDevice, device_of(address), const_cast<void*>(pointer), nullptr};
    } else if (const Pinned* pinned = find_pinned(address)) {
      *attributes = {cudaMemoryTypeHost, pinned->device, const_cast<void*>(pointer), const_cast<void*>(pointer)};
    }
    return cudaSuccess;
  });
}

namespace cudasim::detail {
const Pinned* find_pinned(std::uintptr_t address) {
  auto after = world().pinned.upper_bound(address);
  if (after == world().pinned.begin()) return nullptr;
  --after;
  return address - after->first < after->second.bytes ? &after->second : nullptr;
}
}  // namespace cudasim::detail
