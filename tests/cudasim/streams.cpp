// Streams and events: the calls.
#include <utility>

#include "tests/cudasim/state.h"

using namespace cudasim;
using namespace cudasim::detail;

namespace cudasim::detail {
CUstream_st* find_stream(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) return &current_device().legacy;
  for (int i = 0; i < world().count; ++i) {
    if (device(i).streams.count(stream) != 0) return stream;
  }
  return nullptr;
}
}  // namespace cudasim::detail

namespace {
CUevent_st* find_event(cudaEvent_t event) { return world().events.count(event) != 0 ? event : nullptr; }

cudaError_t wait_for(const Point& point, int index) {
  ++device(index).counters.host_waits;
  force(point);
  device(index).heap.trim(device(index).heap.release_threshold);
  return settle(device(index));
}

template <class Body> cudaError_t with_stream(Call kind, cudaStream_t stream, Body body) {
  return api(kind, [&] {
    CUstream_st* found = find_stream(stream);
    return found ? body(*found) : cudaErrorInvalidResourceHandle;
  });
}

template <class Body> cudaError_t with_event(Call kind, cudaEvent_t event, Body body) {
  return api(kind, [&] { return find_event(event) ? body(*event) : cudaErrorInvalidResourceHandle; });
}
}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return api(Call::other, [&] {
    if (stream == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0) return cudaErrorInvalidValue;
    static std::uint64_t serial = 0;
    auto* made = new CUstream_st;
    made->queue = std::make_shared<Queue>();
    made->queue->device = host().device;
    made->queue->serial = ++serial;
    made->flags = flags;
    current_device().streams.insert(made);
    *stream = made;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return with_stream(Call::uncounted, stream, [&](CUstream_st& s) {
    if (&s == &current_device().legacy) return cudaErrorInvalidResourceHandle;
    if (s.capture) invalidate(s.capture);
    // CUDA lets the work finish behind the caller's back. Late work would be lost with its stream, so it runs now.
    force(end_of(s));
    device(s.queue->device).streams.erase(&s);
    delete &s;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return with_stream(Call::other, stream, [&](CUstream_st& s) {
    const cudaError_t refused = refuse_while_capturing(s);
    return refused != cudaSuccess ? refused : wait_for(end_of(s), s.queue->device);
  });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return with_stream(Call::other, stream, [&](CUstream_st& s) {
    const cudaError_t refused = refuse_while_capturing(s);
    if (refused != cudaSuccess) return refused;
    step(end_of(s));
    if (!end_of(s).reached()) return cudaErrorNotReady;
    return settle(device(s.queue->device));
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return with_stream(Call::other, stream, [&](CUstream_st& s) {
    if (function == nullptr) return cudaErrorInvalidValue;
    return enqueue(s, [function, data] {
      world().in_host_function = true;
      function(data);
      world().in_host_function = false;
    });
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return with_stream(Call::other, stream, [&](CUstream_st& s) {
    if (!find_event(event)) return cudaErrorInvalidResourceHandle;
    if (event->capture || s.capture) return wait_captured(s, *event);
    enqueue_wait(*s.queue, event->point);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return api(Call::other, [&] {
    if (event == nullptr) return cudaErrorInvalidValue;
    *event = new CUevent_st;
    (*event)->device = host().device;
    (*event)->flags = flags;
    world().events.insert(*event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return with_event(Call::uncounted, event, [&](CUevent_st& e) {
    world().events.erase(&e);
    delete &e;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return with_stream(Call::other, stream, [&](CUstream_st& s) {
    if (!find_event(event) || event->device != s.queue->device) return cudaErrorInvalidResourceHandle;
    if (s.capture) {
      event->capture = s.capture;
      event->tail = s.tail;
      return cudaSuccess;
    }
    event->capture.reset();
    event->time = std::make_shared<std::chrono::steady_clock::time_point>();
    const cudaError_t result = enqueue(s, [time = event->time] { *time = std::chrono::steady_clock::now(); });
    event->point = end_of(s);
    return result;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return with_event(Call::other, event, [&](CUevent_st& e) {
    if (e.capture) return invalidate(e.capture), cudaErrorCapturedEvent;
    step(e.point);
    return e.point.reached() ? settle(device(e.device)) : cudaErrorNotReady;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return with_event(Call::other, event, [&](CUevent_st& e) {
    if (e.capture) return invalidate(e.capture), cudaErrorCapturedEvent;
    return wait_for(e.point, e.device);
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return api(Call::other, [&] {
    if (!find_event(start) || !find_event(end) || !start->time || !end->time) return cudaErrorInvalidResourceHandle;
    if (((start->flags | end->flags) & cudaEventDisableTiming) != 0) return cudaErrorInvalidResourceHandle;
    if (!start->point.reached() || !end->point.reached()) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *start->time).count();
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return api(Call::other, [] {
    const cudaError_t refused = refuse_unsafe_call();
    if (refused != cudaSuccess) return refused;
    Device& d = current_device();
    ++d.counters.host_waits;
    force_device(d.index);
    d.heap.trim(d.heap.release_threshold);
    return settle(d);
  });
}
