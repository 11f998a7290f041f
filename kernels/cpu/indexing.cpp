// Reading and writing at computed places. All indices are checked before anything is written. Values are moved as bits;
// only adding needs their type. Where writes may meet, a thread owns a slice of the places rather than of the indices,
// so that the order of writes to one place is that of the indices whatever the number of threads.
#include "kernels/indexing.h"

#include <atomic>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/cpu_backend.h"

namespace halftone {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

/// Calls f(Type<U>) with an unsigned type of the dtype's size: to move values is to move their bits.
template <class F> void visit_bits(Dtype d, F f) {
  switch (element_size(d)) {
    case 1: return f(Type<std::uint8_t>{});
    case 2: return f(Type<std::uint16_t>{});
    case 4: return f(Type<std::uint32_t>{});
    default: return f(Type<std::uint64_t>{});
  }
}

Dims coordinates(IntArrayRef sizes, std::int64_t position) {
  Dims at(sizes.size(), 0);
  for (std::size_t axis = sizes.size(); axis-- > 0; position /= sizes[axis]) at[axis] = position % sizes[axis];
  return at;
}

[[noreturn]] void fail_index(const char* op, std::int64_t index, std::int64_t dim, std::int64_t size,
                             const Tensor& indices, std::int64_t position) {
  fail<IndexError>(op, ": index ", index, " at position ", coordinates(indices.sizes(), position),
                   " is out of bounds for dimension ", dim, " with size ", size);
}

std::int64_t value_at(const Tensor& indices, std::int64_t position) {
  std::int64_t offset[1];
  places(indices.sizes(), indices.strides()).find(position, offset);
  return indices.data_ptr<std::int64_t>()[offset[0]];
}

/// Whether all indices are in [low, size).
bool all_within(const Tensor& indices, std::int64_t low, std::int64_t size) {
  const Places<1> layout = places(indices.sizes(), indices.strides());
  const std::int64_t* data = indices.data_ptr<std::int64_t>();
  std::atomic<bool> within{true};
  parallel_for(0, indices.numel(), kGrain, [&](std::int64_t first, std::int64_t last) {
    std::int64_t bad = 0;
    for_each_run(layout, first, last, [&](const std::int64_t(&at)[1], std::int64_t n) {
      const std::int64_t* run = data + at[0];
      const std::int64_t step = layout.step(0);
      for (std::int64_t i = 0; i < n; ++i) bad |= ((run[i * step] < low) | (run[i * step] >= size)) ? 1 : 0;
    });
    if (bad != 0) within.store(false, std::memory_order_relaxed);
  });
  return within;
}

/// Indices must be in [low, size); low is -size where negative ones count from the end.
void check_indices(const char* op, const Tensor& indices, std::int64_t dim, std::int64_t low, std::int64_t size) {
  if (all_within(indices, low, size)) return;
  for (std::int64_t i = 0; i < indices.numel(); ++i) {
    const std::int64_t index = value_at(indices, i);
    if (index < low || index >= size) fail_index(op, index, dim, size, indices, i);
  }
}

std::size_t axis_of(std::int64_t dim) { return static_cast<std::size_t>(dim); }

/// Strides with the one along `dim` set to 0: the index takes its place.
Dims without(IntArrayRef strides, std::int64_t dim) {
  Dims out = dims(strides);
  if (!out.empty()) out[axis_of(dim)] = 0;
  return out;
}

std::int64_t size_along(const Tensor& x, std::int64_t dim) { return x.dim() == 0 ? 1 : x.sizes()[axis_of(dim)]; }
std::int64_t stride_along(const Tensor& x, std::int64_t dim) { return x.dim() == 0 ? 1 : x.strides()[axis_of(dim)]; }

template <class U> void copy_run(const U* from, std::int64_t from_step, U* to, std::int64_t to_step, std::int64_t n) {
  if (from_step == 1 && to_step == 1) {
    std::copy_n(from, n, to);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }
}

}  // namespace

void CpuBackend::gather(const Tensor& x, std::int64_t dim, const Tensor& index, Tensor& y, const char* op) {
  check_indices(op, index, dim, 0, size_along(x, dim));
  const Places<3> layout = places(index.sizes(), index.strides(), without(x.strides(), dim), y.strides());
  const std::int64_t* indices = index.data_ptr<std::int64_t>();
  const std::int64_t along = stride_along(x, dim);
  visit_bits(x.dtype(), [&]<class U>(Type<U>) {
    const U* from = static_cast<const U*>(x.data_ptr());
    U* to = static_cast<U*>(y.data_ptr());
    parallel_for(0, index.numel(), kGrain, [&](std::int64_t first, std::int64_t last) {
      for_each_run(layout, first, last, [&](const std::int64_t(&at)[3], std::int64_t n) {
        const std::int64_t i_step = layout.step(0), x_step = layout.step(1), y_step = layout.step(2);
        if (i_step == 0) {  // an expanded index: one slice
          copy_run(from + at[1] + indices[at[0]] * along, x_step, to + at[2], y_step, n);
          return;
        }
        for (std::int64_t i = 0; i < n; ++i)
          to[at[2] + i * y_step] = from[at[1] + i * x_step + indices[at[0] + i * i_step] * along];
      });
    });
  });
}

namespace {

struct Set {
  template <class T> void operator()(T& y, T value) const { y = value; }
};

struct Add {
  template <class T> void operator()(T& y, T value) const {
    if constexpr (std::is_same_v<T, bool>) {
      y = y || value;
    } else if constexpr (std::is_integral_v<T>) {  // wraps around
      y = static_cast<T>(static_cast<std::uint64_t>(y) + static_cast<std::uint64_t>(value));
    } else if constexpr (is_half_type<T>) {
      y = T(static_cast<float>(y) + static_cast<float>(value));
    } else {
      y += value;
    }
  }
};

/// Writes a run of values, the usual one without gaps in a loop of its own.
template <class W, class V, class Y>
void write_run(W write, const V* from, std::int64_t from_step, Y* to, std::int64_t to_step, std::int64_t n) {
  if (from_step == 1 && to_step == 1) {
    for (std::int64_t i = 0; i < n; ++i) write(to[i], static_cast<Y>(from[i]));
  } else {
    for (std::int64_t i = 0; i < n; ++i) write(to[i * to_step], static_cast<Y>(from[i * from_step]));
  }
}

/// Calls f(write, Type<Y>, Type<V>) for a target and values to write: bits to set, or numbers to add. A float32 target
/// may take 16-bit values.
template <class F> void visit_write(Write mode, Dtype target, Dtype values, F f) {
  if (mode == Write::set) {
    visit_bits(target, [&]<class U>(Type<U>) { f(Set{}, Type<U>{}, Type<U>{}); });
  } else if (target != values) {
    visit_floating(values, [&]<class V>(Type<V>) { f(Add{}, Type<Compute<V>>{}, Type<V>{}); });
  } else {
    visit_all(target, [&]<class T>(Type<T>) { f(Add{}, Type<T>{}, Type<T>{}); });
  }
}

/// Calls f(y), or for additions in 16 bits f with a float32 copy that is rounded into y: sums are rounded once.
template <class F> void add_wide(CpuBackend& backend, Write mode, Tensor& y, F f) {
  if (mode == Write::set || !is_low_precision(y.dtype())) return f(y);
  Tensor wide = empty_strided(y.sizes(), y.strides(), y.options().dtype(kFloat32));  // places stay where they are
  backend.copy(y, wide);
  f(wide);
  backend.copy(wide, y);
}

/// The longest axis but `dim`: threads that own parts of it never write to one place. -1 when there is none.
int axis_to_share(IntArrayRef sizes, std::int64_t dim) {
  int best = -1;
  for (int axis = 0; axis < static_cast<int>(sizes.size()); ++axis) {
    if (axis == dim || sizes[axis_of(axis)] < 2) continue;
    if (best < 0 || sizes[axis_of(axis)] > sizes[axis_of(best)]) best = axis;
  }
  return best;
}

/// Scatters the part [first, last) of one axis, in the order of the index.
template <class W, class Y, class V>
void scatter_part(W write, const Tensor& index, const Tensor& source, std::int64_t dim, int axis, std::int64_t first,
                  std::int64_t last, Tensor& y) {
  Dims sizes = dims(index.sizes());
  const Dims y_strides = without(y.strides(), dim);
  const std::int64_t* indices = index.data_ptr<std::int64_t>();
  const V* from = static_cast<const V*>(source.data_ptr());
  Y* to = static_cast<Y*>(y.data_ptr());
  if (axis >= 0) {
    const std::size_t k = axis_of(axis);
    sizes[k] = last - first;
    indices += first * index.strides()[k];
    from += first * source.strides()[k];
    to += first * y_strides[k];
  }
  const Places<3> layout = places(sizes, index.strides(), source.strides(), y_strides);
  const std::int64_t along = stride_along(y, dim);
  for_each_run(layout, 0, count_elements(sizes), [&](const std::int64_t(&at)[3], std::int64_t n) {
    const std::int64_t i_step = layout.step(0), v_step = layout.step(1), y_step = layout.step(2);
    if (i_step == 0) {  // an expanded index: one slice
      write_run(write, from + at[1], v_step, to + at[2] + indices[at[0]] * along, y_step, n);
      return;
    }
    for (std::int64_t i = 0; i < n; ++i)
      write(to[at[2] + i * y_step + indices[at[0] + i * i_step] * along], static_cast<Y>(from[at[1] + i * v_step]));
  });
}

}  // namespace

void CpuBackend::scatter(Write mode, std::int64_t dim, const Tensor& index, const Tensor& source, Tensor& y) {
  check_indices(mode == Write::set ? "scatter" : "scatter_add", index, dim, 0, size_along(y, dim));
  if (index.numel() == 0) return;
  const int axis = axis_to_share(index.sizes(), dim);
  const std::int64_t parts = axis < 0 ? 1 : index.sizes()[axis_of(axis)];
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain * parts / index.numel());
  add_wide(*this, mode, y, [&](Tensor& to) {
    visit_write(mode, to.dtype(), source.dtype(), [&]<class W, class Y, class V>(W write, Type<Y>, Type<V>) {
      parallel_for(0, parts, grain, [&](std::int64_t first, std::int64_t last) {
        scatter_part<W, Y, V>(write, index, source, dim, axis, first, last, to);
      });
    });
  });
}

// ---------------------------------------------------------------- advanced indexing

namespace {

/// The axis of x that an index of the plan is for: the first one from `axis` on that looks so.
std::int64_t indexed_axis(const IndexPlan& plan, std::size_t k, const Tensor& x, std::int64_t axis) {
  const auto matches = [&](std::size_t i) {
    return x.sizes()[i] == plan.sizes[k] && x.strides()[i] == plan.strides[k];
  };
  while (axis + 1 < x.dim() && !matches(axis_of(axis))) ++axis;
  return axis;
}

/// Where in x the slice of each index starts, in elements; every index is checked.
std::vector<std::int64_t> slice_starts(const char* method, const IndexPlan& plan, const Tensor& x) {
  std::vector<std::int64_t> starts(static_cast<std::size_t>(plan.indices[0].numel()), 0);
  std::int64_t axis = -1;
  for (std::size_t k = 0; k < plan.indices.size(); ++k) {
    const std::int64_t size = plan.sizes[k], stride = plan.strides[k];
    axis = indexed_axis(plan, k, x, axis + 1);
    check_indices(plan.op ? plan.op : method, plan.indices[k], axis, plan.from_end ? -size : 0, size);
    const std::int64_t* index = plan.indices[k].data_ptr<std::int64_t>();
    for (std::size_t i = 0; i < starts.size(); ++i) starts[i] += wrap_index(index[i], size) * stride;
  }
  return starts;
}

/// Where the slices of `values` start: it has the axes of the index, then those of a slice.
std::vector<std::int64_t> value_starts(const Tensor& values, std::size_t index_rank) {
  const IntArrayRef sizes = values.sizes().slice(0, index_rank), strides = values.strides().slice(0, index_rank);
  std::vector<std::int64_t> starts;
  starts.reserve(static_cast<std::size_t>(count_elements(sizes)));
  const Places<1> layout = places(sizes, strides);
  for_each_run(layout, 0, count_elements(sizes), [&](const std::int64_t(&at)[1], std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) starts.push_back(at[0] + i * layout.step(0));
  });
  return starts;
}

/// The slices of an indexed tensor x and of a tensor of values, which has the axes of the index in front.
struct Slices {
  std::vector<std::int64_t> x, values;  // where they start
  Places<2> layout;                     // within one: in x, in the values
  std::int64_t size = 0;                // elements of one

  Slices(const char* method, const IndexPlan& plan, const Tensor& indexed, const Tensor& with)
      : x(slice_starts(method, plan, indexed)) {
    const auto index_rank = static_cast<std::size_t>(plan.indices[0].dim());
    values = value_starts(with, index_rank);
    layout = places(plan.rest_sizes, plan.rest_strides, with.strides().slice(index_rank));
    size = count_elements(plan.rest_sizes);
  }
};

/// Writes the elements [first, last) of every slice, in the order of the index.
template <class W, class Y, class V>
void put_part(W write, const Slices& s, std::int64_t first, std::int64_t last, const V* values, Y* x) {
  for (std::size_t i = 0; i < s.x.size(); ++i) {
    for_each_run(s.layout, first, last, [&](const std::int64_t(&at)[2], std::int64_t n) {
      write_run(write, values + s.values[i] + at[1], s.layout.step(1), x + s.x[i] + at[0], s.layout.step(0), n);
    });
  }
}

}  // namespace

void CpuBackend::index(const IndexPlan& plan, const Tensor& x, Tensor& y) {
  const Slices s("index", plan, x, y);
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(s.size, 1));
  visit_bits(x.dtype(), [&]<class U>(Type<U>) {
    const U* from = static_cast<const U*>(x.data_ptr());
    U* to = static_cast<U*>(y.data_ptr());
    parallel_for(0, static_cast<std::int64_t>(s.x.size()), grain, [&](std::int64_t first, std::int64_t last) {
      for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
        for_each_run(s.layout, 0, s.size, [&](const std::int64_t(&at)[2], std::int64_t n) {
          copy_run(from + s.x[i] + at[0], s.layout.step(0), to + s.values[i] + at[1], s.layout.step(1), n);
        });
      }
    });
  });
}

void CpuBackend::index_put(const IndexPlan& plan, Write mode, const Tensor& values, Tensor& x) {
  const Slices s("index_put", plan, x, values);
  const auto count = static_cast<std::int64_t>(s.x.size());
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(count, 1));
  add_wide(*this, mode, x, [&](Tensor& to) {
    visit_write(mode, to.dtype(), values.dtype(), [&]<class W, class Y, class V>(W write, Type<Y>, Type<V>) {
      parallel_for(0, s.size, grain, [&](std::int64_t first, std::int64_t last) {
        put_part(write, s, first, last, static_cast<const V*>(values.data_ptr()), static_cast<Y*>(to.data_ptr()));
      });
    });
  });
}

// ---------------------------------------------------------------- nonzero

namespace {

constexpr std::int64_t kNonzeroBlock = 1 << 14;

/// Calls f(position) for the elements of [first, last) that are not zero.
template <class T, class F>
void for_each_nonzero(const T* data, const Places<1>& layout, std::int64_t first, std::int64_t last, F f) {
  for_each_run(layout, first, last, [&](const std::int64_t(&at)[1], std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (!(data[at[0] + i * layout.step(0)] == T{})) f(first + i);
    }
    first += n;
  });
}

/// The coordinates of positions that come in ascending order: an axis is divided only where one is carried over.
class Coordinates {
 public:
  explicit Coordinates(IntArrayRef sizes) : sizes_(sizes), at_(sizes.size(), 0) {}
  const Dims& operator()(std::int64_t position) {
    std::int64_t ahead = position - position_;
    position_ = position;
    for (std::size_t axis = at_.size(); axis-- > 0 && ahead > 0;) {
      at_[axis] += ahead;
      if (at_[axis] < sizes_[axis]) return at_;
      ahead = at_[axis] / sizes_[axis];
      at_[axis] %= sizes_[axis];
    }
    return at_;
  }

 private:
  IntArrayRef sizes_;
  Dims at_;
  std::int64_t position_ = 0;
};

/// f(block, first, last) for blocks of positions that do not depend on the number of threads.
template <class F> void for_each_position_block(std::int64_t n, F f) {
  const std::int64_t blocks = (n + kNonzeroBlock - 1) / kNonzeroBlock;
  parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b)
      f(static_cast<std::size_t>(b), b * kNonzeroBlock, std::min((b + 1) * kNonzeroBlock, n));
  });
}

}  // namespace

Tensor CpuBackend::nonzero(const Tensor& x) {
  const Places<1> layout = places(x.sizes(), x.strides());
  const std::int64_t n = x.numel(), rank = x.dim();
  std::vector<std::int64_t> rows(static_cast<std::size_t>((n + kNonzeroBlock - 1) / kNonzeroBlock) + 1, 0);
  Tensor y;
  visit_all(x.dtype(), [&]<class T>(Type<T>) {
    const T* data = x.data_ptr<T>();
    for_each_position_block(n, [&](std::size_t block, std::int64_t first, std::int64_t last) {
      std::int64_t count = 0;
      for_each_nonzero(data, layout, first, last, [&](std::int64_t) { ++count; });
      rows[block + 1] = count;
    });
    for (std::size_t block = 1; block < rows.size(); ++block) rows[block] += rows[block - 1];
    y = empty({rows.back(), rank}, TensorOptions(kInt64).device(x.device()));
    for_each_position_block(n, [&](std::size_t block, std::int64_t first, std::int64_t last) {
      std::int64_t* to = y.data_ptr<std::int64_t>() + rows[block] * rank;
      Coordinates coordinates_of(x.sizes());
      for_each_nonzero(data, layout, first, last, [&](std::int64_t position) {
        const Dims& at = coordinates_of(position);
        to = std::copy(at.begin(), at.end(), to);
      });
    });
  });
  return y;
}

}  // namespace halftone
