#include "core/dtype.h"
#include "core/scalar.h"
#include "tests/catch.h"

using namespace halftone;

namespace {

struct Promotion {
  std::string a, b, result;
};
const Promotion kPromotions[] = {
#include "tests/golden/promote.inc"
};

Dtype dtype_named(const std::string& wanted) {
  for (const Dtype d : kDtypes) {
    if (name(d) == wanted) return d;
  }
  FAIL("no dtype " << wanted);
  return Dtype::Undefined;
}

template <class F> std::string message_of(F f) {
  try {
    f();
  } catch (const TypeError& e) {
    return e.what();
  }
  return "no TypeError";
}

}  // namespace

TEST_CASE("promotion is PyTorch's for every pair", "[dtype]") {
  CHECK(std::size(kPromotions) == std::size(kDtypes) * std::size(kDtypes));
  for (const auto& [a, b, result] : kPromotions) {
    INFO(a << " with " << b);
    CHECK(name(promote_types(dtype_named(a), dtype_named(b))) == result);
  }
}

TEST_CASE("promotion with an undefined dtype gives the other one", "[dtype]") {
  for (const Dtype d : kDtypes) {
    CHECK(promote_types(d, Dtype::Undefined) == d);
    CHECK(promote_types(Dtype::Undefined, d) == d);
  }
}

TEST_CASE("every dtype has its name, size and properties", "[dtype]") {
  struct Row {
    Dtype dtype;
    std::string name;
    std::int64_t size;
    bool floating, integral, is_signed;
  };
  const Row rows[] = {
      {kBool, "bool", 1, false, false, false},     {kUInt8, "uint8", 1, false, true, false},
      {kInt8, "int8", 1, false, true, true},       {kInt16, "int16", 2, false, true, true},
      {kInt32, "int32", 4, false, true, true},     {kInt64, "int64", 8, false, true, true},
      {kFloat16, "float16", 2, true, false, true}, {kBFloat16, "bfloat16", 2, true, false, true},
      {kFloat32, "float32", 4, true, false, true}, {kFloat64, "float64", 8, true, false, true},
  };
  CHECK(std::size(rows) == std::size(kDtypes));
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(str(row.dtype) == row.name);
    CHECK(element_size(row.dtype) == row.size);
    CHECK(is_floating_point(row.dtype) == row.floating);
    CHECK(is_integral(row.dtype) == row.integral);
    CHECK(is_integral(row.dtype, true) == (row.integral || row.dtype == kBool));
    CHECK(is_signed(row.dtype) == row.is_signed);
    CHECK(is_low_precision(row.dtype) == (row.size == 2 && row.floating));
  }
  CHECK(str(Dtype::Undefined) == "undefined");
  CHECK(element_size(Dtype::Undefined) == 0);
}

TEST_CASE("libtorch's short names mean the same dtypes", "[dtype]") {
  CHECK(kHalf == kFloat16);
  CHECK(kF16 == kFloat16);
  CHECK(kBF16 == kBFloat16);
  CHECK(kFloat == kFloat32);
  CHECK(kF64 == kDouble);
  CHECK(kLong == kInt64);
  CHECK(kByte == kUInt8);
}

TEST_CASE("visitors hand over the C++ type and refuse what they do not cover", "[dtype]") {
  for (const Dtype d : kDtypes) {
    CHECK(visit_all(d, []<class T>(Type<T>) { return dtype_of<T>; }) == d);
    CHECK(visit_all(d, []<class T>(Type<T>) { return static_cast<std::int64_t>(sizeof(T)); }) == element_size(d));
  }
  const auto ignore = []<class T>(Type<T>) {};
  CHECK(message_of([&] { visit_floating(kInt32, ignore); }) == "a floating dtype is needed, not int32");
  CHECK(message_of([&] { visit_integral(kBool, ignore); }) == "an integral dtype is needed, not bool");
  CHECK(message_of([&] { visit_all(Dtype::Undefined, ignore); }) == "an integral dtype is needed, not undefined");
}

TEST_CASE("arithmetic on 16-bit types is done in float", "[dtype]") {
  CHECK(std::is_same_v<Compute<Half>, float>);
  CHECK(std::is_same_v<Compute<BFloat16>, float>);
  CHECK(std::is_same_v<Compute<double>, double>);
  CHECK(std::is_same_v<Compute<std::int64_t>, std::int64_t>);
}

TEST_CASE("the default dtype can be changed to another floating one", "[dtype]") {
  CHECK(get_default_dtype() == kFloat32);
  set_default_dtype(kFloat64);
  CHECK(get_default_dtype() == kFloat64);
  set_default_dtype(kFloat32);
  CHECK(message_of([] { set_default_dtype(kInt64); }) == "set_default_dtype: a floating dtype is needed, not int64");
  CHECK(get_default_dtype() == kFloat32);
}

TEST_CASE("a Scalar keeps the category of what it was made from", "[dtype]") {
  CHECK(Scalar(2).type() == kInt64);
  CHECK(Scalar(2.5f).type() == kFloat64);
  CHECK(Scalar(true).type() == kBool);
  CHECK(Scalar(Half(0.5f)).toDouble() == 0.5);
  CHECK(Scalar(BFloat16(0.5f)).toDouble() == 0.5);
  CHECK(Scalar(2.9).toLong() == 2);
  CHECK(Scalar(-3).toDouble() == -3.0);
  CHECK(Scalar(std::uint8_t{200}).to<std::int64_t>() == 200);
  CHECK(Scalar(0.1).to<Half>().bits == Half(0.1f).bits);
  CHECK((-Scalar(4)).toLong() == -4);
  CHECK((-Scalar(1.5)).toDouble() == -1.5);
  CHECK(str(Scalar(true), " ", Scalar(3), " ", Scalar(0.5)) == "true 3 0.5");
}
