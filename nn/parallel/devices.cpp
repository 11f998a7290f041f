#include "nn/parallel/devices.h"

#include <algorithm>

namespace halftone::nn::parallel {
namespace {

/// The kind of device the module is on.
DeviceType kind_of(const Module& module) {
  for (const auto& tensors : {module.parameters(), module.buffers()}) {
    if (!tensors.empty()) return tensors[0].device().type();
  }
  return cuda::is_available() ? kCUDA : kCPU;
}

void check_exists(Device device) {
  const int count = runtime(device.type()).device_count();
  check<ValueError>(device.index() < count, "DataParallel: ", device, " does not exist, there are ", count, " ",
                    device.type(), " devices");
}

}  // namespace

Device DeviceId::on(DeviceType kind) const {
  if (index_ < 0) return canonical(device_);
  check<ValueError>(index_ < runtime(kind).device_count(), "DataParallel: ", kind, ':', index_,
                    " does not exist, there are ", runtime(kind).device_count(), " ", kind, " devices");
  return canonical(Device(kind, static_cast<DeviceIndex>(index_)));
}

std::vector<Device> DeviceIds::resolve(const Module& module) const {
  std::vector<Device> devices;
  for (const DeviceId& id : ids_) {
    const Device device = id.on(kind_of(module));
    check_exists(device);
    check<ValueError>(devices.empty() || device.type() == devices[0].type(),
                      "DataParallel: all devices must be of one kind, got ", devices.empty() ? device : devices[0],
                      " and ", device);
    check<ValueError>(std::ranges::find(devices, device) == devices.end(), "DataParallel: ", device,
                      " is given twice among the devices");
    devices.push_back(device);
  }
  return devices;
}

std::vector<Device> all_cuda_devices() {
  const int count = cuda::device_count();
  std::vector<Device> devices;
  devices.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) devices.emplace_back(kCUDA, static_cast<DeviceIndex>(i));
  return devices;
}

void check_placement(const Module& module, Device device) {
  const auto check_all = [&](const char* kind, const OrderedDict<std::string, Tensor>& tensors) {
    for (const auto& item : tensors) {
      check(item.value().device() == device, "DataParallel: the module must have its parameters and buffers on ",
            device, ", the first of its devices, but the ", kind, " '", item.key(), "' is on ", item.value().device());
    }
  };
  check_all("parameter", module.named_parameters());
  check_all("buffer", module.named_buffers());
}

std::string imbalance(std::span<const Device> devices, std::span<const DeviceProperties> properties) {
  if (properties.empty()) return {};
  const auto compare = [&](const char* what, auto amount) -> std::string {
    const auto [least, most] = std::ranges::minmax_element(properties, {}, amount);
    const auto low = amount(*least), high = amount(*most);
    if (low == 0 || 4 * low >= 3 * high) return {};
    const auto device = [&](auto at) { return devices[static_cast<std::size_t>(at - properties.begin())]; };
    return str("there is an imbalance between the devices: ", device(least), " has ", low, ' ', what, ", ",
               device(most), " has ", high,
               ". The fast ones wait for the slow one; leave it out of device_ids if that does not pay");
  };
  std::string memory = compare("bytes of memory", [](const DeviceProperties& p) { return p.total_memory; });
  if (!memory.empty()) return memory;
  return compare("multiprocessors", [](const DeviceProperties& p) { return p.multiprocessors; });
}

void warn_of_imbalance(std::span<const Device> devices) {
  std::vector<DeviceProperties> properties;
  for (const Device device : devices) properties.push_back(runtime(device.type()).properties(device));
  if (const std::string text = imbalance(devices, properties); !text.empty()) warn("DataParallel: " + text);
}

}  // namespace halftone::nn::parallel
