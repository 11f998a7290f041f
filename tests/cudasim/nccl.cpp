// NCCL's collectives by plain loops, over devices of one process. A group is complete or refused: where the library
// would wait for ever for a rank that nobody called, there is a report.
#include <nccl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <cudasim/library.h>
#include "tests/cudasim/arena.h"
#include "tests/cudasim/library_values.h"
#include "tests/cudasim/state.h"

using namespace cudasim::detail;

namespace {
struct Clique {
  std::vector<int> devices;  // by rank
};
}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank;
};

namespace {
enum class Kind { broadcast, reduce, all_reduce, send, receive };

struct Call {
  Kind kind;
  const void* from;
  void* to;
  std::size_t count;
  ncclDataType_t type;
  int root;  // or the peer of a send or a receive
  ncclComm_t comm;
  cudaStream_t stream;

  int rank() const { return comm->rank; }
  int device() const { return comm->clique->devices[static_cast<std::size_t>(comm->rank)]; }
  bool reads() const { return kind == Kind::broadcast ? rank() == root : kind != Kind::receive; }
  bool writes() const { return kind == Kind::reduce ? rank() == root : kind != Kind::send; }
};

using Calls = std::vector<Call>;

struct Group {
  int depth = 0;
  Calls calls;
  ncclResult_t refused = ncclSuccess;
};
thread_local Group group;

std::size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclFloat32: return 4;
    default: return 8;
  }
}

cudaDataType_t data_type(ncclDataType_t type) {
  if (type == ncclFloat16) return CUDA_R_16F;
  if (type == ncclBfloat16) return CUDA_R_16BF;
  return type == ncclFloat64 ? CUDA_R_64F : CUDA_R_32F;
}

bool is_floating(ncclDataType_t type) { return type >= ncclFloat16; }

// ------------------------------------------------------------------------------------------ what belongs together

/// The calls of all ranks that make one collective, or a send with its receive.
using Match = std::vector<const Call*>;

bool agree(const Call& a, const Call& b) {
  if (a.kind == Kind::send) return b.kind == Kind::receive && a.count == b.count && a.type == b.type;
  return a.kind == b.kind && a.count == b.count && a.type == b.type && a.root == b.root;
}

/// The calls of one rank of a clique that `wanted` picks, in their order.
template <class Wanted> Match calls_of(const Calls& calls, const Clique& clique, int rank, Wanted wanted) {
  Match found;
  for (const Call& call : calls) {
    if (call.comm->clique.get() == &clique && call.rank() == rank && wanted(call)) found.push_back(&call);
  }
  return found;
}

bool add_matches(std::vector<Match>& matches, const std::vector<Match>& by_rank) {
  const std::size_t count = by_rank[0].size();
  if (std::any_of(by_rank.begin(), by_rank.end(), [&](const Match& m) { return m.size() != count; })) return false;
  for (std::size_t i = 0; i < count; ++i) {
    Match match{by_rank[0][i]};
    for (std::size_t rank = 1; rank < by_rank.size(); ++rank) {
      if (!agree(*match[0], *by_rank[rank][i])) return false;
      match.push_back(by_rank[rank][i]);
    }
    matches.push_back(std::move(match));
  }
  return true;
}

/// False if a rank has called what another has not.
bool match_clique(const Calls& calls, const Clique& clique, std::vector<Match>& matches) {
  const int ranks = static_cast<int>(clique.devices.size());
  std::vector<Match> collectives;
  for (int rank = 0; rank < ranks; ++rank) {
    collectives.push_back(calls_of(calls, clique, rank, [](const Call& c) { return c.kind < Kind::send; }));
  }
  if (!add_matches(matches, collectives)) return false;
  for (int a = 0; a < ranks; ++a) {
    for (int b = 0; b < ranks; ++b) {
      const Match sent = calls_of(calls, clique, a, [&](const Call& c) { return c.kind == Kind::send && c.root == b; });
      const Match received =
          calls_of(calls, clique, b, [&](const Call& c) { return c.kind == Kind::receive && c.root == a; });
      if (!add_matches(matches, {sent, received})) return false;
    }
  }
  return true;
}

// --------------------------------------------------------------------------------------------------- what they do

const Call& source_of(const Match& match) {
  return **std::find_if(match.begin(), match.end(), [](const Call* call) { return call->reads(); });
}

// 16-bit sums are rounded after every addition, as on the way from rank to rank.
void add(const Match& match, std::size_t i, double& sum) {
  const cudaDataType_t type = data_type(match[0]->type);
  const auto at = static_cast<std::int64_t>(i);
  sum = cudasim::load(type, match[0]->from, at);
  for (std::size_t k = 1; k < match.size(); ++k) {
    alignas(8) std::array<unsigned char, 8> rounded{};
    cudasim::store(type, rounded.data(), 0, sum + cudasim::load(type, match[k]->from, at));
    sum = cudasim::load(type, rounded.data(), 0);
  }
}

void run(const Match& match) {
  const std::size_t bytes = match[0]->count * size_of(match[0]->type);
  if (bytes == 0) return;
  for (const Call* call : match) {
    if (call->reads() && !cudasim::library_reads(call->from, bytes)) return;
  }
  for (const Call* call : match) {
    if (call->writes() && !cudasim::library_writes(call->to, bytes)) return;
  }
  const bool sums = match[0]->kind == Kind::reduce || match[0]->kind == Kind::all_reduce;
  if (!sums) {
    for (const Call* call : match) {
      if (call->writes()) std::memmove(call->to, source_of(match).from, bytes);
    }
    return;
  }
  for (std::size_t i = 0; i < match[0]->count; ++i) {
    double sum = 0;
    add(match, i, sum);
    for (const Call* call : match) {
      if (call->writes()) cudasim::store(data_type(call->type), call->to, static_cast<std::int64_t>(i), sum);
    }
  }
}

/// Ranks of one process read and write each other's buffers directly, and a pool opens to nobody by itself.
bool pools_are_open(const Match& match) {
  for (const Call* owner : match) {
    for (const Call* reader : match) {
      if (owner == reader || (device(owner->device()).pool.readers >> reader->device() & 1) != 0) continue;
      report("NCCL: device " + std::to_string(reader->device()) + " has no access to the memory pool of device " +
             std::to_string(owner->device()));
      return false;
    }
  }
  return true;
}

/// As if every rank that reads sent its values to every other that writes.
void count_bytes(const Match& match) {
  for (const Call* from : match) {
    for (const Call* to : match) {
      if (from == to || !from->reads() || !to->writes()) continue;
      device(from->device()).counters.peer_bytes += from->count * size_of(from->type);
    }
  }
}

/// Runs on the lead's device when all streams have come, and all streams wait for it.
ncclResult_t queue(const Calls& calls, std::vector<Match> matches) {
  std::vector<cudaStream_t> streams;
  std::uint32_t devices = 0;
  for (const Call& call : calls) {
    if (std::find(streams.begin(), streams.end(), call.stream) == streams.end()) streams.push_back(call.stream);
    devices |= std::uint32_t{1} << call.device();
  }
  CUstream_st& lead = *streams[0];
  for (std::size_t i = 1; i < streams.size(); ++i) {
    if (cudasim::enqueue_library_call(streams[i], "nccl", [] {}) != cudaSuccess) return ncclUnhandledCudaError;
    enqueue_wait(*lead.queue, end_of(*streams[i]));
  }
  for (const Match& match : matches) count_bytes(match);
  // The calls live as long as the work that points to them, longer than communicators that are given up meanwhile.
  const auto kept = std::make_shared<Calls>(calls);
  const auto comms = std::make_shared<std::vector<ncclComm>>();
  comms->reserve(calls.size());
  for (Call& call : *kept) call.comm = &comms->emplace_back(*call.comm);
  for (Match& match : matches) {
    for (const Call*& call : match) call = kept->data() + (call - calls.data());
  }
  const auto work = [kept, comms, matches = std::move(matches), devices] {
    const std::uint32_t before = std::exchange(device(world().running_device).peers, devices);
    open_arenas(devices);
    for (const Match& match : matches) run(match);
    device(world().running_device).peers = before;
  };
  if (cudasim::enqueue_library_call(&lead, "nccl", work) != cudaSuccess) return ncclUnhandledCudaError;
  for (std::size_t i = 1; i < streams.size(); ++i) enqueue_wait(*streams[i]->queue, end_of(lead));
  return ncclSuccess;
}

ncclResult_t refuse(const char* why) {
  report(std::string("NCCL: ") + why);
  return ncclInvalidUsage;
}

ncclResult_t start(const Calls& calls) {
  std::vector<Match> matches;
  std::vector<const Clique*> seen;
  for (const Call& call : calls) {
    const CUstream_st* stream = find_stream(call.stream);
    if (!stream || stream->queue->device != call.device()) return refuse("a stream is not of its rank's device");
    if (stream->capture) return refuse("a captured collective is not simulated");
    const Clique* clique = call.comm->clique.get();
    if (std::find(seen.begin(), seen.end(), clique) != seen.end()) continue;
    seen.push_back(clique);
    if (!match_clique(calls, *clique, matches)) {
      return refuse("a group in which the ranks do not call the same would never end");
    }
  }
  if (!std::all_of(matches.begin(), matches.end(), pools_are_open)) return ncclInvalidUsage;
  return queue(calls, std::move(matches));
}

bool is_wrong(const Call& call) {
  if (!call.comm || call.root < 0 || call.root >= static_cast<int>(call.comm->clique->devices.size())) return true;
  if (call.count == 0) return false;
  const bool is_sum = call.kind == Kind::reduce || call.kind == Kind::all_reduce;
  const auto is_elsewhere = [&](const void* p) { return !in_arenas(p) || device_of(p) != call.device(); };
  return (is_sum && !is_floating(call.type)) || (call.reads() && is_elsewhere(call.from)) ||
         (call.writes() && is_elsewhere(call.to));
}

ncclResult_t note(const Call& call) {
  return locked([&] {
    ++group.depth;
    if (is_wrong(call))
      group.refused = ncclInvalidArgument;
    else
      group.calls.push_back(call);
    const ncclResult_t refused = group.refused;
    const ncclResult_t ended = ncclGroupEnd();
    return refused != ncclSuccess ? refused : ended;
  });
}
}  // namespace

// ------------------------------------------------------------------------------------------------------ the calls

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    default: return "invalid usage";
  }
}
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclCommInitAll(ncclComm_t* comms, int count, const int* devices) {
  return locked([&] {
    int there = 0;
    if (cudaGetDeviceCount(&there) != cudaSuccess || !comms || count < 1) return ncclInvalidArgument;
    if (cudasim::library_call_fails("ncclCommInitAll")) return ncclSystemError;
    const auto clique = std::make_shared<Clique>();
    for (int rank = 0; rank < count; ++rank) {
      const int device = devices ? devices[rank] : rank;
      if (device < 0 || device >= there) return ncclInvalidArgument;
      if (std::find(clique->devices.begin(), clique->devices.end(), device) != clique->devices.end()) {
        return ncclInvalidUsage;
      }
      clique->devices.push_back(device);
    }
    for (int rank = 0; rank < count; ++rank) comms[rank] = new ncclComm{clique, rank};
    return ncclSuccess;
  });
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) { return ncclCommDestroy(comm); }

ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return note({Kind::broadcast, from, to, count, type, root, comm, stream});
}
ncclResult_t ncclReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return note({Kind::reduce, from, to, count, type, root, comm, stream});
}
ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
  return note({Kind::all_reduce, from, to, count, type, 0, comm, stream});
}
ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return note({Kind::send, from, nullptr, count, type, peer, comm, stream});
}
ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return note({Kind::receive, nullptr, to, count, type, peer, comm, stream});
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  return locked([] {
    if (group.depth == 0) return ncclInvalidUsage;
    if (--group.depth > 0) return ncclSuccess;
    const Calls calls = std::exchange(group.calls, {});
    const ncclResult_t refused = std::exchange(group.refused, ncclSuccess);
    return refused != ncclSuccess || calls.empty() ? refused : start(calls);
  });
}
