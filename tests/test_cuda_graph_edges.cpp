// What lies on both sides of a capture: masks and memory.
#include "halftone.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("memory that is given up during a capture stays the graph's", "[cuda][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  Tensor weight = ones({1000}, device).requires_grad_();
  const auto backward = [&] { (weight * 3).sum().backward(); };
  backward();  // the captured backward pass adds to this gradient, which the graph then drops
  cuda::Graph graph(device);
  graph.capture([&] {
    backward();
    weight.mutable_grad() = Tensor();
  });
  std::vector<Tensor> others;
  for (int i = 0; i < 8; ++i) others.push_back(ones({1000}, device));
  graph.replay();
  graph.replay();
  for (const Tensor& other : others) CHECK(other.sum().item<double>() == 1000);
#if HALFTONE_SIMULATED_CUDA
  CHECK(cudasim::reports().empty());
#endif
}

TEST_CASE("a graph that goes while another is captured gives its memory back later", "[cuda][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const Tensor x = ones({1000}, device), kept = ones({1000}, device);
  Tensor dropped = ones({1000}, device), y;
  auto first = std::make_unique<cuda::Graph>(device);
  first->capture([&] {
    y = x + dropped;
    dropped = Tensor();
    y = y * 2;
  });
  first->replay();
  y = Tensor();
  cuda::Graph second(device);
  second.capture([&] {
    first = nullptr;
    y = kept + 1;
  });
  second.replay();
  CHECK(y.sum().item<double>() == 2000);
}

TEST_CASE("what a graph made and another gave up stays until both are gone", "[cuda][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const Tensor x = ones({1000}, device);
  Tensor y, z;
  auto first = std::make_unique<cuda::Graph>(device);
  first->capture([&] { y = x + 1; });
  first->replay();
  auto second = std::make_unique<cuda::Graph>(device);
  second->capture([&] {
    z = y * 2;
    y = Tensor();
  });
  first = nullptr;
  std::vector<Tensor> others;
  for (int i = 0; i < 8; ++i) others.push_back(zeros({1000}, device));
  second->replay();
  CHECK(z.sum().item<double>() == 4000);
  second = nullptr;
  CHECK(z.sum().item<double>() == 4000);
#if HALFTONE_SIMULATED_CUDA
  CHECK(cudasim::reports().empty());
#endif
}

TEST_CASE("dropout's two passes are captured together or not at all", "[cuda][graph]") {
  need_gpus(1);
  const Device device(kCUDA, 0);
  const Tensor x = ones({64}, device).requires_grad_();
  const auto message = ContainsSubstring("dropout: its forward and its backward must be captured in one cuda::Graph");
  Tensor y = dropout(x * 1, 0.5, true);
  cuda::Graph graph(device), other(device);
  CHECK_THROWS_WITH(graph.capture([&] { y.sum().backward(); }), message);
  graph.capture([&] { y = dropout(x * 1, 0.5, true); });
  graph.replay();
  CHECK_THROWS_WITH(y.sum().backward({}, /*retain_graph=*/true), message);
  CHECK_THROWS_WITH(other.capture([&] { y.sum().backward(); }), message);
  x.mutable_grad() = Tensor();
  graph.capture([&] {
    y = dropout(x * 1, 0.5, true);
    y.sum().backward();
  });
  for (int i = 0; i < 3; ++i) {
    x.grad().zero_();
    graph.replay();
    CHECK(equal(x.grad(), y.detach()));
  }
}
