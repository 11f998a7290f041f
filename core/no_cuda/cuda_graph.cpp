#include "core/cuda_graph.h"

#include "core/runtime.h"

namespace halftone::cuda {

struct Graph::Impl {};

Graph::Graph(Device device) { runtime(device.type()).synchronize(device); }  // throws: there is no such device
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;
void Graph::capture(const std::function<void()>&) {}
void Graph::capture_begin() {}
void Graph::capture_end() {}
void Graph::replay() {}
void Graph::reset() {}
std::size_t Graph::nodes() const { return 0; }

std::uint64_t graph_replays(Device) { return 0; }

bool is_capturing(Device) { return false; }
std::uint64_t current_capture(Device) { return 0; }

}  // namespace halftone::cuda
