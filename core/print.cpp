// libtorch's form. Each matrix is measured first: its columns are as wide as its largest value needs, in plain, fixed
// or scientific notation, with a common factor printed above when all values are large or small alike.
#include "core/print.h"

#include <cmath>
#include <cstdio>
#include <iostream>
#include <string_view>

#include "core/print_elements.h"

namespace halftone {
namespace {

using detail::ElementView;
using detail::for_each;
using detail::HostElements;

struct NumberFormat {
  char conversion = 'g';  // of printf
  int precision = 6;
  int width = 0;
  double scale = 1;

  std::string operator()(double value) const {
    const char pattern[] = {'%', '*', '.', '*', conversion, '\0'};
    char text[512];  // the longest fixed number has 309 digits before the point
    const int length = std::snprintf(text, sizeof(text), pattern, width, precision, value / scale);
    return {text, static_cast<std::size_t>(length)};
  }
};

struct Range {
  bool whole = true;
  double smallest = 1, largest = 1;  // decimal places before the point
};

Range measure(const ElementView& view) {
  Range range;
  double least = std::numeric_limits<double>::infinity(), most = 0;
  auto visit = [&](const Scalar& element) {
    const double value = element.toDouble();
    if (!std::isfinite(value)) return;
    range.whole = range.whole && value == std::ceil(value);
    least = std::min(least, std::abs(value));
    most = std::max(most, std::abs(value));
  };
  for_each(view, visit);
  const auto places = [](double x) { return x == 0 || std::isinf(x) ? 1 : std::floor(std::log10(x)) + 1; };
  range.smallest = places(least);
  range.largest = std::isinf(least) ? 1 : places(most);
  return range;
}

NumberFormat choose_format(const ElementView& view) {
  const Range r = measure(view);
  if (r.whole && r.largest > 9) return {'e', 4, 11};
  if (r.whole) return {'g', 6, static_cast<int>(r.largest) + 1};
  if (r.largest - r.smallest > 4) {
    const bool long_exponent = std::abs(r.largest) > 99 || std::abs(r.smallest) > 99;
    return {'e', 4, long_exponent ? 12 : 11};
  }
  if (r.largest > 5 || r.largest < 0) return {'f', 4, 7, std::pow(10.0, r.largest - 1)};
  return {'f', 4, r.largest == 0 ? 7 : static_cast<int>(r.largest) + 6};
}

std::string factor_line(double scale) { return scale == 1 ? "" : detail::shortest(scale) + " *\n"; }

/// Columns first to last of a matrix, after what stands before the first row.
void print_columns(std::ostream& out, const ElementView& matrix, const NumberFormat& format, std::int64_t first,
                   std::int64_t last, const std::string& indent) {
  for (std::int64_t row = 0; row < matrix.size(); ++row) {
    if (row > 0) out << indent << (format.scale == 1 ? "" : " ");
    for (std::int64_t column = first; column <= last; ++column) {
      out << format(matrix[row][column].item().toDouble()) << (column == last ? "\n" : " ");
    }
  }
}

void print_matrix(std::ostream& out, const ElementView& matrix, std::int64_t line_width, const std::string& indent) {
  const NumberFormat format = choose_format(matrix);
  const std::int64_t columns = matrix.sizes[1];
  const auto free_width = line_width - static_cast<std::int64_t>(indent.size());
  const std::int64_t per_line = std::max<std::int64_t>(free_width / (format.width + 1), 1);
  out << indent;
  for (std::int64_t first = 0; first < columns; first += per_line) {
    const std::int64_t last = std::min(first + per_line, columns) - 1;
    if (per_line < columns) out << (first ? "\n" : "") << "Columns " << first + 1 << " to " << last + 1 << indent;
    if (format.scale != 1) out << factor_line(format.scale) << indent;
    print_columns(out, matrix, format, first, last, indent);
  }
}

/// Every matrix of the last two axes under its place, "(1,2,.,.) = ", the first index running fastest.
void print_matrices(std::ostream& out, const ElementView& view, std::int64_t line_width) {
  const std::size_t outer = view.dim() - 2;
  const std::int64_t count = count_elements(view.sizes.slice(0, outer));
  for (std::int64_t number = 0; number < count; ++number) {
    out << (number ? "\n(" : "(");
    ElementView matrix = view;
    std::int64_t rest = number;
    for (std::size_t axis = 0; axis < outer; ++axis) {
      const std::int64_t index = rest % view.sizes[axis];
      rest /= view.sizes[axis];
      matrix = matrix[index];
      out << index + 1 << ',';
    }
    out << ".,.) = \n";
    print_matrix(out, matrix, line_width, " ");
  }
}

void print_vector(std::ostream& out, const ElementView& vector) {
  const NumberFormat format = choose_format(vector);
  out << factor_line(format.scale);
  for (std::int64_t i = 0; i < vector.size(); ++i) out << format(vector[i].item().toDouble()) << '\n';
}

/// The double with the fewest digits that a 16- or 32-bit number is the nearest to: 0.1f means 0.1.
template <class T> double fewest_digits(T value) {
  const auto exact = static_cast<double>(static_cast<Compute<T>>(value));
  for (int digits = 1; digits < 9; ++digits) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.*e", digits - 1, exact);
    const double candidate = std::strtod(text, nullptr);
    if (T(static_cast<Compute<T>>(candidate)) == value) return candidate;
  }
  return exact;
}

void print_number(std::ostream& out, const Scalar& value, Dtype dtype) {
  if (!is_floating_point(dtype)) {
    out << value.toLong() << '\n';
    return;
  }
  visit_floating(dtype, [&]<class T>(Type<T>) { out << detail::shortest(fewest_digits(value.to<T>())) << '\n'; });
}

std::string_view type_name(Dtype d) {
  switch (d) {
    case kBool: return "Bool";
    case kUInt8: return "Byte";
    case kInt8: return "Char";
    case kInt16: return "Short";
    case kInt32: return "Int";
    case kInt64: return "Long";
    case kFloat16: return "Half";
    case kBFloat16: return "BFloat16";
    case kFloat32: return "Float";
    case kFloat64: return "Double";
    default: return "Undefined";
  }
}

}  // namespace

std::ostream& print(std::ostream& out, const Tensor& t, std::int64_t line_width) {
  if (!t.defined()) return out << "[ Tensor (undefined) ]";
  std::ostringstream text;  // out may have a format of its own
  const HostElements elements(t);
  const ElementView view{&elements, t.sizes(), t.strides()};
  if (t.dim() == 0) print_number(text, view.item(), t.dtype());
  if (t.dim() == 1) print_vector(text, view);
  if (t.dim() == 2 && t.numel() > 0) print_matrix(text, view, line_width, "");
  if (t.dim() > 2 && t.numel() > 0) print_matrices(text, view, line_width);
  text << "[ " << t.toString() << '{';
  for (std::size_t i = 0; i < t.sizes().size(); ++i) text << (i ? "," : "") << t.sizes()[i];
  text << "} ]";
  return out << text.str();
}

std::ostream& operator<<(std::ostream& out, const Tensor& t) { return print(out, t); }

/// "CPUFloatType": the kind of device and the C++ name of the dtype.
std::string Tensor::toString() const {
  if (!defined()) return "UndefinedType";
  return str(is_cuda() ? "CUDA" : "CPU", type_name(dtype()), "Type");
}

void Tensor::print() const {
  if (defined()) {
    std::cout << "[" << toString() << " " << sizes() << "]" << std::endl;
  } else {
    std::cout << "[UndefinedTensor]" << std::endl;
  }
}

}  // namespace halftone
