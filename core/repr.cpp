// Python's form. All elements have one width, in plain or scientific notation; of a large tensor only three entries at
// each end of an axis are shown.
#include <cmath>
#include <cstdio>
#include <vector>

#include "core/print.h"
#include "core/print_elements.h"

namespace halftone {
namespace {

using detail::ElementView;
using detail::HostElements;

constexpr std::int64_t kMostElements = 1000, kEdge = 3;
constexpr std::size_t kLineWidth = 80;

/// Where an axis of a summarised tensor is left out; the other positions are shown.
bool is_gap(std::int64_t i, std::int64_t size, bool summarise) {
  return summarise && size > 2 * kEdge && i >= kEdge && i < size - kEdge;
}

template <class F> void for_each_shown(const ElementView& view, bool summarise, F& visit) {
  if (view.dim() == 0) return visit(view.item());
  for (std::int64_t i = 0; i < view.size(); ++i) {
    if (is_gap(i, view.size(), summarise)) i = view.size() - kEdge;
    for_each_shown(view[i], summarise, visit);
  }
}

std::string formatted(const char* pattern, double value) {
  char text[512];
  return {text, static_cast<std::size_t>(std::snprintf(text, sizeof(text), pattern, value))};
}

class Formatter {
 public:
  Formatter(const ElementView& view, bool summarise) {
    auto widen = [this](const Scalar& s) { width_ = std::max(width_, text(s).size()); };
    auto survey = [this](const Scalar& s) { look_at(s.toDouble()); };
    if (view.elements->at(view.offset).isFloatingPoint()) {
      for_each_shown(view, summarise, survey);
      scientific_ = largest_ / smallest_ > 1000 || largest_ > 1e8 || smallest_ < 1e-4;
      widen_for_nonzero(view, summarise);
    } else {
      for_each_shown(view, summarise, widen);
    }
  }

  std::string operator()(const Scalar& s) const {
    const std::string plain = text(s);
    return std::string(width_ - std::min(width_, plain.size()), ' ') + plain;
  }
  std::size_t width() const { return width_; }

 private:
  static bool counts(double value) { return std::isfinite(value) && value != 0; }

  void look_at(double value) {
    if (!counts(value)) return;
    whole_ = whole_ && value == std::ceil(value);
    largest_ = std::max(largest_, std::abs(value));
    smallest_ = std::min(smallest_, std::abs(value));
  }

  // Zeros, infinities and NaN do not decide the width, as in Python.
  void widen_for_nonzero(const ElementView& view, bool summarise) {
    auto widen = [this](const Scalar& s) {
      if (counts(s.toDouble())) width_ = std::max(width_, text(s).size());
    };
    width_ = 1;
    for_each_shown(view, summarise, widen);
  }

  std::string text(const Scalar& s) const {
    if (s.isBoolean()) return s.toBool() ? "True" : "False";
    if (!s.isFloatingPoint()) return str(s.toLong());
    const double value = s.toDouble();
    if (std::isnan(value)) return "nan";  // never "-nan"
    if (scientific_) return formatted("%.4e", value);
    if (!whole_) return formatted("%.4f", value);
    return formatted("%.0f", value) + (std::isfinite(value) ? "." : "");
  }

  bool whole_ = true, scientific_ = false;
  double largest_ = 0, smallest_ = std::numeric_limits<double>::infinity();
  std::size_t width_ = 1;
};

std::string spaces(std::size_t count) { return std::string(count, ' '); }

std::string vector_text(const ElementView& view, std::size_t indent, bool summarise, const Formatter& format) {
  const std::size_t per_line =
      std::max<std::size_t>((kLineWidth - std::min(indent, kLineWidth)) / (format.width() + 2), 1);
  std::vector<std::string> items;
  for (std::int64_t i = 0; i < view.size(); ++i) {
    if (is_gap(i, view.size(), summarise)) {
      items.push_back(" ...");
      i = view.size() - kEdge;
    }
    items.push_back(format(view[i].item()));
  }
  std::string out = "[";
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += i % per_line == 0 ? ",\n" + spaces(indent + 1) : ", ";
    out += items[i];
  }
  return out + "]";
}

std::string nested_text(const ElementView& view, std::size_t indent, bool summarise, const Formatter& format) {
  if (view.dim() == 0) return format(view.item());
  if (view.dim() == 1) return vector_text(view, indent, summarise, format);
  const std::string separator = "," + std::string(view.dim() - 1, '\n') + spaces(indent + 1);
  std::string out = "[";
  for (std::int64_t i = 0; i < view.size(); ++i) {
    if (i > 0) out += separator;
    if (is_gap(i, view.size(), summarise)) {
      out += "..." + separator;
      i = view.size() - kEdge;
    }
    out += nested_text(view[i], indent + 1, summarise, format);
  }
  return out + "]";
}

std::string size_text(IntArrayRef sizes) {
  std::string out = "size=(";
  for (std::size_t i = 0; i < sizes.size(); ++i) out += str(i ? ", " : "", sizes[i]);
  return out + (sizes.size() == 1 ? ",)" : ")");
}

std::vector<std::string> suffixes_of(const Tensor& t) {
  std::vector<std::string> out;
  const bool inferred =
      t.dtype() == get_default_dtype() || (t.numel() > 0 && (t.dtype() == kInt64 || t.dtype() == kBool));
  if (canonical(t.device()) != Device(kCPU)) out.push_back(str("device='", t.device(), "'"));
  if (t.numel() == 0 && t.dim() != 1) out.push_back(size_text(t.sizes()));
  if (!inferred) out.push_back(str("dtype=torch.", t.dtype()));
  if (t.impl()->requires_grad || t.impl()->edge.node) out.push_back("requires_grad=True");
  return out;
}

}  // namespace

std::string repr(const Tensor& t) {
  if (!t.defined()) return "tensor(undefined)";
  std::string out = "tensor(";
  const std::size_t indent = out.size();
  if (t.numel() == 0) {
    out += "[]";
  } else {
    const HostElements elements(t);
    const ElementView view{&elements, t.sizes(), t.strides()};
    const bool summarise = t.numel() > kMostElements;
    out += nested_text(view, indent, summarise, Formatter(view, summarise));
  }
  const std::size_t line_start = out.rfind('\n');
  std::size_t line_length = out.size() - line_start + 1;  // with no line break, npos counts as -1
  for (const std::string& suffix : suffixes_of(t)) {
    const bool wraps = line_length + suffix.size() + 2 > kLineWidth;
    out += (wraps ? ",\n" + spaces(indent) : ", ") + suffix;
    line_length = wraps ? indent + suffix.size() : line_length + suffix.size() + 2;
  }
  return out + ")";
}

}  // namespace halftone
