// Threads for the replicas. They stay between calls: making a thread costs more than waking one, and what a thread
// keeps for itself (blocks of memory, scratch space) is warm.
#pragma once

#include <functional>
#include <span>

#include "core/device.h"
#include "core/error.h"

namespace halftone::nn::parallel {

class Group;

/// Thrown in a replica that waits for another one which will not come. It is not what went wrong, so another replica's
/// error is reported before it.
class Abandoned : public Error {
  using Error::Error;
};

/// Runs `job(k)` for every device at once: job(0) in this thread, each of the others in one of its own. All see the
/// caller's context (gradients recorded or not, autocast, anomaly mode, observer) and have devices[k] as the current
/// device. Waits until all have ended; then the first failure by k is thrown again, as the object it was, with "replica
/// k on <device>: " before its message. That goes for Error and what derives from it and for the exceptions of
/// <stdexcept>; others keep their message, and a warning says whose they are. `group`, if there is one, learns of each
/// that ends.
void run_replicas(std::span<const Device> devices, const std::function<void(std::size_t)>& job, Group* group = nullptr);

/// How many threads wait for work.
std::size_t idle_workers();

}  // namespace halftone::nn::parallel
