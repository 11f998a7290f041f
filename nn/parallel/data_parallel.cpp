#include "nn/parallel/data_parallel.h"

namespace halftone::nn::parallel {

void detail::check_counts(std::size_t modules, std::size_t inputs, std::size_t devices) {
  check<ValueError>(inputs == modules && devices == modules, "parallel_apply: got ", modules, " modules, ", inputs,
                    " inputs and ", devices, " devices; there must be equally many");
}

namespace {

std::vector<Device> devices_for(const std::shared_ptr<Module>& module, const DeviceIds& ids) {
  check<ValueError>(module != nullptr, "DataParallel: the module is a null pointer");
  return ids.empty() ? all_cuda_devices() : ids.resolve(*module);
}

/// Keeps others from the replicas while it lives.
class Turn {
 public:
  explicit Turn(std::atomic<bool>& taken) : taken_(taken) {
    check(!taken_.exchange(true),
          "DataParallel: this one is in the middle of a forward, in another thread or in the module's own forward; it "
          "runs one at a time, so give each thread a DataParallel of its own");
  }
  ~Turn() { taken_ = false; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::atomic<bool>& taken_;
};

/// Tells replicas of each other while it lives, and cleans up after a forward that failed too.
class Forward {
 public:
  Forward(Replicas& replicas, Group* group, std::size_t count) : replicas_(replicas), count_(count) {
    replicas_.join(group, count_);
  }
  ~Forward() {
    replicas_.join(nullptr, count_);
    replicas_.release();
  }
  Forward(const Forward&) = delete;
  Forward& operator=(const Forward&) = delete;

 private:
  Replicas& replicas_;
  std::size_t count_;
};

}  // namespace

Engine::Engine(std::shared_ptr<Module> module, DataParallelOptions options)
    : module_(std::move(module)),
      options_(std::move(options)),
      devices_(devices_for(module_, options_.device_ids())),
      replicas_(module_, devices_, options_.replica_factory()) {
  if (devices_.empty()) return;
  joint_.dim = options_.dim();
  joint_.device = options_.output_device() ? options_.output_device()->on(devices_[0].type()) : devices_[0];
}

void Engine::reset() {
  const Turn turn(runs_);
  replicas_.clear();
}

void Engine::run(std::size_t count, const std::function<void(std::size_t, Module&)>& forward) {
  const Turn turn(runs_);
  if (!options_.persistent()) replicas_.clear();
  replicas_.bind(count);
  const std::span<const Device> used = std::span(devices_).first(count);
  Group group(used);
  Group* const joined = options_.buffers() == Buffers::Sync ? &group : nullptr;
  {
    const Forward scope(replicas_, joined, count);
    run_replicas(
        used,
        [&](std::size_t k) {
          replicas_.enter(k);
          forward(k, *replicas_[k]);
        },
        joined);
    replicas_.finish(count, options_.buffers());
  }
}

}  // namespace halftone::nn::parallel
