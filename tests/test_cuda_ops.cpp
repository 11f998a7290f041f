// Every op on every CUDA device beside the CPU: the same values within the dtype's tolerance, and the same gradients.
#include <sstream>

#include "autograd/engine.h"
#include "halftone.h"
#include "tests/cuda.h"
#include "tests/gradcheck.h"
#include "tests/op_cases.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Outcome {
  Tensor value;
  std::vector<Tensor> gradients;
};

// The case's inputs, in the dtype; labels, indices and masks stay as they are.
std::vector<Tensor> inputs_in(const OpCase& c, Dtype dtype) {
  std::vector<Tensor> inputs;
  std::istringstream words{std::string(c.inputs)};
  for (std::string word; words >> word;) {
    const Tensor x = make_input(word, inputs.size());
    const bool is_index = word.starts_with("label") || word.starts_with("mask");
    inputs.push_back(is_index ? x : x.to(dtype));
  }
  return inputs;
}

Outcome run_on(const OpCase& c, Device device, Dtype dtype) {
  const DefaultDevice scope(device);
  std::vector<Tensor> inputs;
  for (const Tensor& x : inputs_in(c, dtype)) inputs.push_back(x.detach().to(device));
  if (c.derivatives != 0) {
    for (Tensor& x : inputs) {
      if (x.is_floating_point()) x.requires_grad_();
    }
  }
  manual_seed(1);
  Outcome outcome{c.run(inputs), {}};
  CHECK(outcome.value.device() == device);
  if (!outcome.value.requires_grad()) return outcome;
  outcome.value.backward(weights_like(outcome.value).to(device, outcome.value.dtype()));
  for (const Tensor& x : inputs) {
    if (x.is_floating_point() && x.grad().defined()) outcome.gradients.push_back(x.grad());
  }
  return outcome;
}

void check_close(const Tensor& a, const Tensor& b, double most) {
  CHECK(a.dtype() == b.dtype());
  REQUIRE(a.sizes().equals(b.sizes()));
  const Tensor x = a.detach().cpu().to(kFloat64), y = b.detach().cpu().to(kFloat64);
  // Sums of large terms may cancel: what is left of them is as exact as the terms.
  const Tensor finite = where(y.isfinite(), y, zeros_like(y)).abs();
  const double scale = y.numel() == 0 ? 1. : std::max(1., finite.max().item<double>());
  CHECK(allclose(x, y, most, most * scale, /*equal_nan=*/true));
}

bool draws(const OpCase& c) { return c.op == "dropout" || c.op == "random" || c.op == "multinomial"; }

}  // namespace

TEST_CASE("every op of the table computes the same on CUDA as on the CPU", "[cuda][ops]") {
  if (!cuda::is_available()) return;
  const Device device = cuda_devices().back();
  for (const OpCase& c : op_cases()) {
    if (draws(c)) continue;
    for (const Dtype dtype : kDtypes) {
      INFO(c.key() << " in " << dtype);
      try {
        Outcome expected;
        std::string refusal;
        try {
          expected = run_on(c, kCPU, dtype);
        } catch (const Error& e) {
          refusal = e.what();  // no such op in this dtype: then CUDA must refuse it too
        }
        if (!refusal.empty()) {
          CHECK_THROWS_AS(run_on(c, device, dtype), Error);
          continue;
        }
        const Outcome found = run_on(c, device, dtype);
        const double most = tolerance(is_floating_point(dtype) ? dtype : kFloat32, 64);
        check_close(found.value, expected.value, most);
        REQUIRE(found.gradients.size() == expected.gradients.size());
        for (std::size_t k = 0; k < found.gradients.size(); ++k) {
          check_close(found.gradients[k], expected.gradients[k], most);
        }
      } catch (const Error& e) {
        FAIL_CHECK(c.key() << " in " << dtype << ": " << e.what());
      }
    }
  }
}

TEST_CASE("operands on different devices are refused by name", "[cuda][ops]") {
  if (cuda::device_count() < 2) return;
  const Tensor a = ones({2, 2}, Device(kCUDA, 0)), b = ones({2, 2}, Device(kCUDA, 1)), c = ones({2, 2}, kCPU);
  CHECK_THAT(message_of_error([&] { a + b; }), ContainsSubstring("cuda:0") && ContainsSubstring("cuda:1"));
  CHECK_THAT(message_of_error([&] { a.matmul(c); }), ContainsSubstring("cuda:0") && ContainsSubstring("cpu"));
  CHECK((a + ones({}, kCPU)).device() == a.device());  // a number travels
  CHECK(where(a > 0, a, zeros({}, kCPU)).device() == a.device());
  CHECK(addcmul(a, a, full({}, 2, kCPU)).sum().item<double>() == 12);
  CHECK(a.clone().addcdiv_(a, full({}, 2, kCPU)).sum().item<double>() == 6);
  CHECK_THAT(message_of_error([&] { where(a > 0, a, b); }), ContainsSubstring("where: expected all tensors on one"));
  CHECK_THAT(message_of_error([&] { c.addcmul_(a, a); }), ContainsSubstring("addcmul: expected all tensors on one"));
  CHECK_THAT(message_of_error([&] { c.masked_fill_(a > 0, 1); }),
             ContainsSubstring("cuda:0") && ContainsSubstring("cpu"));
}

TEST_CASE("an index out of range on a GPU is an error at the next wait, and the device stays usable", "[cuda][ops]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  const Tensor x = arange(10, TensorOptions(kFloat32).device(device));
  const Tensor bad = tensor({1, 17, 3}, TensorOptions(kInt64).device(device));
  const Tensor y = x.index_select(0, bad);
  CHECK_THAT(message_of_error([&] { cuda::synchronize(); }),
             ContainsSubstring("index 17 is out of range for a size of 10") && ContainsSubstring("cuda:0"));
  CHECK_NOTHROW(cuda::synchronize());
  CHECK(x.sum().item<float>() == 45);

  const Tensor logits = randn({2, 4}, device);
  const Tensor labels = tensor({0, 9}, TensorOptions(kInt64).device(device));
  const Tensor loss = cross_entropy_loss(logits, labels);
  CHECK_THAT(message_of_error([&] { loss.item(); }), ContainsSubstring("9") && ContainsSubstring("size of 4"));
  CHECK(x.sum().item<float>() == 45);
}

TEST_CASE("transposing copies, in tiles where they are large", "[cuda][copy]") {
  if (!cuda::is_available()) return;
  const std::vector<std::int64_t> shapes[] = {{2, 16, 4, 4}, {1, 40, 5, 7}, {3, 33, 9, 1}, {2, 64, 8, 8}, {1, 8, 2, 4}};
  for (const std::vector<std::int64_t>& shape : shapes) {
    const std::int64_t n = shape[0] * shape[1] * shape[2] * shape[3];
    for (const Dtype dtype : {kInt8, kFloat16, kFloat32, kFloat64}) {
      INFO(IntArrayRef(shape) << " " << dtype);
      const Tensor x = arange(n, TensorOptions(kInt64).device(kCPU)).remainder(101).to(dtype).reshape(shape);
      const Tensor images = x.to(cuda_devices().back()), last = images.contiguous(MemoryFormat::ChannelsLast);
      CHECK(last.is_contiguous(MemoryFormat::ChannelsLast));
      CHECK(equal(last.cpu().contiguous(), x));
      CHECK(equal((last + 0).contiguous().cpu(), x));  // and back
      const Tensor matrix = images.reshape({shape[0] * shape[1], -1});
      CHECK(equal(matrix.t().contiguous().cpu(), matrix.cpu().t().contiguous()));
    }
  }
}

TEST_CASE("views that begin 8 bytes into an allocation are read and written as any others", "[cuda][ops]") {
  if (!cuda::is_available()) return;
  const Device device = cuda_devices().back();
  const auto check_same = [](const char* what, const Tensor& found, const Tensor& expected) {
    INFO(what);
    check_close(found, expected, tolerance(is_floating_point(expected.dtype()) ? expected.dtype() : kFloat32, 64));
  };
  for (const Dtype dtype : {kUInt8, kFloat16, kBFloat16, kFloat32, kInt64, kFloat64}) {
    INFO(dtype);
    const std::int64_t offset = 8 / static_cast<std::int64_t>(element_size(dtype));
    const Tensor all = (arange(4096 + offset, TensorOptions(kInt64).device(kCPU)) * 7).remainder(11).to(dtype);
    const auto view = [&](const Tensor& whole) { return whole.slice(0, offset).reshape({64, 64}); };
    const Tensor x = view(all), y = view(all.to(device));
    REQUIRE(reinterpret_cast<std::uintptr_t>(y.data_ptr()) % 16 == 8);
    const Tensor aligned = x.clone().to(device);

    check_same("elements", y + y, x + x);
    check_same("into a view", view(all.to(device)).mul_(aligned), x * x);
    check_same("copy", y.clone(), x);
    check_same("copy into a view", view(all.to(device)).copy_(aligned.t()), x.t());
    check_same("cast", y.to(kFloat32), x.to(kFloat32));
    check_same("cast into a view", view(all.to(device)).copy_(aligned.to(kFloat32) + 1), x + 1);
    check_same("transposed", y.t().contiguous(), x.t().contiguous());
    check_same("fill", view(all.to(device)).fill_(3), full_like(x, 3));
    check_same("sum", y.sum(1), x.sum(1));
    check_same("sum of columns", y.sum(0), x.sum(0));
    check_same("scan", y.cumsum(1), x.cumsum(1));
    check_same("largest", y.amax(1), x.amax(1));
    check_same("rows", y.index_select(0, arange(63, -1, -1, TensorOptions(kInt64).device(device))),
               x.index_select(0, arange(63, -1, -1, TensorOptions(kInt64).device(kCPU))));
    check_same("where", where(y.gt(5), y, aligned), x);
    if (!is_floating_point(dtype)) continue;
    check_same("softmax", y.softmax(1), x.softmax(1));
    check_same("normalized", layer_norm(y, 64), layer_norm(x, 64));
    check_same("channels", batch_norm(y, {}, {}, {}, {}, true, 0.1, 1e-5),
               batch_norm(x, {}, {}, {}, {}, true, 0.1, 1e-5));
    check_same("product", y.matmul(aligned), x.matmul(x));
    const auto images = [](const Tensor& t) { return t.reshape({1, 4, 32, 32}); };
    const auto last = [](const Tensor& t) { return t.reshape({1, 32, 32, 4}).permute({0, 3, 1, 2}); };
    check_same("windows", max_pool2d(images(y), 2), max_pool2d(images(x), 2));
    check_same("windows of channels last", max_pool2d(last(y), 2), max_pool2d(last(x), 2));
    check_same("means of channels last", avg_pool2d(last(y), 2), avg_pool2d(last(x), 2));
  }
}
