#include <thread>
#include <unordered_set>

#include "core/runtime.h"
#include "core/tensor.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;

namespace {

template <class F> std::string message_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("devices are read from text and printed back", "[device]") {
  struct Row {
    std::string text;
    DeviceType type;
    int index;
  };
  const Row rows[] = {{"cpu", kCPU, -1},    {"cpu:0", kCPU, 0},     {"cpu:7", kCPU, 7},      {"cuda", kCUDA, -1},
                      {"cuda:0", kCUDA, 0}, {"cuda:15", kCUDA, 15}, {"cuda:127", kCUDA, 127}};
  for (const Row& row : rows) {
    const Device d(row.text);
    INFO(row.text);
    CHECK(d.type() == row.type);
    CHECK(d.index() == row.index);
    CHECK(d.has_index() == (row.index >= 0));
    CHECK(d.is_cpu() == (row.type == kCPU));
    CHECK(d.is_cuda() == (row.type == kCUDA));
    CHECK(d.str() == row.text);
    CHECK(str(d) == row.text);
    CHECK(d == Device(row.type, static_cast<DeviceIndex>(row.index)));
  }
  CHECK(str(kCPU, " ", kCUDA) == "cpu cuda");
}

TEST_CASE("text that names no device is refused", "[device]") {
  for (const std::string text : {"", "gpu", "gpu:0", "CPU", "cpu:", "cpu: 1", "cpu:-1", "cpu:+1", "cpu:1x", "cpux",
                                 "cuda:128", "cuda:99999999999", "cuda0", "cuda:1:2", " cpu"}) {
    CHECK(message_of([&] { Device d(text); }) == "Device: '" + text + "' is not cpu, cpu:k, cuda or cuda:k");
  }
}

TEST_CASE("there are eight CPU devices", "[device]") {
  const std::string wanted = "Device: cpu:8 does not exist, CPU devices are cpu:0 to cpu:7";
  CHECK(message_of([] { Device d("cpu:8"); }) == wanted);
  CHECK(message_of([] { canonical(Device(kCPU, 8)); }) == wanted);
  CHECK(message_of([] { empty(3, Device(kCPU, 8)); }) == wanted);
  CHECK(runtime(kCPU).device_count() == 8);
}

TEST_CASE("tensors carry a device in one form", "[device]") {
  CHECK(canonical(kCPU) == Device("cpu"));
  CHECK(canonical("cpu:0") == Device("cpu"));
  CHECK(canonical("cpu:3") == Device("cpu:3"));
  CHECK(canonical("cuda") == Device("cuda:0"));
  CHECK(canonical("cuda:2") == Device("cuda:2"));
  CHECK(empty(2).device() == canonical(get_default_device()));
  {
    const test::DefaultDevice host(kCPU);
    CHECK(empty(2).device() == Device("cpu"));
  }
  CHECK(empty(2, Device("cpu:0")).device() == Device("cpu"));
  CHECK(empty(2, "cpu:5").device() == Device("cpu:5"));
}

TEST_CASE("a guard chooses what cuda without an index means, in its scope and thread", "[device]") {
  {
    const DeviceGuard outer("cuda:2");
    CHECK(canonical("cuda") == Device("cuda:2"));
    {
      const DeviceGuard inner("cuda:1");
      CHECK(canonical("cuda") == Device("cuda:1"));
      const DeviceGuard same("cuda");
      CHECK(canonical("cuda") == Device("cuda:1"));
      const DeviceGuard cpu("cpu:3");
      CHECK(canonical("cuda") == Device("cuda:1"));
      CHECK(canonical("cpu") == Device("cpu"));
    }
    CHECK(canonical("cuda") == Device("cuda:2"));
    Device elsewhere(kCPU);
    std::thread([&] { elsewhere = canonical("cuda"); }).join();
    CHECK(elsewhere == Device("cuda:0"));
  }
  CHECK(canonical("cuda") == Device("cuda:0"));
}

TEST_CASE("devices can be keys", "[device]") {
  std::unordered_set<Device> seen;
  for (int i = 0; i < kCpuDevices; ++i) seen.insert(Device(kCPU, static_cast<DeviceIndex>(i)));
  seen.insert(Device(kCPU));
  seen.insert(Device(kCUDA, 0));
  seen.insert("cpu:0");
  CHECK(seen.size() == kCpuDevices + 2);
}

TEST_CASE("without a GPU, CUDA says so", "[device]") {
  CHECK(has_runtime(kCPU));
  CHECK(cuda::is_available() == has_runtime(kCUDA));
  CHECK(cuda::is_available() == (cuda::device_count() > 0));
  if (cuda::is_available()) return;
  const std::string wanted = "no cuda device: halftone was built without CUDA, or this machine has no usable GPU";
  CHECK(message_of([] { runtime(kCUDA); }) == wanted);
  CHECK(message_of([] { empty(1, kCUDA); }) == wanted);
  CHECK(message_of([] { cuda::synchronize(); }) == wanted);
  CHECK(message_of([] { memory_stats(kCUDA); }) == wanted);
}

TEST_CASE("the CPU runtime knows its own devices only", "[device]") {
  CHECK(message_of([] { runtime(kCPU).synchronize("cuda:1"); }) ==
        "the CPU runtime has no device cuda:1, only cpu:0 to cpu:7");
  CHECK(message_of([] { runtime(kCPU).allocate(Device(kCPU, 9), 64); }) ==
        "the CPU runtime has no device cpu:9, only cpu:0 to cpu:7");
  CHECK_NOTHROW(runtime(kCPU).synchronize("cpu:7"));
}
