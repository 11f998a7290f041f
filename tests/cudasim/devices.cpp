// Devices, their properties, peers and errors: the calls.
#include <cstring>

#include <algorithm>

#include <cudasim/launch.h>
#include "tests/cudasim/state.h"

using namespace cudasim;
using namespace cudasim::detail;

namespace {
constexpr int kThreads = 1024, kThreadsPerMultiprocessor = 2048, kBlocksPerMultiprocessor = 32;
constexpr int kSharedPerBlock = 48 << 10, kSharedPerMultiprocessor = 228 << 10, kSharedOptin = 227 << 10;
constexpr int kRegisters = 65536, kMaxGridX = 2147483647, kMaxGrid = 65535;

bool exists(int index) { return index >= 0 && index < world().count; }
}  // namespace

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  return api(Call::uncounted, [&] {
    *count = world().count;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int index) {
  return api(Call::uncounted, [&] {
    if (!exists(index)) return cudaErrorInvalidDevice;
    host().device = index;
    ++device(index).counters.contexts;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* index) {
  return api(Call::uncounted, [&] {
    *index = host().device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  return api(Call::uncounted, [&] {
    if (!exists(index)) return cudaErrorInvalidDevice;
    cudaDeviceProp p{};
    std::strcpy(p.name, "Simulated GPU");
    p.totalGlobalMem = device(index).heap.total;
    p.sharedMemPerBlock = kSharedPerBlock;
    p.regsPerBlock = p.regsPerMultiprocessor = kRegisters;
    p.warpSize = 32;
    p.memPitch = 2147483647;
    p.maxThreadsPerBlock = p.maxThreadsDim[0] = p.maxThreadsDim[1] = kThreads;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = kMaxGridX;
    p.maxGridSize[1] = p.maxGridSize[2] = kMaxGrid;
    p.totalConstMem = 64 << 10;
    p.major = 9;
    p.multiProcessorCount = device(index).multiprocessors;
    p.canMapHostMemory = p.concurrentKernels = p.unifiedAddressing = p.memoryPoolsSupported = 1;
    p.pciBusID = index + 1;
    p.asyncEngineCount = 2;
    p.memoryBusWidth = 64;
    p.l2CacheSize = 1 << 20;
    p.maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
    p.maxBlocksPerMultiProcessor = kBlocksPerMultiprocessor;
    p.sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
    p.sharedMemPerBlockOptin = kSharedOptin;
    *properties = p;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  return api(Call::uncounted, [&] {
    if (!exists(index)) return cudaErrorInvalidDevice;
    switch (attribute) {
      case cudaDevAttrMaxThreadsPerBlock:
      case cudaDevAttrMaxBlockDimX:
      case cudaDevAttrMaxBlockDimY: *value = kThreads; break;
      case cudaDevAttrMaxBlockDimZ: *value = 64; break;
      case cudaDevAttrMaxGridDimX: *value = kMaxGridX; break;
      case cudaDevAttrMaxGridDimY:
      case cudaDevAttrMaxGridDimZ: *value = kMaxGrid; break;
      case cudaDevAttrMaxSharedMemoryPerBlock: *value = kSharedPerBlock; break;
      case cudaDevAttrTotalConstantMemory: *value = 64 << 10; break;
      case cudaDevAttrWarpSize: *value = 32; break;
      case cudaDevAttrMaxRegistersPerBlock:
      case cudaDevAttrMaxRegistersPerMultiprocessor: *value = kRegisters; break;
      case cudaDevAttrClockRate:
      case cudaDevAttrMemoryClockRate: *value = 1000000; break;
      case cudaDevAttrMultiProcessorCount: *value = device(index).multiprocessors; break;
      case cudaDevAttrGlobalMemoryBusWidth: *value = 64; break;
      case cudaDevAttrL2CacheSize: *value = 1 << 20; break;
      case cudaDevAttrMaxThreadsPerMultiProcessor: *value = kThreadsPerMultiprocessor; break;
      case cudaDevAttrAsyncEngineCount: *value = 2; break;
      case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
      case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = kSharedPerMultiprocessor; break;
      case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = kSharedOptin; break;
      case cudaDevAttrMaxBlocksPerMultiprocessor: *value = kBlocksPerMultiprocessor; break;
      case cudaDevAttrCanMapHostMemory:
      case cudaDevAttrConcurrentKernels:
      case cudaDevAttrUnifiedAddressing:
      case cudaDevAttrStreamPrioritiesSupported:
      case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
      case cudaDevAttrComputeMode:
      case cudaDevAttrComputeCapabilityMinor:
      case cudaDevAttrIntegrated:
      case cudaDevAttrManagedMemory:
      case cudaDevAttrCooperativeLaunch: *value = 0; break;
      default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int index, int peer) {
  return api(Call::uncounted, [&] {
    if (!exists(index) || !exists(peer)) return cudaErrorInvalidDevice;
    *can = index != peer ? 1 : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return api(Call::other, [&] {
    if (flags != 0) return cudaErrorInvalidValue;
    if (!exists(peer) || peer == host().device) return cudaErrorInvalidDevice;
    std::uint32_t& peers = current_device().peers;
    if ((peers >> peer & 1) != 0) return cudaErrorPeerAccessAlreadyEnabled;
    peers |= std::uint32_t{1} << peer;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  return api(Call::other, [&] {
    if (!exists(peer)) return cudaErrorInvalidDevice;
    std::uint32_t& peers = current_device().peers;
    if ((peers >> peer & 1) == 0) return cudaErrorPeerAccessNotEnabled;
    peers &= ~(std::uint32_t{1} << peer);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -1;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  host().last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  return locked([] {
    const cudaError_t sticky = current_device().sticky;
    return sticky != cudaSuccess ? sticky : host().last_error;
  });
}

namespace cudasim {
cudaError_t kernel_attributes(cudaFuncAttributes* attributes, KernelAddress kernel) {
  return api(Call::uncounted, [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    *attributes = {};
    attributes->maxThreadsPerBlock = kThreads;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = 90;
    return cudaSuccess;
  });
}

cudaError_t blocks_per_multiprocessor(int* blocks, KernelAddress kernel, int threads, std::size_t dynamic_shared) {
  return api(Call::uncounted, [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (threads < 1 || threads > kThreads) return cudaErrorInvalidValue;
    const int by_threads = kThreadsPerMultiprocessor / ((threads + 31) / 32 * 32);
    *blocks = dynamic_shared > kSharedPerBlock ? 0 : std::min(by_threads, kBlocksPerMultiprocessor);
    return cudaSuccess;
  });
}
}  // namespace cudasim
