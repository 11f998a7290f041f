#include "core/dtype.h"

#include <atomic>

namespace halftone {
namespace {

std::atomic<Dtype> default_dtype{kFloat32};

}  // namespace

Dtype get_default_dtype() { return default_dtype.load(std::memory_order_relaxed); }

void set_default_dtype(Dtype d) {
  check<TypeError>(is_floating_point(d), "set_default_dtype: a floating dtype is needed, not ", d);
  default_dtype.store(d, std::memory_order_relaxed);
}

}  // namespace halftone
