// When queued work runs: as late as possible, in the order of its stream, after what it waits for.
#include <algorithm>
#include <utility>

#include "tests/cudasim/arena.h"
#include "tests/cudasim/faults.h"
#include "tests/cudasim/state.h"

namespace cudasim::detail {
namespace {
// A program that never waits would otherwise queue its whole run.
constexpr std::size_t kLongestQueue = 20000;

void issue(Queue& queue, Work work) {
  queue.work.push_back(std::move(work));
  ++queue.issued;
}

// Stream 0 waits for the other streams' earlier work and they for its, except for those that asked not to.
void respect_legacy(CUstream_st& stream) {
  Device& d = device(stream.queue->device);
  Queue& legacy = *d.legacy.queue;
  if (&stream == &d.legacy) {
    for (CUstream_st* other : d.streams) {
      if ((other->flags & cudaStreamNonBlocking) == 0 && other->queue->executed < other->queue->issued) {
        issue(legacy, {{}, end_of(*other), false});
      }
    }
  } else if ((stream.flags & cudaStreamNonBlocking) == 0 && stream.queue->awaited_legacy < legacy.issued) {
    stream.queue->awaited_legacy = legacy.issued;
    if (legacy.executed < legacy.issued) issue(*stream.queue, {{}, end_of(d.legacy), false});
  }
}

void execute_front(Queue& queue) {
  Work work = std::move(queue.work.front());
  queue.work.pop_front();
  if (work.run) run_on(queue.device, work.run, work.always);
  ++queue.executed;
}

// The queue whose front item can run now and brings the point nearer. Waits that are over vanish on the way.
Queue* next_runnable(const Point& point) {
  Queue* queue = point.queue.get();
  while (!queue->work.empty() && !queue->work.front().run && !queue->work.front().awaited.reached()) {
    queue = queue->work.front().awaited.queue.get();
  }
  return queue;
}
// All streams with work, in the order of their creation: addresses differ from run to run.
std::vector<CUstream_st*> busy_streams() {
  std::vector<CUstream_st*> busy;
  for (Device& d : world().devices) {
    if (d.legacy.queue && !d.legacy.queue->work.empty()) busy.push_back(&d.legacy);
    const std::size_t first = busy.size();
    for (CUstream_st* stream : d.streams) {
      if (!stream->queue->work.empty()) busy.push_back(stream);
    }
    std::sort(busy.begin() + static_cast<std::ptrdiff_t>(first), busy.end(),
              [](auto* a, auto* b) { return a->queue->serial < b->queue->serial; });
  }
  return busy;
}

// Now and then a stream is ahead of the others: a write that nothing makes wait for a read can overtake it too.
void run_ahead() {
  if (world().seed == 0 || world().running_device >= 0 || draw() % 4 != 0) return;
  const std::vector<CUstream_st*> busy = busy_streams();
  if (!busy.empty()) step(end_of(*busy[draw() % busy.size()]));
}
}  // namespace

Point end_of(const CUstream_st& stream) { return {stream.queue, stream.queue->issued}; }

void run_on(int index, const std::function<void()>& work, bool always) {
  World& w = world();
  if (device(index).sticky != cudaSuccess && !always) return;
  const int before = std::exchange(w.running_device, index);
  if (!std::exchange(w.is_watching_faults, true)) watch_faults();
  open_arenas(device(index).peers | std::uint32_t{1} << index);
  work();
  w.running_device = before;
}

cudaError_t enqueue(CUstream_st& stream, std::function<void()> work, bool always) {
  if (stream.capture) return capture_work(stream, std::move(work));
  if (&stream == &device(stream.queue->device).legacy) {
    for (CUstream_st* other : device(stream.queue->device).streams) {
      if (other->capture && (other->flags & cudaStreamNonBlocking) == 0) {
        invalidate(other->capture);
        return cudaErrorStreamCaptureImplicit;
      }
    }
  }
  respect_legacy(stream);
  if (world().late) run_ahead();
  issue(*stream.queue, {std::move(work), {}, always});
  if (!world().late) {
    force(end_of(stream));
  } else if (stream.queue->work.size() > kLongestQueue) {
    force({stream.queue, stream.queue->executed + 1});
  }
  return cudaSuccess;
}

void enqueue_wait(Queue& queue, const Point& point) {
  if (!point.reached()) issue(queue, {{}, point, false});
}

void force(const Point& point) {
  while (!point.reached()) execute_front(*next_runnable(point));
}

void step(const Point& point) {
  bool ran = false;
  while (!point.reached() && !ran) {
    Queue* queue = next_runnable(point);
    ran = static_cast<bool>(queue->work.front().run);
    execute_front(*queue);
  }
  // What is left may be waits only, which are no work.
  while (!point.reached()) {
    Queue* queue = next_runnable(point);
    if (queue->work.front().run) return;
    execute_front(*queue);
  }
}

void force_device(int index) {
  Device& d = device(index);
  std::vector<CUstream_st*> streams(d.streams.begin(), d.streams.end());
  streams.push_back(&d.legacy);
  // Addresses differ from run to run, the order must not.
  std::sort(streams.begin(), streams.end(), [](auto* a, auto* b) { return a->queue->serial < b->queue->serial; });
  for (std::size_t i = streams.size(); i > 1; --i) std::swap(streams[i - 1], streams[draw() % i]);
  for (CUstream_st* stream : streams) force(end_of(*stream));
}

void drop_work() {
  World& w = world();
  for (int i = 0; i < w.count; ++i) {
    std::vector<CUstream_st*> streams(device(i).streams.begin(), device(i).streams.end());
    streams.push_back(&device(i).legacy);
    for (CUstream_st* stream : streams) {
      Queue& queue = *stream->queue;
      for (const Work& work : queue.work) {
        if (work.always) run_on(i, work.run, true);
      }
      queue.work.clear();
      queue.executed = queue.issued;
    }
  }
}
}  // namespace cudasim::detail
