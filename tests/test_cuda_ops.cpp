// Every op on every CUDA device beside the CPU: the same values within the dtype's tolerance, and the same gradients.
#include "autograd/engine.h"
#include "tests/cuda.h"
#include "tests/op_cases.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Outcome {
  Tensor value;
  std::vector<Tensor> gradients;
};

Outcome run_on(const OpCase& c, Device device, Dtype dtype) {
  const DefaultDevice scope(device);
  std::vector<Tensor> inputs;
  for (const Tensor& x : make_inputs(c, dtype)) inputs.push_back(x.detach().to(device));
  if (c.derivatives != 0) {
    for (Tensor& x : inputs) {
      if (x.is_floating_point()) x.requires_grad_();
    }
  }
  manual_seed(1);
  Outcome outcome{c.run(inputs), {}};
  CHECK(outcome.value.device() == device);
  if (!outcome.value.requires_grad()) return outcome;
  outcome.value.sum().backward();
  for (const Tensor& x : inputs) {
    if (x.is_floating_point() && x.grad().defined()) outcome.gradients.push_back(x.grad());
  }
  return outcome;
}

void check_close(const Tensor& a, const Tensor& b, double most) {
  CHECK(a.dtype() == b.dtype());
  REQUIRE(a.sizes().equals(b.sizes()));
  const Tensor x = a.detach().cpu().to(kFloat64), y = b.detach().cpu().to(kFloat64);
  CHECK(allclose(x, y, most, most, /*equal_nan=*/true));
}

bool draws(const OpCase& c) { return c.op == "dropout" || c.op == "random" || c.op == "multinomial"; }

}  // namespace

TEST_CASE("every op of the table computes the same on CUDA as on the CPU", "[cuda][ops]") {
  if (!cuda::is_available()) return;
  const Device device = cuda_devices().back();
  for (const OpCase& c : op_cases()) {
    if (draws(c)) continue;
    for (const Dtype dtype : {kFloat64, kFloat32, kFloat16, kBFloat16}) {
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
        const double most = 4 * tolerance(dtype, 64);
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
