// What is special to the GPU's kernels of rows: lengths about a pack, a warp, a block and what registers hold, memory
// that is not aligned, more rows than blocks, shares of long rows, launches, labels out of range. They need a GPU, a
// real or a simulated one.
#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "core/runtime.h"
#include "kernels/backend.h"
#include "tests/catch.h"

namespace halftone {
namespace {

using Catch::Matchers::ContainsSubstring;

const TensorOptions kHost = TensorOptions(kFloat32).device(kCPU);

/// Numbers in [-2, 2] that do not repeat with a power of two, on the CPU.
Tensor pattern(IntArrayRef sizes, Dtype dtype = kFloat32) {
  const std::int64_t n = count_elements(sizes);
  const Tensor x = (arange(n, kHost) * 7919).remainder(4001) / 1000 - 2;
  return x.to(dtype).reshape(sizes);
}

double tolerance(Dtype dtype) { return dtype == kFloat32 ? 1e-5 : dtype == kFloat64 ? 1e-12 : 1e-2; }

void check_close(const Tensor& gpu, const Tensor& cpu) {
  REQUIRE(gpu.is_cuda());
  CHECK(gpu.dtype() == cpu.dtype());
  const Tensor got = gpu.cpu().to(kFloat64), want = cpu.to(kFloat64);
  const double most = std::max(1.0, want.numel() == 0 ? 0.0 : want.abs().max().item<double>());
  CHECK((got - want).abs().max().item<double>() <= tolerance(cpu.dtype()) * most);
}

/// The same work on both devices.
void compare(const Tensor& x, const std::function<std::vector<Tensor>(const Tensor&)>& work) {
  const std::vector<Tensor> want = work(x), got = work(x.to(kCUDA));
  for (std::size_t i = 0; i < want.size(); ++i) {
    INFO("result " << i << " of " << describe(x));
    check_close(got[i], want[i]);
  }
}

/// Kernels and copies that the work queues.
std::size_t launches(const std::function<void()>& work) {
  cuda::Graph nothing, graph;
  nothing.capture([] {});
  graph.capture(work);
  return graph.nodes() - nothing.nodes();
}

std::vector<Tensor> row_work(const Tensor& x) {
  const Tensor g = x * x - 0.5;
  std::vector<Tensor> results;
  for (const bool log : {false, true}) {
    const Tensor leaf = x.detach().requires_grad_(), y = log ? log_softmax(leaf, -1) : softmax(leaf, -1);
    y.backward(g);
    results.insert(results.end(), {y.detach(), leaf.grad()});
  }
  const std::int64_t n = x.size(-1);
  const Tensor leaf = x.detach().requires_grad_(), w = (x[0] + 3).detach().requires_grad_(),
               b = x[0].detach().clone().requires_grad_();
  const Tensor y = layer_norm(leaf, {n}, w, b);
  y.backward(g);
  results.insert(results.end(), {y.detach(), leaf.grad(), w.grad(), b.grad()});
  return results;
}

TEST_CASE("rows of every length agree with the CPU's", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  for (const Dtype dtype : {kFloat32, kFloat16, kFloat64}) {
    for (const std::int64_t n : {1, 5, 31, 32, 33, 255, 257, 1000, 1024, 1025, 4096, 5000}) {
      if (dtype == kFloat64 && n > 33 && n < 4096) continue;
      compare(pattern({3, n}, dtype), row_work);
    }
  }
  compare(pattern({2, 100000}), row_work);
}

TEST_CASE("rows that begin anywhere agree with the CPU's", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  for (const Dtype dtype : {kFloat32, kBFloat16}) {
    for (const std::int64_t n : {32, 264, 1024}) {
      const Tensor x = pattern({4, n + 8}, dtype);
      for (const std::int64_t first : {1, 3, 8}) {
        compare(x, [&](const Tensor& all) {
          const Tensor view = all.slice(1, first, first + n);  // strided rows, and not at multiples of 16 bytes
          return std::vector<Tensor>{softmax(view, -1), view.sum(1), std::get<1>(view.max(1)), cumsum(view, 1)};
        });
      }
    }
  }
}

TEST_CASE("more rows than blocks that run at once", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  compare(pattern({20000, 3}), [](const Tensor& x) {
    return std::vector<Tensor>{softmax(x, 1), softmax(x, 0), x.sum(1), x.sum(0), cumsum(x, 1), cumsum(x, 0)};
  });
  compare(pattern({3, 11000}), [](const Tensor& x) {  // neighbouring rows, a thread for each
    return std::vector<Tensor>{softmax(x, 0), log_softmax(x, 0), x.max(), std::get<1>(x.max(0)), cumsum(x, 0)};
  });
  for (const std::int64_t n : {300, 303}) {  // a warp has a row where there are many
    compare(pattern({1600, n}), [](const Tensor& x) { return std::vector<Tensor>{softmax(x, 1), log_softmax(x, 1)}; });
  }
}

TEST_CASE("layer normalization's sums down many rows agree with the CPU's", "[cuda][rows][layer_norm]") {
  if (!cuda::is_available()) return;
  compare(pattern({600, 72}), row_work);
  compare(pattern({300, 264}, kFloat16), row_work);
  compare(pattern({101, 261}, kBFloat16), row_work);
  compare(pattern({40, 520}, kFloat64), row_work);
  compare(pattern({37, 2000}), row_work);
}

TEST_CASE("long rows with infinities and NaN have the CPU's values", "[cuda][rows][softmax]") {
  if (!cuda::is_available()) return;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Tensor x = pattern({6, 9000});
  x[0].slice(0, 0, 5000).fill_(-kInfinity);
  x[1].fill_(-kInfinity);
  x[2][8000].fill_(std::numeric_limits<double>::quiet_NaN());
  x[3][100].fill_(kInfinity);
  x[4].copy_(arange(9000, kHost) / 50);   // every part of the row is larger than those before it
  x[5].copy_(arange(9000, kHost) / -50);  // smaller
  const auto plain = [](const Tensor& t) { return t.masked_fill(t.isnan(), -2000).clamp_min(-1000); };
  compare(x, [&](const Tensor& t) {
    const Tensor labels = full({6}, 8999, TensorOptions(kInt64).device(t.device()));
    Tensor loss = empty({6}, t.options()), lse = empty({6}, t.options());
    backend(t).cross_entropy(t, labels, {}, -100, 0, loss, lse);
    std::vector<Tensor> results{softmax(t, 1), log_softmax(t, 1), loss, lse};
    for (Tensor& each : results) each = cat({plain(each).flatten(), each.isnan().to(kFloat32).flatten()});
    return results;
  });
}

TEST_CASE("a few long rows are cut into shares", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  compare(pattern({2, 300001}) + 2.5, [](const Tensor& x) {
    return std::vector<Tensor>{x.sum(),    x.sum(1),  x.mean(0), x.var(IntArrayRef{1}), std::get<1>(x.max(1)),
                               x.argmin(), x.norm(3), x.amin(1), cumsum(x, 1)};
  });
  compare(pattern({100003, 5}) + 2.5, [](const Tensor& x) {
    return std::vector<Tensor>{x.sum(0), x.var(IntArrayRef{0}), std::get<1>(x.min(0)), x.argmax(),
                               cumsum(x.flatten(), 0)};
  });
}

TEST_CASE("16-bit elements are folded two batches at a time, and what is left", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  for (const std::int64_t n : {8, 500, 4096, 4104, 30001}) {
    for (const Dtype dtype : {kFloat16, kBFloat16}) {
      compare(pattern({3, n}, dtype), [](const Tensor& x) {
        return std::vector<Tensor>{x.sum(1), x.mean(1), x.amax(1), x.t().contiguous().mean(0), x.var(IntArrayRef{1})};
      });
    }
  }
  for (const Dims& sizes : {Dims{5, 40, 9, 7}, Dims{70, 3, 8, 8}}) {
    for (const MemoryFormat order : {MemoryFormat::Contiguous, MemoryFormat::ChannelsLast}) {
      compare(pattern(sizes, kFloat16), [&](const Tensor& given) {
        const Tensor x = given.contiguous(order).detach().requires_grad_();  // a leaf, given stays as it is
        const Tensor w = full({x.size(1)}, 2, TensorOptions(kFloat32).device(x.device())).requires_grad_();
        const Tensor y = batch_norm(x, w, {}, {}, {}, true, 0.1, 1e-5);
        y.backward(given * given);
        return std::vector<Tensor>{y.detach(), x.grad(), w.grad() / 100};
      });
    }
  }
}

TEST_CASE("channels are folded over planes of whole batches, and of others", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  for (const Dims& sizes : {Dims{4, 3, 8, 8}, Dims{300, 2, 4, 6}, Dims{5, 6, 7, 7}, Dims{3, 2, 1, 2000}}) {
    for (const Dtype dtype : {kFloat16, kFloat32, kFloat64, kInt32}) {
      INFO(sizes[2] << " x " << sizes[3] << ' ' << dtype);
      const auto fold = [](const Tensor& x) {
        std::vector<Tensor> all{x.sum({0, 2, 3}), x.amax({0, 2, 3}), x.slice(0, 1).sum({0, 2, 3})};
        if (x.is_floating_point()) all.push_back(x.var(IntArrayRef{0, 2, 3}));
        return all;
      };
      compare(pattern(sizes, dtype), fold);
      compare(pattern(sizes, dtype).slice(3, 1), fold);  // planes with gaps
    }
  }
}

TEST_CASE("sums are the same in every run", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  const Tensor x = pattern({700, 900}).to(kCUDA);
  const auto all = [&] { return cat({x.sum().reshape({1}), x.sum(0), x.sum(1), x.var(IntArrayRef{0})}).cpu(); };
  CHECK(all().eq(all()).all().item<bool>());
}

TEST_CASE("rows take one or two launches", "[cuda][rows]") {
  if (!cuda::is_available()) return;
  Backend& b = backend(kCUDA);
  const TensorOptions options = TensorOptions(kFloat32).device(kCUDA);
  const Tensor x = pattern({500, 1000}).to(kCUDA), w = ones({1000}, options);
  Tensor y = empty_like(x), sum = empty({}, options), sums = empty({1000}, options), mean = empty({500}, options),
         rstd = empty({500}, options), dw = empty({1000}, options), db = empty({1000}, options);
  CHECK(launches([&] { b.softmax(x, 1, false, y); }) == 1);
  CHECK(launches([&] { b.softmax_grad(x, y, 1, false, y); }) == 1);
  CHECK(launches([&] { b.reduce({ReduceKind::sum}, x, 3, sum); }) <= 2);
  CHECK(launches([&] { b.reduce({ReduceKind::variance}, x, 1, sums); }) <= 2);
  CHECK(launches([&] { b.layer_norm(x, w, w, 1000, 1e-5, y, mean, rstd); }) == 1);
  CHECK(launches([&] { b.layer_norm_grad(x, x, w, mean, rstd, 1000, y, dw, db); }) <= 3);
  Tensor channel_mean = empty({1000}, options), channel_rstd = empty({1000}, options),
         running_mean = zeros({1000}, options), running_var = ones({1000}, options);
  CHECK(launches([&] {
          b.batch_norm(x, w, w, running_mean, running_var, true, 0.1, 1e-5, y, channel_mean, channel_rstd);
        }) <= 3);
  CHECK(launches([&] { b.batch_norm_grad(x, x, w, channel_mean, channel_rstd, true, y, dw, db); }) <= 3);
}

TEST_CASE("one channel that overflows leaves all running statistics alone", "[cuda][batch_norm]") {
  if (!cuda::is_available()) return;
  Tensor x = pattern({6, 300, 4, 4}).to(kCUDA);
  const Tensor mean = full({300}, 0.5, x.options()), var = full({300}, 2, x.options());
  x[3][299][1][2].fill_(std::numeric_limits<double>::infinity());
  const Tensor y = batch_norm(x, {}, {}, mean, var, true, 0.1, 1e-5);
  CHECK(mean.eq(0.5).all().item<bool>());
  CHECK(var.eq(2).all().item<bool>());
  CHECK(y.select(1, 0).isfinite().all().item<bool>());
}

TEST_CASE("a label that is no class is told by the next call that waits", "[cuda][cross_entropy]") {
  if (!cuda::is_available()) return;
  const Tensor x = pattern({5, 10}).to(kCUDA);
  for (const std::int64_t bad : {10, -1}) {
    const Tensor labels =
        tensor({std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, bad, std::int64_t{-100}}, kHost.dtype(kInt64))
            .to(kCUDA);
    Tensor loss = empty({5}, x.options()), lse = empty({5}, x.options());
    backend(x).cross_entropy(x, labels, {}, -100, 0, loss, lse);
    CHECK_THROWS_AS(cuda::synchronize(), IndexError);
    CHECK(loss[3].item<float>() == 0);  // the device goes on
    CHECK(loss[2].item<float>() > 0);
    backend(x).cross_entropy(x, labels, {}, -100, 0, loss, lse);
    CHECK_THROWS_WITH(cuda::synchronize(),
                      ContainsSubstring("cross_entropy: index " + std::to_string(bad)) && ContainsSubstring("10"));
  }
}

}  // namespace
}  // namespace halftone
