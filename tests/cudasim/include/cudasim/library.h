// What a simulated library (cuBLASLt, cuDNN, NCCL) needs of the simulator: its calls run as work of a stream.
#pragma once
#include <cstddef>
#include <functional>

#include <driver_types.h>

namespace cudasim {
// Queues work on a stream as one library call. The device's memory, and its enabled peers', is accessible while it
// runs.
cudaError_t enqueue_library_call(cudaStream_t stream, const char* name, std::function<void()> work);

// The device that a stream belongs to; -1 if there is no such stream.
int device_of(cudaStream_t stream);

// Whether a call that queues nothing, such as creating a handle, was chosen to fail. It counts as a library call.
bool library_call_fails(const char* name);

// Called inside work, so that checks know what it does: memory it is about to read must be allocated and written,
// memory it writes must be allocated and becomes defined. False: a report was made; the work should return.
bool library_reads(const void* pointer, std::size_t bytes);
bool library_writes(void* pointer, std::size_t bytes);
}  // namespace cudasim
