// What the loops of test_ops.cpp do not reach: errors, dtypes, empty tensors, statistics, randomness and names.
#include <functional>
#include <limits>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "autograd/tensor_factory.h"
#include "core/random.h"
#include "core/runtime.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::indexing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<double> list(const Tensor& t) {
  const Tensor flat = t.detach().cpu().to(kFloat64).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}
using Doubles = std::vector<double>;

Tensor half(IntArrayRef sizes) { return ones(sizes, kFloat16); }

struct ErrorCase {
  const char* message;  // part of it
  std::function<void()> run;
};

// Mistakes that only a look at values shows. A GPU does not make the host wait for one: its kernels report indices, and
// tests of theirs are in test_cuda_ops.cpp.
const std::vector<ErrorCase> kErrorsOfValues = {
    {"label 5 at position 1 is out of range for 3 classes",
     [] {
       cross_entropy_loss(ones({2, 3}), tensor({0, 5}));
     }},
    {"nll_loss: label -1 at position 0 is out of range for 3 classes",
     [] {
       nll_loss(ones({2, 3}), tensor({-1, 0}));
     }},
    {"binary_cross_entropy: all elements of input should be between 0 and 1, got -1 to 2",
     [] {
       binary_cross_entropy(tensor({-1.0, 2.0}), ones(2));
     }},
    {"index 3 at position [1] is out of bounds for dimension 0 with size 3",
     [] {
       ones(3).index({tensor({0, 3})});
     }},
    {"index -4 at position [0] is out of bounds", [] { ones(3).index({tensor({-4})}); }},
    {"embedding: index -1 at position [0] is out of bounds for dimension 0 with size 3",
     [] {
       embedding(ones({3, 2}), tensor({-1}));
     }},
    {"index_select: index -1 at position [1] is out of bounds for dimension 1 with size 2",
     [] {
       index_select(ones({3, 2}), 1, tensor({0, -1}));
     }},
    {"index_add: index -1 at position [0] is out of bounds for dimension 0 with size 3",
     [] {
       index_add(ones({3, 2}), 0, tensor({-1}), ones({1, 2}));
     }},
};

const std::vector<ErrorCase> kErrors = {
    // products
    {"mm: expected both matrices in one dtype, got float32[2, 3] and float16[3, 4]",
     [] {
       mm(ones({2, 3}), half({3, 4}));
     }},
    {"mm: shapes [2, 3] and [4, 5] cannot be multiplied (2x3 and 4x5)",
     [] {
       mm(ones({2, 3}), ones({4, 5}));
     }},
    {"mm: expected a matrix as first operand, got float32[3]",
     [] {
       mm(ones(3), ones({3, 4}));
     }},
    {"bmm: batches differ: float32[2, 3, 4] and float32[3, 4, 5]",
     [] {
       bmm(ones({2, 3, 4}), ones({3, 4, 5}));
     }},
    {"matmul: both operands need at least 1 dimension", [] { matmul(ones({}), ones(3)); }},
    {"matmul: the batches of [2, 3, 4] and [3, 4, 5] do not broadcast",
     [] {
       matmul(ones({2, 3, 4}), ones({3, 4, 5}));
     }},
    {"dot: vectors of 3 and 4 elements", [] { dot(ones(3), ones(4)); }},
    {"linear: x float32[2, 5] has 5 features, weight [4, 3] wants 3",
     [] {
       linear(ones({2, 5}), ones({4, 3}));
     }},
    {"linear: weight [4, 3] wants a bias of 4 elements, got float32[3]",
     [] {
       linear(ones({2, 3}), ones({4, 3}), ones(3));
     }},
    {"linear: expected x and weight in one dtype, got float32[2, 3] and float16[4, 3]",
     [] {
       linear(ones({2, 3}), half({4, 3}));
     }},
    {"einsum: \"ij,jk\" has 2 operands, got 1",
     [] {
       einsum("ij,jk", {ones({2, 2})});
     }},
    {"einsum: \"ij->k\" has a result with 'k', which no operand has",
     [] {
       einsum("ij->k", {ones({2, 2})});
     }},
    {"einsum: \"ijk\" names 3 axes in \"ijk\" but the operand is float32[2, 2]",
     [] {
       einsum("ijk", {ones({2, 2})});
     }},

    // windows
    {"conv2d: weight [8, 3, 3, 3] expects 3 input channels but x is [2, 4, 8, 8]",
     [] {
       conv2d(ones({2, 4, 8, 8}), ones({8, 3, 3, 3}));
     }},
    {"conv2d: weight [8, 2, 3, 3] has 8 channels in front, which 3 groups do not divide",
     [] {
       conv2d(ones({2, 6, 8, 8}), ones({8, 2, 3, 3}), {}, 1, 0, 1, 3);
     }},
    {"conv2d: the kernel [5, 5] with dilation [1] does not fit into x [1, 1, 4, 4] with padding [0]",
     [] {
       conv2d(ones({1, 1, 4, 4}), ones({1, 1, 5, 5}));
     }},
    {"conv2d: expected stride of at least 1, got [0]",
     [] {
       conv2d(ones({1, 1, 4, 4}), ones({1, 1, 3, 3}), {}, 0);
     }},
    {"conv2d: expected x of 4 dimensions (or 3 without the batch)",
     [] {
       conv2d(ones({4, 4}), ones({1, 1, 3, 3}));
     }},
    {"conv2d: expected x and weight in one dtype",
     [] {
       conv2d(half({1, 1, 4, 4}), ones({1, 1, 3, 3}));
     }},
    {"conv_transpose2d: output_padding [2] must be smaller than stride [2] or dilation [1]",
     [] {
       conv_transpose2d(ones({1, 1, 4, 4}), ones({1, 1, 3, 3}), {}, 2, 0, 2);
     }},
    {"max_pool2d: padding [2] must be at most half of the kernel [3]",
     [] {
       max_pool2d(ones({1, 1, 4, 4}), 3, 1, 2);
     }},
    {"avg_pool2d: divisor_override must not be zero",
     [] {
       avg_pool2d(ones({1, 1, 4, 4}), 2, 2, 0, false, true, 0);
     }},

    // reductions, rows
    {"mean: input dtype must be floating point, got int64", [] { mean(arange(3)); }},
    {"max(): Expected reduction dim to be specified for input.numel() == 0", [] { max(ones(0)); }},
    {"argmax(): Expected reduction dim to be specified for input.numel() == 0", [] { argmax(ones(0)); }},
    {"amax(): Expected reduction dim",
     [] {
       amax(ones({2, 0}), 1);
     }},
    {"sum: dim -1 appears twice in [1, -1]",
     [] {
       sum(ones({2, 2}), {1, -1});
     }},
    {"Dimension out of range (expected to be in range of [-2, 1], but got 2)",
     [] {
       sum(ones({2, 2}), 2);
     }},
    {"softmax: input dtype must be floating point, got int64[3]", [] { softmax(arange(3), 0); }},
    {"var: input dtype must be floating point", [] { var(arange(3)); }},
    {"Expected more than 1 value per channel when training, got input size [1, 4]",
     [] {
       batch_norm(ones({1, 4}), {}, {}, {}, {}, true, 0.1, 1e-5);
     }},
    {"batch_norm: running_mean and running_var must be defined in evaluation mode",
     [] {
       batch_norm(ones({2, 4}), {}, {}, {}, {}, false, 0.1, 1e-5);
     }},
    {"batch_norm: weight should have one element a channel of x [2, 4], got float32[3]",
     [] {
       batch_norm(ones({2, 4}), ones(3), {}, {}, {}, true, 0.1, 1e-5);
     }},
    {"layer_norm: given normalized_shape [5], expected x with these last sizes, got float32[2, 4]",
     [] {
       layer_norm(ones({2, 4}), 5);
     }},
    {"group_norm: 3 groups do not divide the 4 channels of x [2, 4]",
     [] {
       group_norm(ones({2, 4}), 3);
     }},
    {"dropout probability has to be between 0 and 1, but got 1.5", [] { dropout(ones(3), 1.5, true); }},

    // losses
    {"cross_entropy_loss: x float32[2, 3] wants labels [2], got int64[3]",
     [] {
       cross_entropy_loss(ones({2, 3}), tensor({0, 1, 2}));
     }},
    {"cross_entropy_loss: expected probabilities of the logits' shape [2, 3], got float32[2]",
     [] {
       cross_entropy_loss(ones({2, 3}), ones(2));
     }},
    {"binary_cross_entropy: using a target size ([3]) that is different to the input size ([2]) is not allowed",
     [] { binary_cross_entropy(ones(2), ones(3)); }},
    {"mse_loss: reduction must be None (0), Mean (1) or Sum (2), got 3", [] { mse_loss(ones(2), ones(2), 3); }},

    // indices
    {"index: expected at least one index, got an empty list", [] { ones(3).index(ArrayRef<TensorIndex>{}); }},
    {"too many indices for tensor of dimension 2",
     [] {
       ones({2, 3}).index({0, 1, 2});
     }},
    {"The shape of the mask [2] at index 0 does not match the shape of the indexed tensor [3, 2] at index 0",
     [] {
       ones({3, 2}).index({tensor({true, false})});
     }},
    {"index: tensors used as indices must be integers or bool, got float32[1]", [] { ones(3).index({tensor({1.0})}); }},
    {"index: a slice's step must be positive, got -1", [] { ones(3).index({Slice(None, None, -1)}); }},
    {"shape mismatch: value tensor of shape [3] cannot be broadcast to indexing result of shape [2]",
     [] {
       ones(4).index_put_({tensor({0, 1})}, ones(3));
     }},
    {"embedding: gradients are dense",
     [] {
       embedding(ones({3, 2}), tensor({1}), -1, false, true);
     }},
    {"gather: index [3, 1] is larger than x [2, 2] apart from dimension 1",
     [] {
       gather(ones({2, 2}), 1, zeros({3, 1}, kInt64));
     }},
    {"scatter: expected x and source in one dtype",
     [] {
       scatter(ones({2, 2}), 0, zeros({1, 2}, kInt64), half({1, 2}));
     }},
    {"one_hot: class 5 is out of range for 4 classes", [] { one_hot(tensor({5}), 4); }},

    // writes in place
    {"masked_fill_: output with shape [2] doesn't match the broadcast shape [3, 2]",
     [] {
       ones(2).masked_fill_(ones({3, 2}, kBool), 0);
     }},
    {"addcmul_: output with shape [2] doesn't match the broadcast shape [3, 2]",
     [] {
       ones(2).addcmul_(ones(2), ones({3, 2}));
     }},
    {"addcdiv_: result type float32 can't be cast to the desired output type int64",
     [] { arange(2).addcdiv_(arange(2), arange(2)); }},
    {"lerp: expected both tensors in one floating dtype", [] { ones(2).lerp_(half(2), 0.5); }},
    {"addmm_: the product of [2, 3] and [3, 4] does not fit into float32[4]",
     [] {
       ones(4).addmm_(ones({2, 3}), ones({3, 4}));
     }},
    {"add_: more than one element of float32[5] refers to a single memory location",
     [] { ones(1).expand({5}).add_(1); }},
    {"copy_: more than one element of float32[2, 2] refers to a single memory location",
     [] {
       ones(3).as_strided({2, 2}, {1, 1}).copy_(ones({2, 2}));
     }},
    {"multinomial: cannot sample n_sample > prob_dist.size(-1)", [] { multinomial(ones(3), 4); }},

    // joining, factories
    {"cat: expected a non-empty list of Tensors", [] { cat({}); }},
    {"got [3, 3] at position 1 beside [2, 3]",
     [] {
       cat({ones({2, 3}), ones({3, 3})}, 1);
     }},
    {"cat: zero-dimensional tensor (at position 0) cannot be concatenated", [] { cat({ones({})}); }},
    {"stack: expects each tensor to be equal size, but got [2] at entry 0 and [3] at entry 1",
     [] {
       stack({ones(2), ones(3)});
     }},
    {"pad: a margin of 3 is too large for mode reflect along an axis of 3",
     [] {
       pad(ones({1, 1, 3}), {3, 0}, "reflect");
     }},
    {"pad: mode must be constant, reflect, replicate or circular, got mirror",
     [] {
       pad(ones({1, 1, 3}), {1, 0}, "mirror");
     }},
    {"randint: expects 'low' to be less than 'high', but got 3 >= 3", [] { randint(3, 3, {1}); }},
    {"arange: upper bound and lower bound inconsistent with step sign", [] { arange(0, 3, -1); }},
    {"tensor: expected all sub-lists to have sizes [2], but got one of sizes [1]",
     [] {
       tensor({{1, 2}, {3}});
     }},
    {"tensor: expected all elements to have the same type: int64, but got an element of type floating",
     [] {
       tensor({1, 2}), tensor({NestedList(1), NestedList(2.5)});
     }},
};

}  // namespace

TEST_CASE("errors name the op, the wish and the fact", "[ops][errors]") {
  const std::string on = " on " + str(canonical(get_default_device()));  // which messages name if it is not the CPU
  for (const ErrorCase& c : kErrors) {
    std::string message = "no error";
    try {
      c.run();
    } catch (const Error& e) {
      message = e.what();
    }
    for (std::size_t at; (at = message.find(on)) != std::string::npos;) message.erase(at, on.size());
    CHECK_THAT(message, ContainsSubstring(c.message));
  }
}

TEST_CASE("errors name the index or value that is out of range", "[ops][errors][cpu]") {
  for (const ErrorCase& c : kErrorsOfValues) {
    INFO(c.message);
    CHECK_THROWS_WITH(c.run(), ContainsSubstring(c.message));
  }
}

TEST_CASE("kernels report an index or label that is out of range under the op's name", "[ops][errors]") {
  const Device device = canonical(get_default_device());
  if (!device.is_cuda()) return;
  const ErrorCase cases[] = {
      {"cross_entropy: index 5 is out of range for a size of 3",
       [] {
         cross_entropy_loss(ones({2, 3}), tensor({0, 5}));
       }},
      {"cross_entropy: index -1 is out of range for a size of 3",
       [] {
         cross_entropy_loss(ones({2, 3}), tensor({-1, 0}), ones(3));
       }},
      {"nll_loss: index -1 is out of range for a size of 3",
       [] {
         nll_loss(ones({2, 3}), tensor({-1, 0}));
       }},
      {"nll_loss: index 3 is out of range for a size of 3",
       [] {
         nll_loss(ones({2, 3}), tensor({0, 3}), ones(3));
       }},
      {"index: index 3 is out of range for a size of 3",
       [] {
         ones(3).index({tensor({0, 3})});
       }},
      {"index: index -4 is out of range for a size of 3", [] { ones(3).index({tensor({-4})}); }},
      {"embedding: index -1 is out of range for a size of 3",
       [] {
         embedding(ones({3, 2}), tensor({-1}));
       }},
      {"embedding: index 3 is out of range for a size of 3",
       [] {
         embedding(ones({3, 2}), tensor({3}));
       }},
      {"index_select: index -1 is out of range for a size of 2",
       [] {
         index_select(ones({3, 2}), 1, tensor({0, -1}));
       }},
      {"index_add: index -1 is out of range for a size of 3",
       [] {
         index_add(ones({3, 2}), 0, tensor({-1}), ones({1, 2}));
       }},
  };
  for (const ErrorCase& c : cases) {
    INFO(c.message);
    c.run();
    CHECK_THROWS_WITH(cuda::synchronize(device.index()), ContainsSubstring(c.message));
    CHECK_NOTHROW(cuda::synchronize(device.index()));
  }
}

TEST_CASE("results have PyTorch's dtypes", "[ops][dtype]") {
  const Tensor bools = tensor({true, false}), ints = arange(3, kInt32), narrow = half({2, 2});
  CHECK(bools.sum().dtype() == kInt64);
  CHECK(ints.sum().dtype() == kInt64);
  CHECK(ints.prod().dtype() == kInt64);
  CHECK(ints.cumsum(0).dtype() == kInt64);
  CHECK(ints.sum(kFloat32).dtype() == kFloat32);
  CHECK(narrow.sum().dtype() == kFloat16);
  CHECK(narrow.sum(kFloat32).dtype() == kFloat32);
  CHECK(ints.mean(kFloat32).item<float>() == 1);
  CHECK(narrow.softmax(0, kFloat32).dtype() == kFloat32);
  CHECK(ints.max().dtype() == kInt32);
  CHECK(narrow.argmax().dtype() == kInt64);
  CHECK(narrow.all().dtype() == kBool);
  CHECK(cat({ints, ones(2)}).dtype() == kFloat32);
  CHECK(cat({half({1}), ones(1, kBFloat16)}).dtype() == kFloat32);
  CHECK(cross_entropy_loss(narrow, tensor({0, 1})).dtype() == kFloat16);
  CHECK(full({2}, 3).dtype() == kInt64);
  CHECK(full({2}, 3.0).dtype() == kFloat32);
  CHECK(full({2}, true).dtype() == kBool);
  CHECK(arange(3).dtype() == kInt64);
  CHECK(arange(3.0).dtype() == kFloat32);
  CHECK(randint(5, {2}).dtype() == kInt64);
  CHECK(randperm(5).dtype() == kInt64);
  CHECK(tril(ones({2, 2}, kBool)).dtype() == kBool);
}

TEST_CASE("sums of many 16-bit values are not kept in 16 bits", "[ops][half]") {
  CHECK(ones(5000, kFloat16).sum().item<float>() == 5000);
  CHECK(full(100000, 1.0, kFloat16).mean().item<float>() == 1);  // the sum is beyond 65504
}

TEST_CASE("empty tensors give what PyTorch gives", "[ops][empty]") {
  CHECK(sum(ones(0)).item<float>() == 0);
  CHECK(prod(ones(0)).item<float>() == 1);
  CHECK(std::isnan(mean(ones(0)).item<float>()));
  CHECK(std::isnan(var(ones(1)).item<float>()));
  CHECK(all(ones(0)).item<bool>());
  CHECK_FALSE(any(ones(0)).item<bool>());
  CHECK(logsumexp(ones({0}), 0).item<double>() == -kInfinity);
  CHECK(std::get<0>(max(ones({0, 3}), 1)).sizes() == Dims{0});
  CHECK(list(matmul(ones({2, 0}), ones({0, 2}))) == Doubles{0, 0, 0, 0});
  CHECK(list(linear(ones({2, 0}), ones({1, 0}), ones(1))) == Doubles{1, 1});
  CHECK(conv2d(ones({0, 2, 4, 4}), ones({3, 2, 3, 3})).sizes() == Dims{0, 3, 2, 2});
  CHECK(max_pool2d(ones({0, 2, 4, 4}), 2).sizes() == Dims{0, 2, 2, 2});
  CHECK(softmax(ones({0, 3}), 1).sizes() == Dims{0, 3});
  CHECK(std::isnan(cross_entropy_loss(ones({0, 3}), zeros({0}, kInt64)).item<float>()));
  CHECK(std::isnan(cross_entropy_loss(ones({2, 3}), tensor({-100, -100})).item<float>()));
  CHECK(ones({3, 2}).index({zeros({0}, kInt64)}).sizes() == Dims{0, 2});
  CHECK(embedding(ones({3, 2}), zeros({0}, kInt64)).sizes() == Dims{0, 2});
  CHECK(cat({ones(0), ones({2, 2})}).sizes() == Dims{2, 2});
  CHECK(nonzero(zeros(3)).sizes() == Dims{0, 1});
  CHECK(nonzero(tensor(2.0)).sizes() == Dims{1, 0});
  CHECK(layer_norm(ones({0, 4}), 4).sizes() == Dims{0, 4});
}

TEST_CASE("gradients flow through empty batches", "[ops][empty]") {
  const Tensor w = ones({3, 2, 3, 3}).requires_grad_(), b = ones(3).requires_grad_();
  conv2d(ones({0, 2, 4, 4}), w, b).sum().backward();
  CHECK(w.grad().abs().sum().item<float>() == 0);
  CHECK(list(b.grad()) == Doubles{0, 0, 0});
  const Tensor weight = ones({3, 2}).requires_grad_();
  linear(ones({0, 2}), weight).sum().backward();
  CHECK(weight.grad().abs().sum().item<float>() == 0);
}

TEST_CASE("gradients at kinks are PyTorch's", "[ops]") {
  const auto grad_of = [](Tensor (*f)(const Tensor&), Doubles at) {
    const Tensor x = tensor(at, TensorOptions(kFloat64)).requires_grad_();
    f(x).sum().backward();
    return list(x.grad());
  };
  CHECK(grad_of([](const Tensor& x) { return x.norm(); }, {0, 0}) == Doubles{0, 0});
  CHECK(grad_of([](const Tensor& x) { return x.norm(1); }, {0, -2}) == Doubles{0, -1});
  CHECK(grad_of([](const Tensor& x) { return x.norm(kInfinity); }, {2, -2}) == Doubles{0.5, -0.5});
  CHECK(grad_of([](const Tensor& x) { return x.norm(0); }, {2, 0}) == Doubles{0, 0});
  CHECK(grad_of([](const Tensor& x) { return halftone::std(x); }, {1, 1}) == Doubles{0, 0});
  CHECK(grad_of([](const Tensor& x) { return x.max(); }, {3, 3, 1}) == Doubles{0.5, 0.5, 0});
  CHECK(grad_of([](const Tensor& x) { return std::get<0>(x.max(0)); }, {3, 3, 1}) == Doubles{1, 0, 0});
  CHECK(grad_of([](const Tensor& x) { return x.prod(); }, {0, 2, 3}) == Doubles{6, 0, 0});
  CHECK(grad_of([](const Tensor& x) { return x.prod(); }, {0, 0, 3}) == Doubles{0, 0, 0});
}

TEST_CASE("batch_norm leaves running statistics alone when the batch is not finite", "[ops][batch_norm]") {
  const Tensor mean = zeros(2), var = ones(2);
  batch_norm(tensor({{1.0, 2.0}, {3.0, 6.0}}), {}, {}, mean, var, true, 0.5, 1e-5);
  CHECK(list(mean) == Doubles{1, 2});
  CHECK(list(var) == Doubles{1.5, 4.5});
  batch_norm(tensor({{1.0, kInfinity}, {3.0, 6.0}}), {}, {}, mean, var, true, 0.5, 1e-5);
  CHECK(list(mean) == Doubles{1, 2});
  CHECK(list(var) == Doubles{1.5, 4.5});
}

TEST_CASE("batch_norm takes 16-bit images beside float32 parameters", "[ops][batch_norm][half]") {
  const Tensor x = randn({4, 3, 2, 2}).to(kBFloat16).requires_grad_();
  const Tensor weight = ones(3).requires_grad_(), bias = zeros(3).requires_grad_(), mean = zeros(3), var = ones(3);
  const Tensor y = batch_norm(x, weight, bias, mean, var, true, 0.1, 1e-5);
  CHECK(y.dtype() == kBFloat16);
  y.sum().backward();
  CHECK(x.grad().dtype() == kBFloat16);
  CHECK(weight.grad().dtype() == kFloat32);
  CHECK(mean.dtype() == kFloat32);
}

TEST_CASE("dropout keeps, drops and scales", "[ops][random]") {
  const Tensor x = ones(10000);
  CHECK(dropout(x, 0.5, false).is_same(x));
  CHECK(dropout(x, 0, true).is_same(x));
  CHECK(dropout(x, 1, true).sum().item<float>() == 0);
  manual_seed(3);
  const Tensor y = dropout(x, 0.25, true);
  CHECK(y.mean().item<float>() == Catch::Approx(1).margin(0.03));
  CHECK(y.max().item<float>() == Catch::Approx(4.0 / 3));
  CHECK_FALSE(dropout(x, 0.25, true).equal(y));
  const Tensor leaf = ones(1000).requires_grad_();
  const Tensor z = dropout(leaf, 0.4, true);
  z.sum().backward();
  CHECK(leaf.grad().equal(z.detach()));
  const Tensor channels = feature_dropout(ones({8, 4, 3, 3}), 0.5, true);
  CHECK(channels.amax({2, 3}).equal(channels.amin({2, 3})));
}

TEST_CASE("memory format is carried along", "[ops][layout]") {
  const Tensor x = ones({2, 3, 4, 4}).contiguous(MemoryFormat::ChannelsLast);
  const auto is_last = [](const Tensor& t) { return t.suggest_memory_format() == MemoryFormat::ChannelsLast; };
  CHECK(is_last(conv2d(x, ones({5, 3, 3, 3}))));
  CHECK(is_last(conv2d(x.contiguous(), ones({5, 3, 3, 3}).contiguous(MemoryFormat::ChannelsLast))));
  CHECK_FALSE(is_last(conv2d(x.contiguous(), ones({5, 3, 3, 3}))));
  CHECK(is_last(max_pool2d(x, 2)));
  CHECK(is_last(avg_pool2d(x, 2)));
  CHECK(is_last(adaptive_avg_pool2d(x, 2)));
  CHECK(is_last(batch_norm(x, {}, {}, {}, {}, true, 0.1, 1e-5)));
  CHECK(is_last(cat({x, x}, 1)));
  CHECK(is_last(pad(x, {1, 1, 1, 1})));
  CHECK(is_last(dropout(x, 0.5, true)));
  const Tensor w = ones({5, 3, 3, 3}).requires_grad_();
  conv2d(x, w).sum().backward();
  CHECK(w.grad().is_contiguous());  // in the weight's own order
}

TEST_CASE("nodes have PyTorch's names", "[ops]") {
  const Tensor x = ones({2, 2}).requires_grad_();
  CHECK(x.mean().grad_fn()->name() == "MeanBackward0");
  CHECK(x.sum().grad_fn()->name() == "SumBackward0");
  CHECK(x.sum(0).grad_fn()->name() == "SumBackward1");
  CHECK(x.mm(x).grad_fn()->name() == "MmBackward0");
  CHECK(cat({x, x}).grad_fn()->name() == "CatBackward0");
}

TEST_CASE("factories draw PyTorch's numbers", "[ops][random][golden][cpu]") {
  const auto near = [](const Tensor& t, const Doubles& expected) {
    const Doubles values = list(t);
    REQUIRE(values.size() == expected.size());
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == Catch::Approx(expected[i]).margin(6e-5));
  };
  manual_seed(0);
  near(rand(3), {0.4963, 0.7682, 0.0885});
  near(randn(3), {0.3643, 0.1344, 0.1642});
  near(randn(16), {-0.2041, -0.0885, 0.5239, -0.6659, 0.8504, -1.3527, -1.6959, 0.5667, 0.9928, -0.1932, -0.3090,
                   0.5026, -0.8594, 0.7502, -0.5855, -0.1734});
  near(randint(10, {5}), {9, 9, 0, 1, 2});
  near(randperm(6), {5, 1, 0, 3, 4, 2});
}

TEST_CASE("sequences and special matrices", "[ops][factories]") {
  CHECK(list(arange(1, 2, 0.25)) == Doubles{1, 1.25, 1.5, 1.75});
  CHECK(list(arange(5, 0, -2)) == Doubles{5, 3, 1});
  CHECK(list(linspace(0, 1, 5)) == Doubles{0, 0.25, 0.5, 0.75, 1});
  CHECK(list(linspace(3, 9, 1)) == Doubles{3});
  CHECK(list(eye(2, 3)) == Doubles{1, 0, 0, 0, 1, 0});
  CHECK(list(tril(ones({2, 3}))) == Doubles{1, 0, 0, 1, 1, 0});
  CHECK(list(triu(ones({2, 3}), 1)) == Doubles{0, 1, 1, 0, 0, 1});
  CHECK(list(one_hot(tensor({2, 0}))) == Doubles{0, 0, 1, 1, 0, 0});
  CHECK(list(nonzero(tensor({{0, 1}, {1, 0}}))) == Doubles{0, 1, 1, 0});
  CHECK(list(repeat(tensor({1, 2}), {2, 2})) == Doubles{1, 2, 1, 2, 1, 2, 1, 2});
  CHECK(zeros_like(ones({2, 3, 2, 2}).contiguous(MemoryFormat::ChannelsLast)).suggest_memory_format() ==
        MemoryFormat::ChannelsLast);
  CHECK(ones({2}, requires_grad()).requires_grad());
}

TEST_CASE("multinomial draws by weight", "[ops][random]") {
  manual_seed(1);
  const Tensor drawn = multinomial(tensor({0.0, 1.0, 3.0}), 4000, true);
  CHECK(drawn.eq(0).sum().item<int>() == 0);
  CHECK(drawn.eq(2).sum().item<int>() == Catch::Approx(3000).margin(100));
  const Tensor all = multinomial(ones({2, 4}), 4);
  CHECK(list(all.sum(1)) == Doubles{6, 6});
  CHECK(multinomial(tensor({0.0, 2.0}), 1).item<int>() == 1);
}

TEST_CASE("random fills keep to their ranges", "[ops][random]") {
  const Tensor x = empty(1000);
  CHECK(x.uniform_(-1, 2).min().item<float>() >= -1);
  CHECK(x.max().item<float>() < 2);
  CHECK(x.normal_(5, 0.1).mean().item<float>() == Catch::Approx(5).margin(0.02));
  CHECK(x.bernoulli_(0.25).mean().item<float>() == Catch::Approx(0.25).margin(0.05));
  CHECK(x.exponential_(2).mean().item<float>() == Catch::Approx(0.5).margin(0.06));
  CHECK(x.random_(3, 5).min().item<float>() == 3);
  CHECK(x.max().item<float>() == 4);
  CHECK(empty(100, kInt8).random_().min().item<int>() >= 0);
}

TEST_CASE("binary_cross_entropy takes [N, 1] against [N]", "[ops][losses]") {
  CHECK(binary_cross_entropy(full({4, 1}, 0.5), ones(4)).item<float>() == Catch::Approx(std::log(2)));
}

// ------------------------------------------------------------------------------------------------ indexing

TEST_CASE("basic indices are views", "[ops][indexing]") {
  const Tensor x = arange(24).reshape({2, 3, 4});
  CHECK(x.index({1}).is_alias_of(x));
  CHECK(x.index({Ellipsis, 0}).sizes() == Dims{2, 3});
  CHECK(x.index({None, Slice(), 1, Slice(1, None, 2)}).sizes() == Dims{1, 2, 2});
  CHECK(list(x.index({1, 2, Slice(None, 2)})) == Doubles{20, 21});
  CHECK(x.index({"...", Slice(-2)}).sizes() == Dims{2, 3, 2});
  CHECK(x.index({Slice(5, 9)}).sizes() == Dims{0, 3, 4});
}

TEST_CASE("tensors and bools as indices", "[ops][indexing]") {
  const Tensor x = arange(6).reshape({2, 3});
  CHECK(list(x[tensor({1, 0, 1})]) == Doubles{3, 4, 5, 0, 1, 2, 3, 4, 5});
  CHECK(list(x.index({tensor({-1}), tensor({-1})})) == Doubles{5});
  CHECK(list(x.index({x > 2})) == Doubles{3, 4, 5});
  CHECK(x.index({true}).sizes() == Dims{1, 2, 3});
  CHECK(x.index({false}).sizes() == Dims{0, 2, 3});
  CHECK(x.index({tensor(1)}).sizes() == Dims{3});
  CHECK(list(x.index({Slice(), tensor({2, 0}, kInt32)})) == Doubles{2, 0, 5, 3});
}

TEST_CASE("index_put_ writes through views", "[ops][indexing]") {
  const Tensor x = zeros({3, 3});
  x.index_put_({0, Slice(1)}, tensor({1.0, 2.0}));
  x.index_put_({tensor({1, 2}), tensor({0, 2})}, 5);
  CHECK(list(x) == Doubles{0, 1, 2, 5, 0, 0, 0, 0, 5});
  x.index_put_({x > 1}, -1);
  CHECK(list(x) == Doubles{0, 1, -1, -1, 0, 0, 0, 0, -1});
  x.index({2}) = ones(3);
  CHECK(list(x[2]) == Doubles{1, 1, 1});
  x.index_put_({tensor({0, 0, 0})}, ones(3), true);
  CHECK(list(x[0]) == Doubles{3, 4, 2});
  const Tensor nan = log(tensor({-1.0, 1.0}));
  nan.index_put_({nan.isnan()}, 7);
  CHECK(list(nan) == Doubles{7, 0});
}

TEST_CASE("writes by index are part of the graph", "[ops][indexing]") {
  const Tensor x = ones({2, 3}).requires_grad_(), v = full(3, 2.0).requires_grad_();
  const Tensor y = x * 3;
  y.index_put_({0}, v);
  y.index_put_({1, tensor({0, 2})}, 0);
  y.sum().backward();
  CHECK(list(x.grad()) == Doubles{0, 0, 0, 0, 3, 0});
  CHECK(list(v.grad()) == Doubles{1, 1, 1});
  CHECK_THROWS_WITH(x.index_put_({0}, v), ContainsSubstring("leaf Variable that requires grad"));
}

TEST_CASE("values may come from the memory that is written", "[ops][indexing]") {
  const Tensor x = arange(4).reshape({2, 2});
  x.index_put_({tensor({1, 0})}, x);
  CHECK(list(x) == Doubles{2, 3, 0, 1});
  x.scatter_(0, tensor({{1, 1}, {0, 0}}), x);
  CHECK(list(x) == Doubles{0, 1, 2, 3});
}

namespace {

// A write in place whose operands come from the memory that is written.
struct Overlap {
  const char* name;
  std::function<void(const Tensor& self, const Tensor& source)> write;  // reads views of `source`
};

std::vector<Overlap> overlaps_in_place() {
  return {
      {"sub_ of a row", [](const Tensor& x, const Tensor& y) { x.sub_(y[0]); }},
      {"add_ of the transposed", [](const Tensor& x, const Tensor& y) { x.add_(y.t()); }},
      {"mul_ of one element", [](const Tensor& x, const Tensor& y) { x.mul_(y[1][1]); }},
      {"div_ of rows one further", [](const Tensor& x, const Tensor& y) { x.slice(0, 1).div_(y.slice(0, 0, -1)); }},
      {"mul_ of itself", [](const Tensor& x, const Tensor& y) { x.mul_(y); }},
      {"add_ to a row of another", [](const Tensor& x, const Tensor& y) { x[2].add_(y[1]); }},
      {"addcmul_", [](const Tensor& x, const Tensor& y) { x.addcmul_(y.t(), y[2], 2); }},
      {"addcdiv_", [](const Tensor& x, const Tensor& y) { x.addcdiv_(y[1], y.t()); }},
      {"lerp_", [](const Tensor& x, const Tensor& y) { x.lerp_(y.t(), 0.25); }},
      {"copy_", [](const Tensor& x, const Tensor& y) { x.copy_(y.t()); }},
  };
}

}  // namespace

TEST_CASE("a write in place reads its operands as they were, even from the memory it writes", "[ops][inplace]") {
  for (const std::int64_t n : {5, 70}) {
    const Tensor values = arange(n * n, kFloat32).reshape({n, n}) + 1;
    for (const Overlap& each : overlaps_in_place()) {
      INFO(each.name << ", n " << n);
      const Tensor expected = values.clone(), x = values.clone();
      each.write(expected, values);
      each.write(x, x);
      CHECK(equal(x, expected));
      const Tensor recorded = values.clone().requires_grad_() * 1;
      each.write(recorded, recorded);
      CHECK(equal(recorded, expected));
    }
    const Tensor mask = arange(n * n).reshape({n, n}) % 3 == 0, expected = mask.masked_fill(mask.t(), true);
    mask.masked_fill_(mask.t(), true);
    CHECK(equal(mask, expected));
  }
}

TEST_CASE("a write finds places that strides alone do not tell apart", "[ops][inplace]") {
  const Tensor x = zeros(8);
  x.as_strided({2, 3}, {3, 2}).add_(1);  // at 0 2 4 and 3 5 7
  CHECK(list(x) == Doubles{1, 0, 1, 1, 1, 1, 0, 1});
  CHECK_THROWS_WITH(x.as_strided({2, 3}, {2, 2}).add_(1), ContainsSubstring("refers to a single memory location"));
  CHECK_NOTHROW(ones(1).expand({0}).add_(1));
}

TEST_CASE("a write that is refused counts as none", "[ops][inplace]") {
  const Tensor x = ones({2, 3}).requires_grad_(), y = x * 1, z = y * y;  // keeps y
  CHECK_THROWS_AS(y.scatter_(0, ones({2, 3}), ones({2, 3})), TypeError);
  CHECK_THROWS_AS(y.detach().scatter_(0, zeros({2, 3}, kInt64), ones({1, 3})), ValueError);
  CHECK_THROWS_AS(y.detach().addmm_(ones({2, 2}), ones({3, 3})), Error);
  CHECK_THROWS_AS(y.detach().masked_fill_(ones({4, 1, 1}, kBool), 0), ValueError);
  CHECK_THROWS_AS(y.detach().addcmul_(ones({5}), ones({5})), Error);
  CHECK_NOTHROW(z.sum().backward());
}

TEST_CASE("a write through a view that recording did not see is refused where it would be lost", "[ops][inplace]") {
  const Tensor x = ones({2}).requires_grad_(), y = x * 2;
  Tensor view;
  {
    const NoGradGuard plain;
    view = y[0];
  }
  CHECK_THROWS_WITH(view.zero_(),
                    ContainsSubstring("is a view that was made under NoGradGuard of a tensor with history"));
  {
    const NoGradGuard plain;
    view.zero_();
  }
  CHECK(list(y) == Doubles{0, 2});
  y[0].zero_();
  y.sum().backward();
  CHECK(list(x.grad()) == Doubles{0, 2});
  const Tensor leaf = ones(4).slice(0, 0, 2).requires_grad_();
  CHECK_THROWS_WITH(leaf.sub_(1), ContainsSubstring("sub_: a leaf Variable that requires grad"));
}

TEST_CASE("gradients go through a write whose operand lies in the memory it writes", "[ops][inplace]") {
  const Tensor x = tensor({1., 2., 3.}).requires_grad_();
  const Tensor apart = x * 1;
  apart.sub_(apart[1]);  // x_i - x_1
  apart.sum().backward();
  CHECK(list(x.grad()) == Doubles{1, -2, 1});
  x.mutable_grad() = Tensor();
  const Tensor twice = x * 1;
  twice.add_(twice);
  twice.sum().backward();
  CHECK(list(x.grad()) == Doubles{2, 2, 2});
  const Tensor square = x * 1;
  square.mul_(square);  // a product's gradient needs the factors, of which one was overwritten
  CHECK_THROWS_WITH(square.sum().backward(), ContainsSubstring("modified by an inplace operation"));
}

TEST_CASE("scatters in place are part of the graph", "[ops][indexing]") {
  const Tensor x = ones({2, 2}).requires_grad_();
  const Tensor y = x * 2;
  y.scatter_(1, tensor({{0}, {1}}), 0).scatter_add_(1, tensor({{0}, {0}}), x.slice(1, 0, 1));
  y.sum().backward();
  CHECK(list(y) == Doubles{1, 2, 3, 0});
  CHECK(list(x.grad()) == Doubles{1, 2, 3, 0});
}

TEST_CASE("indices are printed as libtorch prints them", "[ops][indexing]") {
  CHECK(str(TensorIndex(None), ' ', TensorIndex(Ellipsis), ' ', TensorIndex(3), ' ', TensorIndex(true)) ==
        "None ... 3 true");
  CHECK(str(Slice(1, 2, 3)) == "1:2:3");
  CHECK(str(Slice(2)) == "2:9223372036854775807:1");
}

// ------------------------------------------------------------------------------------------------ tensor(...)

TEST_CASE("tensor takes numbers, nested lists and vectors", "[ops][factories]") {
  CHECK(tensor(5).sizes() == Dims{});
  CHECK(tensor({}).sizes() == Dims{0});
  CHECK(tensor({{}, {}}).sizes() == Dims{2, 0});
  CHECK(tensor({{1}}).sizes() == Dims{1, 1});
  CHECK(tensor({{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}}).sizes() == Dims{2, 2, 2});
  CHECK(list(tensor({{1, 2}, {3, 4}})) == Doubles{1, 2, 3, 4});
  CHECK(list(tensor({0.1, 1.0, 1e-4}, kFloat64)) == Doubles{0.1, 1.0, 1e-4});
  CHECK(list(tensor(std::vector<float>{1, 2})) == Doubles{1, 2});
  CHECK(list(tensor(std::vector<bool>{true, false})) == Doubles{1, 0});
  CHECK(list(tensor(ArrayRef<double>({3, 4}))) == Doubles{3, 4});
}

TEST_CASE("tensor's dtype follows its elements", "[ops][factories]") {
  CHECK(tensor({1, 2}).dtype() == kInt64);
  CHECK(tensor({1.0f, 2.0f}).dtype() == kFloat32);
  CHECK(tensor({1.0, 2.0}).dtype() == kFloat32);
  CHECK(tensor({true}).dtype() == kBool);
  CHECK(tensor({}).dtype() == kFloat32);
  CHECK(tensor(std::vector<double>{1}).dtype() == kFloat32);
  CHECK(tensor(std::vector<int>{1}).dtype() == kInt64);
  CHECK(tensor(std::vector<std::uint8_t>{1}).dtype() == kUInt8);
  CHECK(tensor({Half(1.0f)}).dtype() == kFloat16);
  CHECK(tensor({1, 2}, kFloat32).dtype() == kFloat32);
  CHECK(tensor({1.0}, requires_grad()).requires_grad());
  set_default_dtype(kFloat64);
  CHECK(tensor(1.5f).dtype() == kFloat64);
  set_default_dtype(kFloat32);
}
