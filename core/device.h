// Where a tensor lives: cpu, cpu:k (distinct devices in the same memory) or cuda:k.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

namespace halftone {

enum class DeviceType : std::int8_t { CPU, CUDA };
inline constexpr DeviceType kCPU = DeviceType::CPU;
inline constexpr DeviceType kCUDA = DeviceType::CUDA;
inline constexpr int kDeviceTypes = 2;

using DeviceIndex = std::int8_t;

/// A device, as libtorch's: `Device(kCPU)`, `Device(kCUDA, 1)`, `Device("cuda:1")`. Without an index it means the
/// current one of its type: device 0, unless a guard chose another.
class Device {
 public:
  constexpr Device(DeviceType type, DeviceIndex index = -1) : type_(type), index_(index) {}  // NOLINT: kCPU is a device
  /// Throws Error when the text is not `cpu`, `cpu:k`, `cuda` or `cuda:k`.
  Device(std::string_view text);                                       // NOLINT: "cuda:1" is a device
  Device(const std::string& text) : Device(std::string_view(text)) {}  // NOLINT
  Device(const char* text) : Device(std::string_view(text)) {}         // NOLINT

  constexpr DeviceType type() const { return type_; }
  constexpr DeviceIndex index() const { return index_; }
  constexpr bool has_index() const { return index_ >= 0; }
  constexpr bool is_cpu() const { return type_ == kCPU; }
  constexpr bool is_cuda() const { return type_ == kCUDA; }
  void set_index(DeviceIndex index) { index_ = index; }
  std::string str() const;

  constexpr bool operator==(const Device&) const = default;

 private:
  DeviceType type_;
  DeviceIndex index_;
};

std::ostream& operator<<(std::ostream& out, DeviceType type);
std::ostream& operator<<(std::ostream& out, Device device);

/// "cpu" or "cuda".
constexpr std::string_view name(DeviceType type) { return type == kCPU ? "cpu" : "cuda"; }

/// The form in which tensors carry a device: `cpu` for the first CPU, an explicit index for every other.
Device canonical(Device device);

/// Where factories make tensors that are not told a device: the CPU unless changed. For the whole program.
Device get_default_device();
void set_default_device(Device device);

/// Makes a CUDA device the one that `cuda` without an index means, in this thread and until the end of the scope. The
/// CPU without an index is always the first.
class DeviceGuard {
 public:
  explicit DeviceGuard(Device device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  DeviceIndex previous_;
};

}  // namespace halftone

template <> struct std::hash<halftone::Device> {
  std::size_t operator()(halftone::Device d) const noexcept {
    return static_cast<std::size_t>(d.type()) * 256 + static_cast<std::size_t>(d.index() + 1);
  }
};
