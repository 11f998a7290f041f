// What is special to the GPU's reads and writes at computed places. They need a GPU, a real or a simulated one.
#include <vector>

#include "autograd/ops.h"
#include "core/runtime.h"
#include "kernels/backend.h"
#include "tests/catch.h"

namespace halftone {
namespace {

using Catch::Matchers::ContainsSubstring;

TensorOptions on_gpu(Dtype dtype = kFloat32) { return TensorOptions(dtype).device(kCUDA); }

Tensor index_of(std::int64_t n, std::int64_t size) {
  return (arange(n, TensorOptions(kInt64).device(kCPU)) * 7 + 3).remainder(size);
}
Tensor table(std::int64_t rows, std::int64_t width, Dtype dtype) {
  return arange(rows * width, TensorOptions(kFloat32).device(kCPU)).remainder(101).reshape({rows, width}).to(dtype);
}

bool same(const Tensor& a, const Tensor& b) { return a.sizes() == b.sizes() && a.cpu().eq(b.cpu()).all().item<bool>(); }

TEST_CASE("rows of any width and alignment are read and written", "[cuda][indexing]") {
  if (!cuda::is_available()) return;
  for (const Dtype dtype : {kUInt8, kBFloat16, kFloat32, kInt64}) {
    for (const std::int64_t width : {1, 3, 4, 8, 16, 31, 33}) {
      for (const std::int64_t offset : {0, 1}) {
        INFO(dtype << " width " << width << " offset " << offset);
        const Tensor whole = table(50, width + offset, dtype), x = whole.slice(1, offset);
        const Tensor gpu_x = whole.to(kCUDA).slice(1, offset), index = index_of(70, 50), once = index.slice(0, 0, 50);
        const Tensor rows = x.index_select(0, index), unlike = rows.slice(0, 0, 50) + ones({}, x.options());
        CHECK(same(gpu_x.index_select(0, index.to(kCUDA)), rows));
        CHECK(same(gpu_x.t().index_select(1, index.to(kCUDA)), rows.t()));
        CHECK(same(gpu_x.clone().index_put_({once.to(kCUDA)}, unlike.to(kCUDA)), x.clone().index_put_({once}, unlike)));
        CHECK(same(gpu_x.clone().index_add_(0, index.to(kCUDA), rows.to(kCUDA)), x.clone().index_add_(0, index, rows)));
      }
    }
  }
}

TEST_CASE("an index out of range is told when the host next waits, and the rest is done", "[cuda][indexing]") {
  if (!cuda::is_available()) return;
  const Tensor x = ones({4, 3}, on_gpu()), bad = index_of(6, 4).to(kCUDA);
  bad[2].fill_(4);
  const auto message = [](std::string_view op) {
    return str(op, ": index 4 is out of range for a size of 4 (met by a kernel on cuda:0; its element was left out)");
  };
  const Tensor places = bad.unsqueeze(1).expand({6, 3}), values = full({6, 3}, 2, on_gpu());
  Tensor y;
  y = x.gather(0, places);
  CHECK_THROWS_WITH(cuda::synchronize(), message("gather"));
  CHECK(y.cpu().sum().item<float>() == 15);
  y = x.scatter_add(0, places, values);
  CHECK_THROWS_AS(cuda::synchronize(), IndexError);
  CHECK(y.cpu().sum().item<float>() == 42);
  const Tensor once = arange(4, on_gpu(kInt64)) + 1;  // the last of these is out of range
  y = x.scatter(0, once.unsqueeze(1).expand({4, 3}), values.slice(0, 0, 4));
  CHECK_THROWS_WITH(cuda::synchronize(), message("scatter"));
  CHECK(y.cpu().sum().item<float>() == 21);
  y = x.index_select(0, bad);
  CHECK_THROWS_WITH(cuda::synchronize(), message("index_select"));
  y = x.clone().index_put_({once}, values.slice(0, 0, 4));
  CHECK_THROWS_WITH(cuda::synchronize(), message("index_put"));
  bad[2].fill_(-5);
  y = x.index({bad});
  CHECK_THROWS_WITH(cuda::synchronize(), ContainsSubstring("index: index -5 is out of range for a size of 4"));
  CHECK_NOTHROW(cuda::synchronize());
}

TEST_CASE("sums of many values at few places", "[cuda][indexing]") {
  if (!cuda::is_available()) return;
  for (const Dtype dtype : kDtypes) {
    INFO(dtype);
    const Tensor index = index_of(5000, 3), values = table(5000, 1, kUInt8).remainder(2).to(dtype).reshape({5000});
    const Tensor wanted = zeros({3}, TensorOptions(dtype).device(kCPU)).scatter_add(0, index, values);
    CHECK(same(zeros({3}, on_gpu(dtype)).scatter_add(0, index.to(kCUDA), values.to(kCUDA)), wanted));
  }
}

TEST_CASE("coordinates of few, many and no elements that are not zero", "[cuda][indexing]") {
  if (!cuda::is_available()) return;
  for (const std::int64_t n : {1, 31, 32, 33, 1000, 4096, 4097, 100000}) {
    for (const std::int64_t every : {1, 3, 1000, 1000000}) {
      INFO(n << " elements, one in " << every);
      const Tensor x = arange(n, TensorOptions(kInt64).device(kCPU)).remainder(every).eq(every / 2);
      CHECK(same(x.to(kCUDA).nonzero(), x.nonzero()));
    }
  }
  const Tensor x = table(40, 30, kFloat32).remainder(3).reshape({4, 10, 30});
  CHECK(same(x.to(kCUDA).permute({2, 0, 1}).nonzero(), x.permute({2, 0, 1}).nonzero()));
  CHECK(same(x.to(kCUDA).masked_select(x.to(kCUDA).gt(1)), x.masked_select(x.gt(1))));
}

}  // namespace
}  // namespace halftone
