#include "core/cuda_options.h"

#include <atomic>

namespace halftone::cuda {
namespace {

std::atomic<bool> tf32{false}, timed{false}, repeatable{false}, collective{true};
std::atomic<std::size_t> workspace_bytes{std::size_t{1} << 30};

}  // namespace

bool allow_tf32() { return tf32; }
void set_allow_tf32(bool on) { tf32 = on; }

bool benchmark() { return timed; }
void set_benchmark(bool on) { timed = on; }

bool deterministic() { return repeatable; }
void set_deterministic(bool on) { repeatable = on; }

bool allow_nccl() { return collective; }
void set_allow_nccl(bool on) { collective = on; }

std::size_t workspace_limit() { return workspace_bytes; }
void set_workspace_limit(std::size_t bytes) { workspace_bytes = bytes; }

}  // namespace halftone::cuda
