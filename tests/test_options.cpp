#include "core/options.h"
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

TEST_CASE("options that say nothing read as the defaults", "[options]") {
  const test::DefaultDevice host(kCPU);
  const TensorOptions o;
  CHECK(o.dtype() == kFloat32);
  CHECK(o.device() == Device(kCPU));
  CHECK(o.layout() == kStrided);
  CHECK_FALSE(o.requires_grad());
  CHECK_FALSE(o.pinned_memory());
  CHECK(o.memory_format() == MemoryFormat::Contiguous);
  CHECK_FALSE(o.has_dtype());
  CHECK_FALSE(o.has_device());
  CHECK_FALSE(o.has_requires_grad());
  CHECK_FALSE(o.has_pinned_memory());
  CHECK_FALSE(o.has_memory_format());
  CHECK(o.dtype_opt() == nullopt);
  const test::DefaultDevice other("cpu:3");
  CHECK(o.device() == Device("cpu:3"));
}

TEST_CASE("the dtype that is not said follows the default dtype", "[options]") {
  set_default_dtype(kFloat64);
  CHECK(TensorOptions().dtype() == kFloat64);
  CHECK(TensorOptions(kInt32).dtype() == kInt32);
  set_default_dtype(kFloat32);
}

TEST_CASE("builders say one thing each and leave the original alone", "[options]") {
  const TensorOptions plain;
  const TensorOptions full = plain.dtype(kFloat16)
                                 .device(Device(kCPU, 3))
                                 .requires_grad(true)
                                 .pinned_memory(true)
                                 .memory_format(MemoryFormat::ChannelsLast);
  CHECK(plain == TensorOptions());
  CHECK(full.dtype() == kFloat16);
  CHECK(full.device() == Device("cpu:3"));
  CHECK(full.requires_grad());
  CHECK(full.pinned_memory());
  CHECK(full.memory_format() == MemoryFormat::ChannelsLast);
  CHECK(full.dtype(nullopt).has_dtype() == false);
}

TEST_CASE("whatever options are made of converts to them", "[options]") {
  const auto dtype_of_options = [](const TensorOptions& o) { return o.dtype(); };
  const auto device_of_options = [](const TensorOptions& o) { return o.device(); };
  CHECK(dtype_of_options(kHalf) == kFloat16);
  CHECK(device_of_options(kCUDA) == Device("cuda"));
  CHECK(device_of_options(Device(kCUDA, 1)) == Device("cuda:1"));
  CHECK(device_of_options("cpu:2") == Device("cpu:2"));
  CHECK(device_of_options(std::string("cuda")) == Device(kCUDA));
  CHECK(TensorOptions(kStrided) == TensorOptions());
  CHECK(dtype(kInt64) == TensorOptions(kInt64));
  CHECK(device(kCUDA) == TensorOptions(kCUDA));
  CHECK(requires_grad() == TensorOptions().requires_grad(true));
  CHECK_FALSE(requires_grad(false).requires_grad());
  CHECK(message_of([] { TensorOptions o("tpu"); }) == "Device: 'tpu' is not cpu, cpu:k, cuda or cuda:k");
}

TEST_CASE("or_else fills in what is not said, field by field", "[options]") {
  const TensorOptions half = kFloat16, there = Device("cpu:1"), grad = requires_grad();
  const TensorOptions merged = half.or_else(TensorOptions(kInt8).device(kCUDA)).or_else(grad);
  CHECK(merged == TensorOptions(kFloat16).device(kCUDA).requires_grad(true));
  CHECK(there.or_else(half) == half.or_else(there));
  CHECK(requires_grad(false).or_else(grad) == requires_grad(false));
}

TEST_CASE("options are equal when they say the same", "[options]") {
  CHECK(TensorOptions(kFloat32) != TensorOptions());  // said and not said differ, though both read as float32
  CHECK(TensorOptions(kFloat32).device(kCPU) == TensorOptions(kCPU).dtype(kFloat32));
}

TEST_CASE("options print what they read as", "[options]") {
  const test::DefaultDevice host(kCPU);
  CHECK(str(TensorOptions()) ==
        "TensorOptions(dtype=float32, device=cpu, requires_grad=false, memory_format=contiguous)");
  CHECK(str(TensorOptions(kBFloat16)
                .device(Device(kCUDA, 1))
                .requires_grad(true)
                .memory_format(MemoryFormat::ChannelsLast)) ==
        "TensorOptions(dtype=bfloat16, device=cuda:1, requires_grad=true, memory_format=channels_last)");
  CHECK(str(MemoryFormat::Preserve) == "preserve");
}

TEST_CASE("factories take options", "[options]") {
  const Tensor t =
      empty({2, 3, 4, 5},
            TensorOptions(kFloat64).device("cpu:4").requires_grad(true).memory_format(MemoryFormat::ChannelsLast));
  CHECK(t.dtype() == kFloat64);
  CHECK(t.device() == Device("cpu:4"));
  CHECK(t.impl()->requires_grad);
  CHECK(t.strides().vec() == std::vector<std::int64_t>{60, 1, 15, 3});
  CHECK(t.options() == TensorOptions(kFloat64).device("cpu:4"));
  CHECK(message_of([] { empty(1, TensorOptions(kInt64).requires_grad(true)); }) ==
        "Only Tensors of floating point dtype can require gradients, not int64");
}

TEST_CASE("empty_like takes from the model what the options leave open", "[options]") {
  const Tensor model = empty_strided({3, 4}, {1, 3}, TensorOptions(kInt16).device("cpu:1"));
  const Tensor same = empty_like(model), other = empty_like(model, kHalf);
  CHECK(same.dtype() == kInt16);
  CHECK(same.device() == Device("cpu:1"));
  CHECK(same.strides().vec() == std::vector<std::int64_t>{1, 3});
  CHECK(other.dtype() == kFloat16);
  CHECK(other.device() == Device("cpu:1"));
  CHECK(empty_like(model, MemoryFormat::Contiguous).is_contiguous());
}
