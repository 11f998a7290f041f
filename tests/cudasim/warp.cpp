// Barriers and warp primitives: threads wait for those that still live, and meet.
#include <algorithm>
#include <string>

#include "tests/cudasim/block.h"
#include "tests/cudasim/checks.h"

namespace cudasim::detail {
namespace {
const char* name_of(Barrier barrier) {
  constexpr const char* kNames[] = {"__syncthreads", "__syncthreads_or", "__syncthreads_and", "__syncthreads_count"};
  return kNames[static_cast<int>(barrier)];
}

const char* name_of(WarpOp op) {
  constexpr const char* kNames[] = {"__syncwarp",      "__shfl_sync",   "__shfl_up_sync", "__shfl_down_sync",
                                    "__shfl_xor_sync", "__ballot_sync", "__any_sync",     "__all_sync"};
  return kNames[static_cast<int>(op)];
}

std::string text(const Place& where) { return std::string(where.file_name()) + ":" + std::to_string(where.line()); }

bool same_place(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() && std::string_view(a.file_name()) == b.file_name();
}

// All live threads have arrived: they go on, if they stand at the same barrier.
void release_barrier(unsigned arriving) {
  unsigned trues = 0;
  unsigned first = kNobody;
  for (unsigned i = 0; i < block.count; ++i) {
    const Thread& thread = block.threads[i];
    if (thread.state != State::at_barrier) continue;
    if (first == kNobody) first = i;
    const Thread& other = block.threads[first];
    if (thread.barrier != other.barrier || !same_place(thread.where, other.where)) {
      fail_kernel(cudaErrorLaunchFailure, [] { return describe_waiting(); });
    }
    if (thread.value != 0) ++trues;
  }
  block.barrier_tick = ++block.tick;
  for (unsigned i = 0; i < block.count; ++i) {
    Thread& thread = block.threads[i];
    if (thread.state != State::at_barrier) continue;
    switch (thread.barrier) {
      case Barrier::plain: break;
      case Barrier::any: thread.result = trues > 0; break;
      case Barrier::all: thread.result = trues == block.waiting; break;
      case Barrier::count: thread.result = trues; break;
    }
    if (i == arriving) {
      thread.state = State::running;
    } else {
      make_ready(i);
    }
  }
  block.waiting = 0;
}

std::uint64_t barrier(Barrier kind, bool predicate, const Place& where) {
  const OutsideKernel outside;
  const unsigned self = block.current;
  Thread& me = block.threads[self];
  me.state = State::at_barrier;
  me.barrier = kind;
  me.value = predicate;
  me.where = where;
  if (++block.waiting == block.live) {
    release_barrier(self);
  } else {
    park();
  }
  return me.result;
}

bool takes_part(unsigned thread) { return thread < block.count && block.threads[thread].state != State::exited; }

// Whether every live lane of the mask waits in the same primitive. The lane after the asking one is the likeliest to
// miss.
bool is_complete(unsigned base, unsigned asking, unsigned mask, WarpOp op) {
  for (unsigned i = 1; i < kWarp; ++i) {
    const unsigned lane = (asking + i) % kWarp;
    if ((mask >> lane & 1) == 0 || !takes_part(base + lane)) continue;
    const Thread& thread = block.threads[base + lane];
    if (thread.state != State::in_warp || thread.op != op || thread.mask != mask) return false;
  }
  return true;
}

std::uint64_t shuffled(unsigned base, unsigned lane, unsigned mask) {
  const Thread& me = block.threads[base + lane];
  const int self = static_cast<int>(lane);
  const int segment = self & ~(me.width - 1);
  const int last = segment + me.width - 1;
  int source = self;
  switch (me.op) {
    case WarpOp::shuffle: source = segment + (me.argument & (me.width - 1)); break;
    case WarpOp::shuffle_up: source = self - me.argument < segment ? self : self - me.argument; break;
    case WarpOp::shuffle_down: source = self + me.argument > last ? self : self + me.argument; break;
    default: source = (self ^ me.argument) > last ? self : self ^ me.argument; break;
  }
  const auto from = static_cast<unsigned>(source);
  if ((mask >> from & 1) == 0 || !takes_part(base + from)) {
    block.current = base + lane;
    fail_kernel(cudaErrorLaunchFailure, [&] {
      return std::string(name_of(me.op)) + " at " + text(me.where) + " reads lane " + std::to_string(from) +
             ", which does not take part: the value is undefined";
    });
  }
  return block.threads[base + from].value;
}

void meet(unsigned base, unsigned mask, WarpOp op, unsigned arriving) {
  unsigned lanes = 0;
  unsigned votes = 0;
  unsigned alive = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (!takes_part(base + lane)) continue;
    alive |= 1U << lane;
    if ((mask >> lane & 1) == 0) continue;
    lanes |= 1U << lane;
    if (block.threads[base + lane].value != 0) votes |= 1U << lane;
  }
  ++block.tick;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    Thread& thread = block.threads[base + lane];
    switch (op) {
      case WarpOp::sync: break;
      case WarpOp::ballot: thread.result = votes; break;
      case WarpOp::any: thread.result = votes != 0; break;
      case WarpOp::all: thread.result = votes == lanes; break;
      default: thread.result = shuffled(base, lane, mask); break;
    }
    if (lanes == alive) {
      thread.warp_tick = block.tick;
    } else {
      thread.mask_tick = block.tick;
      thread.met = lanes;
    }
  }
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    --block.in_warps;
    if (base + lane == arriving) {
      block.threads[arriving].state = State::running;
    } else {
      make_ready(base + lane);
    }
  }
}
}  // namespace

void meet_if_complete_after_exit(unsigned thread) {
  if (block.live > 0 && block.waiting == block.live) release_barrier(kNobody);
  if (block.in_warps == 0) return;
  const unsigned base = thread / kWarp * kWarp;
  for (unsigned i = base; i < std::min(base + kWarp, block.count); ++i) {
    const Thread& other = block.threads[i];
    if (other.state == State::in_warp && is_complete(base, i - base, other.mask, other.op)) {
      meet(base, other.mask, other.op, kNobody);
    }
  }
}

std::string describe_waiting() {
  std::string list;
  int listed = 0;
  const Thread* before = nullptr;
  for (unsigned i = 0; i < block.count; ++i) {
    const Thread& thread = block.threads[i];
    const bool at_barrier = thread.state == State::at_barrier;
    if (!at_barrier && thread.state != State::in_warp) continue;
    // One line for a run of threads that wait for the same thing.
    const bool same =
        before && before->state == thread.state && same_place(before->where, thread.where) &&
        (at_barrier ? before->barrier == thread.barrier : before->op == thread.op && before->mask == thread.mask);
    before = &thread;
    if (same || ++listed > 8) continue;
    list += "\n  " + describe_thread(i) + " and those like it wait in " +
            (at_barrier ? name_of(thread.barrier) : name_of(thread.op)) + " at " + text(thread.where);
  }
  return "divergent barrier: the threads of a block wait for each other at different places" + list + "\n ";
}
}  // namespace cudasim::detail

using namespace cudasim::detail;

void __syncthreads(const cudasim::Place& where) { barrier(Barrier::plain, false, where); }
int __syncthreads_or(int predicate, const cudasim::Place& where) {
  return static_cast<int>(barrier(Barrier::any, predicate != 0, where));
}
int __syncthreads_and(int predicate, const cudasim::Place& where) {
  return static_cast<int>(barrier(Barrier::all, predicate != 0, where));
}
int __syncthreads_count(int predicate, const cudasim::Place& where) {
  return static_cast<int>(barrier(Barrier::count, predicate != 0, where));
}

namespace cudasim {
std::uint64_t warp_call(WarpOp op, unsigned mask, std::uint64_t value, int argument, int width, const Place& where) {
  const OutsideKernel outside;
  const unsigned self = block.current;
  const unsigned lane = self % kWarp;
  Thread& me = block.threads[self];
  const bool has_width = width >= 1 && width <= warpSize && (width & (width - 1)) == 0;
  if ((mask >> lane & 1) == 0 || !has_width) {
    fail_kernel(cudaErrorLaunchFailure, [&] {
      return std::string(name_of(op)) + " at " + text(where) +
             (has_width ? " is called by a lane that its mask leaves out"
                        : ": a width of " + std::to_string(width) + " is no power of two up to 32");
    });
  }
  me.state = State::in_warp;
  ++block.in_warps;
  me.op = op;
  me.mask = mask;
  me.value = value;
  me.argument = argument;
  me.width = width;
  me.where = where;
  if (is_complete(self - lane, lane, mask, op)) {
    meet(self - lane, mask, op, self);
  } else {
    park();
  }
  return me.result;
}
}  // namespace cudasim
