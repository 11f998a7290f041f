// Batches in page-locked memory, from which a GPU copies while the host goes on.
#pragma once

#include <optional>
#include <vector>

#include "core/runtime.h"
#include "data/example.h"

namespace halftone::data::detail {

/// Moves the tensors of a batch to pinned memory; whatever else there is stays as it is.
template <class T> void pin(T&) {}
inline void pin(Tensor& t) {
  if (t.defined() && t.is_cpu()) t = t.pin_memory();
}
template <class Data, class Target> void pin(Example<Data, Target>& example) {
  pin(example.data);
  if constexpr (!std::is_void_v<Target>) pin(example.target);
}
template <class T> void pin(std::vector<T>& batch) {
  for (T& item : batch) pin(item);
}
template <class T> void pin(std::optional<T>& batch) {
  if (batch) pin(*batch);
}

}  // namespace halftone::data::detail
