// Strided copies and casts. A transposing copy (an image between channels-first and channels-last) goes tile by tile,
// so that both sides are read and written in runs.
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/elements.h"

namespace halftone {

using namespace cpu;

namespace {

constexpr std::int64_t kTile = 16;

// Two axes of a copy: `a` is contiguous in the target, `b` in the source.
struct Tile {
  std::int64_t rows, columns;  // along b and along a
  std::int64_t from_column, to_row;
};

template <class T> void transpose_plane(const T* from, T* to, const Tile& t) {
  for (std::int64_t r0 = 0; r0 < t.rows; r0 += kTile) {
    const std::int64_t r1 = std::min(r0 + kTile, t.rows);
    for (std::int64_t c0 = 0; c0 < t.columns; c0 += kTile) {
      const std::int64_t c1 = std::min(c0 + kTile, t.columns);
      for (std::int64_t r = r0; r < r1; ++r) {
        for (std::int64_t c = c0; c < c1; ++c) to[r * t.to_row + c] = from[c * t.from_column + r];
      }
    }
  }
}

// Copies elements of one size bit for bit; loop.strides[0] is the target's, [1] the source's.
template <class T> void copy_bits(const Loop& loop, const void* source, void* target) {
  const auto* from = static_cast<const T*>(source);
  auto* to = static_cast<T*>(target);
  const std::size_t rank = loop.sizes.size();
  const Dims &to_strides = loop.strides[0], &from_strides = loop.strides[1];

  // Axis b: contiguous in the source, if it is not also the innermost of the target.
  std::size_t b = rank - 1;
  for (std::size_t i = 0; i + 1 < rank; ++i) {
    if (from_strides[i] == 1 && loop.sizes[i] > 1) b = i;
  }
  const bool transposes = b != rank - 1 && to_strides.back() == 1 && from_strides.back() != 1;
  Dims outer = loop.sizes;
  outer.back() = 1;
  if (transposes) outer[b] = 1;
  const std::int64_t planes = count_elements(outer);
  const std::int64_t plane_size = count_elements(loop.sizes) / std::max<std::int64_t>(planes, 1);
  const std::int64_t columns = loop.sizes.back(), from_step = from_strides.back(), to_step = to_strides.back();

  parallel_for(0, planes, std::max<std::int64_t>(kParallelGrain / std::max<std::int64_t>(plane_size, 1), 1),
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t plane = first; plane < last; ++plane) {
                   std::int64_t rest = plane, from_offset = 0, to_offset = 0;
                   for (std::size_t i = rank; i-- > 0;) {
                     const std::int64_t at = rest % outer[i];
                     rest /= outer[i];
                     from_offset += at * from_strides[i];
                     to_offset += at * to_strides[i];
                   }
                   const T* x = from + from_offset;
                   T* y = to + to_offset;
                   if (transposes) {
                     transpose_plane(x, y, {loop.sizes[b], columns, from_step, to_strides[b]});
                   } else if (from_step == 1 && to_step == 1) {
                     std::memcpy(y, x, static_cast<std::size_t>(columns) * sizeof(T));
                   } else {
                     for (std::int64_t i = 0; i < columns; ++i) y[i * to_step] = x[i * from_step];
                   }
                 }
               });
}

void copy_same_dtype(const Tensor& from, const Tensor& to) {
  const Loop loop = coalesce(to.sizes(), {to.strides(), from.strides()});
  switch (from.element_size()) {
    case 1: return copy_bits<std::uint8_t>(loop, from.data_ptr(), to.data_ptr());
    case 2: return copy_bits<std::uint16_t>(loop, from.data_ptr(), to.data_ptr());
    case 4: return copy_bits<std::uint32_t>(loop, from.data_ptr(), to.data_ptr());
    default: return copy_bits<std::uint64_t>(loop, from.data_ptr(), to.data_ptr());
  }
}

template <class C> void same_block(const void*, std::int64_t n, const C* const* in, C* out) {
  std::memcpy(out, in[0], static_cast<std::size_t>(n) * sizeof(C));
}

// The type to pass through: that of the target, unless a floating source has to be truncated to an integer.
Dtype passing_type(Dtype from, Dtype to) {
  if (is_floating_point(to)) return to;
  return is_floating_point(from) ? from : kInt64;
}

}  // namespace

void CpuBackend::copy(const Tensor& from, Tensor& to) {
  if (to.numel() == 0) return;
  if (from.dtype() == to.dtype()) return copy_same_dtype(from, to);
  visit_arithmetic(passing_type(from.dtype(), to.dtype()),
                   [&]<class C>(Type<C>) { run_elements<C>(std::array{&from}, to, &same_block<C>, nullptr); });
}

void CpuBackend::fill(Tensor& y, const Scalar& value) {
  visit_arithmetic(y.dtype(), [&]<class C>(Type<C>) {
    const C number = value.to<C>();
    const BlockKernel<C> set = [](const void* number_at, std::int64_t n, const C* const*, C* out) {
      std::fill(out, out + n, *static_cast<const C*>(number_at));
    };
    run_elements<C>({}, y, set, &number);
  });
}

void CpuBackend::arange(Tensor& y, double start, double step) {
  visit_all(y.dtype(), [&]<class T>(Type<T>) {
    T* out = y.data_ptr<T>();
    const std::int64_t stride = y.dim() == 0 ? 1 : y.stride(0);
    for (std::int64_t i = 0; i < y.numel(); ++i) {
      if constexpr (std::is_integral_v<T>) {
        out[i * stride] = static_cast<T>(static_cast<std::int64_t>(start) + i * static_cast<std::int64_t>(step));
      } else {
        out[i * stride] = narrow_one<T>(start + static_cast<double>(i) * step);
      }
    }
  });
}

}  // namespace halftone
