// Everything the simulator knows, under one lock: devices, streams with their queued work, events, captures and
// failures.
#pragma once
#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>
#include <cudasim.h>
#include "tests/cudasim/heap.h"

namespace cudasim::detail {
struct Queue;

// A point in a queue: everything issued to it before.
struct Point {
  std::shared_ptr<Queue> queue;
  std::uint64_t position = 0;
  bool reached() const;
};

struct Work {
  std::function<void()> run;
  Point awaited;        // with a queue: this work only waits for it
  bool always = false;  // runs on a device in error too: memory must come to life and die
};

// The work of one stream, in order. Events keep a queue alive after its stream is gone.
struct Queue {
  int device = 0;
  std::uint64_t serial = 0;  // in the order of creation
  std::deque<Work> work;
  std::uint64_t issued = 0, executed = 0;
  std::uint64_t awaited_legacy = 0;  // how much of the legacy stream's work this queue waits for already
  std::map<std::uintptr_t, PendingFree> pending_frees;
};
inline bool Point::reached() const { return !queue || queue->executed >= position; }

struct Capture;
}  // namespace cudasim::detail

struct CUgraphNode_st {
  std::function<void()> run;  // empty: an empty node
  int device = 0;
  std::vector<CUgraphNode_st*> needs;
  bool done = false;  // while its graph runs
};

struct CUstream_st {
  std::shared_ptr<cudasim::detail::Queue> queue;
  unsigned flags = cudaStreamDefault;
  std::shared_ptr<cudasim::detail::Capture> capture;
  std::vector<CUgraphNode_st*> tail;  // what the next captured work depends on
};

struct CUevent_st {
  int device = 0;
  unsigned flags = cudaEventDefault;
  cudasim::detail::Point point;
  std::shared_ptr<cudasim::detail::Capture> capture;  // recorded on a capturing stream, with its tail then
  std::vector<CUgraphNode_st*> tail;
  std::shared_ptr<std::chrono::steady_clock::time_point> time;  // written when the record executes
};

struct CUmemPoolHandle_st {
  int device = 0;
  std::uint32_t readers = 0;  // bits of other devices that may access its memory
};

namespace cudasim::detail {
struct Device {
  int index = 0;
  int multiprocessors = 8;
  int capability = 9;  // the major number
  Heap heap;
  CUmemPoolHandle_st pool;
  CUstream_st legacy;  // the stream 0
  std::set<cudaStream_t> streams;
  std::uint32_t peers = 0;  // bits of the devices whose memory its kernels may access
  cudaError_t sticky = cudaSuccess;
  cudaError_t once = cudaSuccess;  // of a report: returned by the next call that waits
  Counters counters;
  bool is_blind = false;  // kernels ran without checks since the last that ran with them
};

struct Pinned {
  std::size_t bytes;
  unsigned flags;
  int device;
};

// What a call counts as, for injected failures. Calls that free, destroy or ask never fail on purpose.
enum class Call { allocation, launch, library, copy, other, uncounted };

struct Failures {
  std::array<std::uint64_t, 5> made{};                           // by Kind
  std::array<std::uint64_t, 5> first_to_fail{}, last_to_fail{};  // none: 0
};

struct World {
  std::recursive_mutex lock;
  int depth = 0;  // of calls into the simulator: device memory closes when the outermost returns
  bool started = false;
  bool is_watching_faults = false;  // in the present call
  int count = 4;
  std::array<Device, kMaxDevices> devices;
  std::set<cudaEvent_t> events;
  std::map<cudaGraph_t, std::shared_ptr<CUgraph_st>> graphs;
  std::set<cudaGraphExec_t> execs;
  std::vector<std::shared_ptr<Capture>> captures;  // those in progress
  std::map<std::uintptr_t, Pinned> pinned;
  bool late = true, quiet = false, checks = true;
  bool peer_access = true;  // whether a device can be given access to another one's memory
  std::uint64_t seed = 1, draws = 0;
  Failures failures;
  std::map<std::string, std::uint64_t> launches;
  std::vector<std::string> reports;
  int running_device = -1;  // whose work runs now
  bool in_host_function = false;
};
World& world();
Device& device(int index);

// Of a host thread.
struct Host {
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
};
Host& host();
inline Device& current_device() { return device(host().device); }

// A pseudo-random number that depends on the seed and on how many were drawn; 0 always for seed 0.
std::uint64_t draw();

// The frame of every call: takes the lock, lets the body decide, remembers its error, closes device memory.
cudaError_t enter(Call kind);
cudaError_t leave(cudaError_t result);
template <class Body> cudaError_t api(Call kind, Body body) {
  const std::lock_guard<std::recursive_mutex> guard(world().lock);
  const cudaError_t refused = enter(kind);
  return leave(refused != cudaSuccess ? refused : body());
}
// For calls that report no error through CUDA: the simulator's own.
template <class Body> auto locked(Body body) {
  const std::lock_guard<std::recursive_mutex> guard(world().lock);
  return body();
}
bool chosen_to_fail(Call kind);
cudaError_t fitting_error(Call kind);

// An error of a device's work. Sticky ones last, as in CUDA; others are returned once.
void fail_device(int index, cudaError_t error, bool sticky);
// What a call that waited for this device returns.
cudaError_t settle(Device& device);
void report(const std::string& text);

// streams.cpp
CUstream_st* find_stream(cudaStream_t stream);  // null if there is no such stream
cudaError_t enqueue(CUstream_st& stream, std::function<void()> work, bool always = false);
void enqueue_wait(Queue& queue, const Point& point);
void force(const Point& point);
void force_device(int index);
void step(const Point& point);  // executes one item of what the point needs
Point end_of(const CUstream_st& stream);
void run_on(int index, const std::function<void()>& work, bool always = false);
void drop_work();  // forgets everything queued

// capture.cpp
bool is_capturing(const CUstream_st& stream);
cudaError_t capture_work(CUstream_st& stream, std::function<void()> work);
void keep_with_graph(const CUstream_st& stream, std::uintptr_t start, std::size_t span);
void invalidate(const std::shared_ptr<Capture>& capture);
// Calls that wait or allocate at once may not be made by a thread that captures, unless its mode is relaxed.
cudaError_t refuse_unsafe_call();
// A call that synchronises or queries this stream.
cudaError_t refuse_while_capturing(const CUstream_st& stream);
cudaError_t wait_captured(CUstream_st& stream, const CUevent_st& event);
void forget_captures();
}  // namespace cudasim::detail
