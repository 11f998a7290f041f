// A thread block at work. One block runs at a time in the whole program, under the simulator's lock, so its state is
// plain global data: the checks read it on every memory access.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include <cudasim/launch.h>
// The simulator itself writes threadIdx and its kin.
#define CUDASIM_BUILTIN
#include <cudasim/device_language.h>

namespace cudasim::detail {
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kWarp = 32;
constexpr unsigned kNobody = ~0U;

struct Fiber;

enum class State : unsigned char { unborn, running, ready, at_barrier, in_warp, exited };
enum class Barrier : unsigned char { plain, any, all, count };

// What a __threadfence covers, by ticks: the thread's own accesses before `own`, its warp's before `warp`, the block's
// before `barrier`. 0: there was none.
struct Fence {
  std::uint32_t own = 0, warp = 0, barrier = 0;
};

struct Thread {
  State state = State::unborn;
  Barrier barrier = Barrier::plain;
  WarpOp op = WarpOp::sync;
  Fence fence;            // its last one
  bool has_seen = false;  // called an atomic after a fence: it sees what earlier blocks published
  unsigned mask = 0;
  int argument = 0, width = 0;
  std::uint64_t value = 0, result = 0;
  Place where;
  Fiber* fiber = nullptr;
  // When it last met its whole warp, and some lanes of it; in the block's ticks.
  std::uint32_t warp_tick = 0, mask_tick = 0;
  unsigned met = 0;
};

// The kernel in execution. Blocks have serial numbers that no other block of the program has.
struct Grid {
  std::string name;
  KernelCall call;
  dim3 blocks;
  std::uint64_t count = 0, start = 0, stride = 1;  // the order: block number i is (start + i * stride) % count
};

struct Block {
  Thread threads[kMaxThreads];
  unsigned count = 0, live = 0;
  unsigned waiting = 0, in_warps = 0;  // at a barrier; in a warp primitive
  unsigned born = 0;                   // how many threads have started
  unsigned current = kNobody;
  unsigned first_warp = 0;  // the order of birth: warps from here on, around
  bool is_abandoned = false;
  std::uint32_t serial = 0, first_serial = 1;  // its own, and that of its launch's first block
  // Time within a block: advances whenever threads meet. What happened before barrier_tick is ordered before now.
  std::uint32_t tick = 1, barrier_tick = 1;
  // The first thread that called an atomic after a fence, and when: those that meet it see as much.
  unsigned seen_by = kNobody;
  std::uint32_t seen_tick = 0;
};

extern Grid& grid;
extern Block block;

// The hooks of instrumented code do nothing unless this host thread runs a kernel, and not the simulator's own code for
// it.
extern thread_local bool in_kernel;
class OutsideKernel {
 public:
  OutsideKernel() : was_(in_kernel) { in_kernel = false; }
  ~OutsideKernel() { in_kernel = was_; }
  OutsideKernel(const OutsideKernel&) = delete;
  OutsideKernel& operator=(const OutsideKernel&) = delete;

 private:
  bool was_;
};

// The stack of the running thread.
struct Stack {
  std::uintptr_t bottom = 0;
  std::size_t bytes = 0;
};
extern Stack current_stack;

// Why a launch ended early. The words are made after the thread was left for good, from what still lies on its stack:
// what they are made of on the heap is thus released, which the abandoned stack could no longer do.
struct Failure {
  cudaError_t error;
  unsigned thread;
  std::string (*words)(const void* describe);
  const void* describe;
};

// fibers.cpp
void run_block(unsigned threads);
void park();  // the running thread waits until it is made ready
void make_ready(unsigned thread);
[[noreturn]] void abandon(const Failure& failure);

// A report about the running kernel that ends it.
template <class Describe> [[noreturn]] void fail_kernel(cudaError_t error, const Describe& describe) {
  const auto words = [](const void* data) { return std::string((*static_cast<const Describe*>(data))()); };
  abandon({error, block.current, words, &describe});
}

// warp.cpp
void meet_if_complete_after_exit(unsigned thread);
std::string describe_waiting();

// launch.cpp
std::string describe_thread(unsigned thread);
std::string describe_running();  // "kernel `k`, block (0,0,0), thread (5,0,0)"
dim3 block_of_serial(std::uint32_t serial);
uint3 index_of_thread(unsigned thread);
}  // namespace cudasim::detail
