// Calls of the simulated CUDA that fail on request: what may leak by that, and what the errors say.
#pragma once

#include <ostream>
#include <string>

#include "tests/cuda.h"

#if HALFTONE_SIMULATED_CUDA

namespace halftone::test {

using cudasim::Kind;

/// All that can leak, once nothing is queued any more.
struct Alive {
  std::size_t allocations = 0, bytes = 0, pinned = 0, events = 0, streams = 0;
};
inline std::ostream& operator<<(std::ostream& out, const Alive& a) {
  return out << a.allocations << " allocations, " << a.bytes << " bytes, " << a.pinned << " pinned blocks, " << a.events
             << " events, " << a.streams << " streams";
}

inline Alive alive() {
  Alive a;
  for (const Device device : cuda_devices()) {
    cuda::synchronize(device.index());
    a.bytes += cudasim::bytes_in_use(device.index());
  }
  a.allocations = cudasim::live_allocations();
  a.pinned = cudasim::live_pinned_blocks();
  a.events = cudasim::live_events();
  a.streams = cudasim::live_streams();
  return a;
}

inline const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {"allocation", "launch", "library call", "copy", "call of any kind"};
  return kNames[static_cast<int>(kind)];
}

/// Whether an error says what was injected: CUDA's words for it, or those of a library.
inline bool is_injected(Kind kind, const std::string& message) {
  const auto has = [&](const char* part) { return message.find(part) != std::string::npos; };
  switch (kind) {
    case Kind::allocation: return has("out of memory");
    case Kind::launch: return has("CUDA: too many resources requested for launch (cudaErrorLaunchOutOfResources) in ");
    case Kind::library:  // there may be a second algorithm to try
      return has("cuBLAS: ") || has("cuDNN: ") || message == "no error";
    case Kind::copy: return has("CUDA: invalid argument (cudaErrorInvalidValue) in ");
    default: break;
  }
  for (const Kind each : {Kind::allocation, Kind::launch, Kind::library, Kind::copy}) {
    if (is_injected(each, message)) return true;
  }
  // A call that only makes something faster or later may fail unnoticed.
  return has("CUDA: unknown error (cudaErrorUnknown) in ") || message == "no error";
}

}  // namespace halftone::test

#endif
