// Element types: the enum, its properties, visitors that turn a run-time dtype into a C++ type, and type promotion.
#pragma once

#include <cstdint>
#include <ostream>
#include <string_view>
#include <type_traits>

#include "core/error.h"
#include "core/float16.h"

namespace halftone {

enum class ScalarType : std::int8_t { Byte, Char, Short, Int, Long, Half, Float, Double, Bool, BFloat16, Undefined };
using Dtype = ScalarType;

inline constexpr Dtype kUInt8 = Dtype::Byte, kByte = kUInt8;
inline constexpr Dtype kInt8 = Dtype::Char, kChar = kInt8;
inline constexpr Dtype kInt16 = Dtype::Short, kShort = kInt16, kI16 = kInt16;
inline constexpr Dtype kInt32 = Dtype::Int, kInt = kInt32, kI32 = kInt32;
inline constexpr Dtype kInt64 = Dtype::Long, kLong = kInt64, kI64 = kInt64;
inline constexpr Dtype kFloat16 = Dtype::Half, kHalf = kFloat16, kF16 = kFloat16;
inline constexpr Dtype kBFloat16 = Dtype::BFloat16, kBF16 = kBFloat16;
inline constexpr Dtype kFloat32 = Dtype::Float, kFloat = kFloat32, kF32 = kFloat32;
inline constexpr Dtype kFloat64 = Dtype::Double, kDouble = kFloat64, kF64 = kFloat64;
inline constexpr Dtype kBool = Dtype::Bool;

/// Every dtype a tensor can have, in the order of promotion within a category.
inline constexpr Dtype kDtypes[] = {kBool,  kUInt8,   kInt8,     kInt16,   kInt32,
                                    kInt64, kFloat16, kBFloat16, kFloat32, kFloat64};

constexpr bool is_floating_point(Dtype d) { return d == kFloat16 || d == kBFloat16 || d == kFloat32 || d == kFloat64; }
constexpr bool is_integral(Dtype d, bool include_bool = false) { return d <= kInt64 || (include_bool && d == kBool); }
constexpr bool is_signed(Dtype d) { return d != kUInt8 && d != kBool; }
/// float16 or bfloat16.
constexpr bool is_low_precision(Dtype d) { return d == kFloat16 || d == kBFloat16; }

constexpr std::int64_t element_size(Dtype d) {
  switch (d) {
    case kBool:
    case kUInt8:
    case kInt8: return 1;
    case kInt16:
    case kFloat16:
    case kBFloat16: return 2;
    case kInt32:
    case kFloat32: return 4;
    case kInt64:
    case kFloat64: return 8;
    default: return 0;
  }
}

/// "float16", "int64" and so on: Python's names without the prefix.
constexpr std::string_view name(Dtype d) {
  switch (d) {
    case kBool: return "bool";
    case kUInt8: return "uint8";
    case kInt8: return "int8";
    case kInt16: return "int16";
    case kInt32: return "int32";
    case kInt64: return "int64";
    case kFloat16: return "float16";
    case kBFloat16: return "bfloat16";
    case kFloat32: return "float32";
    case kFloat64: return "float64";
    default: return "undefined";
  }
}
inline std::ostream& operator<<(std::ostream& out, Dtype d) { return out << name(d); }

template <class T> struct DtypeOf;
template <> struct DtypeOf<bool> { static constexpr Dtype value = kBool; };
template <> struct DtypeOf<std::uint8_t> { static constexpr Dtype value = kUInt8; };
template <> struct DtypeOf<std::int8_t> { static constexpr Dtype value = kInt8; };
template <> struct DtypeOf<std::int16_t> { static constexpr Dtype value = kInt16; };
template <> struct DtypeOf<std::int32_t> { static constexpr Dtype value = kInt32; };
template <> struct DtypeOf<std::int64_t> { static constexpr Dtype value = kInt64; };
template <> struct DtypeOf<long long> { static constexpr Dtype value = kInt64; };
template <> struct DtypeOf<Half> { static constexpr Dtype value = kFloat16; };
template <> struct DtypeOf<BFloat16> { static constexpr Dtype value = kBFloat16; };
template <> struct DtypeOf<float> { static constexpr Dtype value = kFloat32; };
template <> struct DtypeOf<double> { static constexpr Dtype value = kFloat64; };

template <class T> inline constexpr Dtype dtype_of = DtypeOf<std::remove_cv_t<T>>::value;

template <class T> inline constexpr bool is_half_type = std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>;

/// The type arithmetic is done in: float for the 16-bit types, the type itself otherwise.
template <class T> using Compute = std::conditional_t<is_half_type<T>, float, T>;

/// Carries a C++ type through a visitor's argument.
template <class T> struct Type { using type = T; };

/// Calls `f(Type<T>{})` with the C++ type of one of the four floating dtypes.
template <class F> decltype(auto) visit_floating(Dtype d, F&& f) {
  switch (d) {
    case kFloat16: return f(Type<Half>{});
    case kBFloat16: return f(Type<BFloat16>{});
    case kFloat32: return f(Type<float>{});
    case kFloat64: return f(Type<double>{});
    default: fail<TypeError>("a floating dtype is needed, not ", d);
  }
}

/// Calls `f(Type<T>{})` with the C++ type of an integral dtype; bool is not one.
template <class F> decltype(auto) visit_integral(Dtype d, F&& f) {
  switch (d) {
    case kUInt8: return f(Type<std::uint8_t>{});
    case kInt8: return f(Type<std::int8_t>{});
    case kInt16: return f(Type<std::int16_t>{});
    case kInt32: return f(Type<std::int32_t>{});
    case kInt64: return f(Type<std::int64_t>{});
    default: fail<TypeError>("an integral dtype is needed, not ", d);
  }
}

/// Calls `f(Type<T>{})` with the C++ type of any dtype.
template <class F> decltype(auto) visit_all(Dtype d, F&& f) {
  if (is_floating_point(d)) return visit_floating(d, std::forward<F>(f));
  if (d == kBool) return f(Type<bool>{});
  return visit_integral(d, std::forward<F>(f));
}

/// The dtype that holds values of both: PyTorch's promotion lattice. float16 with bfloat16 gives float32.
constexpr Dtype promote_types(Dtype a, Dtype b) {
  if (a == b) return a;
  if (a == Dtype::Undefined) return b;
  if (b == Dtype::Undefined) return a;
  if (is_floating_point(a) != is_floating_point(b)) return is_floating_point(a) ? a : b;
  if (is_floating_point(a)) {
    if (is_low_precision(a) && is_low_precision(b)) return kFloat32;
    return element_size(a) > element_size(b) ? a : b;
  }
  if (a == kBool) return b;
  if (b == kBool) return a;
  if (a == kUInt8 || b == kUInt8) {  // no unsigned type is wider than uint8, so a signed one takes over
    const Dtype other = a == kUInt8 ? b : a;
    return other == kInt8 ? kInt16 : other;
  }
  return element_size(a) > element_size(b) ? a : b;
}
static_assert(promote_types(kUInt8, kInt8) == kInt16);
static_assert(promote_types(kFloat16, kBFloat16) == kFloat32);
static_assert(promote_types(kInt64, kFloat16) == kFloat16);

/// The dtype of factories that are not told one, and of integers divided: float32 unless changed.
Dtype get_default_dtype();
/// Takes a floating dtype.
void set_default_dtype(Dtype d);

}  // namespace halftone
