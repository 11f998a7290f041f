#include "core/storage.h"

#include <mutex>

#include "core/runtime.h"

namespace halftone {

struct Storage::Deferred {
  std::mutex mutex;  // of two threads that ask at once, one fetches
  std::function<void(void*)> fill;
};

Storage::Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  if (bytes > 0) data_ = runtime(device.type()).allocate(device, bytes);
}

Storage::Storage(void* data, std::size_t bytes, Device device, std::function<void(void*)> deleter)
    : data_(data), bytes_(bytes), device_(device), owned_(false), deleter_(std::move(deleter)) {}

Storage::~Storage() {
  if (!owned_) {
    if (deleter_) deleter_(data_);
  } else if (data_) {
    runtime(device_.type()).free(device_, data_, bytes_);
  }
}

void Storage::defer(std::function<void(void*)> fetch) {
  if (!fetch_) fetch_ = std::make_unique<Deferred>();
  fetch_->fill = std::move(fetch);
  deferred_.store(fetch_->fill != nullptr, std::memory_order_release);
}

void Storage::fetch() const {
  const std::scoped_lock lock(fetch_->mutex);
  if (!deferred_.load(std::memory_order_relaxed)) return;
  fetch_->fill(data_);
  fetch_->fill = nullptr;
  deferred_.store(false, std::memory_order_release);
}

}  // namespace halftone
