#include "core/indexing.h"

#include <limits>

namespace halftone {

// As libtorch prints them: an end that is not given is the last there could be.
std::ostream& indexing::operator<<(std::ostream& out, const Slice& slice) {
  constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();
  return out << slice.start.value_or(0) << ':' << slice.stop.value_or(kEnd) << ':' << slice.step.value_or(1);
}

std::ostream& operator<<(std::ostream& out, const TensorIndex& index) {
  switch (index.kind()) {
    case TensorIndex::Kind::none: return out << "None";
    case TensorIndex::Kind::ellipsis: return out << "...";
    case TensorIndex::Kind::integer: return out << index.integer();
    case TensorIndex::Kind::boolean: return out << (index.boolean() ? "true" : "false");
    case TensorIndex::Kind::slice: return out << index.slice();
    case TensorIndex::Kind::tensor: return out << index.tensor();
  }
  return out;
}

}  // namespace halftone
