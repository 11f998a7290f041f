// gather and scatter along an axis, each the other's derivative, and what is made of them.
#include "autograd/ops/indexing.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

using plain::at;

// int64; sizes within those of x except along `dim`.
Tensor checked_index(const OpInfo& info, const Tensor& x, std::int64_t dim, const Tensor& index,
                     std::string_view what) {
  check<TypeError>(is_integral(index.dtype()), info.name, ": expected an int64 index, got ", describe(index));
  check<ValueError>(std::max<std::int64_t>(index.dim(), 1) == std::max<std::int64_t>(x.dim(), 1), info.name,
                    ": index and ", what, " should have as many dimensions, got ", describe(index), " and ",
                    describe(x));
  bool fits = true;
  for (std::int64_t i = 0; i < std::min(x.dim(), index.dim()); ++i)
    fits = fits && (i == dim || index.size(i) <= x.size(i));
  check<ValueError>(fits || index.numel() == 0, info.name, ": index ", index.sizes(), " is larger than ", what, " ",
                    x.sizes(), " apart from dimension ", dim);
  check_same_device(info, what, index, x);
  return index.to(kInt64);
}

struct GatherRule {
  std::int64_t dim;
  Dims sizes;
  Saved index;
  auto saved() { return std::tie(index); }

  Tensor forward(const Tensor& x) const {
    const Tensor places = *index;
    Tensor y = empty(places.sizes(), x.options());
    if (y.numel() > 0) backend(x).gather(x, dim, places, y);
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {scatter_to_zeros(sizes, dim, *index, g)}; }
};

struct ScatterToZerosRule {
  std::int64_t dim;
  Dims sizes;
  Saved index;
  auto saved() { return std::tie(index); }

  Tensor forward(const Tensor& source) const {
    Tensor y = plain::filled(sizes, 0, source.options());
    backend(y).scatter(Write::add, dim, *index, source, y);
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {gather(g, dim, *index)}; }
};

struct ScatterRule {
  const OpInfo* info;
  Write mode;
  std::int64_t dim;
  Saved index;
  auto saved() { return std::tie(index); }

  Tensor forward(const Tensor& x, const Tensor& source) const {
    check_same_dtype(*info, "x and source", x, source);
    Tensor y = empty_like(x);
    backend(x).copy(x, y);
    backend(x).scatter(mode, dim, *index, source, y);
    return y;
  }
  std::array<Tensor, 2> backward(const Tensor& g, Wants want) const {
    const bool overwritten = mode == Write::set;
    Tensor dx = g;
    if (want[0] && overwritten) dx = scatter(g, dim, *index, Scalar(0));
    return {dx, want[1] ? gather(g, dim, *index) : Tensor{}};
  }
};

// A source may be larger than the index: its rest is not read.
Tensor cropped(const OpInfo& info, const Tensor& source, const Tensor& index) {
  check<ValueError>(std::max<std::int64_t>(source.dim(), 1) == std::max<std::int64_t>(index.dim(), 1), info.name,
                    ": index and source should have as many dimensions, got ", describe(index), " and ",
                    describe(source));
  if (source.sizes().equals(index.sizes())) return source;
  Tensor out = source;
  for (std::int64_t i = 0; i < std::min(index.dim(), source.dim()); ++i) {
    check<ValueError>(index.size(i) <= source.size(i), info.name, ": index ", index.sizes(), " is larger than source ",
                      source.sizes());
    out = out.narrow(i, 0, index.size(i));
  }
  return out.reshape(index.sizes());
}

Tensor scatter_at(const OpInfo& info, Write mode, const Tensor& x, std::int64_t dim, const Tensor& places,
                  const Tensor& source) {
  ScatterRule rule{&info, mode, dim, {}};
  rule.index = places;
  return apply(info, std::move(rule), std::array{x, cropped(info, source, places)});
}

Tensor scatter_with(const OpInfo& info, Write mode, const Tensor& x, std::int64_t given, const Tensor& index,
                    const Tensor& source) {
  const std::int64_t dim = wrap_dim(given, x.dim());
  return scatter_at(info, mode, x, dim, checked_index(info, x, dim, index, "x"), source);
}

const Tensor& scatter_in_place(const OpInfo& info, Write mode, const Tensor& self, std::int64_t given,
                               const Tensor& index, const Tensor& source) {
  const std::int64_t dim = wrap_dim(given, self.dim());
  const Tensor places = checked_index(info, self, dim, index, "self");
  check_same_dtype(info, "self and source", self, source);
  check_same_device(info, "self and source", self, source);
  const Tensor part = [&] {
    const plain::Scope scope;
    return cropped(info, source, places);
  }();
  return write_in_place(
      info, self, std::array{source},
      [&](const Tensor& old) { return scatter_at(info, mode, old, dim, places, source); },
      [&](const Tensor& x) {
        const plain::Scope scope;
        Tensor target = x;
        const Tensor from = part.is_alias_of(x) ? part.clone() : part;  // it must not change while it is read
        backend(x).scatter(mode, dim, places, from, target);
      });
}

// One number at every place of an index, without memory for each.
Tensor repeated(const Scalar& value, const Tensor& index, const Tensor& x) {
  return full({}, value, x.options()).expand(index.sizes());
}

}  // namespace

Tensor scatter_to_zeros(const Dims& sizes, std::int64_t dim, const Tensor& index, const Tensor& source) {
  ScatterToZerosRule rule{dim, sizes, {}};
  rule.index = index;
  return apply(op("scatter_add"), std::move(rule), std::array{source});
}

Tensor gather(const Tensor& x, std::int64_t given, const Tensor& index) {
  const OpInfo& info = op("gather");
  const std::int64_t dim = wrap_dim(given, x.dim());
  GatherRule rule{dim, dims(x.sizes()), {}};
  rule.index = checked_index(info, x, dim, index, "x");
  return apply(info, std::move(rule), std::array{x});
}

Tensor scatter(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source) {
  return scatter_with(op("scatter"), Write::set, x, dim, index, source);
}
Tensor scatter(const Tensor& x, std::int64_t dim, const Tensor& index, const Scalar& value) {
  return scatter_with(op("scatter"), Write::set, x, dim, index, repeated(value, index, x));
}
Tensor scatter_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source) {
  return scatter_with(op("scatter_add"), Write::add, x, dim, index, source);
}
const Tensor& Tensor::scatter_(std::int64_t along, const Tensor& index, const Tensor& source) const {
  return scatter_in_place(op("scatter"), Write::set, *this, along, index, source);
}
const Tensor& Tensor::scatter_(std::int64_t along, const Tensor& index, const Scalar& value) const {
  return scatter_in_place(op("scatter"), Write::set, *this, along, index, repeated(value, index, *this));
}
const Tensor& Tensor::scatter_add_(std::int64_t along, const Tensor& index, const Tensor& source) const {
  return scatter_in_place(op("scatter_add"), Write::add, *this, along, index, source);
}

// ------------------------------------------------------------------------------------------------ coordinates, classes

Tensor nonzero(const Tensor& x) {
  if (x.dim() > 0) return backend(x).nonzero(x);
  const plain::Scope scope;  // a 0-dim tensor has one element and no coordinates
  return backend(x).nonzero(x.unsqueeze(0)).slice(1, 0, 0);
}

Tensor one_hot(const Tensor& labels, std::int64_t num_classes) {
  check<TypeError>(is_integral(labels.dtype()), "one_hot: expected int64 labels, got ", describe(labels));
  const plain::Scope scope;
  check<ValueError>(labels.numel() > 0 || num_classes > 0,
                    "one_hot: the number of classes cannot be inferred from no labels");
  std::int64_t classes = num_classes;
  if (labels.numel() > 0) {
    const auto least = labels.min().item<std::int64_t>(), largest = labels.max().item<std::int64_t>();
    check<ValueError>(least >= 0, "one_hot: class values must be non-negative, got ", least);
    check<ValueError>(num_classes < 0 || largest < num_classes, "one_hot: class ", largest, " is out of range for ",
                      num_classes, " classes");
    if (num_classes < 0) classes = largest + 1;
  }
  Dims sizes = dims(labels.sizes());
  sizes.push_back(classes);
  Tensor out = zeros(sizes, labels.options().dtype(kInt64));
  return out.scatter_(-1, labels.to(kInt64).unsqueeze(-1), 1);
}

// ------------------------------------------------------------------------------------------------ triangles

namespace {

// Whether a place's column, less its row, is at most (or at least) `diagonal`.
Tensor triangle(const Tensor& x, std::int64_t diagonal, bool lower, std::string_view name) {
  check<ValueError>(x.dim() >= 2, name, ": expected x of at least 2 dimensions, got ", describe(x));
  const TensorOptions options = TensorOptions(kInt64).device(x.device());
  const Tensor offset = arange(x.size(-1), options) - arange(x.size(-2), options).unsqueeze(1);
  return where(lower ? offset <= diagonal : offset >= diagonal, x, zeros({}, x.options()));
}

}  // namespace

Tensor tril(const Tensor& x, std::int64_t diagonal) { return triangle(x, diagonal, true, "tril"); }
Tensor triu(const Tensor& x, std::int64_t diagonal) { return triangle(x, diagonal, false, "triu"); }

}  // namespace halftone
