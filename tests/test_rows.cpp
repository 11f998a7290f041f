// Row arithmetic of the default device's backend against plain loops in double.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "core/parallel.h"
#include "core/shape.h"
#include "kernels/backend.h"
#include "tests/catch.h"

namespace halftone {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
using Numbers = std::vector<double>;
constexpr Dtype kFloats[] = {kFloat16, kBFloat16, kFloat32, kFloat64};

Backend& rows_backend() { return backend(get_default_device().type()); }

// ---------------------------------------------------------------- tensors as lists of doubles in row-major order

/// Calls `f(offset)` for every element in row-major order.
void each_offset(const Tensor& t, const std::function<void(std::int64_t)>& f) {
  Dims index(t.sizes().size(), 0);
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < index.size(); ++d) offset += index[d] * t.strides()[d];
    f(offset);
    for (std::size_t d = index.size(); d-- > 0;) {
      if (++index[d] < t.sizes()[d]) break;
      index[d] = 0;
    }
  }
}

Numbers numbers(const Tensor& given) {
  const Tensor t = given.to(kCPU);
  Numbers values;
  visit_all(t.dtype(), [&]<class T>(Type<T>) {
    each_offset(t, [&](std::int64_t at) {
      if constexpr (is_half_type<T>) {
        values.push_back(static_cast<double>(static_cast<float>(t.data_ptr<T>()[at])));
      } else {
        values.push_back(static_cast<double>(t.data_ptr<T>()[at]));
      }
    });
  });
  return values;
}

void assign_on_host(const Tensor& t, const Numbers& values) {
  std::size_t next = 0;
  visit_all(t.dtype(), [&]<class T>(Type<T>) {
    each_offset(t, [&](std::int64_t at) {
      if constexpr (is_half_type<T>) {
        t.data_ptr<T>()[at] = T(static_cast<float>(values[next++]));
      } else {
        t.data_ptr<T>()[at] = static_cast<T>(values[next++]);
      }
    });
  });
}

/// All memory that the tensor's strides reach, as a list.
Tensor flat(const Tensor& t) {
  std::int64_t span = 1;
  for (std::size_t i = 0; i < t.sizes().size(); ++i) span += (t.sizes()[i] - 1) * t.strides()[i];
  return alias(t, {t.numel() == 0 ? 0 : span}, {1}, 0);
}

void assign(const Tensor& t, const Numbers& values) {
  if (t.device().is_cpu()) return assign_on_host(t, values);
  const Tensor host = empty_strided(t.sizes(), t.strides(), TensorOptions(t.dtype()).device(kCPU));
  if (host.numel() > 0) flat(host).fill_(0);
  assign_on_host(host, values);
  flat(t).copy_(flat(host));
}

enum class Layout { contiguous, transposed, padded, channels_last, expanded };
constexpr Layout kLayouts[] = {Layout::contiguous, Layout::transposed, Layout::padded, Layout::channels_last,
                               Layout::expanded};

/// Strides of a layout; channels-last, where there is no such thing, is the axes the other way round.
Dims strides_of(Layout layout, IntArrayRef sizes) {
  if (layout == Layout::channels_last && sizes.size() == 4) return channels_last_strides(sizes);
  Dims strides(sizes.size(), 1);
  std::int64_t step = layout == Layout::padded ? 2 : 1;
  const bool reversed = layout == Layout::transposed || layout == Layout::channels_last;
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    const std::size_t i = reversed ? k : sizes.size() - 1 - k;
    strides[i] = step;
    step *= std::max<std::int64_t>(sizes[i], 1) + (layout == Layout::padded ? 1 : 0);
  }
  if (layout == Layout::expanded && !sizes.empty()) strides[sizes.size() / 2] = 0;
  return strides;
}

Tensor allocate(IntArrayRef sizes, Dtype dtype, Layout layout = Layout::contiguous) {
  return empty_strided(sizes, strides_of(layout, sizes), dtype);
}

/// Whole numbers for integers, so that every dtype holds them exactly; some repeat, so that there are ties.
double draw(Dtype dtype, std::mt19937& random) {
  if (dtype == kBool) return static_cast<double>(random() % 2);
  if (dtype == kUInt8) return static_cast<double>(random() % 12);
  if (!is_floating_point(dtype)) return static_cast<double>(random() % 24) - 12;
  return static_cast<double>(random() % 4096) / 1024.0 - 2.0;
}

Tensor random_tensor(IntArrayRef sizes, Dtype dtype, Layout layout = Layout::contiguous, unsigned seed = 1) {
  std::mt19937 random(seed);
  Tensor t = allocate(sizes, dtype, layout);
  Numbers values(static_cast<std::size_t>(t.numel()));
  for (double& v : values) v = draw(dtype, random);
  assign(t, values);
  return t;
}

Tensor filled(IntArrayRef sizes, const Numbers& values, Dtype dtype = kFloat32) {
  Tensor t = allocate(sizes, dtype);
  assign(t, values);
  return t;
}

/// Relative to the size of the values: rounding of the result, and some of the arithmetic before it.
double tolerance(Dtype dtype) {
  switch (dtype) {
    case kFloat16: return 2e-3;
    case kBFloat16: return 1.6e-2;
    case kFloat32: return 4e-6;
    case kFloat64: return 1e-12;
    default: return 0;
  }
}

void check_close(const Numbers& got, const Numbers& want, double relative) {
  REQUIRE(got.size() == want.size());
  double scale = 1;
  for (const double v : want) scale = std::max(scale, std::isfinite(v) ? std::abs(v) : 0);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool same = got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]));
    if (same || std::abs(got[i] - want[i]) <= relative * std::max(std::abs(want[i]), scale * 0.5)) continue;
    INFO("at " << i << " of " << got.size());
    CHECK(got[i] == want[i]);
    return;
  }
}

/// For each place outside the axes of the mask, the elements along those axes, in row-major order.
std::vector<Numbers> grouped(const Tensor& x, unsigned mask) {
  const Dims kept = reduced_sizes(x.sizes(), mask, false);
  std::vector<Numbers> groups(static_cast<std::size_t>(count_elements(kept)));
  const Numbers all = numbers(x);
  Dims index(x.sizes().size(), 0);
  for (const double v : all) {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < index.size(); ++d) {
      if (!((mask >> d) & 1u)) at = at * x.sizes()[d] + index[d];
    }
    groups[static_cast<std::size_t>(at)].push_back(v);
    for (std::size_t d = index.size(); d-- > 0;) {
      if (++index[d] < x.sizes()[d]) break;
      index[d] = 0;
    }
  }
  return groups;
}

Numbers per_group(const std::vector<Numbers>& groups, const std::function<double(const Numbers&)>& f) {
  Numbers out;
  for (const Numbers& g : groups) out.push_back(f(g));
  return out;
}

/// `f` on every row along an axis, the results put back where the rows came from.
Numbers along(const Tensor& x, std::int64_t dim, const std::function<Numbers(const Numbers&)>& f) {
  std::vector<Numbers> groups = grouped(x, x.dim() == 0 ? 0u : 1u << dim);
  for (Numbers& g : groups) g = f(g);
  Numbers out;
  const std::int64_t inner =
      x.dim() == 0 ? 1 : count_elements(IntArrayRef(x.sizes().slice(static_cast<std::size_t>(dim) + 1)));
  const std::int64_t length = x.dim() == 0 ? 1 : x.size(dim);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const std::int64_t at = i / (inner * length) * inner + i % inner;
    out.push_back(groups[static_cast<std::size_t>(at)][static_cast<std::size_t>(i / inner % length)]);
  }
  return out;
}

double sum_of(const Numbers& v) { return std::accumulate(v.begin(), v.end(), 0.0); }

// ---------------------------------------------------------------- reductions

double reduced(const Reduce& r, const Numbers& v) {
  const auto n = static_cast<double>(v.size());
  const double mean = sum_of(v) / n;
  double value = 0;
  switch (r.kind) {
    case ReduceKind::sum: return sum_of(v);
    case ReduceKind::mean: return mean;
    case ReduceKind::prod: return std::accumulate(v.begin(), v.end(), 1.0, std::multiplies<>());
    case ReduceKind::max: return *std::max_element(v.begin(), v.end());
    case ReduceKind::min: return *std::min_element(v.begin(), v.end());
    case ReduceKind::all: return std::all_of(v.begin(), v.end(), [](double x) { return x != 0; });
    case ReduceKind::any: return std::any_of(v.begin(), v.end(), [](double x) { return x != 0; });
    case ReduceKind::variance:
      for (const double x : v) value += (x - mean) * (x - mean);
      return value / std::max(n - r.correction, 0.0);
    default: break;
  }
  if (r.p == kInf || r.p == -kInf) {
    value = v.empty() ? 0 : std::abs(v[0]);
    for (const double x : v) value = r.p > 0 ? std::max(value, std::abs(x)) : std::min(value, std::abs(x));
    return value;
  }
  for (const double x : v) value += r.p == 0 ? (x != 0) : std::pow(std::abs(x), r.p);
  return r.p == 0 ? value : std::pow(value, 1 / r.p);
}

Dtype result_dtype(const Reduce& r, Dtype x) {
  if (r.kind == ReduceKind::all || r.kind == ReduceKind::any) return kBool;
  const bool adds = r.kind == ReduceKind::sum || r.kind == ReduceKind::prod;
  return adds && !is_floating_point(x) ? kInt64 : x;
}

const std::vector<Reduce> kReductions = {{ReduceKind::sum},           {ReduceKind::mean},
                                         {ReduceKind::prod},          {ReduceKind::max},
                                         {ReduceKind::min},           {ReduceKind::all},
                                         {ReduceKind::any},           {ReduceKind::norm, 0},
                                         {ReduceKind::norm, 1},       {ReduceKind::norm, 2},
                                         {ReduceKind::norm, 3},       {ReduceKind::norm, kInf},
                                         {ReduceKind::norm, -kInf},   {ReduceKind::variance, 2, 1},
                                         {ReduceKind::variance, 2, 0}};

Tensor reduce(const Reduce& r, const Tensor& x, unsigned mask, Dtype dtype) {
  Tensor y = empty(reduced_sizes(x.sizes(), mask, false), dtype);
  rows_backend().reduce(r, x, mask, y);
  return y;
}

void check_reduction(const Reduce& r, const Tensor& x, unsigned mask, Dtype to) {
  INFO("kind " << static_cast<int>(r.kind) << " p " << r.p << " mask " << mask << " of " << describe(x) << " strides "
               << x.strides() << " to " << to);
  const auto groups = grouped(x, mask);
  if (groups.empty()) return;
  const bool extreme = r.kind == ReduceKind::max || r.kind == ReduceKind::min;
  if (groups[0].empty() && extreme) return;
  if (groups[0].size() > 12 && r.kind == ReduceKind::prod) return;  // a double no longer holds the product
  check_close(numbers(reduce(r, x, mask, to)), per_group(groups, [&](const Numbers& v) { return reduced(r, v); }),
              tolerance(to));
}

bool needs_floating(const Reduce& r) {
  return r.kind == ReduceKind::mean || r.kind == ReduceKind::norm || r.kind == ReduceKind::variance;
}

TEST_CASE("every reduction of every dtype and layout agrees with a plain loop", "[rows][reduce]") {
  const Dims sizes = {3, 4, 5, 7};
  for (const Dtype dtype : kDtypes) {
    for (const Layout layout : kLayouts) {
      const Tensor x = random_tensor(sizes, dtype, layout);
      for (const Reduce& r : kReductions) {
        if (needs_floating(r) && !is_floating_point(dtype)) continue;
        for (unsigned mask = 0; mask < 16; ++mask) {
          check_reduction(r, x, mask, result_dtype(r, dtype));
        }
      }
    }
  }
}

TEST_CASE("reductions of all sizes", "[rows][reduce]") {
  const std::vector<Dims> shapes = {{},         {0},         {1},         {1, 1},        {0, 3},        {3, 0},
                                    {2, 0, 3},  {63},        {64},        {65},          {257},         {5000},
                                    {70001},    {2, 1000},   {1000, 2},   {300, 9},      {9, 1025},     {1025, 9},
                                    {700, 600}, {40000, 12}, {12, 40000}, {2, 3, 20000}, {20000, 3, 2}, {17, 16, 515}};
  for (const Dims& shape : shapes) {
    const Tensor x = random_tensor(shape, kFloat32), whole = random_tensor(shape, kInt32);
    for (unsigned mask = 0; mask < (1u << shape.size()); ++mask) {
      for (const Reduce& r : kReductions) {
        const bool telling = r.kind == ReduceKind::sum || r.kind == ReduceKind::max || r.kind == ReduceKind::variance;
        if (x.numel() > 20000 && !telling) continue;  // to save time: the loops are the same
        check_reduction(r, x, mask, result_dtype(r, kFloat32));
        if (!needs_floating(r)) check_reduction(r, whole, mask, result_dtype(r, kInt32));
      }
    }
  }
}

TEST_CASE("a sum may have another dtype than what it sums", "[rows][reduce]") {
  for (const Dtype from : kDtypes) {
    const Tensor x = random_tensor({40, 30}, from);
    for (const Dtype to : {kFloat32, kFloat64}) {
      for (unsigned mask = 1; mask < 4; ++mask) check_reduction({ReduceKind::sum}, x, mask, to);
    }
  }
}

TEST_CASE("reductions of nothing", "[rows][reduce]") {
  const Tensor x = empty({0, 2}, kFloat32);
  CHECK(numbers(reduce({ReduceKind::sum}, x, 1, kFloat32)) == Numbers{0, 0});
  CHECK(numbers(reduce({ReduceKind::prod}, x, 1, kFloat32)) == Numbers{1, 1});
  CHECK(numbers(reduce({ReduceKind::all}, x, 1, kBool)) == Numbers{1, 1});
  CHECK(numbers(reduce({ReduceKind::any}, x, 1, kBool)) == Numbers{0, 0});
  CHECK(numbers(reduce({ReduceKind::norm, 2}, x, 3, kFloat32)) == Numbers{0});
  CHECK(numbers(reduce({ReduceKind::norm, kInf}, x, 3, kFloat32)) == Numbers{0});
  CHECK(std::isnan(numbers(reduce({ReduceKind::mean}, x, 3, kFloat32))[0]));
  CHECK(std::isnan(numbers(reduce({ReduceKind::variance}, x, 3, kFloat32))[0]));
  CHECK(reduce({ReduceKind::sum}, x, 2, kFloat32).numel() == 0);
}

TEST_CASE("NaN goes through reductions", "[rows][reduce]") {
  for (const Dtype dtype : kFloats) {
    for (const std::int64_t n : {3, 64, 300, 5000}) {
      for (const std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
        Numbers values(static_cast<std::size_t>(n), 1.0);
        values[static_cast<std::size_t>(at)] = kNan;
        for (const Dims& shape : {Dims{n}, Dims{n, 1}}) {
          const Tensor x = filled(shape, values, dtype);
          for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::mean, ReduceKind::prod, ReduceKind::max,
                                        ReduceKind::min, ReduceKind::norm, ReduceKind::variance}) {
            INFO(dtype << " n " << n << " at " << at << " kind " << static_cast<int>(kind));
            CHECK(std::isnan(numbers(reduce({kind, kInf}, x, 1, dtype))[0]));
          }
          CHECK(numbers(reduce({ReduceKind::any}, x, 1, kBool))[0] == 1);
        }
      }
    }
  }
}

TEST_CASE("long float sums are exact to rounding", "[rows][reduce]") {
  const std::int64_t n = 3'000'000;
  Tensor x = allocate({n}, kFloat32);
  x.fill_(0.1f);
  const double want = static_cast<double>(0.1f) * static_cast<double>(n);
  CHECK(numbers(reduce({ReduceKind::sum}, x, 1, kFloat32))[0] == static_cast<double>(static_cast<float>(want)));
  const Tensor columns = alias(x, {n / 10, 10}, {10, 1}, 0);
  CHECK(numbers(reduce({ReduceKind::sum}, columns, 1, kFloat32))[3] ==
        static_cast<double>(static_cast<float>(want / 10)));
  const Tensor half = filled({4096}, Numbers(4096, 1.0), kFloat16);
  CHECK(numbers(reduce({ReduceKind::sum}, half, 1, kFloat16))[0] == 4096);  // adding in float16 would stop at 2048
}

TEST_CASE("variance survives a large mean", "[rows][reduce]") {
  Numbers values;
  for (int i = 0; i < 1000; ++i) values.push_back(1e6 + i % 2);
  const Tensor x = filled({1000}, values);
  CHECK(numbers(reduce({ReduceKind::variance, 2, 0}, x, 1, kFloat32))[0] == Catch::Approx(0.25).epsilon(1e-6));
  const Tensor one = filled({1}, {3});
  CHECK(std::isnan(numbers(reduce({ReduceKind::variance, 2, 1}, one, 1, kFloat32))[0]));
}

TEST_CASE("integer sums and products wrap around", "[rows][reduce]") {
  const std::int64_t big = std::numeric_limits<std::int64_t>::max();
  Tensor x = allocate({2}, kInt64);
  x[0].fill_(big);
  x[1].fill_(2);
  CHECK(reduce({ReduceKind::sum}, x, 1, kInt64).item<std::int64_t>() == std::numeric_limits<std::int64_t>::min() + 1);
  CHECK(reduce({ReduceKind::prod}, x, 1, kInt64).item<std::int64_t>() == -2);
  CHECK(reduce({ReduceKind::max}, x, 1, kInt64).item<std::int64_t>() == big);
}

TEST_CASE("sums do not depend on the number of threads", "[rows][reduce]") {
  const int threads = get_num_threads();
  const Tensor x = random_tensor({600, 700}, kFloat32, Layout::contiguous, 7);
  for (unsigned mask = 1; mask < 4; ++mask) {
    set_num_threads(1);
    const Numbers one = numbers(reduce({ReduceKind::sum}, x, mask, kFloat32));
    set_num_threads(3);
    CHECK(numbers(reduce({ReduceKind::sum}, x, mask, kFloat32)) == one);
  }
  set_num_threads(threads);
}

// ---------------------------------------------------------------- extremes and scans

struct Found {
  Tensor values, indices;
};
Found extreme(Extreme which, const Tensor& x, std::int64_t dim) {
  const Dims sizes = reduced_sizes(x.sizes(), x.dim() == 0 ? 0u : 1u << dim, false);
  Found found{empty(sizes, x.dtype()), empty(sizes, kInt64)};
  rows_backend().extreme(which, x, dim, found.values, found.indices);
  return found;
}

/// The first largest or smallest position; NaN counts as both.
double position(Extreme which, const Numbers& v) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < v.size(); ++i) {
    if (std::isnan(v[best])) break;
    if (std::isnan(v[i]) || (which == Extreme::max ? v[i] > v[best] : v[i] < v[best])) best = i;
  }
  return static_cast<double>(best);
}

void check_extreme(const Tensor& x, std::int64_t dim) {
  for (const Extreme which : {Extreme::max, Extreme::min}) {
    INFO("dim " << dim << " of " << describe(x) << " strides " << x.strides());
    const Found found = extreme(which, x, dim);
    const auto groups = grouped(x, x.dim() == 0 ? 0u : 1u << dim);
    check_close(numbers(found.indices), per_group(groups, [&](const Numbers& v) { return position(which, v); }), 0);
    check_close(numbers(found.values),
                per_group(groups, [&](const Numbers& v) { return v[static_cast<std::size_t>(position(which, v))]; }),
                0);
  }
}

TEST_CASE("extremes come with the first of their positions", "[rows][extreme]") {
  for (const Dtype dtype : kDtypes) {
    for (const Layout layout : kLayouts) {
      const Tensor x = random_tensor({3, 4, 5, 7}, dtype, layout);
      for (std::int64_t dim = 0; dim < 4; ++dim) check_extreme(x, dim);
    }
  }
  for (const Dims& shape : {Dims{}, Dims{1}, Dims{100}, Dims{5000}, Dims{2500, 3}, Dims{3, 2500}, Dims{90, 700}}) {
    const Tensor x = random_tensor(shape, kFloat32);
    for (std::int64_t dim = 0; dim < std::max<std::int64_t>(x.dim(), 1); ++dim) check_extreme(x, dim);
  }
}

TEST_CASE("NaN is an extreme, and either output may be left out", "[rows][extreme]") {
  for (const std::int64_t n : {5, 100, 3000}) {
    Numbers values(static_cast<std::size_t>(2 * n), 1.0);
    values[static_cast<std::size_t>(n - 2)] = kNan;
    values[static_cast<std::size_t>(2 * n - 1)] = kNan;
    check_extreme(filled({2, n}, values), 1);
    check_extreme(filled({n, 2}, values), 0);
  }
  const Tensor minus = filled({2}, {-kInf, -kInf});
  check_extreme(minus, 0);
  const Tensor x = filled({4}, {1, 5, 2, 5});
  Tensor values = empty({}, kFloat32), indices = empty({}, kInt64), none;
  rows_backend().extreme(Extreme::max, x, 0, values, none);
  rows_backend().extreme(Extreme::max, x, 0, none, indices);
  CHECK(numbers(values)[0] == 5);
  CHECK(numbers(indices)[0] == 1);
}

TEST_CASE("running sums and products", "[rows][scan]") {
  for (const Dtype dtype : kDtypes) {
    const Dtype to = is_floating_point(dtype) ? dtype : kInt64;
    for (const Layout layout : kLayouts) {
      const Tensor x = random_tensor({3, 4, 6, 5}, dtype, layout);
      for (std::int64_t dim = 0; dim < 4; ++dim) {
        for (const Scan kind : {Scan::sum, Scan::prod}) {
          Tensor y = allocate(x.sizes(), to, layout == Layout::expanded ? Layout::contiguous : layout);
          rows_backend().scan(kind, x, dim, y);
          INFO("dim " << dim << " of " << describe(x) << " strides " << x.strides());
          const Numbers want = along(x, dim, [&](Numbers v) {
            for (std::size_t i = 1; i < v.size(); ++i) v[i] = kind == Scan::sum ? v[i - 1] + v[i] : v[i - 1] * v[i];
            return v;
          });
          check_close(numbers(y), want, tolerance(to));
        }
      }
    }
  }
  const Tensor x = random_tensor({2000}, kFloat32);
  Tensor y = empty({2000}, kFloat64);
  rows_backend().scan(Scan::sum, x, 0, y);
  CHECK(numbers(y).back() == Catch::Approx(sum_of(numbers(x))));
  Tensor scalar = filled({}, {3}), copy = empty({}, kFloat32);
  rows_backend().scan(Scan::sum, scalar, 0, copy);
  CHECK(numbers(copy)[0] == 3);
}

// ---------------------------------------------------------------- softmax

Numbers softmax_of(const Numbers& v, bool log) {
  const double top = *std::max_element(v.begin(), v.end());
  double total = 0;
  for (const double x : v) total += std::exp(x - top);
  Numbers out;
  for (const double x : v) out.push_back(log ? x - top - std::log(total) : std::exp(x - top) / total);
  return out;
}

Numbers softmax_grad_of(const Numbers& g, const Numbers& y, bool log) {
  double total = 0;
  for (std::size_t i = 0; i < g.size(); ++i) total += log ? g[i] : g[i] * y[i];
  Numbers out;
  for (std::size_t i = 0; i < g.size(); ++i) out.push_back(log ? g[i] - std::exp(y[i]) * total : y[i] * (g[i] - total));
  return out;
}

void check_softmax(const Tensor& x, std::int64_t dim, bool log, Dtype to, Layout to_layout) {
  INFO("log " << log << " dim " << dim << " of " << describe(x) << " strides " << x.strides() << " to " << to);
  Tensor y = allocate(x.sizes(), to, to_layout);
  rows_backend().softmax(x, dim, log, y);
  check_close(numbers(y), along(x, dim, [&](const Numbers& v) { return softmax_of(v, log); }), tolerance(to));

  const Tensor g = random_tensor(x.sizes(), to, to_layout, 5);
  Tensor dx = allocate(x.sizes(), to, to_layout);
  rows_backend().softmax_grad(g, y, dim, log, dx);
  std::vector<Numbers> rows = grouped(y, x.dim() == 0 ? 0u : 1u << dim);
  std::size_t count = 0;
  // `along` visits the groups in order, so the gradient's row belongs to the next row of y.
  const Numbers want = along(g, dim, [&](const Numbers& row) { return softmax_grad_of(row, rows[count++], log); });
  check_close(numbers(dx), want, 3 * tolerance(to));
}

TEST_CASE("softmax and its gradient along every axis of every layout", "[rows][softmax]") {
  for (const Dtype dtype : kFloats) {
    for (const Layout layout : kLayouts) {
      const Layout to_layout = layout == Layout::expanded ? Layout::contiguous : layout;
      const Tensor x = random_tensor({3, 20, 5, 7}, dtype, layout);
      for (std::int64_t dim = 0; dim < 4; ++dim) {
        for (const bool log : {false, true}) {
          check_softmax(x, dim, log, dtype, to_layout);
          check_softmax(x, dim, log, kFloat32, Layout::contiguous);
        }
      }
    }
  }
  for (const Dims& shape :
       {Dims{}, Dims{0}, Dims{0, 3}, Dims{3, 0}, Dims{1}, Dims{1000, 37}, Dims{37, 1000}, Dims{2, 9000}}) {
    const Tensor x = random_tensor(shape, kFloat32);
    for (std::int64_t dim = 0; dim < std::max<std::int64_t>(x.dim(), 1); ++dim) {
      if (x.numel() > 0) check_softmax(x, dim, dim == 0, kFloat32, Layout::contiguous);
      Tensor y = empty(shape, kFloat32);
      rows_backend().softmax(x, dim, false, y);
    }
  }
}

TEST_CASE("softmax of infinities and NaN", "[rows][softmax]") {
  struct Case {
    Numbers x, softmax, log_softmax;
  };
  const double third = 1.0 / 3;
  const Numbers nans(3, kNan);
  for (const auto& [x, plain, log] :
       {Case{{-kInf, 0, 0}, {0, 0.5, 0.5}, {-kInf, -std::log(2), -std::log(2)}},
        Case{{1e4, 1e4, 1e4}, {third, third, third}, Numbers(3, -std::log(3))},
        Case{{-1000, 0, -1000}, {0, 1, 0}, {-1000, 0, -1000}}, Case{{-kInf, -kInf, -kInf}, nans, nans},
        Case{{kInf, 0, 0}, nans, nans}, Case{{kNan, 0, 0}, nans, nans}}) {
    Tensor y = empty({3}, kFloat32);
    rows_backend().softmax(filled({3}, x), 0, false, y);
    INFO(x[0]);
    check_close(numbers(y), plain, 1e-6);
    rows_backend().softmax(filled({3}, x), 0, true, y);
    check_close(numbers(y), log, 1e-6);
  }
}

// ---------------------------------------------------------------- the vector functions that rows and formulas call

TEST_CASE("vectorized functions keep special values and four units in the last place", "[rows][vector_math][cpu]") {
  struct Case {
    Unary f;
    double (*scalar)(double);
  };
  const Case cases[] = {{fn::Exp{}, std::exp},     {fn::Expm1{}, std::expm1}, {fn::Log{}, std::log},
                        {fn::Log1p{}, std::log1p}, {fn::Log2{}, std::log2},   {fn::Log10{}, std::log10},
                        {fn::Sin{}, std::sin},     {fn::Cos{}, std::cos},     {fn::Tan{}, std::tan},
                        {fn::Sinh{}, std::sinh},   {fn::Cosh{}, std::cosh},   {fn::Tanh{}, std::tanh},
                        {fn::Erf{}, std::erf}};
  Numbers values = {0,    -0.0, 1,     -1,   kInf, -kInf, kNan,  1e-40, -1e-40,
                    88.5, 89,   -87.5, -100, -104, 1e30,  -1e30, 710,   -746};
  for (int i = -300; i < 300; ++i) values.push_back(i * 0.037);
  for (const Dtype dtype : {kFloat32, kFloat64}) {
    const Tensor x = filled({static_cast<std::int64_t>(values.size())}, values, dtype);
    for (const Case& c : cases) {
      Tensor y = empty(x.sizes(), dtype);
      rows_backend().unary(c.f, x, y, dtype);
      const Numbers in = numbers(x), got = numbers(y);
      for (std::size_t i = 0; i < in.size(); ++i) {
        const double want =
            dtype == kFloat32 ? static_cast<double>(static_cast<float>(c.scalar(in[i]))) : c.scalar(in[i]);
        const bool same = got[i] == want || (std::isnan(got[i]) && std::isnan(want));
        const double unit = dtype == kFloat32 ? 0x1p-23 : 0x1p-52;
        INFO("function " << c.f.index() << " of " << in[i] << ": " << got[i] << ", not " << want);
        CHECK((same || std::abs(got[i] - want) <= 5 * unit * std::abs(want)));
      }
    }
  }
}

// ---------------------------------------------------------------- cross entropy

struct CrossEntropyCase {
  bool weighted;
  std::int64_t ignored;
  double smoothing;
};

Numbers weights_of(const CrossEntropyCase& c, std::int64_t classes) {
  Numbers w(static_cast<std::size_t>(classes), 1.0);
  for (std::size_t i = 0; c.weighted && i < w.size(); ++i) w[i] = 0.25 * static_cast<double>(i % 5);
  return w;
}

double loss_of(const Numbers& x, const Numbers& w, std::size_t label, double smoothing) {
  const Numbers log = softmax_of(x, true);
  double all = 0;
  for (std::size_t i = 0; i < x.size(); ++i) all -= w[i] * log[i];
  return (1 - smoothing) * -w[label] * log[label] + smoothing / static_cast<double>(x.size()) * all;
}

/// The derivative of loss_of by central differences would lose digits; this is its formula, term by term.
double slope_of(const Numbers& x, const Numbers& w, std::size_t label, double smoothing, std::size_t i) {
  const double p = softmax_of(x, false)[i];
  const double each = smoothing / static_cast<double>(x.size());
  double slope = (1 - smoothing) * w[label] * (p - (i == label ? 1 : 0));
  for (std::size_t c = 0; c < x.size(); ++c) slope += each * w[c] * (p - (i == c ? 1 : 0));
  return slope;
}

void check_cross_entropy(const CrossEntropyCase& c, std::int64_t rows, std::int64_t classes, Dtype dtype,
                         Layout layout) {
  INFO("weighted " << c.weighted << " ignored " << c.ignored << " smoothing " << c.smoothing << " " << dtype << "["
                   << rows << ", " << classes << "]");
  const Dtype to = dtype == kFloat64 ? kFloat64 : kFloat32;
  const Tensor logits = random_tensor({rows, classes}, dtype, layout),
               labels = allocate({rows}, kInt64, Layout::padded);
  Numbers t;
  for (std::int64_t i = 0; i < rows; ++i)
    t.push_back(static_cast<double>(i * 7 % 3 == 0 ? std::max<std::int64_t>(c.ignored, 0) : i % classes));
  if (c.ignored < 0 && rows > 1) t[1] = static_cast<double>(c.ignored);
  assign(labels, t);
  const Numbers w = weights_of(c, classes);
  const Tensor weight = c.weighted ? filled({classes}, w, to) : Tensor();
  Tensor loss = empty({rows}, to), lse = empty({rows}, to), dx = allocate({rows, classes}, dtype, layout);
  rows_backend().cross_entropy(logits, labels, weight, c.ignored, c.smoothing, loss, lse);
  const Tensor g = random_tensor({rows}, to, Layout::expanded, 9);
  rows_backend().cross_entropy_grad(g, logits, labels, weight, lse, c.ignored, c.smoothing, dx);

  Numbers losses, slopes;
  const auto x = grouped(logits, 2);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool ignored = t[i] == static_cast<double>(c.ignored);
    const auto label = static_cast<std::size_t>(t[i]);
    losses.push_back(ignored ? 0 : loss_of(x[i], w, label, c.smoothing));
    for (std::size_t k = 0; k < x[i].size(); ++k) {
      slopes.push_back(ignored ? 0 : numbers(g)[i] * slope_of(x[i], w, label, c.smoothing, k));
    }
  }
  check_close(numbers(loss), losses, tolerance(to));
  check_close(numbers(dx), slopes, tolerance(dtype));
}

TEST_CASE("cross entropy and its gradient, with weights, ignored labels and smoothing", "[rows][cross_entropy]") {
  for (const Dtype dtype : kFloats) {
    for (const CrossEntropyCase& c :
         {CrossEntropyCase{false, -100, 0}, CrossEntropyCase{true, -100, 0}, CrossEntropyCase{false, 2, 0.1},
          CrossEntropyCase{true, 2, 0.1}, CrossEntropyCase{true, -1, 0.7}, CrossEntropyCase{false, -1, 1}}) {
      check_cross_entropy(c, 9, 10, dtype, Layout::contiguous);
      check_cross_entropy(c, 9, 10, dtype, Layout::padded);
      check_cross_entropy(c, 33, 70, dtype, Layout::transposed);
    }
  }
}

/// Values of torch.nn.functional.cross_entropy(x, t, weight, ignore_index=1, reduction='none', label_smoothing=0.2).
TEST_CASE("cross entropy is PyTorch's", "[rows][cross_entropy]") {
  const Tensor x = filled({3, 4}, {0.5, -1, 2, 0, 1, 1, -3, 0.25, -0.5, 4, 0, 1.5});
  const Tensor labels = filled({3}, {2, 1, 0}, kInt64), weight = filled({4}, {1, 2, 0.5, 0.25});
  Tensor loss = empty({3}, kFloat32), lse = empty({3}, kFloat32);
  rows_backend().cross_entropy(x, labels, weight, 1, 0.2, loss, lse);
  check_close(numbers(loss), {0.60113038, 0, 4.06064763}, 1e-6);
  Tensor dx = empty({3, 4}, kFloat32);
  rows_backend().cross_entropy_grad(filled({3}, {1, 1, 2}), x, labels, weight, lse, 1, 0.2, dx);
  check_close(numbers(dx),
              {0.0430862668, -0.0792296464, -0.0078162953, 0.0439596748, 0, 0, 0, 0, -1.68026084, 1.57686269,
               -0.0174556246, 0.120853772},
              1e-6);
}

TEST_CASE("a label out of range is named", "[rows][cross_entropy][cpu]") {
  const Tensor x = random_tensor({5, 10}, kFloat32);
  Tensor loss = empty({5}, kFloat32), lse = empty({5}, kFloat32);
  const auto run = [&](const Numbers& t) {
    rows_backend().cross_entropy(x, filled({5}, t, kInt64), {}, -100, 0, loss, lse);
  };
  CHECK_THROWS_AS(run({0, 1, 2, 12, 4}), IndexError);
  CHECK_THROWS_WITH(run({0, 1, 2, 12, 4}), "cross_entropy: label 12 at position 3 is out of range for 10 classes");
  CHECK_THROWS_WITH(run({-1, 1, 2, 3, 4}), "cross_entropy: label -1 at position 0 is out of range for 10 classes");
  CHECK_NOTHROW(run({-100, 9, 0, -100, 4}));
}

TEST_CASE("cross entropy of large logits keeps the small loss", "[rows][cross_entropy]") {
  const Tensor x = filled({1, 2}, {10000, 9999});
  Tensor loss = empty({1}, kFloat32), lse = empty({1}, kFloat32);
  rows_backend().cross_entropy(x, filled({1}, {0}, kInt64), {}, -100, 0, loss, lse);
  CHECK(numbers(loss)[0] == Catch::Approx(std::log1p(std::exp(-1.0))).epsilon(1e-6));
}

// ---------------------------------------------------------------- layer normalization

struct Normalized {
  Numbers y;
  double mean, rstd;
};
Normalized normalized(const Numbers& x, double eps) {
  const auto n = static_cast<double>(x.size());
  const double mean = sum_of(x) / n;
  double squares = 0;
  for (const double v : x) squares += (v - mean) * (v - mean);
  Normalized out{{}, mean, 1 / std::sqrt(squares / n + eps)};
  for (const double v : x) out.y.push_back((v - mean) * out.rstd);
  return out;
}

/// The gradient for x of a normalization, from the gradient for its result and that result without weights.
Numbers normalized_grad(const Numbers& g, const Normalized& s) {
  const auto n = static_cast<double>(g.size());
  const double mean = sum_of(g) / n;
  double along_x = 0;
  for (std::size_t i = 0; i < g.size(); ++i) along_x += g[i] * s.y[i] / n;
  Numbers dx;
  for (std::size_t i = 0; i < g.size(); ++i) dx.push_back(s.rstd * (g[i] - mean - s.y[i] * along_x));
  return dx;
}

void check_layer_norm(std::int64_t rows, std::int64_t width, Dtype dtype, Dtype weight_dtype, bool weighted) {
  INFO(dtype << "[" << rows << ", " << width << "] weights " << weight_dtype << " " << weighted);
  const Tensor x = random_tensor({rows, width}, dtype), g = random_tensor({rows, width}, dtype, Layout::contiguous, 3);
  const Tensor w = weighted ? random_tensor({width}, weight_dtype, Layout::contiguous, 4) : Tensor();
  const Tensor b = weighted ? random_tensor({width}, weight_dtype, Layout::contiguous, 5) : Tensor();
  const Dtype statistics = dtype == kFloat64 ? kFloat64 : kFloat32;
  Tensor y = empty(x.sizes(), dtype), mean = empty({rows}, statistics), rstd = empty({rows}, statistics);
  rows_backend().layer_norm(x, w, b, width, 1e-5, y, mean, rstd);
  Tensor dx = empty(x.sizes(), dtype), dw = empty({width}, weight_dtype), db = empty({width}, weight_dtype), none;
  rows_backend().layer_norm_grad(g, x, w, mean, rstd, width, dx, weighted ? dw : none, weighted ? db : none);

  const Numbers ones(static_cast<std::size_t>(width), 1.0), zeros(static_cast<std::size_t>(width), 0.0);
  const Numbers scale = weighted ? numbers(w) : ones, shift = weighted ? numbers(b) : zeros;
  const auto x_rows = grouped(x, 2), g_rows = grouped(g, 2);
  Numbers want, means, want_dx, want_dw = zeros, want_db = zeros;
  for (std::size_t i = 0; i < x_rows.size(); ++i) {
    const Normalized s = normalized(x_rows[i], 1e-5);
    Numbers weighted_g;
    for (std::size_t k = 0; k < scale.size(); ++k) {
      want.push_back(s.y[k] * scale[k] + shift[k]);
      weighted_g.push_back(g_rows[i][k] * scale[k]);
      want_dw[k] += g_rows[i][k] * s.y[k];
      want_db[k] += g_rows[i][k];
    }
    means.push_back(s.mean);
    for (const double v : normalized_grad(weighted_g, s)) want_dx.push_back(v);
  }
  check_close(numbers(y), want, tolerance(dtype));
  check_close(numbers(mean), means, tolerance(statistics));
  check_close(numbers(dx), want_dx, 3 * tolerance(dtype));
  if (!weighted) return;
  check_close(numbers(dw), want_dw, 3 * tolerance(weight_dtype));
  check_close(numbers(db), want_db, tolerance(weight_dtype));
}

TEST_CASE("layer normalization and its gradients", "[rows][layer_norm]") {
  for (const Dtype dtype : kFloats) {
    for (const Dtype weight_dtype : {dtype, kFloat32}) {
      for (const bool weighted : {false, true}) {
        check_layer_norm(5, 33, dtype, weight_dtype, weighted);
        check_layer_norm(1, 66, dtype, weight_dtype, weighted);  // one row of any width is aligned, two are not
        check_layer_norm(1000, 70, dtype, weight_dtype, weighted);
      }
    }
    check_layer_norm(2, 3000, dtype, dtype, true);
    check_layer_norm(0, 4, dtype, dtype, true);
  }
}

// ---------------------------------------------------------------- batch normalization

/// The elements of each channel of [N, C, ...], in the order of n first.
std::vector<Numbers> by_channel(const Tensor& x) { return grouped(x, ((1u << x.dim()) - 1u) & ~2u); }

/// The inverse of by_channel.
Numbers from_channels(const std::vector<Numbers>& channels, const Tensor& like) {
  Numbers out;
  const auto n = static_cast<std::size_t>(like.size(0)), count = channels.empty() ? 0 : channels[0].size();
  const std::size_t run = n == 0 ? 0 : count / n;
  for (std::size_t i = 0; i < n; ++i) {
    for (const Numbers& c : channels)
      out.insert(out.end(), c.begin() + static_cast<std::ptrdiff_t>(i * run),
                 c.begin() + static_cast<std::ptrdiff_t>((i + 1) * run));
  }
  return out;
}

struct BatchNormCase {
  Dims sizes;
  Layout layout;
  Dtype dtype, weight_dtype;
  bool training;
};

void check_batch_norm(const BatchNormCase& c) {
  INFO(c.dtype << c.sizes << " layout " << static_cast<int>(c.layout) << " training " << c.training << " weights "
               << c.weight_dtype);
  const std::int64_t channels = c.sizes[1];
  const Dtype statistics = c.dtype == kFloat64 ? kFloat64 : kFloat32;
  const Tensor x = random_tensor(c.sizes, c.dtype, c.layout), g = random_tensor(c.sizes, c.dtype, c.layout, 3);
  const Tensor w = random_tensor({channels}, c.weight_dtype, Layout::contiguous, 4);
  const Tensor b = random_tensor({channels}, c.weight_dtype, Layout::contiguous, 5);
  Tensor running_mean = filled({channels}, Numbers(static_cast<std::size_t>(channels), 0.5), statistics);
  Tensor running_var = filled({channels}, Numbers(static_cast<std::size_t>(channels), 2), statistics);
  Tensor mean = filled({channels}, Numbers(static_cast<std::size_t>(channels), 0.25), statistics);
  Tensor rstd = filled({channels}, Numbers(static_cast<std::size_t>(channels), 1.5), statistics);
  Tensor y = allocate(c.sizes, c.dtype, c.layout), dx = allocate(c.sizes, c.dtype, c.layout);
  Tensor dw = empty({channels}, c.weight_dtype), db = empty({channels}, c.weight_dtype);
  rows_backend().batch_norm(x, w, b, running_mean, running_var, c.training, 0.1, 1e-5, y, mean, rstd);
  rows_backend().batch_norm_grad(g, x, w, mean, rstd, c.training, dx, dw, db);

  std::vector<Numbers> ys = by_channel(x), dxs = by_channel(g);
  const Numbers scale = numbers(w), shift = numbers(b);
  Numbers means, variances, dws, dbs;
  for (std::size_t i = 0; i < ys.size(); ++i) {
    Normalized s = normalized(ys[i], 1e-5);
    if (!c.training) {
      s = {{}, 0.25, 1.5};
      for (const double v : ys[i]) s.y.push_back((v - 0.25) * 1.5);
    }
    const auto n = static_cast<double>(ys[i].size());
    means.push_back(c.training ? 0.9 * 0.5 + 0.1 * s.mean : 0.5);
    const double variance = 1 / (s.rstd * s.rstd) - 1e-5;
    variances.push_back(c.training ? 0.9 * 2 + 0.1 * (n > 1 ? variance * n / (n - 1) : 0) : 2);
    dbs.push_back(sum_of(dxs[i]));
    dws.push_back(std::inner_product(dxs[i].begin(), dxs[i].end(), s.y.begin(), 0.0));
    Numbers weighted;
    for (std::size_t k = 0; k < ys[i].size(); ++k) {
      ys[i][k] = s.y[k] * scale[i] + shift[i];
      weighted.push_back(dxs[i][k] * scale[i]);
    }
    dxs[i] = c.training ? normalized_grad(weighted, s) : weighted;
    if (!c.training)
      for (double& v : dxs[i]) v *= 1.5;
  }
  check_close(numbers(y), from_channels(ys, x), tolerance(c.dtype));
  check_close(numbers(running_mean), means, tolerance(statistics));
  check_close(numbers(running_var), variances, tolerance(statistics));
  check_close(numbers(dx), from_channels(dxs, x), 3 * tolerance(c.dtype));
  check_close(numbers(dw), dws, 3 * tolerance(c.weight_dtype));
  check_close(numbers(db), dbs, tolerance(c.weight_dtype));
}

TEST_CASE("batch normalization and its gradients", "[rows][batch_norm]") {
  const std::vector<Dims> shapes = {{4, 3, 5, 7}, {2, 17, 40, 41}, {64, 20},      {6, 5, 9},
                                    {3, 4, 1, 1}, {2, 1, 8, 8},    {70, 30, 2, 2}};
  for (const Dtype dtype : kFloats) {
    for (const Dims& shape : shapes) {
      for (const Layout layout : {Layout::contiguous, Layout::channels_last, Layout::padded}) {
        if (layout == Layout::channels_last && shape.size() != 4) continue;
        for (const bool training : {false, true}) {
          for (const Dtype weight : {dtype, kFloat32}) check_batch_norm({shape, layout, dtype, weight, training});
        }
      }
    }
  }
}

TEST_CASE("batch statistics survive a large mean", "[rows][batch_norm]") {
  for (const Layout layout : {Layout::contiguous, Layout::channels_last}) {
    const Tensor x = allocate({8, 2, 16, 16}, kFloat32, layout);
    Numbers values(static_cast<std::size_t>(x.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = 10000 + (i % 2 ? 0.5 : -0.5);
    assign(x, values);
    Tensor y = allocate(x.sizes(), kFloat32, layout), mean = empty({2}, kFloat32), rstd = empty({2}, kFloat32), none;
    rows_backend().batch_norm(x, {}, {}, none, none, true, 0.1, 0, y, mean, rstd);
    CHECK(numbers(mean)[0] == Catch::Approx(10000).epsilon(1e-7));
    CHECK(numbers(rstd)[1] == Catch::Approx(2).epsilon(1e-6));
    CHECK(numbers(y)[1] == Catch::Approx(1).epsilon(1e-4));
  }
}

TEST_CASE("batch normalization does not depend on the number of threads", "[rows][batch_norm]") {
  const int threads = get_num_threads();
  for (const Layout layout : {Layout::contiguous, Layout::channels_last}) {
    const Tensor x = random_tensor({16, 24, 30, 30}, kFloat32, layout);
    Numbers first;
    for (const int n : {1, 3}) {
      set_num_threads(n);
      Tensor y = allocate(x.sizes(), kFloat32, layout), mean = empty({24}, kFloat32), rstd = empty({24}, kFloat32);
      Tensor none, dx = allocate(x.sizes(), kFloat32, layout), dw = empty({24}, kFloat32), db = empty({24}, kFloat32);
      rows_backend().batch_norm(x, {}, {}, none, none, true, 0.1, 1e-5, y, mean, rstd);
      rows_backend().batch_norm_grad(x, x, {}, mean, rstd, true, dx, dw, db);
      Numbers all = numbers(y);
      for (const Tensor& t : {mean, rstd, dx, dw, db}) {
        for (const double v : numbers(t)) all.push_back(v);
      }
      if (first.empty()) first = all;
      CHECK(all == first);
    }
  }
  set_num_threads(threads);
}

TEST_CASE("an empty batch leaves running statistics alone", "[rows][batch_norm]") {
  const Tensor x = empty({0, 2, 3, 3}, kFloat32);
  Tensor mean = empty({2}, kFloat32), rstd = empty({2}, kFloat32), y = empty(x.sizes(), kFloat32), dx = y;
  Tensor running_mean = filled({2}, {1, 2}), running_var = filled({2}, {3, 4});
  Tensor dw = filled({2}, {7, 7}), db = filled({2}, {7, 7});
  rows_backend().batch_norm(x, {}, {}, running_mean, running_var, true, 0.1, 1e-5, y, mean, rstd);
  rows_backend().batch_norm_grad(x, x, {}, mean, rstd, true, dx, dw, db);
  CHECK(numbers(running_mean) == Numbers{1, 2});
  CHECK(numbers(running_var) == Numbers{3, 4});
  CHECK(numbers(dw) == Numbers{0, 0});
  CHECK(numbers(db) == Numbers{0, 0});
}

}  // namespace
}  // namespace halftone
