// Drives the simulated GPUs: how many there are, when their work runs, which call fails, and what went wrong.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace cudasim {
constexpr int kMaxDevices = 16;

// There are 4 devices, or as many as the environment's CUDASIM_DEVICES says.
void set_total_memory(int device, std::size_t bytes);
void set_multiprocessors(int device, int count);
// Whether a device can be given access to another one's memory, as it is at first. Access given before stays.
void set_peer_access(bool possible);
// The major number, 9 unless set. It is all that changes: libraries go on to support what they do.
void set_compute_capability(int device, int major);

// Late (the default, unless the environment says CUDASIM_LATE=0): work runs only when something waits for it, so that a
// missing wait shows. Eager: at once.
void set_late(bool late);
// Decides the order of blocks, warps and streams; 0 is the plain order, which is the friendliest to a debugger. The
// default is 1, or the environment's CUDASIM_SEED.
void set_seed(std::uint64_t seed);
// The checks of kernels compiled with the instrumentation. Without it they see nothing and cost nothing.
void set_checks(bool on);
// Whether reports also go to stderr, as they do unless told otherwise.
void set_quiet(bool quiet);

// What a device was asked to do since reset_counters(), whether it has run yet or not.
struct Counters {
  std::uint64_t launches = 0, library_calls = 0, graph_launches = 0;
  std::uint64_t host_to_device = 0, device_to_host = 0, device_to_device = 0, peer_copies = 0, memsets = 0;
  std::uint64_t pageable_copies = 0;  // of the copies above: from or to host memory that is not pinned
  std::uint64_t peer_bytes = 0;       // that left this device for others, by copies and by NCCL
  std::uint64_t allocations = 0, frees = 0;
  std::uint64_t blocking_allocations = 0;  // by cudaMalloc, or of pinned memory: they may wait for the device
  std::uint64_t contexts = 0;    // calls that choose this device or are about it: CUDA makes a context for the first
  std::uint64_t host_waits = 0;  // calls that made the host wait: synchronising calls and blocking copies
};
std::vector<Counters> counters();
void reset_counters();
std::map<std::string, std::uint64_t> launches_by_kernel_name();

enum class Kind { allocation, launch, library, copy, any };
// The n-th call of this kind from now on (1 is the next) fails with a fitting error, and so do the `times` - 1 after
// it.
void fail_call(Kind kind, std::uint64_t n, std::uint64_t times = 1);
void clear_failures();
std::uint64_t calls_made(Kind kind);

std::size_t bytes_in_use(int device);
std::size_t live_allocations();
std::size_t live_pinned_blocks();
std::size_t live_events();
std::size_t live_streams();

// What the checks found, one text each. A report also makes the next synchronising call fail.
std::vector<std::string> reports();
void clear_reports();
// Sticky errors end a CUDA process; a test goes on after this. It drops what the streams still held.
void reset_errors();
}  // namespace cudasim
