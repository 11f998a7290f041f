#include "core/device.h"

#include <atomic>
#include <charconv>
#include <limits>

#include "core/error.h"
#include "core/runtime.h"

namespace halftone {
namespace {

constinit thread_local DeviceIndex current_cuda = 0;
constinit std::atomic<Device> default_device{Device(kCPU)};

// The number of `:k`, or -1 when the text is anything else.
int parse_index(std::string_view text) {
  int index = -1;
  if (text.size() < 2 || text[0] != ':' || text[1] < '0' || text[1] > '9') return -1;
  const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), index);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && index <= std::numeric_limits<DeviceIndex>::max() ? index : -1;
}

Device parse(std::string_view text) {
  for (const DeviceType type : {kCPU, kCUDA}) {
    if (!text.starts_with(name(type))) continue;
    const std::string_view rest = text.substr(name(type).size());
    const int index = parse_index(rest);
    if (rest.empty() || index >= 0) return Device(type, static_cast<DeviceIndex>(index));
  }
  fail("Device: '", text, "' is not cpu, cpu:k, cuda or cuda:k");
}

void check_cpu_index(Device device) {
  check(!device.is_cpu() || device.index() < kCpuDevices, "Device: ", device,
        " does not exist, CPU devices are cpu:0 to cpu:", kCpuDevices - 1);
}

}  // namespace

Device::Device(std::string_view text) : Device(parse(text)) { check_cpu_index(*this); }

std::string Device::str() const { return halftone::str(*this); }

std::ostream& operator<<(std::ostream& out, DeviceType type) { return out << name(type); }

std::ostream& operator<<(std::ostream& out, Device device) {
  out << device.type();
  if (device.has_index()) out << ':' << static_cast<int>(device.index());
  return out;
}

Device canonical(Device device) {
  if (device.is_cuda()) return device.has_index() ? device : Device(kCUDA, current_cuda);
  check_cpu_index(device);
  return device.index() == 0 ? Device(kCPU) : device;
}

Device get_default_device() { return default_device.load(std::memory_order_relaxed); }

void set_default_device(Device device) {
  check_cpu_index(device);
  default_device.store(device, std::memory_order_relaxed);
}

DeviceGuard::DeviceGuard(Device device) : previous_(current_cuda) {
  if (device.is_cuda()) current_cuda = canonical(device).index();
}

DeviceGuard::~DeviceGuard() { current_cuda = previous_; }

}  // namespace halftone
