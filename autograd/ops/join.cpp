// Joining, padding and repeating: copies into parts of a new tensor, whose gradients are those parts of g.
#include <algorithm>

#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

using plain::at;

// An empty vector may stand among tensors of any shape.
bool is_skipped(const Tensor& t) { return t.dim() == 1 && t.numel() == 0; }

Dtype common_dtype(const std::vector<Tensor>& tensors) {
  Dtype dtype = tensors[0].dtype();
  for (const Tensor& t : tensors) dtype = promote_types(dtype, t.dtype());
  return dtype;
}

MemoryFormat common_format(const std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors) {
    if (t.suggest_memory_format() != MemoryFormat::ChannelsLast) return MemoryFormat::Contiguous;
  }
  return MemoryFormat::ChannelsLast;
}

void check_devices(const OpInfo& info, TensorList tensors) {
  for (const Tensor& t : tensors) check_same_device(info, "all tensors", tensors[0], t);
}

struct CatRule {
  std::int64_t dim;
  Dims sizes;
  std::vector<std::int64_t> lengths;  // along dim, one a tensor; -1 of one that is skipped
  auto saved() { return std::tuple<>{}; }

  Tensor forward(const std::vector<Tensor>& tensors) const {
    const TensorOptions options = tensors[0].options().dtype(common_dtype(tensors));
    Tensor out = empty(sizes, options.memory_format(common_format(tensors)));
    for_each_part([&](std::size_t i, std::int64_t start) {
      Tensor part = plain::narrowed(out, dim, start, lengths[i]);
      backend(out).copy(tensors[i], part);
    });
    return out;
  }
  std::vector<Tensor> backward(const Tensor& g, Wants want) const {
    std::vector<Tensor> grads(lengths.size());
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      if (want[i] && lengths[i] < 0) grads[i] = empty({0}, g.options());
    }
    for_each_part([&](std::size_t i, std::int64_t start) {
      if (want[i]) grads[i] = g.narrow(dim, start, lengths[i]);
    });
    return grads;
  }

  template <class F> void for_each_part(F f) const {
    std::int64_t start = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      if (lengths[i] < 0) continue;
      f(i, start);
      start += lengths[i];
    }
  }
};

void check_fits(const Tensor& t, std::size_t position, const Tensor& first, std::int64_t dim) {
  bool fits = t.dim() == first.dim();
  for (std::int64_t i = 0; fits && i < t.dim(); ++i) fits = i == dim || t.size(i) == first.size(i);
  check<ValueError>(fits, "cat: Sizes of tensors must match except in dimension ", dim, ": got ", t.sizes(),
                    " at position ", position, " beside ", first.sizes());
}

// The rule for these tensors; sizes are those of the result.
CatRule cat_rule(TensorList tensors, std::int64_t given) {
  const auto first = std::find_if(tensors.begin(), tensors.end(), [](const Tensor& t) { return !is_skipped(t); });
  const Tensor& model = first == tensors.end() ? tensors[0] : *first;
  CatRule rule{wrap_dim(given, model.dim()), dims(model.sizes()), {}};
  std::int64_t length = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    check<ValueError>(t.dim() > 0, "cat: zero-dimensional tensor (at position ", i, ") cannot be concatenated");
    if (!is_skipped(t)) check_fits(t, i, model, rule.dim);
    rule.lengths.push_back(is_skipped(t) ? -1 : t.size(rule.dim));
    length += std::max<std::int64_t>(rule.lengths.back(), 0);
  }
  rule.sizes[at(rule.dim)] = length;
  return rule;
}

struct StackRule {
  std::int64_t dim;

  Tensor forward(const std::vector<Tensor>& tensors) const {
    Dims sizes = dims(tensors[0].sizes());
    sizes.insert(at(dim), static_cast<std::int64_t>(tensors.size()));
    Tensor out = empty(sizes, tensors[0].options().dtype(common_dtype(tensors)));
    sizes.erase(at(dim));
    Dims strides = dims(out.strides());
    const std::int64_t step = strides[at(dim)];
    strides.erase(at(dim));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      Tensor part = alias(out, sizes, strides, static_cast<std::int64_t>(i) * step);
      backend(out).copy(tensors[i], part);
    }
    return out;
  }
  std::vector<Tensor> backward(const Tensor& g, Wants want) const {
    std::vector<Tensor> grads(at(g.size(dim)));
    for (std::size_t i = 0; i < grads.size(); ++i) {
      if (want[i]) grads[i] = g.select(dim, static_cast<std::int64_t>(i));
    }
    return grads;
  }
};

}  // namespace

Tensor cat(TensorList tensors, std::int64_t dim) {
  const OpInfo& info = op("cat");
  check<ValueError>(!tensors.empty(), "cat: expected a non-empty list of Tensors");
  check_devices(info, tensors);
  return apply(info, cat_rule(tensors, dim), tensors.vec());
}

Tensor stack(TensorList tensors, std::int64_t dim) {
  const OpInfo& info = op("stack");
  check<ValueError>(!tensors.empty(), "stack: expected a non-empty list of Tensors");
  check_devices(info, tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check<ValueError>(tensors[i].sizes().equals(tensors[0].sizes()),
                      "stack: expects each tensor to be equal size, but got ", tensors[0].sizes(), " at entry 0 and ",
                      tensors[i].sizes(), " at entry ", i);
  }
  return apply(info, StackRule{wrap_dim(dim, tensors[0].dim() + 1)}, tensors.vec());
}

// ------------------------------------------------------------------------------------------------ pad

namespace {

// Cells added before and after each axis; negative ones are cut off.
struct Margins {
  Dims before, after;

  // Given in pairs from the last axis on.
  Margins(IntArrayRef padding, std::int64_t rank) : before(at(rank), 0), after(at(rank), 0) {
    check<ValueError>(padding.size() % 2 == 0 && padding.size() / 2 <= at(rank), "pad: ", padding,
                      " are not pairs for axes of a tensor of ", rank, " dimensions");
    for (std::size_t i = 0; i < padding.size() / 2; ++i) {
      before[at(rank) - 1 - i] = padding[2 * i];
      after[at(rank) - 1 - i] = padding[2 * i + 1];
    }
  }
  Margins opposite() const {
    Margins m = *this;
    for (std::int64_t& b : m.before) b = -b;
    for (std::int64_t& a : m.after) a = -a;
    return m;
  }
  Dims padded(IntArrayRef sizes) const {
    Dims out = dims(sizes);
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] += before[i] + after[i];
      check<ValueError>(out[i] >= 0, "pad: nothing is left of axis ", i, " of ", sizes, " after cutting ", -before[i],
                        " and ", -after[i]);
    }
    return out;
  }
  bool adds_cells() const {
    const auto positive = [](std::int64_t n) { return n > 0; };
    return std::any_of(before.begin(), before.end(), positive) || std::any_of(after.begin(), after.end(), positive);
  }
};

struct PadRule {
  Margins margins;
  Scalar value;

  Tensor forward(const Tensor& x) const {
    const Dims sizes = margins.padded(x.sizes());
    Tensor out = empty(sizes, x.options().memory_format(x.suggest_memory_format()));
    if (margins.adds_cells()) backend(out).fill(out, value);
    Tensor from = x, to = out;
    for (std::int64_t i = 0; i < x.dim(); ++i) {
      const std::int64_t b = margins.before[at(i)], a = margins.after[at(i)];
      const std::int64_t kept = x.size(i) + std::min<std::int64_t>(b, 0) + std::min<std::int64_t>(a, 0);
      if (kept <= 0) return out;
      from = plain::narrowed(from, i, std::max<std::int64_t>(-b, 0), kept);
      to = plain::narrowed(to, i, std::max<std::int64_t>(b, 0), kept);
    }
    backend(out).copy(from, to);
    return out;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {apply(op("pad"), PadRule{margins.opposite(), 0}, std::array{g})};
  }
};

using CellOf = std::int64_t (*)(std::int64_t, std::int64_t);

// Which cell of an axis of n stands at position i, -margin <= i < n + margin.
std::int64_t reflected(std::int64_t i, std::int64_t n) { return i < 0 ? -i : i < n ? i : 2 * (n - 1) - i; }
std::int64_t replicated(std::int64_t i, std::int64_t n) { return std::clamp<std::int64_t>(i, 0, n - 1); }
std::int64_t circular(std::int64_t i, std::int64_t n) { return ((i % n) + n) % n; }

CellOf cell_of(std::string_view mode) {
  if (mode == "reflect") return reflected;
  if (mode == "replicate") return replicated;
  check<ValueError>(mode == "circular", "pad: mode must be constant, reflect, replicate or circular, got ", mode);
  return circular;
}

void check_margin(std::string_view mode, std::int64_t margin, std::int64_t size, IntArrayRef sizes) {
  const std::int64_t most = mode == "reflect" ? size - 1 : mode == "circular" ? size : margin;
  check<ValueError>(size > 0 && margin <= most, "pad: a margin of ", margin, " is too large for mode ", mode,
                    " along an axis of ", size, " of x ", sizes);
}

Tensor pad_from_itself(const Tensor& x, const Margins& margins, std::string_view mode) {
  const CellOf cell = cell_of(mode);
  Tensor out = x;
  for (std::int64_t axis = 0; axis < x.dim(); ++axis) {
    const std::int64_t before = margins.before[at(axis)], after = margins.after[at(axis)], size = x.size(axis);
    if (before == 0 && after == 0) continue;
    check_margin(mode, std::max(before, after), size, x.sizes());
    std::vector<std::int64_t> cells;
    for (std::int64_t i = -before; i < size + after; ++i) cells.push_back(cell(i, size));
    const auto count = static_cast<std::int64_t>(cells.size());
    out = out.index_select(axis, from_blob(cells.data(), count, kInt64).to(x.device(), kInt64, false, true));
  }
  return out;
}

}  // namespace

Tensor pad(const Tensor& x, IntArrayRef padding, std::string_view mode, double value) {
  const Margins margins(padding, x.dim());
  const OpInfo& info = op("pad");
  if (mode == "constant") return apply(info, PadRule{margins, value}, std::array{x});
  return apply_composite(info, std::array{x}, [&](const Tensor& t) { return pad_from_itself(t, margins, mode); });
}

// ------------------------------------------------------------------------------------------------ repeat

Tensor repeat(const Tensor& x, IntArrayRef repeats) {
  check<ValueError>(static_cast<std::int64_t>(repeats.size()) >= x.dim(), "repeat: ", repeats,
                    " has fewer numbers than the tensor ", describe(x), " has dimensions");
  Tensor out = x;
  while (out.dim() < static_cast<std::int64_t>(repeats.size())) out = out.unsqueeze(0);
  for (std::int64_t axis = 0; axis < out.dim(); ++axis) {
    const std::int64_t times = repeats[at(axis)];
    check<ValueError>(times >= 0, "repeat: numbers must not be negative, got ", repeats);
    if (times == 1) continue;
    Dims wide = dims(out.sizes()), merged = wide;
    wide.insert(at(axis), times);
    merged[at(axis)] *= times;
    out = out.unsqueeze(axis).expand(wide).reshape(merged);
  }
  return out.is_alias_of(x) ? out.clone(MemoryFormat::Contiguous) : out;
}

std::vector<Tensor> broadcast_tensors(TensorList tensors) {
  Dims sizes;
  for (const Tensor& t : tensors) sizes = broadcast_shapes("broadcast_tensors", sizes, t.sizes());
  std::vector<Tensor> out;
  for (const Tensor& t : tensors) out.push_back(t.expand(sizes));
  return out;
}

}  // namespace halftone
