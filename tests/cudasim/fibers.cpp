// A block's threads as fibers of one host thread. A fiber runs threads one after another on its stack; only when a
// thread waits does the next thread get another fiber. A kernel without barriers thus costs one call a thread.
#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <exception>
#include <new>
#include <utility>
#include <vector>

#include "tests/cudasim/asan.h"
#include "tests/cudasim/block.h"
#include "tests/cudasim/state.h"

namespace cudasim::detail {
using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

struct Fiber {
  fcontext_t context = nullptr;
  Stack stack;
  unsigned thread = kNobody;
  void* asan_stack = nullptr;
};

Grid& grid = *new Grid;  // never destroyed, like all that work queued by destructors of static objects may need
Block block;
thread_local bool in_kernel = false;
Stack current_stack;

namespace {
constexpr std::size_t kGuard = 4096;
constexpr std::size_t kStack = asan::kOn ? std::size_t{1} << 20 : std::size_t{256} << 10;

Fiber scheduler;  // the host's own stack, which waits while a block runs
Fiber* running = &scheduler;

// Never destroyed either.
struct Fibers {
  std::vector<Fiber*> idle;   // at rest between two threads
  std::vector<Fiber*> fresh;  // never entered, or abandoned
  std::vector<Fiber*> all;
};
Fibers& fibers = *new Fibers;

std::string& exception_words = *new std::string;
const Failure* abandoned_by = nullptr;  // on the stack that was left

// A ring of threads that may go on.
unsigned ready[kMaxThreads];
unsigned ready_first = 0, ready_count = 0;

[[noreturn]] void fiber_main(transfer_t from);

void prepare(Fiber& fiber) {
  asan::unpoison(reinterpret_cast<void*>(fiber.stack.bottom), fiber.stack.bytes);
  // Stacks that all begin at the same offset of a page would fight for the same cache lines.
  const std::size_t shift = reinterpret_cast<std::uintptr_t>(&fiber) / sizeof(Fiber) % 32 * 128;
  fiber.context = make_fcontext(reinterpret_cast<void*>(fiber.stack.bottom + fiber.stack.bytes - shift),
                                fiber.stack.bytes - shift, fiber_main);
}

Fiber* new_fiber() {
  void* memory = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);
  auto* fiber = new Fiber;
  fiber->stack = {reinterpret_cast<std::uintptr_t>(memory) + kGuard, kStack};
  prepare(*fiber);
  fibers.all.push_back(fiber);
  return fiber;
}

Fiber* take_fiber() {
  for (auto* pool : {&fibers.idle, &fibers.fresh}) {
    if (pool->empty()) continue;
    Fiber* fiber = pool->back();
    pool->pop_back();
    return fiber;
  }
  return new_fiber();
}

// The first thing on a stack that was switched to: the one left behind is remembered where it stopped.
void arrive(const transfer_t& from) {
  auto* left = static_cast<Fiber*>(from.data);
  left->context = from.fctx;
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  asan::enter_stack(running->asan_stack, &bottom, &bytes);
  if (left == &scheduler) scheduler.stack = {reinterpret_cast<std::uintptr_t>(bottom), bytes};
  current_stack = running->stack;
  block.current = running->thread;
  if (block.current != kNobody) threadIdx = index_of_thread(block.current);
}

void switch_to(Fiber* next) {
  Fiber* self = running;
  running = next;
  asan::leave_stack(&self->asan_stack, reinterpret_cast<void*>(next->stack.bottom), next->stack.bytes);
  arrive(jump_fcontext(next->context, self));
}

unsigned next_born() {
  // Warps in an order of the launch's, lanes ascending.
  const unsigned i = block.born++;
  const unsigned thread = i + block.first_warp * kWarp;
  return thread < block.count ? thread : thread - block.count;
}

// Who goes on when the running fiber cannot: null means nobody can.
Fiber* pick() {
  if (block.born < block.count) return take_fiber();
  if (ready_count == 0) return nullptr;
  const unsigned thread = ready[ready_first];
  ready_first = (ready_first + 1) % kMaxThreads;
  --ready_count;
  block.threads[thread].state = State::running;
  return block.threads[thread].fiber;
}

void run_thread(Fiber& self, unsigned number) {
  Thread& thread = block.threads[number];
  thread.state = State::running;
  thread.fiber = &self;
  self.thread = block.current = number;
  threadIdx = index_of_thread(number);
  const void* arguments = grid.call.arguments.get();
  try {
    in_kernel = true;
    grid.call.invoke(grid.call.kernel, arguments);
  } catch (const std::exception& error) {
    in_kernel = false;
    exception_words = error.what();
  }
  if (!exception_words.empty()) {
    fail_kernel(cudaErrorLaunchFailure,
                [] { return "an exception left a kernel: " + std::exchange(exception_words, {}); });
  }
  in_kernel = false;
  thread.state = State::exited;
  --block.live;
  meet_if_complete_after_exit(number);
  self.thread = block.current = kNobody;
}

[[noreturn]] void fiber_main(transfer_t from) {
  arrive(from);
  Fiber& self = *running;
  while (true) {
    while (block.born < block.count) run_thread(self, next_born());
    fibers.idle.push_back(&self);
    Fiber* next = pick();
    if (next == nullptr && block.live > 0) {
      fibers.idle.pop_back();
      for (unsigned i = 0; i < block.count; ++i) {
        if (block.threads[i].state != State::exited) block.current = i;
      }
      fail_kernel(cudaErrorLaunchFailure, [] { return describe_waiting(); });
    }
    switch_to(next != nullptr ? next : &scheduler);
  }
}
}  // namespace

void make_ready(unsigned thread) {
  block.threads[thread].state = State::ready;
  ready[(ready_first + ready_count++) % kMaxThreads] = thread;
}

void park() {
  const OutsideKernel outside;
  Fiber* next = pick();
  if (next == nullptr) fail_kernel(cudaErrorLaunchFailure, [] { return describe_waiting(); });
  switch_to(next);
}

void abandon(const Failure& failure) {
  in_kernel = false;
  block.is_abandoned = true;
  abandoned_by = &failure;
  switch_to(&scheduler);
  __builtin_unreachable();
}

void run_block(unsigned threads) {
  block.count = block.live = threads;
  block.waiting = block.in_warps = block.born = 0;
  block.tick = block.barrier_tick = 1;
  block.is_abandoned = false;
  block.seen_tick = 0;
  block.seen_by = kNobody;
  for (unsigned i = 0; i < threads; ++i) block.threads[i] = Thread{};
  ready_first = ready_count = 0;
  scheduler.thread = kNobody;
  switch_to(take_fiber());
  in_kernel = false;
  if (!block.is_abandoned) return;
  block.current = abandoned_by->thread;
  report(abandoned_by->words(abandoned_by->describe) + " [" + describe_running() + "]");
  fail_device(world().running_device, abandoned_by->error, true);
  // Threads that were stopped in the middle leave stacks of no use; kernels own nothing that would have to be released.
  fibers.idle.clear();
  fibers.fresh = fibers.all;
  for (Fiber* fiber : fibers.all) {
    fiber->thread = kNobody;
    prepare(*fiber);
  }
}
}  // namespace cudasim::detail
