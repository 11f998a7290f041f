// Autocast on GPUs beside captured graphs, and on GPUs that lack bfloat16.
#include "halftone.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Layer {
  Device device{kCUDA, 0};
  Tensor x = ones({2, 4}, device), weight = ones({3, 4}, device).requires_grad_();

  Tensor forward() const { return linear(x, weight); }
  void set(double value) const {
    const NoGradGuard plain;
    weight.fill_(value);
  }
};

double first(const Tensor& t) { return t.detach().flatten()[0].item<double>(); }

}  // namespace

TEST_CASE("a region around warm-up and capture gives the graph casts of its own", "[cuda][amp][graph]") {
  need_gpus(1);
  const Layer layer;
  const amp::autocast region(kCUDA, kFloat16);
  CHECK(first(layer.forward()) == 4);  // the region keeps the cast
  cuda::Graph graph(layer.device);
  Tensor y;
  graph.capture([&] { y = layer.forward(); });
  const Tensor eager = layer.forward();  // not by a cast that only a replay computes
  CHECK(first(eager) == 4);
  layer.set(2);
  graph.replay();
  CHECK(first(y) == 8);
}

TEST_CASE("a region casts anew what a replay may have written", "[cuda][amp][graph]") {
  need_gpus(1);
  const Layer layer;
  cuda::Graph graph(layer.device);
  graph.capture([&] { layer.set(3); });
  const amp::autocast region(kCUDA, kFloat16);
  CHECK(first(layer.forward()) == 4);
  graph.replay();
  CHECK(first(layer.forward()) == 12);
}

#if HALFTONE_SIMULATED_CUDA
TEST_CASE("a GPU without bfloat16 refuses a region in it", "[cuda][amp]") {
  need_gpus(1);
  CHECK(cuda::is_bf16_supported());
  cudasim::set_compute_capability(0, 7);
  CHECK_FALSE(cuda::is_bf16_supported());
  CHECK_THROWS_WITH(amp::autocast(kCUDA, kBFloat16),
                    ContainsSubstring("autocast: cuda:0 does not support bfloat16, which takes compute capability 8.0. "
                                      "Please switch the region's dtype to float16"));
  CHECK_NOTHROW(amp::autocast(kCUDA, kFloat16));
  CHECK_NOTHROW(amp::autocast(kCUDA, kBFloat16, /*enabled=*/false));
  CHECK_NOTHROW(amp::autocast(kCPU, kBFloat16));
  cudasim::set_compute_capability(0, 9);
}
#endif
