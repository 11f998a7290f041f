// Work recorded instead of queued.
#pragma once
#include "tests/cudasim/state.h"

struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
  // Addresses of memory allocated by the graph's own nodes; they stay taken as long as the graph or an instance lives.
  struct Taken {
    int device;
    std::uintptr_t start;
    std::size_t span;
  };
  std::vector<Taken> taken;
  ~CUgraph_st();
};

struct CUgraphExec_st {
  std::shared_ptr<CUgraph_st> graph;
};

namespace cudasim::detail {
struct Capture {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  cudaStream_t origin = nullptr;
  std::set<cudaStream_t> streams;  // the origin and those that waited for an event of the capture
  std::shared_ptr<CUgraph_st> graph;
  bool valid = true;
};
}  // namespace cudasim::detail
