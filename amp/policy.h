// What autocast decides, as pure functions of dtypes.
#pragma once

#include "autograd/op_table.h"
#include "core/dtype.h"

namespace halftone::amp {

/// May autocast cast a tensor of this dtype? Integers hold no fractions, and whoever uses float64 means it.
constexpr bool castable(Dtype d) { return is_floating_point(d) && d != kFloat64; }

/// The widest castable dtype, one more input seen. The two 16-bit types together need float32; order does not matter.
constexpr Dtype widen(Dtype so_far, Dtype input) { return castable(input) ? promote_types(so_far, input) : so_far; }

/// The dtype that an op's castable inputs are brought to in a region whose low dtype is `low`, when the widest of them
/// is `widest`; Undefined leaves them as they are.
constexpr Dtype wanted(Precision precision, Dtype low, Dtype widest) {
  switch (precision) {
    case Precision::lower: return low;
    case Precision::full: return kFloat32;
    case Precision::promote: return widest;
    default: return Dtype::Undefined;
  }
}

/// The dtype of a sum or softmax of an input, when the caller named none; Undefined is the op's own choice.
constexpr Dtype wanted_output(Precision precision, Dtype input) {
  return precision == Precision::full_if_unset && castable(input) ? kFloat32 : Dtype::Undefined;
}

/// Gives an op of the user a policy, or another one: `apply(amp::register_policy("my_op", Precision::lower), ...)`.
inline const OpInfo& register_policy(std::string_view name, Precision precision, std::string_view meaning = "") {
  return register_op(name, precision, meaning);
}

}  // namespace halftone::amp
