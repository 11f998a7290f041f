// NCCL over the GPUs of this process, each of which is a rank. A call is one group of all ranks' calls, made by one
// thread.
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "core/cuda/gpu.h"
#include "core/cuda_nccl.h"
#include "core/cuda_options.h"

namespace halftone::cuda::nccl {
namespace {

void check(ncclResult_t result) {
  if (result == ncclSuccess) [[likely]]
    return;
  std::ignore = cudaGetLastError();  // else a later, innocent call would report it again
  fail("NCCL: ", ncclGetErrorString(result), " (", ncclGetLastError(nullptr), ")");
}

bool is_busy(const Gpu& g) {
  const bool busy = cudaStreamQuery(g.stream) == cudaErrorNotReady;
  if (busy) std::ignore = cudaGetLastError();
  return busy;
}

/// The communicators of some GPUs.
class Clique {
 public:
  explicit Clique(std::vector<Gpu*> gpus) : gpus_(std::move(gpus)), comms_(gpus_.size()) {
    std::vector<int> indices;
    for (const Gpu* g : gpus_) indices.push_back(g->device.index());
    for (Gpu* owner : gpus_) {
      for (const Gpu* reader : gpus_) open_pool(*owner, *reader);
    }
    check(ncclCommInitAll(comms_.data(), static_cast<int>(indices.size()), indices.data()));
  }
  /// Ends what is under way: used when a call failed, after which the ranks disagree. Earlier calls are given time to
  /// end well, as others count on what they bring.
  ~Clique() {
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    for (const Gpu* g : gpus_) {
      while (is_busy(*g) && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
    }
    for (ncclComm_t comm : comms_) {
      if (comm) std::ignore = ncclCommAbort(comm);
    }
  }
  Clique(const Clique&) = delete;
  Clique& operator=(const Clique&) = delete;

  ncclComm_t comm_of(const Tensor& t) const { return comms_[static_cast<std::size_t>(rank_of(t.device()))]; }
  int rank_of(Device device) const {
    const auto found = std::ranges::find(gpus_, &gpu(device));
    return static_cast<int>(found - gpus_.begin());
  }

 private:
  std::vector<Gpu*> gpus_;
  std::vector<ncclComm_t> comms_;
};

/// By their GPUs in the order of the devices; null where NCCL could not be started. Under crossing().
std::map<std::vector<Gpu*>, std::unique_ptr<Clique>>& cliques() {
  // Never destroyed: the driver may be gone when main has ended.
  static auto& all = *new std::map<std::vector<Gpu*>, std::unique_ptr<Clique>>;
  return all;
}

std::vector<Gpu*> gpus_of(std::span<const Device> devices) {
  std::vector<Gpu*> gpus;
  for (const Device device : devices) gpus.push_back(&gpu(device));
  std::ranges::sort(gpus, {}, [](const Gpu* g) { return g->device.index(); });
  return gpus;
}

// NCCL allocates beside the pools, which keep what was given back to them.
void trim_pools(const std::vector<Gpu*>& gpus) noexcept {
  for (const Gpu* g : gpus) {
    std::ignore = try_use(g->device);
    std::ignore = cudaStreamSynchronize(g->stream);
    std::ignore = cudaMemPoolTrimTo(g->pool, 0);
  }
}

std::unique_ptr<Clique> try_to_start(const std::vector<Gpu*>& gpus) {
  try {
    return std::make_unique<Clique>(gpus);
  } catch (const Error&) {
    trim_pools(gpus);
  }
  try {
    return std::make_unique<Clique>(gpus);
  } catch (const Error& error) {
    warn(str("GPUs copy to each other without NCCL, for it could not be started: ", error.what()));
    return nullptr;
  }
}

Clique* clique_of(const std::vector<Gpu*>& gpus) {
  const auto [place, is_new] = cliques().try_emplace(gpus);
  if (is_new) place->second = try_to_start(gpus);
  return place->second.get();
}

/// One group: `calls` makes every rank's calls, which start together when it has returned.
template <class Calls> void together(std::span<const Device> devices, Calls calls) {
  const std::vector<Gpu*> gpus = gpus_of(devices);
  for (const Gpu* g : gpus) check_capture(*g);
  const std::lock_guard lock(crossing());
  Clique* const clique = clique_of(gpus);
  halftone::check(clique != nullptr, "NCCL: it could not be started on these devices");
  check(ncclGroupStart());
  ncclResult_t result = ncclSuccess;
  try {
    calls(*clique, [&](ncclResult_t of_call) {
      if (result == ncclSuccess) result = of_call;
    });
  } catch (...) {
    std::ignore = ncclGroupEnd();  // or the thread's later groups would be parts of this one
    cliques().erase(gpus);
    throw;
  }
  const ncclResult_t end = ncclGroupEnd();
  if (result == ncclSuccess) result = end;
  if (result == ncclSuccess) return;
  cliques().erase(gpus);  // the next call starts anew
  check(result);
}

cudaStream_t stream_of(const Tensor& t) { return gpu(t).stream; }

ncclDataType_t type_of(const Tensor& t) { return t.dtype() == kFloat64 ? ncclFloat64 : ncclFloat32; }

std::size_t count_of(const Tensor& t) { return static_cast<std::size_t>(t.numel()); }

std::vector<Device> devices_of(TensorList tensors) {
  std::vector<Device> devices;
  for (const Tensor& t : tensors) devices.push_back(t.device());
  return devices;
}

}  // namespace

int version() {
  int code = 0;
  check(ncclGetVersion(&code));
  return code;
}

bool serves(std::span<const Device> devices) {
  if (devices.size() < 2 || !allow_nccl()) return false;
  if (!std::ranges::all_of(devices, [](Device d) { return d.is_cuda(); })) return false;
  const std::vector<Gpu*> gpus = gpus_of(devices);
  if (std::ranges::adjacent_find(gpus) != gpus.end()) return false;
  if (std::ranges::any_of(gpus, [](const Gpu* g) { return g->arena.load() != nullptr; })) return false;
  const std::lock_guard lock(crossing());
  return clique_of(gpus) != nullptr;
}

void broadcast(std::span<const Spread> spreads, std::span<const Device> devices) {
  for (const Spread& spread : spreads) spread.from.data_ptr();  // may fetch what was deferred: a copy between devices
  together(devices, [&](const Clique& clique, auto add) {
    for (const auto& [from, to] : spreads) {
      const int root = clique.rank_of(from.device());
      const auto call = [&](const Tensor& t) {
        add(ncclBroadcast(from.data_ptr(), t.data_ptr(), t.nbytes(), ncclInt8, root, clique.comm_of(t), stream_of(t)));
      };
      call(from);
      for (const Tensor& t : to) call(t);
    }
  });
}

void reduce(std::span<const Sum> sums) {
  together(devices_of(sums[0].of), [&](const Clique& clique, auto add) {
    for (const auto& [tensors, sum] : sums) {
      for (const Tensor& t : tensors) {
        add(ncclReduce(t.data_ptr(), t.device() == sum.device() ? sum.data_ptr() : nullptr, count_of(t), type_of(t),
                       ncclSum, clique.rank_of(sum.device()), clique.comm_of(t), stream_of(t)));
      }
    }
  });
}

void all_reduce(TensorList tensors, std::span<const Tensor> sums) {
  together(devices_of(tensors), [&](const Clique& clique, auto add) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Tensor& t = tensors[i];
      add(ncclAllReduce(t.data_ptr(), sums[i].data_ptr(), count_of(t), type_of(t), ncclSum, clique.comm_of(t),
                        stream_of(t)));
    }
  });
}

void gather(TensorList tensors, std::span<const Tensor> copies, std::span<const Device> devices) {
  together(devices, [&](const Clique& clique, auto add) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Tensor &t = tensors[i], &copy = copies[i];
      add(ncclSend(t.data_ptr(), t.nbytes(), ncclInt8, clique.rank_of(copy.device()), clique.comm_of(t), stream_of(t)));
      add(ncclRecv(copy.data_ptr(), t.nbytes(), ncclInt8, clique.rank_of(t.device()), clique.comm_of(copy),
                   stream_of(copy)));
    }
  });
}

}  // namespace halftone::cuda::nccl
