// The texts are libtorch's and Python's: rows of tests/golden/print.inc.
#include <cmath>
#include <limits>

#include "core/print.h"
#include "tests/catch.h"

using namespace halftone;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

struct Printed {
  Dtype dtype;
  std::vector<std::int64_t> sizes;
  bool transposed;
  std::vector<double> values;  // none: 0, 1, 2 and so on; one: that one everywhere
  std::string columns;         // empty where only Python's form was taken
  std::string python;
};

const std::vector<Printed> kPrinted = {
#include "tests/golden/print.inc"
};

TensorOptions host(Dtype dtype) { return TensorOptions(dtype).device(kCPU); }
Tensor there(const Tensor& t) { return t.to(get_default_device()); }

/// The text of a CPU tensor, as the device under test prints it.
std::string for_device(std::string text) {
  if (const auto at = text.rfind("CPU"); get_default_device().is_cuda() && at != std::string::npos)
    text.replace(at, 3, "CUDA");
  return text;
}

Tensor tensor_of(const Printed& p) {
  Tensor t = p.transposed ? empty_strided(p.sizes, {1, p.sizes[0]}, host(p.dtype)) : empty(p.sizes, host(p.dtype));
  visit_all(p.dtype, [&]<class T>(Type<T>) {
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      const auto k = static_cast<std::size_t>(i);
      const double value = p.values.empty() ? static_cast<double>(i) : p.values.size() == 1 ? p.values[0] : p.values[k];
      const std::int64_t at = p.transposed ? i % p.sizes[1] * p.sizes[0] + i / p.sizes[1] : i;
      t.data_ptr<T>()[at] = T(static_cast<Compute<T>>(value));
    }
  });
  return t;
}

template <class T> Tensor vector_of(std::initializer_list<T> values) {
  Tensor t = empty(static_cast<std::int64_t>(values.size()), host(dtype_of<T>));
  std::copy(values.begin(), values.end(), t.data_ptr<T>());
  return t;
}

}  // namespace

TEST_CASE("tensors print as libtorch prints them", "[print]") {
  for (const Printed& p : kPrinted) {
    if (p.columns.empty()) continue;
    CHECK(str(there(tensor_of(p))) == for_device(p.columns));
  }
}

TEST_CASE("repr is what Python shows", "[print]") {
  for (const Printed& p : kPrinted) CHECK(repr(tensor_of(p)) == p.python);
}

TEST_CASE("an undefined tensor prints", "[print]") {
  CHECK(str(Tensor()) == "[ Tensor (undefined) ]");
  CHECK(repr(Tensor()) == "tensor(undefined)");
  CHECK(Tensor().toString() == "UndefinedType");
}

TEST_CASE("toString names the kind of device and the dtype", "[print]") {
  const std::pair<Dtype, std::string> cases[] = {
      {kBool, "CPUBoolType"},      {kUInt8, "CPUByteType"},        {kInt8, "CPUCharType"},
      {kInt16, "CPUShortType"},    {kInt32, "CPUIntType"},         {kInt64, "CPULongType"},
      {kFloat16, "CPUHalfType"},   {kBFloat16, "CPUBFloat16Type"}, {kFloat32, "CPUFloatType"},
      {kFloat64, "CPUDoubleType"},
  };
  for (const auto& [dtype, wanted] : cases) CHECK(empty(1, dtype).toString() == for_device(wanted));
}

TEST_CASE("printing leaves the stream's format alone and ignores it", "[print]") {
  std::ostringstream out;
  out << std::hex << std::showpos << std::scientific;
  out << there(vector_of({1.5f, 2.0f})) << ' ' << 255 << ' ' << 0.5;
  CHECK(out.str() == for_device(" 1.5000\n 2.0000\n[ CPUFloatType{2} ] ff +5.000000e-01"));
}

TEST_CASE("a line holds what the given width allows", "[print]") {
  std::ostringstream out;
  Tensor t = there(alias(vector_of({1.0f}), {1, 4}, {0, 0}, 0));
  print(out, t, 6);
  CHECK(out.str() == for_device("Columns 1 to 2 1  1\n\nColumns 3 to 4 1  1\n[ CPUFloatType{1,4} ]"));
  out.str("");
  print(out, t, 1);  // too narrow for any column: one each
  CHECK(out.str().starts_with("Columns 1 to 1 1\n\nColumns 2 to 2 1\n"));
}

TEST_CASE("views print their own elements", "[print]") {
  const Tensor base = vector_of({0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f});
  CHECK(str(alias(there(base), {3}, {2}, 1)) == for_device(" 1\n 3\n 5\n[ CPUFloatType{3} ]"));
  CHECK(repr(alias(base, {2, 2}, {0, 1}, 4)) == "tensor([[4., 5.],\n        [4., 5.]])");
}

TEST_CASE("repr tells the device, and that a gradient is wanted, when there is room on the line", "[print]") {
  Tensor t = empty(2, TensorOptions(kFloat16).device(Device("cpu:2")).requires_grad(true));
  std::fill_n(t.data_ptr<Half>(), 2, Half(1.0f));
  CHECK(repr(t) == "tensor([1., 1.], device='cpu:2', dtype=torch.float16, requires_grad=True)");
  Tensor wide = empty(8, host(kFloat64).requires_grad(true));
  std::fill_n(wide.data_ptr<double>(), 8, 0.5);
  CHECK(repr(wide) ==
        "tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000],\n"
        "       dtype=torch.float64, requires_grad=True)");
}

TEST_CASE("repr tells every device but the CPU", "[print]") {
  const std::string device = get_default_device().is_cpu() ? "" : str(", device='", get_default_device(), "'");
  CHECK(repr(there(vector_of({1.5f, 2.0f}))) == "tensor([1.5000, 2.0000]" + device + ")");
}

TEST_CASE("integers print exactly in repr", "[print]") {
  CHECK(repr(vector_of({std::int64_t{9007199254740993}, std::int64_t{-1}})) ==
        "tensor([9007199254740993,               -1])");
}
