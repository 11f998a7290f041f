// What lists of tensors must have in common before a kernel takes their addresses.
#pragma once

#include "core/tensor.h"

namespace halftone {

/// All tensors are where `with` is: a kernel follows addresses, and those of another device mean nothing to it.
inline void check_one_device(const char* op, TensorList tensors, const Tensor& with) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check(tensors[i].device() == with.device(), op, ": tensor ", i, " of the list is on ", tensors[i].device(),
          " but the result is on ", with.device(), "; divide the list by device");
  }
}

}  // namespace halftone
