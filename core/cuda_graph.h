// CUDA graphs: a sequence of a device's work that is recorded once and then launched as a whole. Launching one kernel
// costs the host some microseconds, a replayed graph a fraction of that for each of its kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "core/device.h"

namespace halftone::cuda {

/// Work captured on one device, as torch.cuda.CUDAGraph.
///
///   cuda::Graph graph;
///   graph.capture([&] { loss = step(images, labels); });   // records, computes nothing
///   for (auto& batch : loader) {
///     images.copy_(batch.data);                            // the graph reads the same tensors every time
///     labels.copy_(batch.target);
///     graph.replay();
///   }
///
/// Numbers of the host (a learning rate, say) are those of the capture; tensors are read anew at every replay. Tensors
/// made during the capture keep their memory as long as the graph or they themselves live, and every replay overwrites
/// them; tensors that are given up during the capture keep theirs as long as the graph, so drop old gradients before
/// it. Random numbers differ from replay to replay. Run the same work once or twice before it is captured, so that
/// libraries have chosen their algorithms and optimizers have made their state.
///
/// What waits for the device (item(), printing, a copy to ordinary host memory) cannot be captured and throws Error; so
/// does work of another device, and another thread's work on this one. After an error in capture() the graph is empty
/// and the device goes on as before.
class Graph {
 public:
  explicit Graph(Device device = kCUDA);
  ~Graph();
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;

  /// Records what `work` does on the device, in place of what was recorded before.
  void capture(const std::function<void()>& work);
  /// The same in two halves. What throws between them must be followed by capture_end() or the graph's end.
  void capture_begin();
  void capture_end();
  /// Queues the recorded work on the device and returns at once.
  void replay();
  /// Forgets the recorded work.
  void reset();

  /// Kernels, copies and fills in the graph.
  std::size_t nodes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// How many replays there were on the device; 0 on the CPU. What a replay writes does not count as an in-place write,
/// so whoever keeps copies of tensors by their versions notes this number too.
std::uint64_t graph_replays(Device device);

/// Whether a graph is being captured on the device: what is called now runs later, and perhaps often.
bool is_capturing(Device device);
/// The capture that is going on on the device, by a number that no other has; 0 when there is none.
std::uint64_t current_capture(Device device);

}  // namespace halftone::cuda
