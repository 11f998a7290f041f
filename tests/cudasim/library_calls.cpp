#include "tests/cudasim/library_calls.h"

#include <csetjmp>
#include <exception>
#include <utility>

#include <cudasim/library.h>
#include "tests/cudasim/arena.h"
#include "tests/cudasim/checks.h"
#include "tests/cudasim/faults.h"
#include "tests/cudasim/state.h"
#include "tests/cudasim/watch.h"

namespace cudasim::detail {
namespace {
const std::string* running_call = nullptr;
std::jmp_buf before_call;

void fail(const std::string& text, cudaError_t error) {
  report(text + " [" + describe_library_call() + "]");
  fail_device(world().running_device, error, true);
}

void run(const std::string& name, const std::function<void()>& work) {
  running_call = &name;
  // After an illegal access there is no way back but to jump; what the call had allocated on the host is lost.
  if (setjmp(before_call) == 0) {
    try {
      work();
    } catch (const std::exception& error) {
      fail(std::string("an exception left a library call: ") + error.what(), cudaErrorLaunchFailure);
    }
  }
  running_call = nullptr;
}
}  // namespace

bool in_library_call() { return running_call != nullptr; }

std::string describe_library_call() {
  return "library call `" + (running_call ? *running_call : std::string("none")) + "` on device " +
         std::to_string(world().running_device);
}

void abandon_library_call(const std::string& reason) {
  fail(reason, cudaErrorIllegalAddress);
  std::longjmp(before_call, 1);
}

namespace {
bool is_accessible(int index) {
  const int self = world().running_device;
  return index == self || (self >= 0 && (device(self).peers >> index & 1) != 0);
}

bool refuse(const char* what, const std::string& problem, std::uintptr_t address) {
  report(std::string(what) + " " + problem + " " + describe_address(address) +
         (in_library_call() ? " [" + describe_library_call() + "]" : ""));
  fail_device(world().running_device, cudaErrorIllegalAddress, true);
  return false;
}

bool may_access(const char* what, const char* verb, const void* pointer, std::size_t bytes) {
  if (!in_arenas(pointer)) return true;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (in_library_call() && !is_accessible(device_of(address))) return refuse(what, verb, address);
  const std::size_t good = count_marked(pointer, bytes, Byte::undefined);
  return good == bytes ||
         refuse(what, std::string(verb) + " memory that is not allocated at this point of its stream:", address + good);
}
}  // namespace

bool may_read(const char* what, const void* pointer, std::size_t bytes, bool must_be_defined) {
  if (!may_access(what, "reads", pointer, bytes)) return false;
  if (!must_be_defined || !in_arenas(pointer)) return true;
  const std::size_t good = count_marked(pointer, bytes, Byte::defined);
  if (good == bytes) return true;
  report(std::string(what) + " reads uninitialised memory: " +
         describe_address(reinterpret_cast<std::uintptr_t>(pointer) + good) + " [" + describe_library_call() + "]");
  fail_device(world().running_device, cudaErrorAssert, false);
  return false;
}

bool may_write(const char* what, const void* pointer, std::size_t bytes) {
  return may_access(what, "writes", pointer, bytes);
}
}  // namespace cudasim::detail

using namespace cudasim::detail;

namespace cudasim {
cudaError_t enqueue_library_call(cudaStream_t stream, const char* name, std::function<void()> work) {
  return api(Call::library, [&] {
    CUstream_st* s = find_stream(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    ++device(s->queue->device).counters.library_calls;
    ++world().launches[name];
    return enqueue(*s, [name = std::string(name), work = std::move(work)] { run(name, work); });
  });
}

int device_of(cudaStream_t stream) {
  return locked([&] {
    const CUstream_st* s = find_stream(stream);
    return s ? s->queue->device : -1;
  });
}

bool library_call_fails(const char*) {
  return locked([] { return chosen_to_fail(Call::library); });
}

bool library_reads(const void* pointer, std::size_t bytes) {
  const bool knows_writes = world().checks && is_instrumented;
  if (knows_writes) open_eyes(world().running_device);
  return may_read("it", pointer, bytes, knows_writes);
}

bool library_writes(void* pointer, std::size_t bytes) {
  if (!may_write("it", pointer, bytes)) return false;
  if (in_arenas(pointer)) mark(pointer, bytes, Byte::defined);
  return true;
}
}  // namespace cudasim
