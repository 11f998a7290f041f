// Layers against PyTorch: the rows of tests/golden/nn.inc hold what nn.py got for the same names. Then what layers
// print, what they refuse, and what only the C++ interface has.
#include "halftone.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;
using namespace halftone::nn;
using Catch::Matchers::ContainsSubstring;
namespace F = halftone::nn::functional;

namespace {

struct Golden {
  std::string name;
  std::vector<double> values;
};

const std::vector<Golden> kGolden = {
#include "tests/golden/nn.inc"
};

const std::vector<double>& golden(const std::string& name) {
  for (const Golden& row : kGolden) {
    if (row.name == name) return row.values;
  }
  throw Error("tests/golden/nn.inc has no row '" + name + "'");
}

using Tensors = std::vector<Tensor>;
using Run = std::function<Tensors()>;

struct Case {
  std::string name;
  Run run;
};

/// Every n-th element and the sum, as nn.py takes them.
void append_samples(const Tensor& tensor, std::vector<double>& out) {
  constexpr std::int64_t kSamples = 8;
  const Tensor flat = tensor.detach().cpu().to(kFloat64).contiguous().view(-1);
  const std::int64_t step = std::max<std::int64_t>(1, (flat.numel() + kSamples - 1) / kSamples);
  for (std::int64_t i = 0; i < flat.numel(); i += step) out.push_back(flat.data_ptr<double>()[i]);
  out.push_back(flat.sum().item<double>());
}

void check_case(const Case& c) {
  INFO(c.name);
  std::vector<double> values;
  for (const Tensor& t : c.run()) append_samples(t, values);
  const std::vector<double>& expected = golden(c.name);
  REQUIRE(values.size() == expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    INFO("value " << i);
    CHECK(values[i] == Catch::Approx(expected[i]).epsilon(3e-5).margin(3e-5));
  }
}

// Numbers are drawn on the CPU, for its generator gives PyTorch's, and go to the device under test.
template <class Make> auto drawn_module(Make make) {
  auto module = [&] {
    const test::DefaultDevice host(kCPU);
    return make();
  }();
  module->to(get_default_device());
  return module;
}
Tensor drawn(IntArrayRef shape) { return randn(shape, kCPU).to(get_default_device()); }

/// Parameters, output, input's gradient, parameters' gradients, buffers.
template <class Make> Run layer(Make make, Dims shape, bool train = true) {
  return [=] {
    manual_seed(0);
    auto module = drawn_module(make);
    module->train(train);
    const Tensor x = drawn(shape).requires_grad_();
    const Tensor y = module(x);
    y.square().sum().backward();
    Tensors all = module->parameters();
    all.push_back(y);
    all.push_back(x.grad());
    for (const Tensor& p : module->parameters()) all.push_back(p.grad());
    for (const Tensor& b : module->buffers()) all.push_back(b);
    return all;
  };
}

#define LAYER(...) [] { return __VA_ARGS__; }

template <std::size_t D, class Conv, class Deconv> void append_convolutions(std::vector<Case>& cases) {
  Dims x{2, 4};
  for (std::size_t d = 0; d < D; ++d) x.push_back(6);
  const std::string conv = "Conv" + std::to_string(D) + "d", deconv = "ConvTranspose" + std::to_string(D) + "d";
  using Options = ConvOptions<D>;
  using Transposed = ConvTransposeOptions<D>;
  cases.push_back({conv, layer(LAYER(Conv(4, 6, 3)), x)});
  cases.push_back(
      {conv + " strided", layer(LAYER(Conv(Options(4, 6, 3).stride(2).padding(1).groups(2).bias(false))), x)});
  cases.push_back({conv + " same", layer(LAYER(Conv(Options(4, 2, 4).padding(kSame))), x)});
  cases.push_back({conv + " valid", layer(LAYER(Conv(Options(4, 2, 2).padding(kValid).dilation(2))), x)});
  cases.push_back({conv + " circular", layer(LAYER(Conv(Options(4, 2, 3).padding(1).padding_mode(kCircular))), x)});
  cases.push_back({conv + " replicate", layer(LAYER(Conv(Options(4, 2, 3).padding(2).padding_mode(kReplicate))), x)});
  cases.push_back({conv + " reflect", layer(LAYER(Conv(Options(4, 2, 4).padding(kSame).padding_mode(kReflect))), x)});
  cases.push_back({deconv, layer(LAYER(Deconv(4, 6, 3)), x)});
  cases.push_back(
      {deconv + " strided",
       layer(LAYER(Deconv(Transposed(4, 6, 3).stride(2).padding(1).output_padding(1).groups(2).dilation(2))), x)});
}

std::vector<Case> convolutions() {
  std::vector<Case> cases;
  append_convolutions<1, Conv1d, ConvTranspose1d>(cases);
  append_convolutions<2, Conv2d, ConvTranspose2d>(cases);
  append_convolutions<3, Conv3d, ConvTranspose3d>(cases);
  cases.push_back({"Conv2d unbatched",
                   layer(LAYER(Conv2d(Conv2dOptions(3, 4, {2, 3}).stride({1, 2}).padding({1, 0}))), {3, 5, 7})});
  return cases;
}

std::vector<Case> poolings() {
  return {
      {"MaxPool1d", layer(LAYER(MaxPool1d(MaxPool1dOptions(3).stride(2).padding(1))), {2, 3, 9})},
      {"MaxPool2d", layer(LAYER(MaxPool2d(2)), {2, 3, 6, 6})},
      {"MaxPool2d ceil",
       layer(LAYER(MaxPool2d(MaxPool2dOptions({3, 2}).stride(2).padding({1, 0}).ceil_mode(true))), {2, 3, 6, 7})},
      {"MaxPool3d", layer(LAYER(MaxPool3d(2)), {1, 2, 4, 4, 4})},
      {"AvgPool1d", layer(LAYER(AvgPool1d(AvgPool1dOptions(3).stride(2).padding(1))), {2, 3, 9})},
      {"AvgPool2d", layer(LAYER(AvgPool2d(2)), {2, 3, 6, 6})},
      {"AvgPool2d padded",
       layer(LAYER(AvgPool2d(AvgPool2dOptions(3).stride(2).padding(1).ceil_mode(true).count_include_pad(false))),
             {2, 3, 6, 7})},
      {"AvgPool2d divisor",
       layer(LAYER(AvgPool2d(AvgPool2dOptions(3).stride(2).padding(1).divisor_override(5))), {2, 3, 6, 7})},
      {"AvgPool3d", layer(LAYER(AvgPool3d(2)), {1, 2, 4, 4, 4})},
      {"AdaptiveAvgPool2d", layer(LAYER(AdaptiveAvgPool2d(AdaptiveAvgPool2dOptions({3, 2}))), {2, 3, 7, 5})},
      {"AdaptiveAvgPool2d None", layer(LAYER(AdaptiveAvgPool2d(AdaptiveAvgPool2dOptions({nullopt, 2}))), {2, 3, 7, 5})},
  };
}

std::vector<Case> norms() {
  return {
      {"BatchNorm1d", layer(LAYER(BatchNorm1d(3)), {5, 3})},
      {"BatchNorm1d 3d", layer(LAYER(BatchNorm1d(3)), {5, 3, 4})},
      {"BatchNorm2d", layer(LAYER(BatchNorm2d(BatchNorm2dOptions(3).eps(1e-3).momentum(0.3))), {4, 3, 2, 5})},
      {"BatchNorm2d eval", layer(LAYER(BatchNorm2d(3)), {4, 3, 2, 5}, false)},
      {"BatchNorm2d cumulative", layer(LAYER(BatchNorm2d(BatchNorm2dOptions(3).momentum(nullopt))), {4, 3, 2, 5})},
      {"BatchNorm2d plain",
       layer(LAYER(BatchNorm2d(BatchNorm2dOptions(3).affine(false).track_running_stats(false))), {4, 3, 2, 5}, false)},
      {"BatchNorm3d", layer(LAYER(BatchNorm3d(2)), {2, 2, 2, 3, 2})},
      {"LayerNorm", layer(LAYER(LayerNorm(LayerNormOptions({3, 4}))), {2, 3, 4})},
      {"LayerNorm plain", layer(LAYER(LayerNorm(LayerNormOptions({4}).eps(0.1).elementwise_affine(false))), {2, 3, 4})},
      {"GroupNorm", layer(LAYER(GroupNorm(2, 4)), {2, 4, 3, 3})},
      {"GroupNorm plain", layer(LAYER(GroupNorm(GroupNormOptions(4, 4).affine(false))), {2, 4, 3})},
  };
}

std::vector<Case> simple_layers() {
  return {
      {"Linear", layer(LAYER(Linear(5, 3)), {4, 5})},
      {"Linear without bias", layer(LAYER(Linear(LinearOptions(5, 3).bias(false))), {2, 4, 5})},
      {"ReLU", layer(LAYER(ReLU()), {3, 7})},
      {"LeakyReLU", layer(LAYER(LeakyReLU()), {3, 7})},
      {"LeakyReLU 0.3", layer(LAYER(LeakyReLU(LeakyReLUOptions().negative_slope(0.3))), {3, 7})},
      {"ELU", layer(LAYER(ELU()), {3, 7})},
      {"ELU 2", layer(LAYER(ELU(ELUOptions().alpha(2))), {3, 7})},
      {"GELU", layer(LAYER(GELU()), {3, 7})},
      {"GELU tanh", layer(LAYER(GELU(GELUOptions().approximate("tanh"))), {3, 7})},
      {"SiLU", layer(LAYER(SiLU()), {3, 7})},
      {"Sigmoid", layer(LAYER(Sigmoid()), {3, 7})},
      {"Tanh", layer(LAYER(Tanh()), {3, 7})},
      {"Softplus", layer(LAYER(Softplus()), {3, 7})},
      {"Softplus 2", layer(LAYER(Softplus(SoftplusOptions().beta(2).threshold(1))), {3, 7})},
      {"Softmax", layer(LAYER(Softmax(1)), {3, 7})},
      {"LogSoftmax", layer(LAYER(LogSoftmax(0)), {3, 7})},
      {"Flatten", layer(LAYER(Flatten()), {2, 3, 4})},
      {"Unflatten", layer(LAYER(Unflatten(1, std::vector<std::int64_t>{2, -1})), {3, 8})},
      {"Identity", layer(LAYER(Identity()), {2, 3})},
  };
}

Run embedding(EmbeddingOptions options) {
  return [=]() -> Tensors {
    manual_seed(0);
    Embedding module = drawn_module([&] { return Embedding(options); });
    const Tensor index = tensor({{1, 2, 2}, {4, 0, 9}});
    const Tensor y = module(index);
    y.square().sum().backward();
    return {module->weight, y, module->weight.grad()};
  };
}

std::vector<Case> embeddings() {
  return {
      {"Embedding", embedding(EmbeddingOptions(10, 3))},
      {"Embedding padding", embedding(EmbeddingOptions(10, 3).padding_idx(2))},
      {"Embedding negative padding", embedding(EmbeddingOptions(10, 3).padding_idx(-1))},
      {"Embedding max_norm", embedding(EmbeddingOptions(10, 3).max_norm(0.5))},
      {"Embedding by frequency", embedding(EmbeddingOptions(10, 3).scale_grad_by_freq(true))},
  };
}

using Pair = std::pair<Tensor, Tensor>;

Pair normal_pair() {
  manual_seed(2);
  const Tensor a = drawn({4, 3});
  return {a, drawn({4, 3})};
}
Pair probabilities() {
  const auto [a, b] = normal_pair();
  return {a.sigmoid(), b.sigmoid()};
}
Pair logarithms() {
  const auto [a, b] = normal_pair();
  return {a.log_softmax(1), b.softmax(1)};
}
Pair classes() { return {normal_pair().first, tensor({0, 2, 1, -100})}; }

template <class Loss> Run loss(Loss module, Pair pair) {
  return [=]() -> Tensors {
    const Tensor x = pair.first.detach();
    x.requires_grad_();
    const Tensor y = module(x, pair.second);
    y.sum().backward();
    return {y, x.grad()};
  };
}

template <class Reduction> void append_losses(std::vector<Case>& cases, Reduction r, const std::string& name) {
  const Tensor weight = tensor({0.5, 1.0, 2.0});
  const auto [a, b] = normal_pair();
  const Pair labels = classes();
  cases.push_back({"MSELoss " + name, loss(MSELoss(MSELossOptions(r)), normal_pair())});
  cases.push_back({"L1Loss " + name, loss(L1Loss(L1LossOptions(r)), normal_pair())});
  cases.push_back({"SmoothL1Loss " + name, loss(SmoothL1Loss(SmoothL1LossOptions(r).beta(0.5)), normal_pair())});
  cases.push_back({"HuberLoss " + name, loss(HuberLoss(HuberLossOptions(r).delta(0.7)), normal_pair())});
  cases.push_back({"BCELoss " + name, loss(BCELoss(BCELossOptions().weight(weight).reduction(r)), probabilities())});
  cases.push_back(
      {"BCEWithLogitsLoss " + name,
       loss(BCEWithLogitsLoss(BCEWithLogitsLossOptions().weight(weight).reduction(r).pos_weight(2 * weight)),
            {a, b.sigmoid()})});
  cases.push_back({"KLDivLoss " + name, loss(KLDivLoss(KLDivLossOptions(r)), logarithms())});
  cases.push_back({"NLLLoss " + name, loss(NLLLoss(NLLLossOptions().weight(weight).reduction(r)),
                                           {labels.first.log_softmax(1), labels.second})});
  cases.push_back(
      {"CrossEntropyLoss " + name,
       loss(CrossEntropyLoss(CrossEntropyLossOptions().weight(weight).reduction(r).label_smoothing(0.1)), labels)});
}

std::vector<Case> losses() {
  std::vector<Case> cases;
  append_losses(cases, kMean, "mean");
  append_losses(cases, kSum, "sum");
  append_losses(cases, kNone, "none");
  const auto [a, b] = logarithms();
  const Pair labels = classes();
  cases.push_back({"KLDivLoss batchmean", loss(KLDivLoss(KLDivLossOptions(kBatchMean)), {a, b})});
  cases.push_back({"KLDivLoss log target", loss(KLDivLoss(KLDivLossOptions(kSum).log_target(true)), {a, b.log()})});
  cases.push_back({"CrossEntropyLoss ignored", loss(CrossEntropyLoss(CrossEntropyLossOptions().ignore_index(2)),
                                                    {labels.first, labels.second.clamp_min(0)})});
  cases.push_back({"CrossEntropyLoss probabilities",
                   loss(CrossEntropyLoss(), {normal_pair().first, normal_pair().second.softmax(1)})});
  return cases;
}

Tensor flipped(const Tensor& x, std::int64_t dim) { return x.index_select(dim, x.size(dim) - 1 - arange(x.size(dim))); }

std::vector<Case> functions() {
  manual_seed(3);
  const Tensor x = drawn({2, 3, 5});
  const auto padded = [=](F::PadFuncOptions options) -> Run {
    return [=]() -> Tensors { return {F::pad(x, options)}; };
  };
  return {
      {"pad constant", padded(F::PadFuncOptions({2, 1}).value(0.5))},
      {"pad reflect", padded(F::PadFuncOptions({2, 1}).mode(kReflect))},
      {"pad replicate", padded(F::PadFuncOptions({2, 1}).mode(kReplicate))},
      {"pad circular", padded(F::PadFuncOptions({2, 1}).mode(kCircular))},
      {"pad crop", padded(F::PadFuncOptions({-1, 2, 1, -1}))},
      {"normalize",
       [=]() -> Tensors {
         return {F::normalize(x), F::normalize(x, F::NormalizeFuncOptions().p(1).dim(2)),
                 F::normalize(x, F::NormalizeFuncOptions().p(3).dim(0).eps(2))};
       }},
      {"one_hot",
       []() -> Tensors {
         return {F::one_hot(tensor({{0, 2}, {1, 3}})), F::one_hot(tensor({1, 0}), 5)};
       }},
      {"cosine_similarity",
       [=]() -> Tensors {
         return {F::cosine_similarity(x, flipped(x, 0)),
                 F::cosine_similarity(x, flipped(x, 2), F::CosineSimilarityFuncOptions().dim(2).eps(5))};
       }},
  };
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

TEST_CASE("convolutions hold and compute what PyTorch's do", "[nn]") {
  for (const Case& c : convolutions()) check_case(c);
}

TEST_CASE("pooling layers compute what PyTorch's do", "[nn]") {
  for (const Case& c : poolings()) check_case(c);
}

TEST_CASE("normalisation layers hold and compute what PyTorch's do", "[nn]") {
  for (const Case& c : norms()) check_case(c);
}

TEST_CASE("linear layers, activations and reshapes compute what PyTorch's do", "[nn]") {
  for (const Case& c : simple_layers()) check_case(c);
}

TEST_CASE("embeddings hold and compute what PyTorch's do", "[nn]") {
  for (const Case& c : embeddings()) check_case(c);
}

TEST_CASE("losses compute what PyTorch's do", "[nn]") {
  for (const Case& c : losses()) check_case(c);
}

TEST_CASE("functional forms compute what PyTorch's do", "[nn]") {
  for (const Case& c : functions()) check_case(c);
}

TEST_CASE("layers print what libtorch prints", "[nn]") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {str(Linear(3, 4)), "Linear(in_features=3, out_features=4, bias=true)"},
      {str(Linear(LinearOptions(3, 4).bias(false))), "Linear(in_features=3, out_features=4, bias=false)"},
      {str(Identity()), "Identity()"},
      {str(Flatten()), "Flatten(start_dim=1, end_dim=-1)"},
      {str(Flatten(FlattenOptions().start_dim(2).end_dim(3))), "Flatten(start_dim=2, end_dim=3)"},
      {str(Unflatten(UnflattenOptions(0, {2, 2}))), "Unflatten(dim=0, unflattened_size={2, 2})"},
      {str(Conv1d(3, 4, 5)), "Conv1d(3, 4, kernel_size=5, stride=1)"},
      {str(Conv2d(3, 4, 5)), "Conv2d(3, 4, kernel_size=[5, 5], stride=[1, 1])"},
      {str(Conv2d(Conv2dOptions(1, 10, 5).stride(2))), "Conv2d(1, 10, kernel_size=[5, 5], stride=[2, 2])"},
      {str(Conv2d(Conv2dOptions(3, 4, {5, 6}).stride({1, 2}))), "Conv2d(3, 4, kernel_size=[5, 6], stride=[1, 2])"},
      {str(Conv3d(Conv3dOptions(4, 4, {5, 6, 7}))), "Conv3d(4, 4, kernel_size=[5, 6, 7], stride=[1, 1, 1])"},
      {str(Conv2d(Conv2dOptions(4, 4, 3).padding(1).dilation(2).groups(2).bias(false).padding_mode(kCircular))),
       "Conv2d(4, 4, kernel_size=[3, 3], stride=[1, 1], padding=[1, 1], dilation=[2, 2], groups=2, bias=false, "
       "padding_mode=kCircular)"},
      {str(Conv2d(Conv2dOptions(4, 4, 3).padding(kSame))),
       "Conv2d(4, 4, kernel_size=[3, 3], stride=[1, 1], padding='same')"},
      {str(Conv2d(Conv2dOptions(4, 4, 3).padding(kValid))),
       "Conv2d(4, 4, kernel_size=[3, 3], stride=[1, 1], padding='valid')"},
      {str(Conv1d(Conv1dOptions(4, 4, 3).padding(2).padding_mode(kReflect))),
       "Conv1d(4, 4, kernel_size=3, stride=1, padding=2, padding_mode=kReflect)"},
      {str(ConvTranspose1d(3, 4, 5)), "ConvTranspose1d(3, 4, kernel_size=5, stride=1)"},
      {str(ConvTranspose2d(ConvTranspose2dOptions(3, 4, 5).stride(2).padding(1).output_padding(1).bias(false))),
       "ConvTranspose2d(3, 4, kernel_size=[5, 5], stride=[2, 2], padding=[1, 1], output_padding=[1, 1], bias=false)"},
      {str(ConvTranspose2d(ConvTranspose2dOptions(4, 4, 5).groups(2).dilation(3))),
       "ConvTranspose2d(4, 4, kernel_size=[5, 5], stride=[1, 1], dilation=[3, 3], groups=2)"},
      {str(ConvTranspose3d(4, 4, 5)), "ConvTranspose3d(4, 4, kernel_size=[5, 5, 5], stride=[1, 1, 1])"},
      {str(MaxPool1d(5)), "MaxPool1d(kernel_size=5, stride=5, padding=0, dilation=1, ceil_mode=false)"},
      {str(MaxPool2d(5)),
       "MaxPool2d(kernel_size=[5, 5], stride=[5, 5], padding=[0, 0], dilation=[1, 1], ceil_mode=false)"},
      {str(MaxPool2d(MaxPool2dOptions(5).stride(2).padding(1).dilation(2).ceil_mode(true))),
       "MaxPool2d(kernel_size=[5, 5], stride=[2, 2], padding=[1, 1], dilation=[2, 2], ceil_mode=true)"},
      {str(AvgPool1d(5)), "AvgPool1d(kernel_size=5, stride=5, padding=0)"},
      {str(AvgPool2d(AvgPool2dOptions({5, 6}).stride({1, 2}).padding({1, 2}).divisor_override(3))),
       "AvgPool2d(kernel_size=[5, 6], stride=[1, 2], padding=[1, 2])"},
      {str(AdaptiveAvgPool2d(5)), "AdaptiveAvgPool2d(output_size=[5, 5])"},
      {str(AdaptiveAvgPool2d(AdaptiveAvgPool2dOptions({nullopt, 6}))), "AdaptiveAvgPool2d(output_size=[None, 6])"},
      {str(BatchNorm1d(4)), "BatchNorm1d(4, eps=1e-05, momentum=0.1, affine=true, track_running_stats=true)"},
      {str(BatchNorm2d(BatchNorm2dOptions(4).eps(0.5).momentum(nullopt).affine(false).track_running_stats(false))),
       "BatchNorm2d(4, eps=0.5, momentum=None, affine=false, track_running_stats=false)"},
      {str(LayerNorm(LayerNormOptions({2, 2}))), "LayerNorm([2, 2], eps=1e-05, elementwise_affine=true)"},
      {str(GroupNorm(GroupNormOptions(2, 4).eps(0.5).affine(false))), "GroupNorm(2, 4, eps=0.5, affine=false)"},
      {str(Dropout()), "Dropout(p=0.5, inplace=false)"},
      {str(Dropout(0.42)), "Dropout(p=0.42, inplace=false)"},
      {str(Dropout2d(Dropout2dOptions(0.42).inplace(true))), "Dropout2d(p=0.42, inplace=true)"},
      {str(Dropout3d()), "Dropout3d(p=0.5, inplace=false)"},
      {str(Embedding(10, 2)), "Embedding(num_embeddings=10, embedding_dim=2)"},
      {str(Embedding(
           EmbeddingOptions(10, 2).padding_idx(-7).max_norm(2).norm_type(2.5).scale_grad_by_freq(true).sparse(true))),
       "Embedding(num_embeddings=10, embedding_dim=2, padding_idx=3, max_norm=2, norm_type=2.5, "
       "scale_grad_by_freq=true, sparse=true)"},
      {str(ReLU()), "ReLU()"},
      {str(ReLU(true)), "ReLU(inplace=true)"},
      {str(LeakyReLU(LeakyReLUOptions().negative_slope(0.42).inplace(true))),
       "LeakyReLU(negative_slope=0.42, inplace=true)"},
      {str(ELU(ELUOptions().alpha(42.42).inplace(true))), "ELU(alpha=42.42, inplace=true)"},
      {str(GELU()), "GELU()"},
      {str(SiLU()), "SiLU()"},
      {str(Sigmoid()), "Sigmoid()"},
      {str(Tanh()), "Tanh()"},
      {str(Softmax(1)), "Softmax(dim=1)"},
      {str(LogSoftmax(1)), "LogSoftmax(dim=1)"},
      {str(Softplus(SoftplusOptions().beta(0.24).threshold(42.42))), "Softplus(beta=0.24, threshold=42.42)"},
      {str(MSELoss()), "MSELoss()"},
      {str(L1Loss()), "L1Loss()"},
      {str(SmoothL1Loss()), "SmoothL1Loss"},
      {str(HuberLoss()), "HuberLoss"},
      {str(KLDivLoss()), "KLDivLoss()"},
      {str(NLLLoss()), "NLLLoss()"},
      {str(CrossEntropyLoss()), "CrossEntropyLoss()"},
      {str(BCELoss()), "BCELoss()"},
      {str(BCEWithLogitsLoss()), "BCEWithLogitsLoss()"},
  };
  for (const auto& [printed, expected] : rows) CHECK(printed == "torch::nn::" + expected);
}

TEST_CASE("layers refuse wrong options and wrong inputs by name", "[nn]") {
  struct Row {
    std::function<void()> act;
    std::string message;
  };
  Sequential net(Linear(3, 4), Conv2d(3, 4, 3), BatchNorm2d(3), LayerNorm(LayerNormOptions({4})), GroupNorm(2, 4),
                 BatchNorm1d(3), ConvTranspose2d(1, 1, 3));
  struct Model : Module {};
  Model model;
  model.register_module("net", net);
  const auto call = [&](std::size_t i, Tensor x) {
    return
        [=] { AnyModule(net->ptr<LinearImpl>(0)), (*(net->begin() + static_cast<std::ptrdiff_t>(i))).any_forward(x); };
  };
  const std::vector<Row> rows = {
      {call(0, ones({2, 5})), "Linear 'net.0': expected an input whose last size is in_features=3, got float32[2, 5]"},
      {call(0, ones({2, 3}, kFloat16)),
       "Linear 'net.0': the input is float16 but the weight is float32; convert one of "
       "them, or call the model under amp::autocast"},
      {call(0, ones({2, 3}, Device("cpu:1"))),
       str("Linear 'net.0': the input is on cpu:1 but the weight is on ", get_default_device())},
      {[] { add(ones(2, Device("cpu:1")), ones(3, Device("cpu:2"))); },
       "expected all tensors to be on the same device, but found float32[2] on cpu:1 and float32[3] on cpu:2"},
      {call(1, ones({1, 2, 5, 5})),
       "Conv2d 'net.1': Given groups=1, weight of size [4, 3, 3, 3], expected input[1, 2, 5, "
       "5] to have 3 channels, but got 2 channels instead"},
      {call(1, ones({5})), "Conv2d 'net.1': Expected 3D (unbatched) or 4D (batched) input, but got input of size: [5]"},
      {call(1, ones({1, 3, 5, 5}, kFloat64)), "Conv2d 'net.1': the input is float64 but the weight is float32"},
      {call(2, ones({2, 2, 2, 2})),
       "BatchNorm2d 'net.2': expected 3 channels (num_features), got input size [2, 2, 2, 2]"},
      {call(2, ones({2, 2})), "BatchNorm2d 'net.2': expected 4D input (got 2D input)"},
      {call(2, ones({1, 3, 1, 1})),
       "BatchNorm2d 'net.2': Expected more than 1 value per channel when training, got input "
       "size [1, 3, 1, 1]"},
      {call(3, ones({2, 3})),
       "LayerNorm 'net.3': Given normalized_shape=[4], expected input with shape [*, 4], but got "
       "input of size[2, 3]"},
      {call(4, ones({2, 3})), "GroupNorm 'net.4': expected 4 channels (num_channels), got input size [2, 3]"},
      {call(5, ones({2, 3, 4, 5})), "BatchNorm1d 'net.5': expected 2D or 3D input (got 4D input)"},
      {[] {
         ConvTranspose2d(1, 1, 3)->forward(ones({1, 1, 4, 4}), IntArrayRef{50, 50});
       },
       "requested an output size of [50, 50], but valid sizes range from [6, 6] to [6, 6] (for an input of [4, 4])"},
      {[] {
         ConvTranspose2d(1, 1, 3)->forward(ones({1, 1, 4, 4}), IntArrayRef{50});
       },
       "output_size must have 2 or 4 elements (got 1)"},
      {[] {
         ConvTranspose2d(ConvTranspose2dOptions(1, 1, 3).padding_mode(kReflect))(ones({1, 1, 4, 4}));
       },
       "Only `zeros` padding mode is supported for ConvTranspose2d"},
      {[] { Conv2d(Conv2dOptions(3, 4, 3).groups(2)); }, "in_channels must be divisible by groups"},
      {[] { Conv2d(Conv2dOptions(4, 3, 3).groups(2)); }, "out_channels must be divisible by groups"},
      {[] { Conv2d(Conv2dOptions(4, 4, 3).groups(0)); },
       "in_channels, groups and out_channels must be a positive integer"},
      {[] { Conv2d(Conv2dOptions(4, 4, 3).padding(kSame).stride(2)); },
       "padding='same' is not supported for strided convolutions"},
      {[] {
         Conv2d(Conv2dOptions(1, 1, {1, 2, 3}));
       },
       "Expected 2 values, but instead got 3"},
      {[] { GroupNorm(3, 4); }, "num_channels must be divisible by num_groups: 4 by 3"},
      {[] { Dropout(1.5); }, "dropout probability has to be between 0 and 1, but got 1.5"},
      {[] { Dropout2d(-0.1); }, "dropout probability has to be between 0 and 1, but got -0.1"},
      {[] { F::dropout(ones(1), F::DropoutFuncOptions().p(2)); }, "dropout probability has to be between 0 and 1"},
      {[] { Embedding(EmbeddingOptions(10, 2).padding_idx(11)); }, "Padding_idx must be within num_embeddings"},
      {[] { Embedding(EmbeddingOptions(10, 2).padding_idx(-11)); }, "Padding_idx must be within num_embedding"},
      {[] { Embedding::from_pretrained(ones(3)); }, "Embeddings parameter is expected to be 2-dimensional"},
      {[] {
         Embedding(EmbeddingOptions(3, 2)._weight(ones({2, 3})));
       },
       "Shape of _weight does not match num_embeddings and embedding_dim"},
      {[] {
         BCELoss()(ones({4, 1}), ones(4));
       },
       "Using a target size ([4]) that is different to the input size ([4, 1])"},
      {[] {
         BCEWithLogitsLoss()(ones({4, 1}), ones(4));
       },
       "Target size ([4]) must be the same as input size ([4, 1])"},
      {[] { F::batch_norm(ones(3), {}, {}); }, "batch_norm: expected input [N, C, ...], got size [3]"},
      {[] {
         F::avg_pool1d(ones({1, 1, 4}), F::AvgPool1dFuncOptions(2).divisor_override(3));
       },
       "avg_pool1d takes no divisor_override"},
  };
  for (const Row& row : rows) CHECK_THAT(message_of(row.act), ContainsSubstring(row.message));
}

TEST_CASE("a transposed convolution reaches any of its possible output sizes", "[nn]") {
  ConvTranspose2d up(ConvTranspose2dOptions(1, 2, 3).stride(2).padding(1));
  const Tensor x = ones({1, 1, 4, 5});
  CHECK(up(x).sizes() == IntArrayRef{1, 2, 7, 9});
  CHECK(up->forward(x, IntArrayRef{8, 9}).sizes() == IntArrayRef{1, 2, 8, 9});
  CHECK(up->forward(x, IntArrayRef{1, 2, 8, 10}).sizes() == IntArrayRef{1, 2, 8, 10});
}

TEST_CASE("inplace layers write into their input and have the same gradient", "[nn]") {
  const auto in_place = GENERATE(as<AnyModule>(), AnyModule(ReLU(true)), AnyModule(ELU(ELUOptions().inplace(true))),
                                 AnyModule(LeakyReLU(LeakyReLUOptions().inplace(true))));
  const auto plain = in_place.ptr()->name().find("Leaky") != std::string::npos ? AnyModule(LeakyReLU())
                     : in_place.ptr()->name().find("ELUImpl") != std::string::npos &&
                             in_place.ptr()->name().find("ReLU") == std::string::npos
                         ? AnyModule(ELU())
                         : AnyModule(ReLU());
  const Tensor a = tensor({-1.5, 0.5, 2.0, -0.1}), b = a.clone();
  a.requires_grad_();
  b.requires_grad_();
  const Tensor x = a * 2, reference = plain.forward(b * 2);
  const Tensor y = in_place.forward(x);
  CHECK(equal(x, reference));
  CHECK(equal(y, reference));
  y.square().sum().backward();
  reference.square().sum().backward();
  CHECK(allclose(a.grad(), b.grad()));
}

TEST_CASE("dropout zeroes in training only and keeps the mean", "[nn]") {
  manual_seed(1);
  const Tensor x = ones({20, 50, 4, 4});
  Dropout elements(0.25);
  Dropout2d channels(0.25);
  const Tensor y = elements(x), z = channels(x);
  CHECK(y.mean().item<double>() == Catch::Approx(1).margin(0.03));
  CHECK(y.eq(0).to(kFloat32).mean().item<double>() == Catch::Approx(0.25).margin(0.02));
  const Tensor per_channel = z.flatten(2).sum(2);
  CHECK(all(per_channel.eq(0).logical_or(isclose(per_channel, full_like(per_channel, 16 / 0.75)))).item<bool>());
  elements->eval();
  CHECK(elements(x).is_same(x));
  Dropout inside(DropoutOptions(0.5).inplace(true));
  const Tensor w = x.clone();
  CHECK(equal(inside(w), w));
  CHECK(w.eq(0).sum().item<std::int64_t>() > 0);
}

TEST_CASE("max pooling tells the positions of its maxima", "[nn]") {
  MaxPool2d pool(2);
  const Tensor x = arange(16).to(kFloat32).view({1, 1, 4, 4});
  const auto [values, indices] = pool->forward_with_indices(x);
  CHECK(equal(values.flatten(), tensor({5., 7., 13., 15.})));
  CHECK(equal(indices.flatten(), tensor({5, 7, 13, 15})));
  const auto [again, same] = F::max_pool2d_with_indices(x, F::MaxPool2dFuncOptions(2));
  CHECK(equal(again, values));
  CHECK(equal(same, indices));
}

TEST_CASE("a batch that is not finite leaves running statistics alone", "[nn]") {
  BatchNorm1d norm(2);
  norm(tensor({{1., 2.}, {3., 4.}}));
  const Tensor mean = norm->running_mean.clone(), var = norm->running_var.clone();
  norm(tensor({{1., std::numeric_limits<double>::infinity()}, {3., 4.}}));
  CHECK(equal(norm->running_mean, mean));
  CHECK(equal(norm->running_var, var));
}

TEST_CASE("from_pretrained freezes the table unless told not to", "[nn]") {
  const Tensor table = randn({4, 3});
  CHECK_FALSE(Embedding::from_pretrained(table)->weight.requires_grad());
  const auto trained = Embedding::from_pretrained(table, EmbeddingFromPretrainedOptions().freeze(false));
  CHECK(trained->weight.requires_grad());
  CHECK(equal(trained(tensor({2, 0})), table.index_select(0, tensor({2, 0}))));
}

TEST_CASE("functional forms agree with the layers", "[nn]") {
  manual_seed(4);
  const Tensor x = randn({2, 4, 6, 6});
  Conv2d conv(Conv2dOptions(4, 4, 3).padding(1).groups(2));
  CHECK(equal(conv(x), F::conv2d(x, conv->weight, F::Conv2dFuncOptions().bias(conv->bias).padding(1).groups(2))));
  CHECK(equal(F::conv2d(x, conv->weight, F::Conv2dFuncOptions().padding(kSame).groups(2)),
              F::conv2d(x, conv->weight, F::Conv2dFuncOptions().padding({1, 1}).groups(2))));
  ConvTranspose2d up(4, 2, 3);
  CHECK(equal(up(x), F::conv_transpose2d(x, up->weight, F::ConvTranspose2dFuncOptions().bias(up->bias))));
  BatchNorm2d norm(4);
  norm->eval();
  CHECK(equal(norm(x), F::batch_norm(x, norm->running_mean, norm->running_var,
                                     F::BatchNormFuncOptions().weight(norm->weight).bias(norm->bias))));
  LayerNorm layer_norm(LayerNormOptions({6}));
  CHECK(equal(layer_norm(x), F::layer_norm(x, F::LayerNormFuncOptions({6}))));
  GroupNorm group_norm(2, 4);
  CHECK(equal(group_norm(x), F::group_norm(x, F::GroupNormFuncOptions(2))));
  CHECK(equal(F::relu(x), ReLU()(x)));
  CHECK(equal(F::silu(x), SiLU()(x)));
  CHECK(equal(F::softmax(x, 1), Softmax(1)(x)));
  CHECK(F::softmax(x, F::SoftmaxFuncOptions(1).dtype(kFloat64)).dtype() == kFloat64);
  CHECK(equal(F::log_softmax(x, 1), LogSoftmax(1)(x)));
  CHECK(equal(F::avg_pool2d(x, F::AvgPool2dFuncOptions(2)), AvgPool2d(2)(x)));
  CHECK(equal(F::adaptive_avg_pool2d(x, F::AdaptiveAvgPool2dFuncOptions(1)), AdaptiveAvgPool2d(1)(x)));
  Linear fc(6, 2);
  CHECK(equal(F::linear(x, fc->weight, fc->bias), fc(x)));
}

TEST_CASE("losses of differing shapes warn and broadcast", "[nn]") {
  static std::string warned;
  const WarningHandler before = set_warning_handler([](const std::string& message) { warned = message; });
  const Tensor loss = MSELoss()(ones({2, 1}), zeros({2, 3}));
  set_warning_handler(before);
  CHECK(loss.item<double>() == 1);
  CHECK_THAT(warned,
             ContainsSubstring("mse_loss: Using a target size [2, 3] that is different to the input size [2, 1]"));
}

TEST_CASE("16-bit inputs go through normalisation layers that kept float32", "[nn]") {
  const Dtype dtype = GENERATE(kFloat16, kBFloat16);
  const Tensor x = randn({4, 4, 3, 3});
  Sequential norms(BatchNorm2d(4), GroupNorm(2, 4), LayerNorm(LayerNormOptions({3})));
  const Tensor expected = norms->forward(x);
  const Tensor y = norms->forward(x.to(dtype));
  CHECK(y.dtype() == dtype);
  CHECK(allclose(y.to(kFloat32), expected, 0.05, 0.05));
}
