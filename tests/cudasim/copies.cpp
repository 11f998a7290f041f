// Copies and fills.
#include <cstring>

#include "tests/cudasim/arena.h"
#include "tests/cudasim/checks.h"
#include "tests/cudasim/state.h"

using namespace cudasim;
using namespace cudasim::detail;

namespace {
enum class Place { pageable, pinned, device };

Place place_of(const void* pointer) {
  if (in_arenas(pointer)) return Place::device;
  return find_pinned(reinterpret_cast<std::uintptr_t>(pointer)) ? Place::pinned : Place::pageable;
}

bool is_allocated(const void* pointer, std::size_t bytes) {
  if (!in_arenas(pointer)) return pointer != nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  const auto* found = device(device_of(address)).heap.around(address);
  return found && bytes <= found->second.bytes - (address - found->first);
}

std::uint32_t bit_of(const void* pointer) { return in_arenas(pointer) ? std::uint32_t{1} << device_of(pointer) : 0; }

void copy_now(void* to, const void* from, std::size_t bytes) {
  if (!may_read("a copy", from, bytes, false) || !may_write("a copy", to, bytes)) return;
  open_arenas(bit_of(to) | bit_of(from));
  std::memmove(to, from, bytes);
  if (in_arenas(to)) in_arenas(from) ? copy_marks(to, from, bytes) : mark(to, bytes, Byte::defined);
}

void count_copy(const void* to, const void* from, std::size_t bytes) {
  const void* on_device = in_arenas(to) ? to : from;
  const bool pageable = place_of(to) == Place::pageable || place_of(from) == Place::pageable;
  if (pageable && in_arenas(on_device)) ++device(device_of(on_device)).counters.pageable_copies;
  if (in_arenas(to) && in_arenas(from)) {
    Counters& counters = device(device_of(from)).counters;
    const bool is_same = device_of(to) == device_of(from);
    ++(is_same ? counters.device_to_device : counters.peer_copies);
    if (!is_same) counters.peer_bytes += bytes;
  } else if (in_arenas(to)) {
    Counters& counters = device(device_of(to)).counters;
    ++counters.host_to_device;
  } else if (in_arenas(from)) {
    ++device(device_of(from)).counters.device_to_host;
  }
}

bool fits(const void* pointer, bool is_device_side) {
  const Place place = place_of(pointer);
  return is_device_side ? place != Place::pageable : place != Place::device;
}

cudaError_t check_copy(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (!is_allocated(to, bytes) || !is_allocated(from, bytes)) return cudaErrorInvalidValue;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (kind == cudaMemcpyDefault) return cudaSuccess;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return fits(to, to_device) && fits(from, from_device) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t wait_after(cudaError_t queued, CUstream_st& stream) {
  if (queued != cudaSuccess) return queued;
  Device& d = device(stream.queue->device);
  ++d.counters.host_waits;
  force(end_of(stream));
  return settle(d);
}

cudaError_t copy_async(CUstream_st& stream, void* to, const void* from, std::size_t bytes) {
  const Place target = place_of(to);
  const Place source = place_of(from);
  const bool pageable = target == Place::pageable || source == Place::pageable;
  if (stream.capture && pageable) {
    invalidate(stream.capture);
    return cudaErrorStreamCaptureUnsupported;
  }
  count_copy(to, from, bytes);
  if (source == Place::pageable && target == Place::device) {
    // The driver copies pageable memory aside before it returns: later changes of the source do not matter.
    const auto* first = static_cast<const unsigned char*>(from);
    auto staged = std::make_shared<std::vector<unsigned char>>(first, first + bytes);
    return enqueue(stream, [=] { copy_now(to, staged->data(), bytes); });
  }
  const cudaError_t queued = enqueue(stream, [=] { copy_now(to, from, bytes); });
  return pageable ? wait_after(queued, stream) : queued;
}

cudaError_t copy_blocking(void* to, const void* from, std::size_t bytes) {
  const cudaError_t refused = refuse_unsafe_call();
  if (refused != cudaSuccess) return refused;
  CUstream_st& stream = current_device().legacy;
  count_copy(to, from, bytes);
  const cudaError_t queued = enqueue(stream, [=] { copy_now(to, from, bytes); });
  // Between two places on devices even the call without "Async" does not wait.
  return in_arenas(to) && in_arenas(from) ? queued : wait_after(queued, stream);
}

cudaError_t fill(CUstream_st& stream, void* pointer, int value, std::size_t bytes) {
  if (!in_arenas(pointer) && place_of(pointer) != Place::pinned) return cudaErrorInvalidValue;
  if (!is_allocated(pointer, bytes)) return cudaErrorInvalidValue;
  ++device(stream.queue->device).counters.memsets;
  return enqueue(stream, [=] {
    if (!may_write("a memset", pointer, bytes)) return;
    if (in_arenas(pointer)) open_arenas(bit_of(pointer));
    std::memset(pointer, value, bytes);
    if (in_arenas(pointer)) mark(pointer, bytes, Byte::defined);
  });
}
}  // namespace

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return api(Call::copy, [&] {
    if (bytes == 0) return cudaSuccess;
    const cudaError_t wrong = check_copy(to, from, bytes, kind);
    return wrong != cudaSuccess ? wrong : copy_blocking(to, from, bytes);
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return api(Call::copy, [&] {
    CUstream_st* s = find_stream(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (bytes == 0) return cudaSuccess;
    const cudaError_t wrong = check_copy(to, from, bytes, kind);
    return wrong != cudaSuccess ? wrong : copy_async(*s, to, from, bytes);
  });
}

cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, std::size_t bytes,
                                cudaStream_t stream) {
  return api(Call::copy, [&] {
    CUstream_st* s = find_stream(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (bytes == 0) return cudaSuccess;
    if (!is_allocated(to, bytes) || !is_allocated(from, bytes)) return cudaErrorInvalidValue;
    if (!in_arenas(to) || !in_arenas(from)) return cudaErrorInvalidValue;
    if (device_of(to) != to_device || device_of(from) != from_device) return cudaErrorInvalidValue;
    return copy_async(*s, to, from, bytes);
  });
}

cudaError_t cudaMemcpyPeer(void* to, int to_device, const void* from, int from_device, std::size_t bytes) {
  return cudaMemcpyPeerAsync(to, to_device, from, from_device, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  return api(Call::copy, [&] {
    CUstream_st* s = find_stream(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    return bytes == 0 ? cudaSuccess : fill(*s, pointer, value, bytes);
  });
}

cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) {
  return api(Call::copy, [&] {
    const cudaError_t refused = refuse_unsafe_call();
    if (refused != cudaSuccess || bytes == 0) return refused;
    return fill(current_device().legacy, pointer, value, bytes);
  });
}
