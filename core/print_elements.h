// What the printers read: a rectangle of elements in host memory, whatever the tensor's dtype, strides and device.
// Printing uses no kernels, so that it works while they are being debugged.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace halftone::detail {

/// A tensor's memory on the host: the tensor's own, or a copy of the span that it reaches into.
class HostElements {
 public:
  explicit HostElements(const Tensor& t);
  /// The element at a distance from the tensor's first.
  Scalar at(std::int64_t offset) const;

 private:
  Dtype dtype_;
  std::vector<char> copy_;
  const char* first_;
};

/// Some axes of it.
struct ElementView {
  const HostElements* elements;
  IntArrayRef sizes, strides;
  std::int64_t offset = 0;

  std::size_t dim() const { return sizes.size(); }
  std::int64_t size() const { return sizes[0]; }
  Scalar item() const { return elements->at(offset); }
  /// One entry of the first axis.
  ElementView operator[](std::int64_t i) const {
    return {elements, sizes.slice(1), strides.slice(1), offset + i * strides[0]};
  }
};

/// Calls `visit(Scalar)` for every element, row by row.
template <class F> void for_each(const ElementView& view, F& visit) {
  if (view.dim() == 0) return visit(view.item());
  for (std::int64_t i = 0; i < view.size(); ++i) for_each(view[i], visit);
}

/// The shortest decimal that is read back as the same number: 0.1, 1e+16, -0, nan.
std::string shortest(double value);

}  // namespace halftone::detail
