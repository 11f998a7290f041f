#include "core/storage.h"

#include "core/runtime.h"

namespace halftone {

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

}  // namespace halftone
