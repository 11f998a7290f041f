// What is special to the GPU's kernels of lists: how many launches they take, sizes about a pack, a warp and an
// argument, memory that is not aligned, captured steps. They need a GPU, a real or a simulated one.
#include <algorithm>
#include <cmath>
#include <vector>

#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "core/runtime.h"
#include "kernels/backend.h"
#include "tests/catch.h"

namespace halftone {
namespace {

const TensorOptions kOnGpu = TensorOptions(kFloat32).device(kCUDA);

Backend& gpu_backend() { return backend(kCUDA); }

Tensor number(double value) { return full({}, value, kOnGpu); }
Tensor wide(double value) { return full({}, value, kOnGpu.dtype(kFloat64)); }

/// Values that a sum shows to be all there: i % 13 - 6.
Tensor pattern(std::int64_t n, Dtype dtype = kFloat32) {
  return (arange(n, TensorOptions(kFloat32).device(kCPU)).remainder(13) - 6).to(dtype);
}

/// Kernels and copies that the work queues.
std::size_t launches(const std::function<void()>& work) {
  cuda::Graph nothing, graph;
  nothing.capture([] {});
  graph.capture(work);
  return graph.nodes() - nothing.nodes();
}

bool same(const Tensor& a, const Tensor& b) { return a.cpu().eq(b.cpu()).all().item<bool>(); }

TEST_CASE("a list of 200 tensors takes a launch for each of its steps", "[cuda][lists]") {
  if (!cuda::is_available()) return;
  std::vector<Tensor> p, g, m, v;
  for (std::int64_t i = 0; i < 200; ++i) {
    const Dtype dtype = i % 3 == 0 ? kBFloat16 : kFloat32;
    p.push_back(pattern(i + 1).to(kCUDA));
    g.push_back(pattern(i + 1, dtype).to(kCUDA));
    m.push_back(zeros({i + 1}, kOnGpu));
    v.push_back(zeros({i + 1}, kOnGpu));
  }
  Tensor found = number(0), norm = number(0), scale = number(2), counts = zeros({3}, kOnGpu.dtype(kInt32)),
         new_scale = number(0), new_counts = zeros({3}, kOnGpu.dtype(kInt32));
  const Tensor divisor = wide(2), skipped = zeros({}, kOnGpu.dtype(kInt64));
  const SgdStep sgd{.lr = 0.1, .momentum = 0.9};
  CHECK(launches([&] { gpu_backend().unscale(g, scale, found); }) == 1);
  CHECK(launches([&] { gpu_backend().list_norm(g, 2, norm); }) == 1);
  CHECK(launches([&] { gpu_backend().list_norm(g, 2, norm, {1, divisor, scale, found}); }) == 1);
  CHECK(launches([&] { gpu_backend().list_divide(g, divisor); }) == 1);
  CHECK(launches([&] { gpu_backend().sgd(sgd, p, g, m, scale, found); }) == 1);
  CHECK(launches([&] { gpu_backend().sgd(sgd, p, g, m, divisor, found); }) == 1);
  CHECK(launches([&] { gpu_backend().adam({.lr = 0.1}, p, g, m, v, {}, scale, found, skipped); }) == 1);
  CHECK(launches([&] { gpu_backend().next_scale({}, scale, counts, found, new_scale, new_counts); }) == 1);
}

TEST_CASE("pieces, packs and rests of a list, aligned or not", "[cuda][lists]") {
  if (!cuda::is_available()) return;
  const std::int64_t sizes[] = {1, 31, 32, 33, 1000, 1023, 1025, 5000, 100000};
  for (const Dtype dtype : {kFloat16, kFloat32, kFloat64}) {
    for (const std::int64_t offset : {0, 1}) {
      std::vector<Tensor> tensors, wanted;
      double squares = 0;
      for (const std::int64_t n : sizes) {
        const Tensor values = pattern(n + offset, dtype);
        tensors.push_back(values.to(kCUDA).slice(0, offset));
        wanted.push_back(values.slice(0, offset) * 0.5);
        squares += values.slice(0, offset).toDouble().square().sum().item<double>();
      }
      Tensor norm = number(0), found = number(0);
      gpu_backend().list_norm(tensors, 2, norm);
      CHECK(norm.item<double>() == Catch::Approx(std::sqrt(squares)));
      gpu_backend().list_norm(tensors, 2, norm, {1, {}, number(4), found});
      CHECK(norm.item<double>() == Catch::Approx(std::sqrt(squares) / 4));
      CHECK(found.item<float>() == 0);
      gpu_backend().unscale(tensors, number(2), found);
      CHECK(found.item<float>() == 0);
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        INFO(dtype << " " << sizes[i] << " offset " << offset);
        CHECK(same(tensors[i], wanted[i]));
      }
      tensors[7][4999 - offset] = std::nan("");  // in what packs leave over
      gpu_backend().unscale(tensors, number(1), found);
      CHECK(found.item<float>() == 1);
      found = number(0);
      gpu_backend().list_norm(tensors, 2, norm, {1, {}, {}, found});
      CHECK(found.item<float>() == 1);
      gpu_backend().fill(tensors[8], std::nan(""));  // many threads find it
      gpu_backend().unscale(tensors, number(2), found);
      CHECK(found.item<float>() == 1);
    }
  }
}

TEST_CASE("more tensors than an argument holds", "[cuda][lists]") {
  if (!cuda::is_available()) return;
  std::vector<Tensor> tensors;
  const Tensor memory = ones({4000}, kOnGpu);
  for (std::int64_t i = 0; i < 2000; ++i) tensors.push_back(memory.slice(0, 2 * i, 2 * i + 1 + i % 2));
  Tensor norm = number(0), found = number(0);
  gpu_backend().list_norm(tensors, 1, norm);
  CHECK(norm.item<float>() == 3000);
  gpu_backend().list_norm(tensors, 1, norm);  // the counter of finished blocks is as it was
  CHECK(norm.item<float>() == 3000);
  gpu_backend().list_divide(tensors, wide(0.5));
  CHECK(memory.cpu().sum().item<float>() == 7000);
  const Tensor divisor = wide(0);
  gpu_backend().list_norm(tensors, 1, norm, {600, divisor, number(2), found});  // of several launches the last divides
  CHECK(norm.item<float>() == 3000);
  CHECK(divisor.item<double>() == Catch::Approx(10));
  CHECK(found.item<float>() == 0);
  tensors[5].fill_(std::nan(""));
  gpu_backend().list_norm(tensors, 1, norm, {1, {}, {}, found});
  CHECK(found.item<float>() == 1);
  tensors[5].fill_(2);
  gpu_backend().sgd({.lr = 1}, tensors, tensors, {}, {}, {});
  CHECK(memory.cpu().sum().item<float>() == 1000);
}

TEST_CASE("a captured Adam step counts the runs that were taken", "[cuda][lists]") {
  if (!cuda::is_available()) return;
  const auto start = [] { return std::vector<Tensor>{pattern(3000).to(kCUDA), pattern(5).to(kCUDA)}; };
  const auto empty_state = [] { return std::vector<Tensor>{zeros({3000}, kOnGpu), zeros({5}, kOnGpu)}; };
  const double overflows[] = {0, 1, 0, 0, 1, 0};

  const auto p = start(), g = start(), m = empty_state(), v = empty_state();
  Tensor found = number(0);
  const Tensor skipped = zeros({}, kOnGpu.dtype(kInt64));
  AdamStep step{.lr = 0.1};
  step.replayed = true;
  cuda::Graph graph;
  graph.capture([&] { gpu_backend().adam(step, p, g, m, v, {}, {}, found, skipped); });
  for (const double overflow : overflows) {
    gpu_backend().fill(found, overflow);
    graph.replay();
  }

  const auto p2 = start(), g2 = start(), m2 = empty_state(), v2 = empty_state();
  step.replayed = false;
  step.steps = 0;
  for (const double overflow : overflows) {
    if (overflow != 0) continue;
    ++step.steps;
    gpu_backend().adam(step.corrected(step.steps), p2, g2, m2, v2, {}, {}, {});
  }
  CHECK(skipped.item<std::int64_t>() == -4);
  for (std::size_t i = 0; i < 2; ++i) CHECK((p[i] - p2[i]).cpu().abs().max().item<float>() < 1e-6f);
}

}  // namespace
}  // namespace halftone
