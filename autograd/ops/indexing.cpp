// x.index({...}) and its kin. Numbers, ranges, None and Ellipsis become views; what is left is a list of index tensors
// for some axes, an IndexPlace, and that is read by `index` and written by `index_put`, each the other's derivative.
#include "core/indexing.h"

#include "autograd/ops/index_place.h"

namespace halftone {
namespace {

using plain::at;

bool is_mask(const Tensor& t) { return t.dtype() == kBool || t.dtype() == kUInt8; }

// A list of indices worked off: the view that its basic parts make, and tensors for axes of that view.
struct Selection {
  Tensor view;
  std::vector<Tensor> tensors;  // by axis; undefined where there is none

  bool is_basic() const {
    return std::none_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return t.defined(); });
  }
};

class Selector {
 public:
  Selector(const Tensor& x, ArrayRef<TensorIndex> indices) : x_(x), indices_(indices) { selection_.view = x; }

  Selection run() {
    check<IndexError>(!indices_.empty(), "index: expected at least one index, got an empty list");
    check<IndexError>(consumed() <= x_.dim(), "index: too many indices for tensor of dimension ", x_.dim(), ": got ",
                      consumed());
    for (const TensorIndex& i : indices_) take(i);
    return std::move(selection_);
  }

 private:
  // How many axes of x the list names.
  std::int64_t consumed() const {
    std::int64_t axes = 0, ellipses = 0;
    for (const TensorIndex& i : indices_) {
      if (i.is_integer() || i.is_slice()) ++axes;
      if (i.is_tensor()) axes += is_mask(i.tensor()) ? i.tensor().dim() : 1;
      ellipses += i.is_ellipsis() ? 1 : 0;
    }
    check<IndexError>(ellipses <= 1, "index: an index list has at most one Ellipsis, got ", ellipses);
    return axes;
  }

  void take(const TensorIndex& index) {
    switch (index.kind()) {
      case TensorIndex::Kind::none: selection_.view = selection_.view.unsqueeze(axis_++); return;
      case TensorIndex::Kind::ellipsis: axis_ += x_.dim() - consumed(); return;
      case TensorIndex::Kind::integer: selection_.view = selection_.view.select(axis_, index.integer()); return;
      case TensorIndex::Kind::slice: return take_slice(index.slice());
      case TensorIndex::Kind::boolean: return take_bool(index.boolean());
      case TensorIndex::Kind::tensor: return take_tensor(index.tensor());
    }
  }

  void take_slice(const indexing::Slice& s) {
    const std::int64_t step = s.step.value_or(1);
    check<ValueError>(step > 0, "index: a slice's step must be positive, got ", step);
    if (s.start || s.stop || step != 1) selection_.view = selection_.view.slice(axis_, s.start, s.stop, step);
    ++axis_;
  }

  // true is an axis of size 1, false one of size 0.
  void take_bool(bool value) {
    selection_.view = selection_.view.unsqueeze(axis_);
    set(zeros({value ? 1 : 0}, TensorOptions(kInt64).device(x_.device())));
  }

  void take_tensor(const Tensor& t) {
    check<TypeError>(is_integral(t.dtype(), true), "index: tensors used as indices must be integers or bool, got ",
                     describe(t));
    if (is_mask(t)) return t.dim() == 0 ? take_bool(t.item().toBool()) : take_mask(t);
    set(t.to(TensorOptions(kInt64).device(x_.device())));
  }

  void take_mask(const Tensor& mask) {
    for (std::int64_t i = 0; i < mask.dim(); ++i) {
      check<IndexError>(mask.size(i) == selection_.view.size(axis_ + i), "index: The shape of the mask ", mask.sizes(),
                        " at index ", i, " does not match the shape of the indexed tensor ", x_.sizes(), " at index ",
                        axis_ + i);
    }
    const Tensor here = mask.to(x_.device());
    const Tensor coordinates = backend(here).nonzero(here);  // [count, mask.dim()]
    for (std::int64_t i = 0; i < mask.dim(); ++i) set(coordinates.select(1, i));
  }

  void set(const Tensor& index) {
    selection_.tensors.resize(at(axis_) + 1);
    selection_.tensors[at(axis_++)] = index;
  }

  const Tensor& x_;
  ArrayRef<TensorIndex> indices_;
  std::int64_t axis_ = 0;
  Selection selection_;
};

// The mask, when a list is nothing but one: then to write a number needs no look at where it holds.
Tensor sole_mask(ArrayRef<TensorIndex> indices) {
  const bool is_sole = indices.size() == 1 && indices[0].is_tensor() && indices[0].tensor().dtype() == kBool;
  return is_sole ? indices[0].tensor() : Tensor{};
}

void check_values_fit(const IndexPlace& place, const Tensor& values) {
  const Dims sizes = place.result_sizes();
  bool fits = values.dim() <= static_cast<std::int64_t>(sizes.size());
  for (std::int64_t i = 1; fits && i <= values.dim(); ++i) {
    fits = values.size(-i) == 1 || values.size(-i) == sizes[sizes.size() - at(i)];
  }
  check<ValueError>(fits, "index_put: shape mismatch: value tensor of shape ", values.sizes(),
                    " cannot be broadcast to indexing result of shape ", sizes);
}

// Leading axes of size 1 beyond the result's are dropped.
Tensor without_leading_ones(Tensor values, std::size_t rank) {
  while (values.dim() > static_cast<std::int64_t>(rank) && values.size(0) == 1) values = values.squeeze(0);
  return values;
}

// Writes into x, a view perhaps.
void put(const Tensor& x, const IndexPlace& place, const Tensor& given, Write mode) {
  Tensor values = given.to(TensorOptions(x.dtype()).device(x.device()));
  if (values.is_alias_of(x)) values = values.clone();  // it must not change while it is read
  values = without_leading_ones(values, place.result_sizes().size());
  check_values_fit(place, values);
  write_in_place(
      op("index_put"), x, std::array{values}, [&](const Tensor& old) { return put_at(place, mode, old, values); },
      [&](const Tensor& self) {
        Tensor target = self;
        write_at(place, mode, values, target);
      });
}

}  // namespace

Tensor index(const Tensor& x, ArrayRef<TensorIndex> indices) {
  Selection s = Selector(x, indices).run();
  if (s.is_basic()) return s.view;
  return read_at(make_place(s.view, s.tensors), s.view);
}

const Tensor& Tensor::index_put_(ArrayRef<TensorIndex> indices, const Tensor& value, bool accumulate) const {
  const ContextScope no_filter([](Context& c) { c.filter = nullptr; });
  const Selection s = Selector(*this, indices).run();
  if (!s.is_basic()) {
    put(s.view, make_place(s.view, s.tensors), value, accumulate ? Write::add : Write::set);
  } else if (accumulate) {
    s.view.add_(value);
  } else {
    s.view.copy_(without_leading_ones(value, s.view.sizes().size()));
  }
  return *this;
}
const Tensor& Tensor::index_put_(std::initializer_list<TensorIndex> indices, const Tensor& value) const {
  return index_put_(ArrayRef<TensorIndex>(indices), value);
}
const Tensor& Tensor::index_put_(std::initializer_list<TensorIndex> indices, const Scalar& value) const {
  const ArrayRef<TensorIndex> list(indices);
  const Tensor mask = sole_mask(list);
  const bool fits = mask.defined() && mask.dim() <= dim() && sizes().slice(0, at(mask.dim())).equals(mask.sizes());
  if (!fits) return index_put_(list, full({}, value, options()));
  Dims column = dims(mask.sizes());
  while (static_cast<std::int64_t>(column.size()) < dim()) column.push_back(1);
  return masked_fill_(mask.to(device()).reshape(column), value);
}

Tensor index_put(const Tensor& x, ArrayRef<TensorIndex> indices, const Tensor& value, bool accumulate) {
  return apply_composite(op("index_put"), std::array{x, value}, [&](const Tensor& old, const Tensor& values) {
    Tensor y = old.clone();
    y.index_put_(indices, values, accumulate);
    return y;
  });
}

Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index) {
  check<ValueError>(index.dim() <= 1, "index_select: expected a vector of indices, got ", describe(index));
  const Tensor positions = index.reshape({index.numel()});
  if (x.dim() == 0) return index_select(x.unsqueeze(0), dim, positions).squeeze(0);
  return read_at(place_along("index_select", x, wrap_dim(dim, x.dim()), positions), x);
}

Tensor index_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source) {
  Tensor y = x.clone();
  y.index_add_(dim, index, source);
  return y;
}
const Tensor& Tensor::index_add_(std::int64_t given, const Tensor& index, const Tensor& source) const {
  const std::int64_t along = wrap_dim(given, dim());
  check<ValueError>(index.dim() == 1, "index_add: expected a vector of indices, got ", describe(index));
  check<ValueError>(source.dim() == dim() && source.size(along) == index.size(0), "index_add: source ",
                    describe(source), " wants an index of ", source.dim() == dim() ? source.size(along) : 0,
                    " elements along dim ", along, ", got ", describe(index));
  put(*this, place_along("index_add", *this, along, index), source, Write::add);
  return *this;
}

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  check<TypeError>(mask.dtype() == kBool, "masked_select: expected a boolean mask, but got ", describe(mask));
  const std::vector<Tensor> both = broadcast_tensors({x, mask});
  if (both[0].dim() == 0) return both[0].unsqueeze(0)[both[1].unsqueeze(0)];
  return both[0][both[1]];
}

}  // namespace halftone
