// Devices, their properties, peers and errors: the calls.
#include <cstring>

#include "tests/cudasim/state.h"

using namespace cudasim;
using namespace cudasim::detail;

namespace {
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
    p.multiProcessorCount = device(index).multiprocessors;
    *properties = p;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  return api(Call::uncounted, [&] {
    if (!exists(index)) return cudaErrorInvalidDevice;
    switch (attribute) {
      case cudaDevAttrMultiProcessorCount: *value = device(index).multiprocessors; break;
      case cudaDevAttrComputeCapabilityMajor: *value = device(index).capability; break;
      default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int index, int peer) {
  return api(Call::uncounted, [&] {
    if (!exists(index) || !exists(peer)) return cudaErrorInvalidDevice;
    *can = index != peer && world().peer_access ? 1 : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return api(Call::other, [&] {
    if (flags != 0) return cudaErrorInvalidValue;
    if (!exists(peer) || peer == host().device) return cudaErrorInvalidDevice;
    if (!world().peer_access) return cudaErrorPeerAccessUnsupported;
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
