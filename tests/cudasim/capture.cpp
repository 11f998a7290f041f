#include "tests/cudasim/capture.h"

#include <algorithm>
#include <utility>

using namespace cudasim;
using namespace cudasim::detail;

CUgraph_st::~CUgraph_st() {
  for (const Taken& memory : taken) device(memory.device).heap.give_back(memory.start, memory.span);
}

namespace cudasim::detail {
namespace {
void merge(std::vector<CUgraphNode_st*>& into, const std::vector<CUgraphNode_st*>& from) {
  for (CUgraphNode_st* node : from) {
    if (std::find(into.begin(), into.end(), node) == into.end()) into.push_back(node);
  }
}

// Whether every node of the capture is needed by the origin's tail: nothing was forked and left behind.
bool is_joined(const Capture& capture) {
  std::set<const CUgraphNode_st*> seen;
  std::vector<const CUgraphNode_st*> next(capture.origin->tail.begin(), capture.origin->tail.end());
  while (!next.empty()) {
    const CUgraphNode_st* node = next.back();
    next.pop_back();
    if (seen.insert(node).second) next.insert(next.end(), node->needs.begin(), node->needs.end());
  }
  return seen.size() == capture.graph->nodes.size();
}

void end(const std::shared_ptr<Capture>& capture) {
  for (CUstream_st* stream : capture->streams) {
    stream->capture.reset();
    stream->tail.clear();
  }
  std::erase(world().captures, capture);
}
}  // namespace

bool is_capturing(const CUstream_st& stream) { return stream.capture != nullptr; }

cudaError_t capture_work(CUstream_st& stream, std::function<void()> work) {
  Capture& capture = *stream.capture;
  if (!capture.valid) return cudaErrorStreamCaptureInvalidated;
  auto node = std::make_unique<CUgraphNode_st>();
  node->run = std::move(work);
  node->device = stream.queue->device;
  node->needs = std::move(stream.tail);
  stream.tail = {node.get()};
  capture.graph->nodes.push_back(std::move(node));
  return cudaSuccess;
}

void keep_with_graph(const CUstream_st& stream, std::uintptr_t start, std::size_t span) {
  stream.capture->graph->taken.push_back({stream.queue->device, start, span});
}

void invalidate(const std::shared_ptr<Capture>& capture) { capture->valid = false; }

cudaError_t refuse_unsafe_call() {
  if (host().mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  bool refused = false;
  for (const auto& capture : world().captures) {
    const bool own = capture->thread == std::this_thread::get_id() && capture->mode != cudaStreamCaptureModeRelaxed;
    const bool global = host().mode == cudaStreamCaptureModeGlobal && capture->mode == cudaStreamCaptureModeGlobal;
    if (own || global) {
      invalidate(capture);
      refused = true;
    }
  }
  return refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t refuse_while_capturing(const CUstream_st& stream) {
  if (stream.capture) {
    invalidate(stream.capture);
    return cudaErrorStreamCaptureUnsupported;
  }
  const Device& d = device(stream.queue->device);
  if (&stream != &d.legacy) return cudaSuccess;
  for (CUstream_st* other : d.streams) {
    if (other->capture && (other->flags & cudaStreamNonBlocking) == 0) {
      invalidate(other->capture);
      return cudaErrorStreamCaptureImplicit;
    }
  }
  return cudaSuccess;
}

cudaError_t wait_captured(CUstream_st& stream, const CUevent_st& event) {
  if (!event.capture) {
    invalidate(stream.capture);
    return cudaErrorStreamCaptureIsolation;
  }
  if (!event.capture->valid) return cudaErrorStreamCaptureInvalidated;
  if (std::find(world().captures.begin(), world().captures.end(), event.capture) == world().captures.end()) {
    return cudaErrorCapturedEvent;  // of a capture that has ended
  }
  if (stream.capture && stream.capture != event.capture) {
    invalidate(stream.capture);
    invalidate(event.capture);
    return cudaErrorStreamCaptureMerge;
  }
  if (&stream == &device(stream.queue->device).legacy) {
    invalidate(event.capture);
    return cudaErrorStreamCaptureImplicit;
  }
  stream.capture = event.capture;
  event.capture->streams.insert(&stream);
  merge(stream.tail, event.tail);
  return cudaSuccess;
}

void forget_captures() {
  const auto captures = world().captures;
  for (const auto& capture : captures) end(capture);
}
}  // namespace cudasim::detail

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return api(Call::other, [&] {
    CUstream_st* s = find_stream(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (s == &current_device().legacy) return cudaErrorStreamCaptureUnsupported;
    if (s->capture) return cudaErrorIllegalState;
    auto capture = std::make_shared<Capture>();
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->origin = s;
    capture->streams.insert(s);
    capture->graph = std::make_shared<CUgraph_st>();
    s->capture = capture;
    world().captures.push_back(std::move(capture));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return api(Call::other, [&] {
    if (graph != nullptr) *graph = nullptr;
    CUstream_st* s = find_stream(stream);
    if (!s || graph == nullptr) return cudaErrorInvalidResourceHandle;
    if (!s->capture) return cudaErrorIllegalState;
    const std::shared_ptr<Capture> capture = s->capture;
    if (capture->origin != s) return invalidate(capture), cudaErrorStreamCaptureUnmatched;
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
      return invalidate(capture), cudaErrorStreamCaptureWrongThread;
    }
    const bool joined = is_joined(*capture);
    end(capture);
    if (!capture->valid) return cudaErrorStreamCaptureInvalidated;
    if (!joined) return cudaErrorStreamCaptureUnjoined;
    *graph = capture->graph.get();
    world().graphs.emplace(*graph, capture->graph);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return api(Call::uncounted, [&] {
    CUstream_st* s = find_stream(stream);
    if (!s || status == nullptr) return cudaErrorInvalidValue;
    *status = !s->capture         ? cudaStreamCaptureStatusNone
              : s->capture->valid ? cudaStreamCaptureStatusActive
                                  : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return api(Call::uncounted, [&] {
    std::swap(host().mode, *mode);
    return cudaSuccess;
  });
}
