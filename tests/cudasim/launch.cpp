// Launches: checked and queued at once, run block by block later.
#include <numeric>
#include <utility>

#include "tests/cudasim/block.h"
#include "tests/cudasim/checks.h"
#include "tests/cudasim/state.h"
#include "tests/cudasim/symbols.h"
#include "tests/cudasim/watch.h"

// Side by side, so that the checks of memory accesses know them by their addresses.
#define CUDASIM_BUILTINS __attribute__((section("cudasim_builtins")))
CUDASIM_BUILTINS uint3 threadIdx;
CUDASIM_BUILTINS uint3 blockIdx;
CUDASIM_BUILTINS dim3 blockDim;
CUDASIM_BUILTINS dim3 gridDim;

namespace cudasim::detail {
namespace {
uint3 thread_indices[kMaxThreads];
dim3 indexed_for{0, 0, 0};

void index_threads(const dim3& shape) {
  if (shape.x == indexed_for.x && shape.y == indexed_for.y && shape.z == indexed_for.z) return;
  indexed_for = shape;
  unsigned i = 0;
  for (unsigned z = 0; z < shape.z; ++z) {
    for (unsigned y = 0; y < shape.y; ++y) {
      for (unsigned x = 0; x < shape.x; ++x) thread_indices[i++] = {x, y, z};
    }
  }
}

std::string text(const uint3& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

dim3 block_at(std::uint64_t number) {
  const std::uint64_t linear = (grid.start + number * grid.stride) % grid.count;
  const std::uint64_t plane = std::uint64_t{grid.blocks.x} * grid.blocks.y;
  return {static_cast<unsigned>(linear % grid.blocks.x), static_cast<unsigned>(linear % plane / grid.blocks.x),
          static_cast<unsigned>(linear / plane)};
}

// A start and a stride without a common divisor with the count visit every block once.
void choose_order() {
  grid.start = draw() % grid.count;
  grid.stride = 1;
  if (world().seed == 0 || grid.count < 3) return;
  do {
    grid.stride = 1 + draw() % (grid.count - 1);
  } while (std::gcd(grid.stride, grid.count) != 1);
}

void run_kernel(const KernelCall& call, const std::string& name, const dim3& blocks, const dim3& threads) {
  gridDim = blocks;
  blockDim = threads;
  grid.name = name;
  grid.call = call;
  grid.blocks = blocks;
  grid.count = std::uint64_t{blocks.x} * blocks.y * blocks.z;
  choose_order();
  index_threads(threads);
  begin_launch_order();
  begin_watch();
  const unsigned count = threads.x * threads.y * threads.z;
  for (std::uint64_t i = 0; i < grid.count && !block.is_abandoned; ++i) {
    blockIdx = block_at(i);
    begin_block_order(i);
    block.first_warp = static_cast<unsigned>(draw() % ((count + kWarp - 1) / kWarp));
    run_block(count);
  }
  block.is_abandoned = false;
  end_watch();
  grid.call = {};
}

bool is_valid(const dim3& blocks, const dim3& threads) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || threads.x == 0 || threads.y == 0 || threads.z == 0)
    return false;
  if (blocks.x > 2147483647 || blocks.y > 65535 || blocks.z > 65535) return false;
  if (threads.x > kMaxThreads || threads.y > kMaxThreads || threads.z > 64) return false;
  return threads.x * threads.y * threads.z <= kMaxThreads;
}
}  // namespace

uint3 index_of_thread(unsigned thread) { return thread_indices[thread]; }
dim3 block_of_serial(std::uint32_t serial) { return block_at(serial - block.first_serial); }
std::string describe_thread(unsigned thread) { return "thread " + text(index_of_thread(thread)); }

std::string describe_running() {
  std::string words = "kernel `" + grid.name + "`, block " + text(blockIdx);
  if (block.current != kNobody) words += ", " + describe_thread(block.current);
  return words;
}
}  // namespace cudasim::detail

using namespace cudasim::detail;

namespace cudasim {
cudaError_t launch(const cudaLaunchConfig_t& config, KernelCall call) {
  return api(Call::launch, [&] {
    CUstream_st* s = find_stream(config.stream);
    if (!s || s->queue->device != host().device) return cudaErrorInvalidResourceHandle;
    if (call.kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (!is_valid(config.gridDim, config.blockDim)) return cudaErrorInvalidConfiguration;
    if (config.dynamicSmemBytes != 0) return cudaErrorInvalidValue;  // kernels here have static shared memory only
    std::string name = symbol_at(reinterpret_cast<std::uintptr_t>(call.kernel));
    ++current_device().counters.launches;
    ++world().launches[name];
    return enqueue(*s, [call = std::move(call), name = std::move(name), blocks = config.gridDim,
                        threads = config.blockDim] { run_kernel(call, name, blocks, threads); });
  });
}
}  // namespace cudasim

void __trap() {
  fail_kernel(cudaErrorLaunchFailure, [] { return "__trap was called"; });
}

// The C library's assert, when a kernel makes it, is CUDA's: the launch ends, the program goes on.
extern "C" [[noreturn]] void __assert_fail(const char* condition, const char* file, unsigned line,
                                           const char* function) noexcept {
  const auto words = [&] {
    return std::string(file) + ":" + std::to_string(line) + ": " + function + ": assertion `" + condition + "` failed";
  };
  if (in_kernel) fail_kernel(cudaErrorAssert, words);
  std::fprintf(stderr, "%s\n", words().c_str());
  std::abort();
}
