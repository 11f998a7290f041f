#include "tests/cudasim/state.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "tests/cudasim/arena.h"

namespace cudasim::detail {
World& world() {
  // Never destroyed: destructors of static objects may still call CUDA.
  static World& instance = *[] {
    auto* made = new World;
    if (const char* seed = std::getenv("CUDASIM_SEED")) made->seed = std::strtoull(seed, nullptr, 10);
    if (const char* late = std::getenv("CUDASIM_LATE")) made->late = std::atoi(late) != 0;
    return made;
  }();
  return instance;
}

Device& device(int index) { return world().devices.at(static_cast<std::size_t>(index)); }

Host& host() {
  static thread_local Host instance;
  return instance;
}

std::uint64_t draw() {
  World& w = world();
  if (w.seed == 0) return 0;
  // SplitMix64: one multiplication chain a number, and good bits.
  std::uint64_t x = w.seed + ++w.draws * 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

namespace {
void start() {
  World& w = world();
  if (w.started) return;
  w.started = true;
  if (const char* text = std::getenv("CUDASIM_DEVICES")) w.count = std::atoi(text);
  if (w.count < 0 || w.count > kMaxDevices) throw std::logic_error("cudasim: CUDASIM_DEVICES must be 0 to 16");
  reserve_arenas();
  for (int i = 0; i < kMaxDevices; ++i) {
    Device& d = device(i);
    const std::size_t total = d.heap.total;
    d.index = d.pool.device = i;
    d.heap = Heap(i);
    d.heap.total = total;
    d.legacy.queue = std::make_shared<Queue>();
    d.legacy.queue->device = i;
  }
}

bool counts_as(Call call, Kind kind) {
  if (kind == Kind::any) return call != Call::uncounted;
  return static_cast<int>(call) == static_cast<int>(kind);
}
}  // namespace

bool chosen_to_fail(Call kind) {
  bool chosen = false;
  Failures& failures = world().failures;
  for (const Kind each : {Kind::allocation, Kind::launch, Kind::library, Kind::copy, Kind::any}) {
    if (!counts_as(kind, each)) continue;
    const auto i = static_cast<std::size_t>(each);
    const std::uint64_t call = ++failures.made[i];
    if (call >= failures.first_to_fail[i] && call <= failures.last_to_fail[i]) chosen = true;
  }
  return chosen;
}

cudaError_t fitting_error(Call kind) {
  switch (kind) {
    case Call::allocation: return cudaErrorMemoryAllocation;
    case Call::launch: return cudaErrorLaunchOutOfResources;
    case Call::library: return cudaErrorLaunchFailure;
    case Call::copy: return cudaErrorInvalidValue;
    default: return cudaErrorUnknown;
  }
}

cudaError_t enter(Call kind) {
  World& w = world();
  ++w.depth;
  start();
  if (w.in_host_function) return cudaErrorNotPermitted;
  if (w.count == 0) return cudaErrorNoDevice;
  if (kind != Call::uncounted) ++current_device().counters.contexts;
  // What frees, destroys or asks works on: after reset_errors nothing shall have leaked.
  if (kind != Call::uncounted && current_device().sticky != cudaSuccess) return current_device().sticky;
  return chosen_to_fail(kind) ? fitting_error(kind) : cudaSuccess;
}

cudaError_t leave(cudaError_t result) {
  if (--world().depth == 0) {
    open_arenas(0);
    world().is_watching_faults = false;
  }
  if (result != cudaSuccess) host().last_error = result;
  return result;
}

void fail_device(int index, cudaError_t error, bool sticky) {
  cudaError_t& kept = sticky ? device(index).sticky : device(index).once;
  if (kept == cudaSuccess) kept = error;
}

cudaError_t settle(Device& d) {
  if (d.sticky != cudaSuccess) return d.sticky;
  return std::exchange(d.once, cudaSuccess);
}

void report(const std::string& text) {
  World& w = world();
  w.reports.push_back(text);
  if (!w.quiet) std::fprintf(stderr, "cudasim: %s\n", text.c_str());
}
}  // namespace cudasim::detail
