#include "autograd/ops/index_place.h"

namespace halftone {

namespace {

using plain::at;

// Index axes that stand side by side stay where they are; else they go to the front, as in NumPy.
std::size_t place_of(const std::vector<std::int64_t>& axes) {
  for (std::size_t i = 1; i < axes.size(); ++i) {
    if (axes[i] != axes[i - 1] + 1) return 0;
  }
  return at(axes[0]);
}

}  // namespace

IndexPlace make_place(const Tensor& x, const std::vector<Tensor>& tensors) {
  IndexPlace p;
  p.sizes = dims(x.sizes());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].defined()) continue;
    p.axes.push_back(static_cast<std::int64_t>(i));
    p.index_sizes =
        p.axes.size() == 1 ? dims(tensors[i].sizes()) : broadcast_shapes("index", p.index_sizes, tensors[i].sizes());
  }
  for (const std::int64_t axis : p.axes) {
    p.indices.emplace_back() = plain::dense(plain::expanded(tensors[at(axis)], p.index_sizes));
  }
  p.put = place_of(p.axes);
  return p;
}

IndexPlace place_along(const char* op, const Tensor& x, std::int64_t dim, const Tensor& index) {
  std::vector<Tensor> tensors(at(dim) + 1);
  tensors.back() = int64_index(op, index);
  IndexPlace place = make_place(x, tensors);
  place.from_end = false;
  place.op = op;
  return place;
}

Tensor int64_index(std::string_view op, const Tensor& index) {
  check<TypeError>(is_integral(index.dtype()), op, ": expected an int64 index, got ", describe(index));
  return index.to(kInt64);
}

void write_at(const IndexPlace& place, Write mode, const Tensor& values, Tensor& x) {
  const Dims sizes = place.result_sizes();
  if (count_elements(sizes) == 0) return;
  const Tensor from = place.index_first(plain::expanded(plain::cast(values, x.dtype()), sizes));
  place.with_plan(x, [&](const IndexPlan& plan) { backend(x).index_put(plan, mode, from, x); });
}

namespace {

struct IndexRule {
  IndexPlace place;
  auto saved() { return std::tie(place.indices); }

  Tensor forward(const Tensor& x) const {
    Tensor y = empty(place.result_sizes(), x.options());
    if (y.numel() == 0) return y;
    Tensor to = place.index_first(y);
    place.with_plan(x, [&](const IndexPlan& plan) { backend(x).index(plan, x, to); });
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {add_to_zeros(place, g)}; }
};

struct AddToZerosRule {
  IndexPlace place;
  auto saved() { return std::tie(place.indices); }

  Tensor forward(const Tensor& values) const {
    Tensor y = plain::filled(place.sizes, 0, values.options());
    write_at(place, Write::add, values, y);
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {read_at(place, g)}; }
};

struct IndexPutRule {
  IndexPlace place;
  Write mode;
  auto saved() { return std::tie(place.indices); }

  Tensor forward(const Tensor& x, const Tensor& values) const {
    Tensor y = empty_like(x);
    backend(x).copy(x, y);
    write_at(place, mode, values, y);
    return y;
  }
  std::array<Tensor, 2> backward(const Tensor& g, Wants want) const {
    Tensor dx = g;
    if (want[0] && mode == Write::set) {
      const Tensor zero = zeros({}, g.options());
      dx = put_at(place, Write::set, g, zero);
    }
    return {dx, want[1] ? read_at(place, g) : Tensor{}};
  }
};

}  // namespace

Tensor read_at(const IndexPlace& place, const Tensor& x) { return apply(op("index"), IndexRule{place}, std::array{x}); }

Tensor add_to_zeros(const IndexPlace& place, const Tensor& values) {
  return apply(op("index_put"), AddToZerosRule{place}, std::array{values});
}

Tensor put_at(const IndexPlace& place, Write mode, const Tensor& x, const Tensor& values) {
  return apply(op("index_put"), IndexPutRule{place, mode}, std::array{x, values});
}

}  // namespace halftone
