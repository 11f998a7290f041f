#include "core/shape.h"

#include <numeric>

namespace halftone {

std::int64_t wrap_dim(std::int64_t dim, std::int64_t rank) {
  const std::int64_t range = std::max<std::int64_t>(rank, 1);
  check<IndexError>(-range <= dim && dim < range, "Dimension out of range (expected to be in range of [", -range, ", ",
                    range - 1, "], but got ", dim, ")");
  return dim < 0 ? dim + range : dim;
}

Dims broadcast_shapes(std::string_view op, IntArrayRef a, IntArrayRef b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Dims out(rank, 1);
  for (std::size_t i = 0; i < rank; ++i) {  // from the last axis
    const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    check<ValueError>(x == y || x == 1 || y == 1, op, ": shapes ", a, " and ", b,
                      " do not broadcast: the size of tensor a (", x, ") must match the size of tensor b (", y,
                      ") at dimension ", rank - 1 - i);
    out[rank - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

Dims expanded_strides(IntArrayRef sizes, IntArrayRef strides, IntArrayRef target) {
  Dims out(target.size(), 0);
  const std::size_t lead = target.size() - sizes.size();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    out[lead + i] = sizes[i] == 1 && target[lead + i] != 1 ? 0 : strides[i];
  }
  return out;
}

Dims infer_size(std::string_view op, IntArrayRef sizes, std::int64_t numel) {
  Dims out = dims(sizes);
  std::int64_t known = 1;
  std::int64_t unknown = -1;
  for (std::size_t i = 0; i < out.size(); ++i) {
    check<ValueError>(out[i] >= -1, op, ": invalid size ", out[i], " in ", sizes);
    if (out[i] == -1) {
      check<ValueError>(unknown < 0, op, ": only one dimension can be inferred, got ", sizes);
      unknown = static_cast<std::int64_t>(i);
    } else {
      known *= out[i];
    }
  }
  if (unknown >= 0) {
    check<ValueError>(known != 0 && numel % known == 0, op, ": shape ", sizes, " is invalid for input of size ", numel,
                      known == 0 ? ": -1 is ambiguous beside a size of 0" : "");
    out[static_cast<std::size_t>(unknown)] = numel / known;
  }
  check<ValueError>(count_elements(out) == numel, op, ": shape ", sizes, " is invalid for input of size ", numel);
  return out;
}

std::optional<Dims> view_strides(IntArrayRef sizes, IntArrayRef strides, IntArrayRef target) {
  const std::int64_t numel = count_elements(sizes);
  if (numel == 0)
    return is_contiguous(sizes, strides) || sizes.equals(target) ? std::optional(contiguous_strides(target))
                                                                 : std::nullopt;
  Dims out(target.size(), 1);
  auto to = static_cast<std::int64_t>(target.size()) - 1;
  std::int64_t chunk = 1;  // elements of the run of axes that lie evenly in memory, so far
  std::int64_t chunk_stride = sizes.empty() ? 1 : strides.back();
  for (auto from = static_cast<std::int64_t>(sizes.size()) - 1; from >= 0; --from) {
    const auto i = static_cast<std::size_t>(from);
    chunk *= sizes[i];
    const bool run_ends = from == 0 || (sizes[i - 1] != 1 && strides[i - 1] != chunk * chunk_stride);
    if (!run_ends) continue;
    std::int64_t covered = 1;
    while (to >= 0 && (covered < chunk || target[static_cast<std::size_t>(to)] == 1)) {
      out[static_cast<std::size_t>(to)] = covered * chunk_stride;
      covered *= target[static_cast<std::size_t>(to)];
      --to;
    }
    if (covered != chunk) return std::nullopt;
    if (from > 0) {
      chunk = 1;
      chunk_stride = strides[i - 1];
    }
  }
  if (to >= 0 && !sizes.empty()) return std::nullopt;
  return out;
}

unsigned dim_mask(std::string_view op, IntArrayRef dims, std::int64_t rank) {
  if (dims.empty()) return (1u << rank) - 1u;
  unsigned mask = 0;
  for (const std::int64_t d : dims) {
    const unsigned bit = 1u << wrap_dim(d, rank);
    check<ValueError>((mask & bit) == 0, op, ": dim ", d, " appears twice in ", dims);
    mask |= bit;
  }
  return rank == 0 ? 0u : mask;
}

Dims reduced_sizes(IntArrayRef sizes, unsigned mask, bool keepdim) {
  Dims out;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const bool reduced = (mask >> i) & 1u;
    if (!reduced) out.push_back(sizes[i]);
    if (reduced && keepdim) out.push_back(1);
  }
  return out;
}

bool is_contiguous(IntArrayRef sizes, IntArrayRef strides) {
  std::int64_t expected = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] == 0) return true;
    if (sizes[i] != 1 && strides[i] != expected) return count_elements(sizes) == 0;
    expected *= sizes[i];
  }
  return true;
}

bool is_channels_last(IntArrayRef sizes, IntArrayRef strides) {
  if (sizes.size() != 4 && sizes.size() != 5) return false;
  const Dims expected = channels_last_strides(sizes);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] != 1 && strides[i] != expected[i]) return false;
  }
  return true;
}

namespace {

// Axes from the smallest stride to the largest; equal strides keep the order of a contiguous tensor.
Dims axes_by_stride(IntArrayRef sizes, IntArrayRef strides) {
  Dims order(sizes.size(), 0);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(order.size() - 1 - i);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
    return strides[i] < strides[j] || (strides[i] == strides[j] && sizes[i] < sizes[j] && sizes[i] == 1);
  });
  return order;
}

}  // namespace

bool is_dense(IntArrayRef sizes, IntArrayRef strides) {
  std::int64_t expected = 1;
  for (const std::int64_t axis : axes_by_stride(sizes, strides)) {
    const auto i = static_cast<std::size_t>(axis);
    if (sizes[i] == 1) continue;
    if (sizes[i] == 0) return true;
    if (strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

Dims preserved_strides(IntArrayRef sizes, IntArrayRef strides) {
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] > 1 && strides[i] == 0) return contiguous_strides(sizes);
  }
  if (is_contiguous(sizes, strides)) return contiguous_strides(sizes);
  if (is_channels_last(sizes, strides)) return channels_last_strides(sizes);
  Dims out(sizes.size(), 1);
  std::int64_t step = 1;
  for (const std::int64_t axis : axes_by_stride(sizes, strides)) {
    const auto i = static_cast<std::size_t>(axis);
    out[i] = step;
    step *= std::max<std::int64_t>(sizes[i], 1);
  }
  return out;
}

Loop coalesce(IntArrayRef sizes, std::initializer_list<IntArrayRef> operand_strides) {
  // Order the axes by the strides of the first operand that tells them apart, so that the innermost axis is the
  // densest.
  Dims order(sizes.size(), 0);
  std::iota(order.begin(), order.end(), 0);
  const auto inner_first = [&](std::int64_t a, std::int64_t b) {
    for (const IntArrayRef strides : operand_strides) {
      const std::int64_t x = strides[static_cast<std::size_t>(a)], y = strides[static_cast<std::size_t>(b)];
      if (x != y && x != 0 && y != 0) return x < y;
    }
    return a > b;
  };
  // Insertion sort: the comparison is not transitive when strides of 0 are about, which std::sort does not allow.
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(order.size() - 1 - i);
  for (std::size_t i = 1; i < order.size(); ++i) {
    for (std::size_t j = i; j > 0 && inner_first(order[j], order[j - 1]); --j) std::swap(order[j], order[j - 1]);
  }

  Loop loop;
  loop.operands = static_cast<int>(operand_strides.size());
  for (const std::int64_t axis : order) {  // innermost first; reversed at the end
    const auto i = static_cast<std::size_t>(axis);
    if (sizes[i] == 1) continue;
    const bool merges = !loop.sizes.empty() && [&] {
      std::size_t k = 0;
      for (const IntArrayRef strides : operand_strides) {
        if (strides[i] != loop.strides[k++].back() * loop.sizes.back()) return false;
      }
      return true;
    }();
    if (merges) {
      loop.sizes.back() *= sizes[i];
      continue;
    }
    loop.sizes.push_back(sizes[i]);
    std::size_t k = 0;
    for (const IntArrayRef strides : operand_strides) loop.strides[k++].push_back(strides[i]);
  }
  if (loop.sizes.empty()) {
    loop.sizes.push_back(1);
    for (std::size_t k = 0; k < operand_strides.size(); ++k) loop.strides[k].push_back(0);
  }
  std::reverse(loop.sizes.begin(), loop.sizes.end());
  for (Dims& strides : loop.strides) std::reverse(strides.begin(), strides.end());
  return loop;
}

}  // namespace halftone
