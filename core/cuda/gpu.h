// What the process holds of each GPU. One stream a device computes and copies, so that work on a device happens in the
// order in which it was asked for, whichever threads asked; between devices, events order it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

#include "core/cuda/check.h"
#include "core/tensor.h"

namespace halftone::cuda {

/// The first index out of range that a kernel met, in memory that the host and the device share. `op` is a literal of
/// the host, which kernels only pass on.
struct BadIndex {
  enum State : unsigned { none, claimed, told };  // the rest is being written while it is claimed, and there once told
  unsigned state;
  const char* op;
  std::int64_t index;
  std::int64_t size;
};

class Arena;

struct Gpu {
  Device device{kCUDA, 0};
  cudaStream_t stream = nullptr;
  cudaEvent_t reached = nullptr;  // recorded when another device is to wait for this one
  cudaMemPool_t pool = nullptr;   // the driver's own, from which tensors are allocated in the stream's order
  BadIndex* bad_index = nullptr;  // as the host sees it
  BadIndex* bad_index_on_device = nullptr;
  unsigned* tickets = nullptr;  // in device memory: how many blocks of a kernel are done; 0 between kernels
  int multiprocessors = 1;
  std::atomic<std::uint64_t> readers{0};   // bits of the devices to which open_pool() has opened this one's pool
  std::atomic<Arena*> arena{nullptr};      // where memory comes from while a graph is captured on this device
  std::atomic<std::uint64_t> capture{0};   // the number of the one that goes on
  std::atomic<std::uint64_t> replayed{0};  // graphs so far
  const std::uint64_t* replays = nullptr;  // while a graph is captured: how often it has run, in device memory
  std::atomic<std::thread::id> capturer;   // who began to capture

  Gpu() = default;
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;
  ~Gpu();
};

int count_gpus();
/// Made when first asked for, and never destroyed. Throws Error when the machine has no such device.
Gpu& gpu(Device device);
inline Gpu& gpu(const Tensor& t) { return gpu(t.device()); }
/// A device in use, this thread's own if it is; the default one if none is. For what all devices share.
Gpu& any_gpu();
/// Calls f for every device used so far.
void for_each_gpu_in_use(void (*f)(Gpu&, void*), void* argument);

/// Makes the device the one that CUDA's calls of this thread are about. A call that never chose one is about device 0,
/// and makes a context there.
void use(Device device);
cudaError_t try_use(Device device) noexcept;
/// Goes back to the device that a thread's calls were about, unless nobody uses that: choosing it would make a context
/// there.
void return_to(int index) noexcept;

/// How many graphs are being captured in the process.
extern std::atomic<int> captures;
void refuse_foreign_work(const Gpu& g);
/// Throws Error if this thread's work on the device would slip into another thread's graph, or be left out of its own.
inline void check_capture(const Gpu& g) {
  if (captures.load(std::memory_order_relaxed) != 0) [[unlikely]]
    refuse_foreign_work(g);
}

/// Work queued on `later` from now on waits for what is queued on `earlier`; the host does not wait.
void order(Gpu& earlier, Gpu& later);
/// Held while devices are made to wait for each other. Two threads that did so at once could make two streams wait in a
/// circle, most easily where a collective waits on every device for all others.
std::mutex& crossing();
/// Lets `reader` access what is allocated on `owner` directly, where the hardware can. A pool opens to nobody by
/// itself.
void open_pool(Gpu& owner, const Gpu& reader);

/// Waits for all work on the device; throws IndexError if a kernel met an index out of range.
void wait_for(Gpu& g);

}  // namespace halftone::cuda
