// The test's side: cudasim.h.
#include <cudasim.h>
#include "tests/cudasim/arena.h"
#include "tests/cudasim/state.h"

using namespace cudasim::detail;

namespace cudasim {
void set_total_memory(int index, std::size_t bytes) {
  locked([&] { device(index).heap.total = bytes; });
}
void set_multiprocessors(int index, int count) {
  locked([&] { device(index).multiprocessors = count; });
}
void set_peer_access(bool possible) {
  locked([&] { world().peer_access = possible; });
}
void set_compute_capability(int index, int major) {
  locked([&] { device(index).capability = major; });
}

void set_late(bool late) {
  locked([&] {
    world().late = late;
    if (late || !world().started) return;
    ++world().depth;
    for (int i = 0; i < world().count; ++i) force_device(i);
    leave(cudaSuccess);
  });
}

void set_seed(std::uint64_t seed) {
  locked([&] {
    world().seed = seed;
    world().draws = 0;
  });
}

void set_checks(bool on) {
  locked([&] { world().checks = on; });
}
void set_quiet(bool quiet) {
  locked([&] { world().quiet = quiet; });
}

std::vector<Counters> counters() {
  return locked([] {
    std::vector<Counters> all;
    for (int i = 0; i < world().count; ++i) all.push_back(device(i).counters);
    return all;
  });
}

void reset_counters() {
  locked([] {
    for (Device& d : world().devices) d.counters = {};
    world().launches.clear();
  });
}

std::map<std::string, std::uint64_t> launches_by_kernel_name() {
  return locked([] { return world().launches; });
}

void fail_call(Kind kind, std::uint64_t n, std::uint64_t times) {
  locked([&] {
    Failures& failures = world().failures;
    const auto i = static_cast<std::size_t>(kind);
    failures.first_to_fail[i] = failures.made[i] + n;
    failures.last_to_fail[i] = failures.made[i] + n + times - 1;
  });
}

void clear_failures() {
  locked([] { world().failures.first_to_fail = world().failures.last_to_fail = {}; });
}

std::uint64_t calls_made(Kind kind) {
  return locked([&] { return world().failures.made[static_cast<std::size_t>(kind)]; });
}

std::size_t bytes_in_use(int index) {
  return locked([&] { return device(index).heap.in_use(); });
}

std::size_t live_allocations() {
  return locked([] {
    std::size_t sum = 0;
    for (const Device& d : world().devices) sum += d.heap.count();
    return sum;
  });
}

std::size_t live_pinned_blocks() {
  return locked([] { return world().pinned.size(); });
}
std::size_t live_events() {
  return locked([] { return world().events.size(); });
}
std::size_t live_streams() {
  return locked([] {
    std::size_t sum = 0;
    for (const Device& d : world().devices) sum += d.streams.size();
    return sum;
  });
}

std::vector<std::string> reports() {
  return locked([] { return world().reports; });
}

void clear_reports() {
  locked([] { world().reports.clear(); });
}

void reset_errors() {
  locked([] {
    if (!world().started) return;
    ++world().depth;
    forget_captures();
    drop_work();
    for (Device& d : world().devices) d.sticky = d.once = cudaSuccess;
    host().last_error = cudaSuccess;
    leave(cudaSuccess);
  });
}
}  // namespace cudasim
