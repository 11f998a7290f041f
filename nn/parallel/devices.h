// Which devices take part.
#pragma once

#include <concepts>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "core/runtime.h"
#include "nn/module.h"

namespace halftone::nn::parallel {

/// A device, or the index of one: `1` is the second device of the kind that the module is on.
class DeviceId {
 public:
  DeviceId(Device device) : device_(device) {}           // NOLINT: a device says which device
  DeviceId(DeviceType type) : device_(type) {}           // NOLINT
  DeviceId(const char* name) : device_(Device(name)) {}  // NOLINT
  template <std::integral Index> DeviceId(Index index) : device_(kCPU), index_(static_cast<int>(index)) {}  // NOLINT

  Device on(DeviceType kind) const;

 private:
  Device device_;
  int index_ = -1;
};

/// A list of them: {0, 1}, {"cuda:0", "cuda:1"}, a std::vector of devices or of integers.
class DeviceIds {
 public:
  DeviceIds() = default;
  DeviceIds(std::initializer_list<DeviceId> ids) : ids_(ids) {}                            // NOLINT
  DeviceIds(const std::vector<Device>& devices) : ids_(devices.begin(), devices.end()) {}  // NOLINT
  DeviceIds(const std::vector<int>& indices) : ids_(indices.begin(), indices.end()) {}     // NOLINT
  bool empty() const { return ids_.empty(); }

  /// The devices. An index means one of the kind that the module is on; all must exist, be of one kind and differ.
  std::vector<Device> resolve(const Module& module) const;

 private:
  std::vector<DeviceId> ids_;
};

/// All CUDA devices; empty when there is none.
std::vector<Device> all_cuda_devices();

/// Throws unless all parameters and buffers of the module are on the device.
void check_placement(const Module& module, Device device);

/// What is wrong with devices that have less than 75 % of the memory or of the multiprocessors of the best; empty when
/// nothing is. What a runtime does not know is taken for equal.
std::string imbalance(std::span<const Device> devices, std::span<const DeviceProperties> properties);
void warn_of_imbalance(std::span<const Device> devices);

}  // namespace halftone::nn::parallel
