// Graphs: a captured graph is instantiated and launched as one item of work of a stream.
#include <utility>

#include "tests/cudasim/capture.h"

using namespace cudasim;
using namespace cudasim::detail;

namespace {
// Runs the nodes in an order that respects only what they need, so that code relying on more order fails.
void run_graph(const CUgraph_st& graph) {
  std::vector<CUgraphNode_st*> left;
  for (const auto& node : graph.nodes) {
    node->done = false;
    left.push_back(node.get());
  }
  while (!left.empty()) {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < left.size(); ++i) {
      bool free = true;
      for (const CUgraphNode_st* need : left[i]->needs) free = free && need->done;
      if (free) ready.push_back(i);
      if (free && world().seed == 0) break;
      if (ready.size() == 8) break;  // enough to choose from, and a long chain stays cheap
    }
    const std::size_t chosen = ready[draw() % ready.size()];
    CUgraphNode_st* node = left[chosen];
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(chosen));
    if (node->run) run_on(node->device, node->run);
    node->done = true;
  }
}
}  // namespace

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return api(Call::other, [&] {
    const auto found = world().graphs.find(graph);
    if (exec == nullptr || found == world().graphs.end()) return cudaErrorInvalidValue;
    *exec = new CUgraphExec_st{found->second};
    world().execs.insert(*exec);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return api(Call::launch, [&] {
    CUstream_st* s = find_stream(stream);
    if (!s || world().execs.count(exec) == 0) return cudaErrorInvalidValue;
    ++device(s->queue->device).counters.graph_launches;
    return enqueue(*s, [graph = exec->graph] { run_graph(*graph); });
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  return api(Call::uncounted, [&] {
    if (world().graphs.count(graph) == 0 || count == nullptr) return cudaErrorInvalidValue;
    if (nodes != nullptr) {
      for (std::size_t i = 0; i < *count; ++i) nodes[i] = i < graph->nodes.size() ? graph->nodes[i].get() : nullptr;
    }
    if (nodes == nullptr || *count > graph->nodes.size()) *count = graph->nodes.size();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return api(Call::uncounted, [&] { return world().graphs.erase(graph) != 0 ? cudaSuccess : cudaErrorInvalidValue; });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return api(Call::uncounted, [&] {
    if (world().execs.erase(exec) == 0) return cudaErrorInvalidValue;
    // Launches still queued hold the graph themselves.
    delete exec;
    return cudaSuccess;
  });
}
