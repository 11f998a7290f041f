#include "core/cuda/arena.h"
#include "core/cuda_graph.h"

namespace halftone::cuda {
namespace {

std::atomic<std::uint64_t> captures_so_far{0};

__global__ void count_replay(std::uint64_t* replays) { ++*replays; }

}  // namespace

struct Graph::Impl {
  Gpu& gpu;
  Arena* arena = nullptr;
  std::uint64_t* replays = nullptr;  // in the arena
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  bool capturing = false;

  explicit Impl(Gpu& g) : gpu(g) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (capturing) stop();
    drop();
  }

  void start() {
    drop();
    use(gpu.device);
    arena = new Arena(gpu);
    replays = static_cast<std::uint64_t*>(arena->take(sizeof(std::uint64_t)));
    check(replays != nullptr, gpu.device, ": out of memory: no room to count a graph's replays");
    check(cudaMemsetAsync(replays, 0, sizeof(std::uint64_t), gpu.stream));
    // The host now knows that what tensors gave back is idle: the pool can hand it to the arena when memory is short.
    check(cudaStreamSynchronize(gpu.stream));
    Arena::announce_capture();
    if (const cudaError_t failed = cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeRelaxed)) {
      captures.fetch_sub(1);
      check(failed);
    }
    capturing = true;
    gpu.replays = replays;
    gpu.capturer.store(std::this_thread::get_id());
    gpu.capture.store(captures_so_far.fetch_add(1) + 1);
    gpu.arena.store(arena, std::memory_order_release);
    cudaLaunchConfig_t one{};
    one.gridDim = one.blockDim = dim3(1);
    one.stream = gpu.stream;
    check(cudaLaunchKernelEx(&one, &count_replay, replays));
  }

  /// Ends the capture whatever became of it.
  cudaError_t stop() noexcept {
    std::ignore = cudaSetDevice(gpu.device.index());
    const cudaError_t status = cudaStreamEndCapture(gpu.stream, &graph);
    if (status != cudaSuccess) leave_capture();
    capturing = false;
    gpu.arena.store(nullptr, std::memory_order_release);
    gpu.replays = nullptr;
    gpu.capture.store(0);
    captures.fetch_sub(1);
    Arena::free_postponed();
    return status;
  }

  // A call that failed need not have ended the capture, and the stream is to be used again.
  void leave_capture() const noexcept {
    cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(gpu.stream, &state) != cudaSuccess || state == cudaStreamCaptureStatusNone) return;
    cudaGraph_t spoilt = nullptr;
    std::ignore = cudaStreamEndCapture(gpu.stream, &spoilt);
    if (spoilt) std::ignore = cudaGraphDestroy(spoilt);
  }

  void drop() noexcept {
    if (exec) std::ignore = cudaGraphExecDestroy(exec);
    if (graph) std::ignore = cudaGraphDestroy(graph);
    exec = nullptr;
    graph = nullptr;
    if (!arena) return;
    Arena::give(replays);
    arena->abandon();
    arena = nullptr;
    replays = nullptr;
  }
};

Graph::Graph(Device device) : impl_(std::make_unique<Impl>(gpu(device))) {}
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

void Graph::capture_begin() {
  Gpu& g = impl_->gpu;
  check(!g.arena.load(), "cuda::Graph: another graph is being captured on ", g.device);
  check_capture(g);
  try {
    impl_->start();
  } catch (...) {
    if (impl_->capturing) std::ignore = impl_->stop();
    impl_->drop();
    throw;
  }
}

void Graph::capture_end() {
  check(impl_->capturing, "cuda::Graph: capture_end without capture_begin");
  cudaError_t status = impl_->stop();
  if (status == cudaSuccess) status = cudaGraphInstantiate(&impl_->exec, impl_->graph, 0);
  if (status != cudaSuccess) impl_->drop();
  check(status);
}

void Graph::capture(const std::function<void()>& work) {
  capture_begin();
  try {
    work();
  } catch (...) {
    std::ignore = impl_->stop();
    std::ignore = cudaGetLastError();
    impl_->drop();
    throw;
  }
  capture_end();
}

std::uint64_t graph_replays(Device device) {
  return device.is_cuda() ? gpu(device).replayed.load(std::memory_order_relaxed) : 0;
}

void Graph::replay() {
  check(impl_->exec != nullptr, "cuda::Graph: replay of an empty graph; capture() records one");
  check_capture(impl_->gpu);
  use(impl_->gpu.device);
  impl_->gpu.replayed.fetch_add(1, std::memory_order_relaxed);
  check(cudaGraphLaunch(impl_->exec, impl_->gpu.stream));
}

void Graph::reset() {
  check(!impl_->capturing, "cuda::Graph: reset during the capture");
  impl_->drop();
}

std::size_t Graph::nodes() const {
  std::size_t count = 0;
  if (impl_->graph) check(cudaGraphGetNodes(impl_->graph, nullptr, &count));
  return count;
}

std::uint64_t current_capture(Device device) { return device.is_cuda() ? gpu(device).capture.load() : 0; }

bool is_capturing(Device device) { return current_capture(device) != 0; }

}  // namespace halftone::cuda
