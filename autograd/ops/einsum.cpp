// Einstein summation: the operands are joined one after another, each time by one batched matrix product.
#include <algorithm>
#include <string>

#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

using plain::at;

// A tensor and the letter of each of its axes. Axes under an ellipsis get capital-free marks of their own, '0' and up.
struct Term {
  Tensor tensor;
  std::string letters;

  bool has(char c) const { return letters.find(c) != std::string::npos; }
  std::int64_t axis(char c) const { return static_cast<std::int64_t>(letters.find(c)); }
  std::int64_t size(char c) const { return has(c) ? tensor.size(axis(c)) : 1; }
};

struct Equation {
  std::vector<std::string> operands;
  std::string result;
};

std::string without_spaces(std::string_view text) {
  std::string out;
  std::copy_if(text.begin(), text.end(), std::back_inserter(out), [](char c) { return c != ' '; });
  return out;
}

// "...ij" with two axes under the ellipsis becomes "01ij"; fewer axes than the widest ellipsis are its last ones.
std::string spell_ellipsis(std::string_view equation, std::string part, std::int64_t axes, std::int64_t widest) {
  const std::size_t dots = part.find("...");
  if (dots != std::string::npos) {
    std::string marks;
    for (std::int64_t i = widest - axes; i < widest; ++i) marks.push_back(static_cast<char>('0' + i));
    part.replace(dots, 3, marks);
  }
  for (const char c : part) {
    check<ValueError>((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'), "einsum: \"",
                      equation, "\" has '", c, "' where a letter belongs");
  }
  return part;
}

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  return parts;
}

// How many axes the ellipsis of an operand stands for.
std::int64_t ellipsis_axes(std::string_view equation, const std::string& part, const Tensor& operand) {
  const bool has_ellipsis = part.find("...") != std::string::npos;
  const auto named = static_cast<std::int64_t>(part.size()) - (has_ellipsis ? 3 : 0);
  const std::int64_t rest = operand.dim() - named;
  check<ValueError>(has_ellipsis ? rest >= 0 : rest == 0, "einsum: \"", equation, "\" names ", named, " axes in \"",
                    part, "\" but the operand is ", describe(operand));
  return rest;
}

// Without an arrow the result has the ellipsis and then the letters that occur once, in alphabetical order.
std::string implied_result(const std::vector<std::string>& operands, std::int64_t widest) {
  std::string all, result;
  for (const std::string& part : operands) all += part;
  std::sort(all.begin(), all.end());
  for (std::int64_t i = 0; i < widest; ++i) result.push_back(static_cast<char>('0' + i));
  for (const char c : all) {
    if (c > '9' && std::count(all.begin(), all.end(), c) == 1) result.push_back(c);
  }
  return result;
}

Equation parse(std::string_view text, const std::vector<Tensor>& operands) {
  const std::string equation = without_spaces(text);
  const std::size_t arrow = equation.find("->");
  Equation e;
  e.operands = split_at_commas(equation.substr(0, arrow));
  check<ValueError>(e.operands.size() == operands.size(), "einsum: \"", text, "\" has ", e.operands.size(),
                    " operands, got ", operands.size());
  std::vector<std::int64_t> axes;
  for (std::size_t i = 0; i < operands.size(); ++i) axes.push_back(ellipsis_axes(text, e.operands[i], operands[i]));
  const std::int64_t widest = *std::max_element(axes.begin(), axes.end());
  for (std::size_t i = 0; i < operands.size(); ++i)
    e.operands[i] = spell_ellipsis(text, e.operands[i], axes[i], widest);
  e.result = arrow == std::string::npos ? implied_result(e.operands, widest)
                                        : spell_ellipsis(text, equation.substr(arrow + 2), widest, widest);
  for (const char c : e.result) {
    const bool known = std::any_of(e.operands.begin(), e.operands.end(),
                                   [c](const std::string& part) { return part.find(c) != std::string::npos; });
    check<ValueError>(known && std::count(e.result.begin(), e.result.end(), c) == 1, "einsum: \"", text,
                      "\" has a result with '", c, known ? "' twice" : "', which no operand has");
  }
  return e;
}

// "iij" becomes "ij": the diagonal of the axes that share a letter.
Term take_diagonals(Term t) {
  for (std::size_t i = 0; i < t.letters.size(); ++i) {
    std::size_t j = t.letters.find(t.letters[i], i + 1);
    for (; j != std::string::npos; j = t.letters.find(t.letters[i], i + 1)) {
      if (!is_dense(t.tensor.sizes(), t.tensor.strides())) t.tensor = t.tensor.contiguous();
      Dims sizes = dims(t.tensor.sizes()), strides = dims(t.tensor.strides());
      check<ValueError>(sizes[i] == sizes[j], "einsum: '", t.letters[i], "' has sizes ", sizes[i], " and ", sizes[j]);
      strides[i] += strides[j];
      sizes.erase(j);
      strides.erase(j);
      t.tensor = t.tensor.as_strided(sizes, strides, t.tensor.storage_offset());
      t.letters.erase(j, 1);
    }
  }
  return t;
}

// Sums over the axes whose letter is not among `needed`.
Term sum_others(Term t, const std::string& needed) {
  std::vector<std::int64_t> summed;
  std::string left;
  for (std::size_t i = 0; i < t.letters.size(); ++i) {
    if (needed.find(t.letters[i]) == std::string::npos) {
      summed.push_back(static_cast<std::int64_t>(i));
    } else {
      left.push_back(t.letters[i]);
    }
  }
  if (!summed.empty()) t.tensor = t.tensor.sum(summed);
  t.letters = left;
  return t;
}

// The axes in the order of `letters`, as one axis a group; a letter that is missing is an axis of size 1.
Tensor arranged(const Term& t, std::initializer_list<std::string> groups) {
  std::vector<std::int64_t> order;
  Dims sizes;
  for (const std::string& group : groups) {
    std::int64_t size = 1;
    for (const char c : group) {
      if (!t.has(c)) continue;
      order.push_back(t.axis(c));
      size *= t.size(c);
    }
    sizes.push_back(size);
  }
  return t.tensor.permute(order).reshape(sizes);
}

// Axes of size 1 stand for any size; the product is for those with the same size alone.
Term expand_to(Term t, const Term& other, const std::string& shared) {
  Dims sizes = dims(t.tensor.sizes());
  for (const char c : shared) {
    const std::int64_t mine = t.size(c), theirs = other.size(c);
    check<ValueError>(mine == theirs || mine == 1 || theirs == 1, "einsum: '", c, "' has sizes ", mine, " and ",
                      theirs);
    sizes[at(t.axis(c))] = std::max(mine, theirs);
  }
  if (!(t.tensor.sizes() == sizes)) t.tensor = t.tensor.expand(sizes);
  return t;
}

// One product: letters of both that are needed later are its batch, letters of both that are not are summed.
Term contract(Term a, Term b, const std::string& needed) {
  a = sum_others(a, needed + b.letters);
  b = sum_others(b, needed + a.letters);
  std::string batch, inner, left, right;
  for (const char c : a.letters) (!b.has(c) ? left : needed.find(c) != std::string::npos ? batch : inner).push_back(c);
  for (const char c : b.letters) {
    if (!a.has(c)) right.push_back(c);
  }
  a = expand_to(a, b, batch + inner);
  b = expand_to(b, a, batch + inner);
  const Tensor product = bmm(arranged(a, {batch, left, inner}), arranged(b, {batch, inner, right}));
  Dims sizes;
  for (const char c : batch + left) sizes.push_back(a.size(c));
  for (const char c : right) sizes.push_back(b.size(c));
  return {product.reshape(sizes), batch + left + right};
}

Tensor evaluate(const Equation& e, const std::vector<Tensor>& operands) {
  Term result = take_diagonals({operands[0], e.operands[0]});
  for (std::size_t i = 1; i < operands.size(); ++i) {
    std::string needed = e.result;
    for (std::size_t later = i + 1; later < operands.size(); ++later) needed += e.operands[later];
    result = contract(result, take_diagonals({operands[i], e.operands[i]}), needed);
  }
  result = sum_others(result, e.result);
  std::vector<std::int64_t> order;
  for (const char c : e.result) order.push_back(result.axis(c));
  return result.tensor.permute(order);
}

}  // namespace

Tensor einsum(std::string_view equation, TensorList operands) {
  check<ValueError>(!operands.empty(), "einsum: \"", equation, "\" needs at least one operand");
  return apply_composite(op("einsum"), operands.vec(),
                         [&](const std::vector<Tensor>& inputs) { return evaluate(parse(equation, inputs), inputs); });
}

}  // namespace halftone
