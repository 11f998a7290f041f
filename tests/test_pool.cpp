#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "tests/catch.h"

namespace halftone {
namespace {

using Ints = std::vector<std::int64_t>;
using Values = std::vector<double>;

struct MaxCase {
  Ints in, kernel, stride, padding, dilation;
  bool ceil_mode;
  Values y;
  Ints indices;
  Values dx;
};
struct AverageCase {
  Ints in, kernel, stride, padding;
  bool ceil_mode, count_padding;
  std::int64_t divisor;
  Values y, dx;
};
struct AdaptiveCase {
  Ints in, out;
  Values y, dx;
};
#include "tests/golden/pool.inc"

constexpr std::int64_t kBatch = 2, kChannels = 3;
constexpr MemoryFormat kOrders[] = {MemoryFormat::Contiguous, MemoryFormat::ChannelsLast};
constexpr Dtype kFloats[] = {kFloat16, kBFloat16, kFloat32, kFloat64};

Dims shape(const Ints& spatial, std::int64_t batch = kBatch, std::int64_t channels = kChannels) {
  Dims sizes{batch, channels};
  for (const std::int64_t s : spatial) sizes.push_back(s);
  return sizes;
}

/// Channels-last has a meaning for four and five axes only.
TensorOptions options(Dtype dtype, MemoryFormat order, std::size_t rank) {
  return TensorOptions(dtype).memory_format(rank > 1 ? order : MemoryFormat::Contiguous);
}

Backend& ours() { return backend(get_default_device().type()); }

Tensor filled(IntArrayRef sizes, const TensorOptions& how, const Values& values) {
  Tensor dense = empty(sizes, TensorOptions(kFloat64).device(kCPU)), t = empty(sizes, how);
  std::copy(values.begin(), values.end(), dense.data_ptr<double>());
  t.copy_(dense);
  return t;
}
Values read(const Tensor& t) {
  const Tensor dense = t.cpu().to(kFloat64).contiguous();
  return {dense.data_ptr<double>(), dense.data_ptr<double>() + dense.numel()};
}

/// The input of the golden cases.
Values plane_values(std::int64_t n) {
  Values v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(static_cast<double>((i * 7 + i / 5) % 11 - 5));
  return v;
}

PoolShape pool_shape(const Ints& in, const Ints& kernel, const Ints& stride, const Ints& padding, const Ints& dilation,
                     bool ceil_mode) {
  PoolShape s;
  s.batch = kBatch;
  s.channels = kChannels;
  s.window.rank = static_cast<int>(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    s.window.in[i] = in[i], s.window.kernel[i] = kernel[i], s.window.stride[i] = stride[i];
    s.window.padding[i] = padding[i], s.window.dilation[i] = dilation[i];
    s.window.out[i] = window_count(in[i], kernel[i], stride[i], padding[i], dilation[i], ceil_mode);
  }
  return s;
}

Ints out_of(const PoolShape& s) { return {s.window.out.begin(), s.window.out.begin() + s.window.rank}; }

Values doubled(Values v) {
  for (double& x : v) x *= 2;
  return v;
}

double epsilon(Dtype d) { return d == kFloat64 ? 0x1p-52 : d == kFloat32 ? 0x1p-23 : d == kFloat16 ? 0x1p-10 : 0x1p-7; }

void check_close(const Values& got, const Values& wanted, double tolerance) {
  REQUIRE(got.size() == wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i);
    CHECK(std::abs(got[i] - wanted[i]) <= tolerance * std::max(1.0, std::abs(wanted[i])));
  }
}

Values as_values(const Ints& v) { return {v.begin(), v.end()}; }

TEST_CASE("max_pool agrees with PyTorch", "[kernels][pool]") {
  constexpr Dtype kOrdered[] = {kFloat16, kBFloat16, kFloat32, kFloat64, kInt8, kInt16, kInt32, kInt64};
  for (const MaxCase& c : kMax) {
    const PoolShape s = pool_shape(c.in, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
    for (const Dtype dtype : kOrdered) {
      for (const MemoryFormat order : kOrders) {
        INFO("in " << IntArrayRef(c.in) << " kernel " << IntArrayRef(c.kernel) << " " << dtype << " " << order);
        const auto how = [&](Dtype d) { return options(d, order, c.in.size()); };
        const Tensor x = filled(shape(c.in), how(dtype), plane_values(count_elements(shape(c.in))));
        Tensor y = empty(shape(out_of(s)), how(dtype)), indices = empty(y.sizes(), how(kInt64));
        ours().max_pool(s, x, y, indices);
        CHECK(read(y) == c.y);
        CHECK(read(indices) == as_values(c.indices));

        const Tensor g = filled(y.sizes(), how(dtype), doubled(c.y));
        Tensor dx = empty(x.sizes(), how(dtype)), taken = empty(y.sizes(), how(dtype));
        ours().max_pool_grad(s, g, indices, dx);
        CHECK(read(dx) == c.dx);
        ours().max_pool_take(s, x, indices, taken);
        CHECK(read(taken) == c.y);
      }
    }
  }
}

PoolShape with_average(PoolShape s, bool count_padding, std::int64_t divisor) {
  s.count_padding = count_padding;
  s.divisor_override = divisor;
  return s;
}

TEST_CASE("avg_pool agrees with PyTorch", "[kernels][pool]") {
  for (const AverageCase& c : kAverage) {
    const PoolShape s = with_average(pool_shape(c.in, c.kernel, c.stride, c.padding, Ints(c.in.size(), 1), c.ceil_mode),
                                     c.count_padding, c.divisor);
    for (const Dtype dtype : kFloats) {
      for (const MemoryFormat order : kOrders) {
        INFO("in " << IntArrayRef(c.in) << " kernel " << IntArrayRef(c.kernel) << " " << dtype << " " << order);
        const TensorOptions how = options(dtype, order, c.in.size());
        const Tensor x = filled(shape(c.in), how, plane_values(count_elements(shape(c.in))));
        Tensor y = empty(shape(out_of(s)), how), dx = empty(x.sizes(), how);
        ours().avg_pool(s, x, y);
        check_close(read(y), c.y, 2 * epsilon(dtype));
        ours().avg_pool_grad(s, filled(y.sizes(), how, doubled(c.y)), dx);
        check_close(read(dx), c.dx, 4 * epsilon(dtype));
      }
    }
  }
}

TEST_CASE("adaptive_avg_pool agrees with PyTorch", "[kernels][pool]") {
  for (const AdaptiveCase& c : kAdaptive) {
    PoolShape s =
        pool_shape(c.in, Ints(c.in.size(), 1), Ints(c.in.size(), 1), Ints(c.in.size(), 0), Ints(c.in.size(), 1), false);
    std::copy(c.out.begin(), c.out.end(), s.window.out.begin());
    for (const Dtype dtype : kFloats) {
      for (const MemoryFormat order : kOrders) {
        INFO("in " << IntArrayRef(c.in) << " out " << IntArrayRef(c.out) << " " << dtype << " " << order);
        const TensorOptions how = options(dtype, order, c.in.size());
        const Tensor x = filled(shape(c.in), how, plane_values(count_elements(shape(c.in))));
        Tensor y = empty(shape(c.out), how), dx = empty(x.sizes(), how);
        ours().adaptive_avg_pool(s, x, y);
        check_close(read(y), c.y, 2 * epsilon(dtype));
        ours().adaptive_avg_pool_grad(s, filled(y.sizes(), how, doubled(c.y)), dx);
        check_close(read(dx), c.dx, 4 * epsilon(dtype));
      }
    }
  }
}

TEST_CASE("channels-last images whose channels fill vectors have the values of contiguous ones", "[kernels][pool]") {
  constexpr std::int64_t kMany = 16;
  const Dims in = shape({7, 9}, kBatch, kMany);
  PoolShape windows = with_average(pool_shape({7, 9}, {3, 2}, {2, 3}, {1, 1}, {1, 1}, true), false, 0),
            dilated = windows;
  dilated.window.dilation = {3, 2, 1};
  dilated.window.out = {window_count(7, 3, 2, 1, 3, true), window_count(9, 2, 3, 1, 2, true), 1};
  windows.channels = dilated.channels = kMany;
  for (const Dtype dtype : {kFloat16, kBFloat16, kFloat32, kFloat64, kInt8}) {
    const auto run = [&](const PoolShape& s, MemoryFormat order, bool averages) {
      const TensorOptions how = options(dtype, order, 2);
      const Tensor x = filled(in, how, plane_values(count_elements(in)));
      Tensor y = empty(shape(out_of(s), kBatch, kMany), how), dx = empty(in, how);
      Tensor indices = empty(y.sizes(), options(kInt64, order, 2));
      std::vector<Values> all;
      ours().max_pool(s, x, y, indices);
      ours().max_pool_grad(s, y, indices, dx);
      for (const Tensor& t : {y, indices, dx}) all.push_back(read(t));
      if (!averages) return all;
      ours().avg_pool(s, x, y);
      ours().avg_pool_grad(s, y, dx);
      for (const Tensor& t : {y, dx}) all.push_back(read(t));
      ours().adaptive_avg_pool(s, x, y);
      ours().adaptive_avg_pool_grad(s, y, dx);
      for (const Tensor& t : {y, dx}) all.push_back(read(t));
      return all;
    };
    INFO(dtype);
    const bool averages = dtype != kInt8;
    CHECK(run(windows, MemoryFormat::ChannelsLast, averages) == run(windows, MemoryFormat::Contiguous, averages));
    CHECK(run(dilated, MemoryFormat::ChannelsLast, false) == run(dilated, MemoryFormat::Contiguous, false));
  }
}

TEST_CASE("a NaN wins a maximum, and minus infinity has the position of the first cell", "[kernels][pool]") {
  const double nan = std::nan(""), low = -std::numeric_limits<double>::infinity();
  PoolShape s = pool_shape({2, 4}, {2, 2}, {2, 2}, {0, 0}, {1, 1}, false);
  for (const Dtype dtype : kFloats) {
    for (const MemoryFormat order : kOrders) {
      Values values;
      for (std::int64_t i = 0; i < kBatch * kChannels; ++i) {
        for (const double v : {nan, 9.0, low, low, 1.0, nan, low, low}) values.push_back(v);
      }
      const Tensor x = filled(shape({2, 4}), options(dtype, order, 2), values);
      Tensor y = empty(shape({1, 2}), options(dtype, order, 2)), indices = empty(y.sizes(), options(kInt64, order, 2));
      ours().max_pool(s, x, y, indices);
      CHECK(std::isnan(read(y)[0]));
      CHECK(read(y)[1] == low);
      CHECK(read(indices)[0] == 5);  // the last NaN, as in PyTorch
      CHECK(read(indices)[1] == 2);
    }
  }
}

TEST_CASE("a window without any cell of the input has no maximum and no gradient", "[kernels][pool]") {
  const PoolShape s = pool_shape({4}, {2}, {1}, {1}, {5}, false);  // its one window has cells -1 and 4
  REQUIRE(out_of(s) == Ints{1});
  const Tensor x = filled(shape({4}), kFloat32, plane_values(24));
  Tensor y = empty(shape({1}), kFloat32), indices = empty(y.sizes(), kInt64), dx = empty(x.sizes(), kFloat32);
  ours().max_pool(s, x, y, indices);
  CHECK(read(y)[0] == -std::numeric_limits<double>::infinity());
  CHECK(read(indices)[0] == -1);
  ours().max_pool_grad(s, filled(y.sizes(), kFloat32, Values(6, 1)), indices, dx);
  CHECK(read(dx) == Values(24, 0));
}

TEST_CASE("an average sums in float", "[kernels][pool]") {
  PoolShape s = pool_shape({64, 64}, {64, 64}, {64, 64}, {0, 0}, {1, 1}, false);
  for (const MemoryFormat order : kOrders) {
    const Tensor x = filled(shape({64, 64}), options(kFloat16, order, 2), Values(kBatch * kChannels * 4096, 100));
    Tensor y = empty(shape({1, 1}), options(kFloat16, order, 2)), dx = empty(x.sizes(), options(kFloat16, order, 2));
    ours().avg_pool(s, x, y);
    CHECK(read(y) == Values(6, 100));  // 409600 is beyond float16
    ours().adaptive_avg_pool(s, x, y);
    CHECK(read(y) == Values(6, 100));
    s.window.stride = {1, 1, 1};
  }
}

TEST_CASE("operands of a pool may differ in their order of memory", "[kernels][pool]") {
  const MaxCase& c = kMax[3];
  const PoolShape s = pool_shape(c.in, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
  const TensorOptions rows(kFloat32), last = options(kFloat32, MemoryFormat::ChannelsLast, 2);
  const Tensor x = filled(shape(c.in), last, plane_values(count_elements(shape(c.in))));
  Tensor y = empty(shape(out_of(s)), rows), indices = empty(y.sizes(), kInt64), dx = empty(x.sizes(), rows);
  ours().max_pool(s, x, y, indices);
  CHECK(read(y) == c.y);
  CHECK(read(indices) == as_values(c.indices));
  ours().max_pool_grad(s, filled(y.sizes(), last, doubled(c.y)), indices, dx);
  CHECK(read(dx) == c.dx);
}

TEST_CASE("pools of nothing and pools on several threads", "[kernels][pool]") {
  PoolShape s = pool_shape({40, 40}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, false);
  const int threads = get_num_threads();
  for (const MemoryFormat order : kOrders) {
    for (const std::int64_t batch : {0, 9}) {
      s.batch = batch;
      const Tensor x =
          filled(shape({40, 40}, batch), options(kFloat32, order, 2), plane_values(batch * kChannels * 1600));
      const auto run = [&](int n) {
        set_num_threads(n);
        Tensor y = empty(shape({20, 20}, batch), options(kFloat32, order, 2)),
               indices = empty(y.sizes(), options(kInt64, order, 2));
        Tensor dx = empty(x.sizes(), options(kFloat32, order, 2));
        ours().max_pool(s, x, y, indices);
        ours().max_pool_grad(s, y, indices, dx);
        return read(dx);
      };
      CHECK(run(1) == run(4));
    }
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace halftone
