// Reading and writing at computed places. A thread moves one element, or 16 bytes where neighbours move together, as
// the rows of an embedding do. An index out of range is reported to the host, and its element left out.
//
// Writes that meet: which of several values set at one place stays is not determined. Additions meet in atomics, so
// float sums may differ in their last bits from run to run, as in PyTorch; sums of integers do not.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/indexing.h"

namespace halftone {

using namespace cuda;

namespace {

/// The index tensors of an op, which are read at one position for all, and the axes they are for.
struct Indices {
  const char* op = "";
  BadIndex* bad = nullptr;
  bool from_end = false;  // negative indices count from the end
  int count = 0;
  const std::int64_t* data[kMaxDims] = {};
  std::int64_t sizes[kMaxDims] = {}, strides[kMaxDims] = {};  // of the indexed axes

  void add(const Tensor& index, std::int64_t size, std::int64_t stride) {
    data[count] = index.data_ptr<std::int64_t>();
    sizes[count] = size;
    strides[count++] = stride;
  }

  /// Adds to `offset` how far the indices at this position lead; false if one is out of range.
  __device__ bool find(std::int64_t position, std::int64_t& offset) const {
    for (int k = 0; k < count; ++k) {
      const std::int64_t index = data[k][position];
      const std::int64_t at = from_end ? wrap_index(index, sizes[k]) : index;
      if (!in_range(at, sizes[k])) {
        report(bad, op, index, sizes[k]);
        return false;
      }
      offset += at * strides[k];
    }
    return true;
  }
};

/// A loop over the elements that move. Its operands are the values, the indexed tensor (at index 0) and the indices.
struct Moves {
  Indices indices;
  Loop loop;
};

Moves moves_along(const char* op, const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& values) {
  Moves m;
  const auto axis = static_cast<std::size_t>(dim);
  Dims strides = dims(x.strides());
  if (x.dim() == 0) {
    m.indices.add(index, 1, 1);
  } else {
    m.indices.add(index, x.sizes()[axis], strides[axis]);
    strides[axis] = 0;
  }
  m.indices.op = op;
  m.loop = coalesce(index.sizes(), {values.strides(), strides, index.strides()});
  return m;
}

Moves moves_of(const char* method, const IndexPlan& plan, const Tensor& values) {
  Moves m;
  m.indices.op = plan.op ? plan.op : method;
  m.indices.from_end = plan.from_end;
  for (std::size_t k = 0; k < plan.indices.size(); ++k) m.indices.add(plan.indices[k], plan.sizes[k], plan.strides[k]);
  const auto index_rank = static_cast<std::size_t>(plan.indices[0].dim());
  Dims in_x(index_rank, 0), in_index = contiguous_strides(plan.indices[0].sizes());
  for (const std::int64_t stride : plan.rest_strides) {
    in_x.push_back(stride);
    in_index.push_back(0);
  }
  m.loop = coalesce(values.sizes(), {values.strides(), in_x, in_index});
  return m;
}

/// Takes `several` elements for one, if they always move together and lie at multiples of their size.
bool move_together(Moves& m, std::int64_t several, std::int64_t element, const void* values, const void* x) {
  const auto bytes = static_cast<std::uintptr_t>(several * element);
  const auto begins_at_multiple = [&](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; };
  const std::size_t last = m.loop.sizes.size() - 1;
  bool together = m.loop.sizes[last] % several == 0 && m.loop.strides[0][last] == 1 && m.loop.strides[1][last] == 1 &&
                  m.loop.strides[2][last] == 0 && begins_at_multiple(values) && begins_at_multiple(x);
  for (std::size_t axis = 0; axis < last; ++axis) {
    together = together && m.loop.strides[0][axis] % several == 0 && m.loop.strides[1][axis] % several == 0;
  }
  for (int k = 0; k < m.indices.count; ++k) together = together && m.indices.strides[k] % several == 0;
  if (!together) return false;
  m.loop.sizes[last] /= several;
  for (std::size_t axis = 0; axis < last; ++axis) {
    m.loop.strides[0][axis] /= several;
    m.loop.strides[1][axis] /= several;
  }
  for (int k = 0; k < m.indices.count; ++k) m.indices.strides[k] /= several;
  return true;
}

/// Calls run(Type<U>) with a type of the size of what moves at once.
template <class Run> void with_units(Moves& m, const Tensor& values, const Tensor& x, Run run) {
  const std::int64_t element = values.element_size();
  std::int64_t unit = 16;
  while (unit > element && !move_together(m, unit / element, element, values.data_ptr(), x.data_ptr())) unit /= 2;
  switch (unit) {
    case 1: return run(Type<std::uint8_t>{});
    case 2: return run(Type<std::uint16_t>{});
    case 4: return run(Type<std::uint32_t>{});
    case 8: return run(Type<std::uint64_t>{});
    default: return run(Type<Pack<std::uint64_t, 2>>{});
  }
}

/// Calls run(indices, offsets, positions, where values and x begin) for parts of fewer than 2^31 positions.
template <class Run> void for_each_grid(const Moves& m, const Tensor& x, Run run) {
  if (count_elements(m.loop.sizes) == 0) return;
  for_each_part(m.loop, {}, [&](const Loop& loop, const std::array<std::int64_t, kMaxOperands>& moved) {
    Indices indices = m.indices;
    indices.bad = gpu(x).bad_index_on_device;
    for (int k = 0; k < indices.count; ++k) indices.data[k] += moved[2];
    Offsets<3> offsets;
    offsets.rank = static_cast<int>(loop.sizes.size());
    for (int axis = 0; axis < offsets.rank; ++axis) {
      const std::size_t from = loop.sizes.size() - 1 - static_cast<std::size_t>(axis);
      offsets.sizes[axis] = Divider(static_cast<std::uint32_t>(loop.sizes[from]));
      for (int k = 0; k < 3; ++k) offsets.strides[k][axis] = loop.strides[static_cast<std::size_t>(k)][from];
    }
    run(indices, offsets, static_cast<std::uint32_t>(count_elements(loop.sizes)), moved[0], moved[1]);
  });
}

template <class U>
__global__ void __launch_bounds__(kThreads)
    take(Indices indices, Offsets<3> offsets, std::uint32_t n, U* values, const U* x) {
  const std::int64_t position = thread_in_grid();
  if (position >= n) return;
  std::int64_t at[3];
  offsets.find(static_cast<std::uint32_t>(position), at);
  values[at[0]] = indices.find(at[2], at[1]) ? x[at[1]] : U{};
}

template <class U>
__global__ void __launch_bounds__(kThreads)
    put(Indices indices, Offsets<3> offsets, std::uint32_t n, const U* values, U* x) {
  const std::int64_t position = thread_in_grid();
  if (position >= n) return;
  std::int64_t at[3];
  offsets.find(static_cast<std::uint32_t>(position), at);
  if (indices.find(at[2], at[1])) x[at[1]] = values[at[0]];
}

/// Stores a value where other threads may store the same one.
__device__ void store_alike(std::uint8_t* to, std::uint8_t value) {
  *static_cast<volatile std::uint8_t*>(to) = value;  // there are no atomics of this size
}
__device__ void store_alike(std::uint16_t* to, std::uint16_t value) {
  std::uint16_t seen = *to;
  while (seen != value) {
    const std::uint16_t old = seen;
    seen = atomicCAS(to, old, value);
    if (seen == old) return;
  }
}
__device__ void store_alike(std::uint32_t* to, std::uint32_t value) { atomicExch(to, value); }
__device__ void store_alike(std::uint64_t* to, std::uint64_t value) {
  atomicExch(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

/// One number at all places: which may meet, and yet the result is determined.
template <class U>
__global__ void __launch_bounds__(kThreads)
    put_number(Indices indices, Offsets<3> offsets, std::uint32_t n, const U* value, U* x) {
  const std::int64_t position = thread_in_grid();
  if (position >= n) return;
  std::int64_t at[3];
  offsets.find(static_cast<std::uint32_t>(position), at);
  if (indices.find(at[2], at[1])) store_alike(x + at[1], *value);
}

/// C is a type that has an atomic addition.
template <class C>
__global__ void __launch_bounds__(kThreads)
    add(Indices indices, Offsets<3> offsets, std::uint32_t n, Memory values, std::int64_t first, C* x) {
  const std::int64_t position = thread_in_grid();
  if (position >= n) return;
  std::int64_t at[3];
  offsets.find(static_cast<std::uint32_t>(position), at);
  if (indices.find(at[2], at[1])) atomicAdd(x + at[1], values.load<C>(first + at[0]));
}

void take_all(Moves m, const Tensor& x, Tensor& values) {
  with_units(m, values, x, [&]<class U>(Type<U>) {
    for_each_grid(
        m, x,
        [&](const Indices& indices, const Offsets<3>& offsets, std::uint32_t n, std::int64_t v0, std::int64_t x0) {
          launch(gpu(x), &take<U>, grid(ceil_div(n, kThreads)), kThreads, indices, offsets, n,
                 static_cast<U*>(values.data_ptr()) + v0, static_cast<const U*>(x.data_ptr()) + x0);
        });
  });
}

bool is_one_number(const Moves& m) {
  return std::all_of(m.loop.strides[0].begin(), m.loop.strides[0].end(), [](std::int64_t s) { return s == 0; });
}

void put_all(Moves m, const Tensor& values, Tensor& x) {
  const bool alike = is_one_number(m);  // then elements move one by one
  with_units(m, values, x, [&]<class U>(Type<U>) {
    for_each_grid(
        m, x,
        [&](const Indices& indices, const Offsets<3>& offsets, std::uint32_t n, std::int64_t v0, std::int64_t x0) {
          auto* kernel = &put<U>;
          if constexpr (std::is_integral_v<U>) kernel = alike ? &put_number<U> : kernel;
          launch(gpu(x), kernel, grid(ceil_div(n, kThreads)), kThreads, indices, offsets, n,
                 static_cast<const U*>(values.data_ptr()) + v0, static_cast<U*>(x.data_ptr()) + x0);
        });
  });
}

template <class C> void add_all(const Moves& m, const Tensor& values, Tensor& x) {
  for_each_grid(
      m, x, [&](const Indices& indices, const Offsets<3>& offsets, std::uint32_t n, std::int64_t v0, std::int64_t x0) {
        launch(gpu(x), &add<C>, grid(ceil_div(n, kThreads)), kThreads, indices, offsets, n, memory_of(values), v0,
               static_cast<C*>(x.data_ptr()) + x0);
      });
}

/// The dtype that additions to one of this dtype are done in: 16-bit sums are rounded once, and small integers, which
/// have no atomics of their own, wrap around when they are narrowed.
Dtype sum_dtype(Dtype d) {
  if (is_low_precision(d)) return kFloat32;
  return element_size(d) < 4 ? kInt32 : d;
}

void write_all(CudaBackend& backend, Write mode, const Moves& m, const Tensor& values, Tensor& x) {
  if (mode == Write::set) return put_all(m, values, x);
  switch (sum_dtype(x.dtype())) {
    case kFloat64: return add_all<double>(m, values, x);
    case kInt64: return add_all<unsigned long long>(m, values, x);
    default: break;
  }
  Tensor sums = x;
  const bool wide = sum_dtype(x.dtype()) != x.dtype();
  if (wide) {  // places stay where they are
    sums = empty_strided(x.sizes(), x.strides(), x.options().dtype(sum_dtype(x.dtype())));
    backend.copy(x, sums);
  }
  if (sums.dtype() == kFloat32) {
    add_all<float>(m, values, sums);
  } else {
    add_all<int>(m, values, sums);
  }
  if (wide) backend.copy(sums, x);
}

}  // namespace

void CudaBackend::gather(const Tensor& x, std::int64_t dim, const Tensor& index, Tensor& y, const char* op) {
  take_all(moves_along(op, x, dim, index, y), x, y);
}

void CudaBackend::scatter(Write mode, std::int64_t dim, const Tensor& index, const Tensor& source, Tensor& y) {
  write_all(*this, mode, moves_along("scatter", y, dim, index, source), source, y);
}

void CudaBackend::index(const IndexPlan& plan, const Tensor& x, Tensor& y) {
  take_all(moves_of("index", plan, y), x, y);
}

void CudaBackend::index_put(const IndexPlan& plan, Write mode, const Tensor& values, Tensor& x) {
  write_all(*this, mode, moves_of("index_put", plan, values), values, x);
}

}  // namespace halftone
