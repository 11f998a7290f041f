// Prints the op reference, docs/ops.md, from the op table: `build/examples/op_reference > docs/ops.md`.
#include <fmt/format.h>

#include "halftone.h"

int main() {
  fmt::print(
      "# Ops\n\n"
      "Printed from `autograd/op_table.h` by `examples/op_reference.cpp`. The precision of an op is what autocast acts "
      "on:\n\n"
      "| precision | under autocast |\n|---|---|\n"
      "| lower | inputs are cast to the region's 16-bit dtype |\n"
      "| full | inputs are cast to float32 |\n"
      "| full_if_unset | the result is float32 unless the caller names a dtype |\n"
      "| promote | inputs are cast to the widest dtype among them |\n"
      "| any | runs in the dtype its inputs have |\n"
      "| banned | an error |\n\n"
      "Never cast: integers, bool, float64, tensors on devices that the region is not for, and in-place ops.\n\n"
      "| op | precision | meaning |\n|---|---|---|\n");
  for (const ht::OpInfo& row : ht::kOps) fmt::print("| `{}` | {} | {} |\n", row.name, name(row.precision), row.meaning);
}
