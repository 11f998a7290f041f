// A block of memory on one device, shared by the tensors that view it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "core/device.h"

namespace halftone {

class Storage {
 public:
  /// Allocates uninitialised memory from the device's runtime.
  Storage(std::size_t bytes, Device device);
  /// Adopts memory of the caller; `deleter` (may be empty) runs when the last tensor is gone.
  Storage(void* data, std::size_t bytes, Device device, std::function<void(void*)> deleter);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  /// Fetches contents that were deferred.
  void* data() const {
    if (deferred_.load(std::memory_order_acquire)) [[unlikely]]
      fetch();
    return data_;
  }
  std::size_t nbytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Counts in-place writes, so that backward can tell that a saved tensor was changed.
  std::uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

  /// Lets `fetch(memory)` fill the memory when somebody first asks for it, in that thread; what nobody asks for costs
  /// nothing. Takes the place of an earlier fetch. Not while others use the storage.
  void defer(std::function<void(void*)> fetch);
  /// Whether nobody has asked for what was deferred.
  bool is_deferred() const { return deferred_.load(std::memory_order_acquire); }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
  bool owned_ = true;
  std::atomic<std::uint32_t> version_{0};
  std::function<void(void*)> deleter_;

  struct Deferred;
  void fetch() const;
  mutable std::atomic<bool> deferred_{false};
  std::unique_ptr<Deferred> fetch_;
};

}  // namespace halftone
