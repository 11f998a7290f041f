// Every op, in every way that all ops have in common: loops over the rows of op_cases.h.
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "amp/autocast.h"
#include "autograd/engine.h"
#include "autograd/op_table.h"
#include "tests/catch.h"
#include "tests/gradcheck.h"
#include "tests/op_cases.h"

using namespace halftone;
using namespace halftone::test;

namespace {

// Gradients that are ops; each is run by the second derivatives of the ops they belong to.
const std::set<std::string_view> kGradients = {"conv_data_grad",  "conv_weight_grad", "softmax_grad",
                                               "batch_norm_grad", "layer_norm_grad",  "pool_grad"};

// ---------------------------------------------------------------- golden values

struct Golden {
  std::vector<std::int64_t> sizes;
  std::vector<double> numbers;  // two weighted sums of all elements, then some elements
};

template <class T> std::vector<T> parse(const std::string& text) {
  std::istringstream in(text);
  std::vector<T> out;
  for (T value; in >> value;) out.push_back(value);
  return out;
}

// By "op/variant out" and "op/variant grad 0".
const std::map<std::string, Golden>& golden_values() {
  static const std::map<std::string, Golden> all = [] {
    std::map<std::string, Golden> values;
    std::ifstream file(HALFTONE_SOURCE_DIR "/tests/golden/ops.txt");
    std::string line, key;
    while (std::getline(file, line)) {
      const std::size_t first = line.find(" | "), second = line.rfind(" | ");
      if (first == std::string::npos) {
        key = line;
      } else {
        values[key + " " + line.substr(0, first)] = {
            parse<std::int64_t>(first == second ? "" : line.substr(first + 2, second - first - 2)),
            parse<double>(line.substr(second + 3))};
      }
    }
    return values;
  }();
  return all;
}

Tensor weights(std::int64_t n, std::size_t k) { return make_input(std::to_string(n), k); }

std::vector<double> numbers_of(const Tensor& t) {
  const Tensor flat = t.detach().cpu().to(kFloat64).contiguous().reshape({t.numel()});
  const std::int64_t n = flat.numel(), step = std::max<std::int64_t>(1, n / 6);
  std::vector<double> out{flat.dot(weights(n, 90).cpu()).item<double>(), flat.dot(weights(n, 91).cpu()).item<double>()};
  for (std::int64_t i = 0; i < n && i <= 6 * step; i += step) out.push_back(flat.data_ptr<double>()[i]);
  return out;
}

void check_golden(const std::string& key, const Tensor& t, double relative) {
  INFO(key);
  const auto found = golden_values().find(key);
  REQUIRE(found != golden_values().end());
  CHECK(t.sizes().vec() == found->second.sizes);
  const std::vector<double> numbers = numbers_of(t);
  REQUIRE(numbers.size() == found->second.numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    INFO("number " << i);
    CHECK(numbers[i] == Catch::Approx(found->second.numbers[i]).epsilon(relative).margin(relative));
  }
}

void check_against_golden(const OpCase& c, Dtype dtype, double relative) {
  const std::vector<Tensor> inputs = leaves_of(make_inputs(c, dtype));
  const Tensor y = c.run(inputs);
  check_golden(c.key() + " out", y, relative);
  if (c.derivatives == 0) return;
  y.reshape({y.numel()}).to(kFloat64).dot(weights(y.numel(), 90)).backward();
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const std::string key = c.key() + " grad " + std::to_string(k);
    if (golden_values().count(key) == 0) continue;
    REQUIRE(inputs[k].grad().defined());
    check_golden(key, inputs[k].grad(), relative);
  }
}

// ---------------------------------------------------------------- comparing

double largest(const Tensor& t) { return t.numel() == 0 ? 0 : t.abs().max().item<double>(); }

// The largest difference, relative to the largest element where that is more than 1.
double distance(const Tensor& a, const Tensor& b) {
  const Tensor x = a.detach().to(kFloat64), y = b.detach().to(kFloat64);
  return largest(x - y) / std::max(1.0, largest(y));
}

// The same values in memory that is neither contiguous nor dense.
Tensor strided(const Tensor& x) {
  if (x.dim() == 0) return x;
  Dims wide = dims(x.sizes());
  for (std::int64_t& size : wide) size = 2 * size + 1;
  std::vector<std::int64_t> reversed;
  for (std::int64_t i = x.dim(); i-- > 0;) reversed.push_back(i);
  Tensor view = zeros(Dims(std::reverse_iterator(wide.end()), std::reverse_iterator(wide.begin())), x.options());
  view = view.permute(reversed);
  for (std::int64_t i = 0; i < x.dim(); ++i) view = view.slice(i, 1, nullopt, 2);
  view.copy_(x);
  return view;
}

std::vector<Tensor> widened(In inputs) {
  std::vector<Tensor> wide;
  for (const Tensor& x : inputs) wide.push_back(x.is_floating_point() ? x.to(kFloat32) : x);
  return wide;
}

// The gradients of a case for two forms of the same inputs; those for `inputs` have `dtype`, as has what comes
// backward.
void compare_gradients(const OpCase& c, In inputs, In others, Dtype dtype, double most) {
  const std::vector<Tensor> others_leaves = leaves_of(others);
  for (const Tensor& x : inputs) {
    if (x.is_floating_point()) x.requires_grad_();
  }
  const Tensor y = c.run(inputs), expected = c.run(others_leaves);
  const Tensor g = weights_like(y).to(dtype);
  y.backward(g);
  expected.backward(g.to(expected.dtype()));
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    if (!inputs[k].is_floating_point() || !others_leaves[k].grad().defined()) continue;
    INFO("input " << k);
    CHECK(inputs[k].grad().dtype() == dtype);
    CHECK(distance(inputs[k].grad(), others_leaves[k].grad()) <= most);
  }
}

// An error in one case does not hide the others.
template <class F> void for_each_case(F f) {
  for (const OpCase& c : op_cases()) {
    INFO(c.key());
    try {
      f(c);
    } catch (const Error& e) {
      FAIL_CHECK(e.what());
    }
  }
}

}  // namespace

TEST_CASE("every row of the op table has a case", "[ops]") {
  std::set<std::string_view> covered = kGradients;
  std::set<std::string> keys;
  for (const OpCase& c : op_cases()) {
    INFO(c.key());
    CHECK(find_op(c.op) != nullptr);
    CHECK(keys.insert(c.key()).second);
    covered.insert(c.op);
  }
  for (const OpInfo& row : kOps) {
    INFO(row.name);
    CHECK(covered.count(row.name) == 1);
  }
}

TEST_CASE("values and gradients are PyTorch's", "[ops][golden]") {
  for_each_case([](const OpCase& c) {
    if (c.golden) check_against_golden(c, kFloat64, 1e-9);
  });
}

TEST_CASE("values and gradients are PyTorch's in float32", "[ops][golden]") {
  for_each_case([](const OpCase& c) {
    if (c.golden) check_against_golden(c, kFloat32, 2e-5);
  });
}

TEST_CASE("gradients agree with central differences", "[ops][gradcheck]") {
  for_each_case([](const OpCase& c) {
    if (c.derivatives >= 1) CHECK(gradcheck(c.run, make_inputs(c)) == "");
  });
}

TEST_CASE("second derivatives agree with central differences", "[ops][gradcheck]") {
  for_each_case([](const OpCase& c) {
    if (c.derivatives >= 2) CHECK(gradgradcheck(c.run, make_inputs(c)) == "");
  });
}

TEST_CASE("strides of the inputs do not matter", "[ops]") {
  for_each_case([](const OpCase& c) {
    if (c.op == "as_strided" || c.op == "view") return;  // which are about memory
    const std::vector<Tensor> inputs = make_inputs(c);
    std::vector<Tensor> sparse;
    for (const Tensor& x : inputs) sparse.push_back(strided(x));
    CHECK(distance(c.run(sparse), c.run(inputs)) <= tolerance(kFloat64, 100));
    if (c.derivatives != 0) compare_gradients(c, sparse, inputs, kFloat64, tolerance(kFloat64, 1000));
  });
}

TEST_CASE("16-bit results are float32 results, rounded", "[ops][half]") {
  const Dtype dtype = GENERATE(kFloat16, kBFloat16);
  for_each_case([dtype](const OpCase& c) {
    INFO(dtype);
    const std::vector<Tensor> narrow = make_inputs(c, dtype), wide = widened(narrow);
    const Tensor y = c.run(narrow), expected = c.run(wide);
    CHECK(y.dtype() == (expected.is_floating_point() ? dtype : expected.dtype()));
    CHECK(y.sizes() == expected.sizes());
    CHECK(distance(y, expected) <= tolerance(dtype, 4));
  });
}

TEST_CASE("16-bit gradients are near those of float32", "[ops][half]") {
  const Dtype dtype = GENERATE(kFloat16, kBFloat16);
  for_each_case([dtype](const OpCase& c) {
    INFO(dtype);
    const std::vector<Tensor> narrow = make_inputs(c, dtype);
    if (c.derivatives != 0) compare_gradients(c, narrow, widened(narrow), dtype, tolerance(dtype, 30));
  });
}

// ---------------------------------------------------------------- autocast

namespace {

// The dtype of a case's result in a region of bfloat16, or Undefined if the region refuses the op.
Dtype result_in_region(const OpCase& c, In inputs) {
  const amp::autocast region(get_default_device().type(), kBFloat16);
  try {
    return c.run(inputs).dtype();
  } catch (const Error&) {
    return Dtype::Undefined;
  }
}

// What the op's row promises for float32 inputs, or for bfloat16 ones, which outside a region give `outside`.
Dtype promised(Precision precision, Dtype inputs, Dtype outside) {
  if (precision == Precision::banned) return Dtype::Undefined;
  if (!is_floating_point(outside)) return outside;
  switch (precision) {
    case Precision::lower: return kBFloat16;
    case Precision::full:
    case Precision::full_if_unset: return kFloat32;
    default: return inputs;
  }
}

}  // namespace

TEST_CASE("autocast gives each op the precision its row asks for", "[ops][amp]") {
  const Dtype dtype = GENERATE(kFloat32, kBFloat16);
  for_each_case([dtype](const OpCase& c) {
    INFO("inputs in " << dtype);
    const std::vector<Tensor> inputs = make_inputs(c, dtype);
    CHECK(result_in_region(c, inputs) == promised(find_op(c.op)->precision, dtype, c.run(inputs).dtype()));
  });
}
