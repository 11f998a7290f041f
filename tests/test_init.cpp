// First values of parameters: the same numbers as PyTorch's for the same seed (rows of tests/golden/nn.inc).
#include "halftone.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;
using Catch::Matchers::ContainsSubstring;
namespace init = halftone::nn::init;

namespace {

struct Golden {
  std::string name;
  std::vector<double> values;
};

const std::vector<Golden> kGolden = {
#include "tests/golden/nn.inc"
};

struct Case {
  std::string name;
  Dims shape;
  std::function<Tensor(Tensor)> fill;
};

std::vector<double> samples(const Tensor& tensor) {
  const Tensor flat = tensor.cpu().to(kFloat64).contiguous().view(-1);
  const std::int64_t step = std::max<std::int64_t>(1, (flat.numel() + 7) / 8);
  std::vector<double> values;
  for (std::int64_t i = 0; i < flat.numel(); i += step) values.push_back(flat.data_ptr<double>()[i]);
  values.push_back(flat.sum().item<double>());
  return values;
}

void check_values(const std::string& name, const std::vector<double>& values) {
  INFO(name);
  const auto row = std::find_if(kGolden.begin(), kGolden.end(), [&](const Golden& g) { return g.name == name; });
  REQUIRE(row != kGolden.end());
  REQUIRE(values.size() == row->values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(values[i] == Catch::Approx(row->values[i]).epsilon(1e-5).margin(1e-6));
  }
}

std::vector<Case> fills() {
  std::vector<Case> cases = {
      {"constant_", {2, 3}, [](Tensor t) { return init::constant_(t, 7); }},
      {"ones_", {2, 3}, [](Tensor t) { return init::ones_(t); }},
      {"zeros_", {2, 3}, [](Tensor t) { return init::zeros_(t); }},
      {"eye_", {3, 5}, [](Tensor t) { return init::eye_(t); }},
      {"normal_", {5, 7}, [](Tensor t) { return init::normal_(t, 2, 3); }},
      {"uniform_", {5, 7}, [](Tensor t) { return init::uniform_(t, -1, 2); }},
      {"dirac_ 3", {3, 2, 3}, [](Tensor t) { return init::dirac_(t); }},
      {"dirac_ 4", {2, 3, 3, 4}, [](Tensor t) { return init::dirac_(t); }},
      {"dirac_ 5", {2, 2, 2, 3, 1}, [](Tensor t) { return init::dirac_(t); }},
      {"orthogonal_ tall", {5, 3}, [](Tensor t) { return init::orthogonal_(t); }},
      {"orthogonal_ wide", {3, 2, 4}, [](Tensor t) { return init::orthogonal_(t, 2); }},
  };
  for (const Dims& shape : {Dims{4, 6}, Dims{4, 3, 2, 5}}) {
    const std::string n = " " + std::to_string(shape.size());
    cases.push_back({"xavier_normal_" + n, shape, [](Tensor t) { return init::xavier_normal_(t, 1.5); }});
    cases.push_back({"xavier_uniform_" + n, shape, [](Tensor t) { return init::xavier_uniform_(t, 1.5); }});
    cases.push_back({"kaiming_normal_" + n + " fan_in", shape, [](Tensor t) { return init::kaiming_normal_(t, 0.2); }});
    cases.push_back(
        {"kaiming_normal_" + n + " fan_out", shape, [](Tensor t) { return init::kaiming_normal_(t, 0.2, kFanOut); }});
    cases.push_back({"kaiming_uniform_" + n + " fan_in", shape,
                     [](Tensor t) { return init::kaiming_uniform_(t, 0.2, kFanIn, kTanh); }});
    cases.push_back({"kaiming_uniform_" + n + " fan_out", shape,
                     [](Tensor t) { return init::kaiming_uniform_(t, 0.2, kFanOut, kTanh); }});
    cases.push_back(
        {"kaiming_normal_" + n + " relu", shape, [](Tensor t) { return init::kaiming_normal_(t, 0, kFanIn, kReLU); }});
  }
  return cases;
}

bool draws(const Case& c) {
  for (const char* const name : {"constant_", "ones_", "zeros_", "eye_", "dirac_"})
    if (c.name.starts_with(name)) return false;
  return true;
}

template <class Function> std::string message_of(Function f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("init functions draw PyTorch's numbers", "[init]") {
  for (const Case& c : fills()) {
    manual_seed(1);
    const Tensor t = empty(c.shape, draws(c) ? Device(kCPU) : get_default_device());  // PyTorch's are the CPU's
    CHECK(c.fill(t).is_same(t));
    check_values(c.name, samples(t));
  }
}

TEST_CASE("init functions draw with the spread they promise", "[init]") {
  manual_seed(2);
  struct Row {
    Tensor drawn;
    double mean, std;
  };
  const auto blank = [] { return empty({60, 200}); };
  for (const auto& [drawn, mean, std] : {
           Row{init::normal_(blank(), 2, 3), 2, 3},
           Row{init::uniform_(blank(), -1, 2), 0.5, 3 / std::sqrt(12)},
           Row{init::xavier_normal_(blank()), 0, std::sqrt(2.0 / 260)},
           Row{init::xavier_uniform_(blank()), 0, std::sqrt(2.0 / 260)},
           Row{init::kaiming_normal_(blank()), 0, std::sqrt(2.0 / 200)},
           Row{init::kaiming_uniform_(blank(), 0, kFanOut), 0, std::sqrt(2.0 / 60)},
       }) {
    CHECK(drawn.mean().item<double>() == Catch::Approx(mean).margin(0.05 * std));
    CHECK((drawn - mean).square().mean().item<double>() == Catch::Approx(std * std).epsilon(0.05));
  }
}

TEST_CASE("sparse columns of a CPU tensor take the CPU's draws, whatever the default device", "[init]") {
  const auto fill = [] {
    manual_seed(1);
    return init::sparse_(empty({10, 6}, kCPU), 0.35);
  };
  const Tensor t = fill();
  const test::DefaultDevice host(kCPU);
  CHECK(equal(t, fill()));
}

TEST_CASE("gains are PyTorch's", "[init]") {
  const std::vector<std::pair<std::string, double>> rows = {
      {"linear", init::calculate_gain(kLinear)},
      {"conv1d", init::calculate_gain(kConv1D)},
      {"conv2d", init::calculate_gain(kConv2D)},
      {"conv3d", init::calculate_gain(kConv3D)},
      {"conv_transpose1d", init::calculate_gain(kConvTranspose1D)},
      {"conv_transpose2d", init::calculate_gain(kConvTranspose2D)},
      {"conv_transpose3d", init::calculate_gain(kConvTranspose3D)},
      {"sigmoid", init::calculate_gain(kSigmoid)},
      {"tanh", init::calculate_gain(kTanh)},
      {"relu", init::calculate_gain(kReLU)},
      {"leaky_relu", init::calculate_gain(kLeakyReLU)},
      {"leaky 0.5", init::calculate_gain(kLeakyReLU, 0.5)},
  };
  for (const auto& [name, gain] : rows) check_values("calculate_gain " + name, {gain, gain});
}

TEST_CASE("a linear layer begins with libtorch's numbers", "[init][cpu]") {
  manual_seed(0);
  nn::Linear fc(2, 2);
  CHECK(allclose(fc->weight, tensor({{-0.0053, 0.3793}, {-0.5820, -0.5204}}), 0, 5e-5));
  CHECK(allclose(fc->bias, tensor({-0.2723, 0.1896}), 0, 5e-5));
}

TEST_CASE("orthogonal rows and columns are orthonormal", "[init]") {
  const Tensor tall = init::orthogonal_(empty({7, 4})), wide = init::orthogonal_(empty({4, 9}, kFloat64), 3);
  CHECK(allclose(tall.t().mm(tall), eye(4), 1e-5, 1e-6));
  CHECK(allclose(wide.mm(wide.t()), 9 * eye(4, kFloat64), 1e-5, 1e-6));
}

TEST_CASE("sparse columns have their share of zeros", "[init]") {
  const Tensor t = init::sparse_(empty({10, 6}), 0.35);
  const Tensor zeros_per_column = t.eq(0).sum(0);
  CHECK(equal(zeros_per_column, full_like(zeros_per_column, 4)));
}

TEST_CASE("init records nothing and works on parameters", "[init]") {
  const Tensor t = zeros({3, 4}, requires_grad());
  init::xavier_normal_(t);
  init::constant_(t[0], 5);
  CHECK(t.is_leaf());
  CHECK(t.requires_grad());
  CHECK(t[0][1].item<float>() == 5);
}

TEST_CASE("init functions refuse shapes they do not work for", "[init]") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {message_of([] { init::xavier_uniform_(empty(3)); }),
       "Fan in and fan out cannot be computed for tensor with fewer than 2 dimensions"},
      {message_of([] { init::kaiming_normal_(empty(3)); }),
       "Fan in and fan out cannot be computed for tensor with fewer than 2 dimensions"},
      {message_of([] {
         init::dirac_(empty({3, 3}));
       }),
       "Only tensors with 3, 4, or 5 dimensions are supported"},
      {message_of([] { init::eye_(empty(3)); }), "Only tensors with 2 dimensions are supported"},
      {message_of([] { init::sparse_(empty(3), 0.5); }), "Only tensors with 2 dimensions are supported"},
      {message_of([] { init::orthogonal_(empty(3)); }), "Only tensors with 2 or more dimensions are supported"},
  };
  for (const auto& [message, part] : rows) CHECK_THAT(message, ContainsSubstring(part));
}

TEST_CASE("parameters become one vector and come back", "[init]") {
  nn::Linear fc(3, 2);
  const Tensor vector = nn::utils::parameters_to_vector(fc->parameters());
  CHECK(vector.sizes() == IntArrayRef{8});
  nn::utils::vector_to_parameters(arange(8.), fc->parameters());
  CHECK(equal(fc->weight, arange(6.).view({2, 3})));
  CHECK(equal(fc->bias, tensor({6., 7.})));
  CHECK(fc->weight.is_leaf());
  CHECK_THAT(message_of([&] { nn::utils::vector_to_parameters(ones(7), fc->parameters()); }),
             ContainsSubstring("the parameters have 8 elements, but the vector is float32[7]"));
  CHECK_THAT(message_of([&] { nn::utils::parameters_to_vector({}); }), ContainsSubstring("there are no parameters"));
}
