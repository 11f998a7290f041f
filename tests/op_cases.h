// A row a case: an op, the inputs it is given, and the call. Loops over the rows are in test_ops.cpp; a row of the op
// table without a case here fails there. golden/ops.py reads the rows' inputs and repeats their calls in PyTorch.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/ops.h"

namespace halftone::test {

inline constexpr int kByDecree = -1;

using In = const std::vector<Tensor>&;

struct OpCase {
  std::string_view op;       // its row in the op table
  std::string_view variant;  // what is special about the case
  /// One word an input: a shape such as 2x3, or - for 0-dim, behind the kind of its values if that is not `any`:
  /// pos:4 unit:2x2 label5:3. See make_input.
  std::string_view inputs;
  Tensor (*run)(In);
  int derivatives = 2;  // 0: none; 1: once; 2: as often as one likes; kByDecree: a gradient that is not the derivative
  bool golden = true;   // has values of PyTorch

  std::string key() const { return std::string(op) + "/" + std::string(variant); }
};

std::span<const OpCase> op_cases();

/// Element i of input k is a pure function of (kind, i, k), which golden/ops.py repeats:
///   any     -2 to 2           pos   0.3 to 2.3      unit  0.05 to 0.95
///   holed   any, or 0         whole -3 to 3, int64  labelN  0 to N-1, int64  mask  bool
Tensor make_input(std::string_view word, std::size_t k, Dtype dtype = kFloat64);
std::vector<Tensor> make_inputs(const OpCase& c, Dtype dtype = kFloat64);

/// The relative error that rounding each of `length` summed terms to `dtype` may cause.
double tolerance(Dtype dtype, std::int64_t length = 1);

}  // namespace halftone::test
