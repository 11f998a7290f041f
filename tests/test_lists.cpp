#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "kernels/lists.h"
#include "tests/catch.h"

namespace halftone {
namespace {

using Values = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();

struct SgdCase {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
  Values in_float, in_double;
};
struct AdamCase {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled, amsgrad, maximize;
  Values in_float, in_double;
};
#include "tests/golden/updates.inc"

/// How a tensor of 24 elements lies in memory.
enum class Layout { contiguous, transposed, channels_last, spread };
constexpr Layout kLayouts[] = {Layout::contiguous, Layout::transposed, Layout::channels_last, Layout::spread};

Tensor make(IntArrayRef sizes, Dtype dtype, Layout layout = Layout::contiguous) {
  if (layout == Layout::channels_last)
    return empty(sizes, TensorOptions(dtype).memory_format(MemoryFormat::ChannelsLast));
  Dims strides = contiguous_strides(sizes);
  if (layout == Layout::transposed) {
    std::int64_t step = 1;
    for (std::size_t i = 0; i < sizes.size(); ++i, step *= sizes[i - 1]) strides[i] = step;
  }
  if (layout == Layout::spread) {
    for (std::int64_t& s : strides) s *= 3;
  }
  return empty_strided(sizes, strides, dtype);
}

/// The arithmetic of the device under test.
Backend& here() { return backend(get_default_device().type()); }

/// Elements in row-major order, whatever the strides.
void write(const Tensor& t, const Values& values) {
  const Tensor dense = empty(t.sizes(), TensorOptions(kFloat64).device(kCPU));
  std::copy(values.begin(), values.end(), dense.data_ptr<double>());
  Tensor to = t;
  here().copy(dense.to(t.device()), to);
}
Values read(const Tensor& t) {
  Tensor dense = empty(t.sizes(), kFloat64);
  here().copy(t, dense);
  const Tensor host = dense.cpu();
  return {host.data_ptr<double>(), host.data_ptr<double>() + host.numel()};
}

Tensor filled(IntArrayRef sizes, Dtype dtype, const Values& values, Layout layout = Layout::contiguous) {
  Tensor t = make(sizes, dtype, layout);
  write(t, values);
  return t;
}
Tensor zeros_of(IntArrayRef sizes, Dtype dtype, Layout layout = Layout::contiguous) {
  Tensor t = make(sizes, dtype, layout);
  here().fill(t, 0.0);
  return t;
}
Tensor one(double value, Dtype dtype = kFloat32) { return filled({}, dtype, {value}); }

Values ramp(std::int64_t n, double scale = 0.125) {
  Values v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(static_cast<double>((i * 7) % 11 - 5) * scale);
  return v;
}

double epsilon(Dtype d) { return d == kFloat64 ? 0x1p-52 : d == kFloat32 ? 0x1p-23 : d == kFloat16 ? 0x1p-10 : 0x1p-7; }
Dtype state_dtype(Dtype d) { return d == kFloat64 ? kFloat64 : kFloat32; }

void check_close(const Values& got, const Values& wanted, double tolerance) {
  REQUIRE(got.size() == wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i);
    CHECK(std::abs(got[i] - wanted[i]) <= tolerance * std::max(1.0, std::abs(wanted[i])));
  }
}

constexpr Dtype kFloats[] = {kFloat16, kBFloat16, kFloat32, kFloat64};

template <std::size_t N> Values values_of(const double (&x)[N]) { return {x, x + N}; }

SgdStep step_of(const SgdCase& c) {
  SgdStep f;
  f.lr = c.lr, f.momentum = c.momentum, f.dampening = c.dampening, f.weight_decay = c.weight_decay;
  f.nesterov = c.nesterov, f.maximize = c.maximize;
  return f;
}

AdamStep step_of(const AdamCase& c, int number) {
  AdamStep f;
  f.lr = c.lr, f.beta1 = c.beta1, f.beta2 = c.beta2, f.eps = c.eps, f.weight_decay = c.weight_decay;
  f.bias1 = 1 - std::pow(c.beta1, number), f.bias2 = 1 - std::pow(c.beta2, number);
  f.decoupled = c.decoupled, f.amsgrad = c.amsgrad, f.maximize = c.maximize;
  return f;
}

TEST_CASE("SGD agrees with PyTorch", "[kernels][lists]") {
  for (const Dtype dtype : {kFloat32, kFloat64}) {
    for (const SgdCase& c : kSgd) {
      INFO("lr " << c.lr << " momentum " << c.momentum << " " << dtype);
      const std::vector<Tensor> p{filled({6}, dtype, values_of(kStart))}, v{zeros_of({6}, dtype)};
      SgdStep f = step_of(c);
      f.first = true;
      for (const auto& g : kGradients) {
        const std::vector<Tensor> grads{filled({6}, dtype, values_of(g))};
        here().sgd(f, p, grads, v, {}, {});
        f.first = false;
      }
      check_close(read(p[0]), dtype == kFloat32 ? c.in_float : c.in_double, 2 * epsilon(dtype));
    }
  }
}

TEST_CASE("Adam and AdamW agree with PyTorch", "[kernels][lists]") {
  for (const Dtype dtype : {kFloat32, kFloat64}) {
    for (const AdamCase& c : kAdam) {
      INFO("lr " << c.lr << " beta1 " << c.beta1 << " decoupled " << c.decoupled << " amsgrad " << c.amsgrad << dtype);
      const std::vector<Tensor> p{filled({6}, dtype, values_of(kStart))}, m{zeros_of({6}, dtype)},
          v{zeros_of({6}, dtype)}, v_max{zeros_of({6}, dtype)};
      int number = 0;
      for (const auto& g : kGradients) {
        const std::vector<Tensor> grads{filled({6}, dtype, values_of(g))};
        here().adam(step_of(c, ++number), p, grads, m, v, v_max, {}, {});
      }
      check_close(read(p[0]), dtype == kFloat32 ? c.in_float : c.in_double, 2 * epsilon(dtype));
    }
  }
}

TEST_CASE("a step does the same in every layout and dtype", "[kernels][lists]") {
  const Dims sizes{2, 3, 2, 2};
  for (const Dtype dtype : kFloats) {
    for (const Dtype grad_dtype : kFloats) {
      const auto run = [&](Layout p_layout, Layout g_layout, bool adam) {
        const Dtype state = state_dtype(dtype);
        const std::vector<Tensor> p{filled(sizes, dtype, ramp(24), p_layout)},
            g{filled(sizes, grad_dtype, ramp(24, 0.25), g_layout)};
        const std::vector<Tensor> m{zeros_of(sizes, state, p_layout)}, v{zeros_of(sizes, state, g_layout)};
        AdamStep a = step_of(kAdam[2], 1);
        SgdStep s = step_of(kSgd[2]);
        if (adam) here().adam(a, p, g, m, v, {}, one(0.5), one(0));
        if (!adam) here().sgd(s, p, g, m, one(0.5), one(0));
        CHECK(read(g[0]) == ramp(24, 0.5));  // divided by the scale, and written back
        return read(p[0]);
      };
      for (const bool adam : {false, true}) {
        const Values wanted = run(Layout::contiguous, Layout::contiguous, adam);
        for (const Layout p : kLayouts) {
          for (const Layout g : kLayouts) CHECK(run(p, g, adam) == wanted);
        }
      }
    }
  }
}

TEST_CASE("nothing is written when an overflow was found", "[kernels][lists]") {
  const std::vector<Tensor> p{filled({6}, kFloat32, ramp(6))}, g{filled({6}, kFloat32, ramp(6))};
  const std::vector<Tensor> m{zeros_of({6}, kFloat32)}, v{zeros_of({6}, kFloat32)};
  here().sgd(step_of(kSgd[1]), p, g, m, one(2), one(1));
  here().adam(step_of(kAdam[0], 1), p, g, m, v, {}, one(2), one(1));
  CHECK(read(p[0]) == ramp(6));
  CHECK(read(g[0]) == ramp(6));
  CHECK(read(m[0]) == Values(6, 0));
}

Tensor counter(std::int64_t value) {
  Tensor t = empty({}, kInt64);
  here().fill(t, value);
  return t;
}

TEST_CASE("skipped steps are counted, and the bias corrections are those of the steps taken", "[kernels][lists]") {
  const auto run = [](AdamStep f, double steps, std::int64_t skips, double overflow) {
    const std::vector<Tensor> p{filled({40}, kFloat32, ramp(40))}, g{filled({40}, kFloat32, ramp(40))},
        m{zeros_of({40}, kFloat32)}, v{zeros_of({40}, kFloat32)};
    const Tensor skipped = counter(skips);
    f.steps = steps;
    here().adam(f, p, g, m, v, {}, {}, one(overflow), skipped);
    return std::pair{read(p[0]), skipped.item<std::int64_t>()};
  };
  const AdamStep first = step_of(kAdam[0], 1), fourth = step_of(kAdam[0], 4);
  const auto [once, zero] = run(first, 1, 0, 0);
  CHECK(zero == 0);
  CHECK(run(first, 5, 4, 0) == std::pair{once, std::int64_t{4}});
  CHECK(run(fourth, 5, 4, 1) == std::pair{ramp(40), std::int64_t{5}});
  CHECK(run(first, 4, 0, 0).first != once);
  CHECK(run(first, 4, 0, 0).first == run(first, 9, 5, 0).first);
}

TEST_CASE("a replayed step is taken from the skipped ones when it is taken", "[kernels][lists]") {
  // The host counts none of them; the runs are told apart by `skipped` alone.
  const auto run = [](bool replayed, const std::vector<double>& overflows, std::int64_t count) {
    const std::vector<Tensor> p{filled({40}, kFloat32, ramp(40)), filled({3000}, kFloat32, ramp(3000))},
        g{filled({40}, kFloat32, ramp(40)), filled({3000}, kFloat32, ramp(3000))},
        m{zeros_of({40}, kFloat32), zeros_of({3000}, kFloat32)},
        v{zeros_of({40}, kFloat32), zeros_of({3000}, kFloat32)};
    const Tensor skipped = counter(0);
    AdamStep f = step_of(kAdam[0], 1);
    f.replayed = replayed;
    f.steps = 1;
    for (const double overflow : overflows) {
      here().adam(f, p, g, m, v, {}, {}, one(overflow), skipped);
      if (!replayed) ++f.steps;
    }
    CHECK(skipped.item<std::int64_t>() == count);
    return std::pair{read(p[0]), read(p[1])};
  };
  CHECK(run(true, {0, 0, 1, 0, 1}, -3) == run(false, {0, 0, 1, 0, 1}, 2));
}

TEST_CASE("without weight decay an infinite parameter stays infinite", "[kernels][lists]") {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<Tensor> p{filled({1}, kFloat32, {inf})}, g{filled({1}, kFloat32, {1})}, m{zeros_of({1}, kFloat32)},
      v{zeros_of({1}, kFloat32)};
  here().sgd(step_of(kSgd[0]), p, g, {}, {}, {});
  here().adam(step_of(kAdam[0], 1), p, g, m, v, {}, {}, {});
  CHECK(read(p[0]) == Values{inf});
}

TEST_CASE("unscale divides and reports infinities and NaN", "[kernels][lists]") {
  const double bad[] = {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                        std::nan("")};
  for (const Dtype dtype : kFloats) {
    for (const Layout layout : kLayouts) {
      const Dims sizes{2, 3, 2, 2};
      std::vector<Tensor> tensors{filled(sizes, dtype, ramp(24), layout), filled({0}, dtype, {}),
                                  filled({1}, kFloat32, {4})};
      Tensor found = one(0);
      here().unscale(tensors, one(2), found);
      CHECK(read(found) == Values{0});
      CHECK(read(tensors[0]) == ramp(24, 0.0625));
      CHECK(read(tensors[2]) == Values{2});
      for (const double value : bad) {
        Values with_bad = ramp(24);
        with_bad[17] = value;
        write(tensors[0], with_bad);
        found = one(0);
        here().unscale(tensors, one(0.5), found);
        CHECK(read(found) == Values{1});
        CHECK(read(tensors[0])[16] == 2 * with_bad[16]);
      }
    }
  }
}

TEST_CASE("unscale tests float64 in float64", "[kernels][lists]") {
  const std::vector<Tensor> tensors{filled({1}, kFloat64, {1e300})};
  Tensor found = one(0);
  here().unscale(tensors, {}, found);
  CHECK(read(found) == Values{0});
}

TEST_CASE("unscale by exactly 1 leaves every bit", "[kernels][lists]") {
  const Tensor host = empty({2}, TensorOptions(kFloat32).device(kCPU));
  const std::uint32_t bits[] = {0x7FA00001u, 1u};  // a signalling NaN, a subnormal
  std::memcpy(host.data_ptr(), bits, sizeof(bits));
  const Tensor t = host.to(get_default_device());
  Tensor found = one(0);
  here().unscale(std::vector<Tensor>{t}, one(1), found);
  CHECK(std::memcmp(t.cpu().data_ptr(), bits, sizeof(bits)) == 0);
  CHECK(read(found) == Values{1});
}

TEST_CASE("memory that is shared is scaled once", "[kernels][lists]") {
  for (const Dtype dtype : kFloats) {
    const Tensor row = filled({8}, dtype, {1, 2, 3, 4, 5, 6, 7, 8});
    const Values doubled{2, 4, 6, 8, 10, 12, 14, 16};
    Tensor found = one(0);
    here().unscale(std::vector<Tensor>{alias(row, {5, 8, 3}, {0, 1, 0}, 0)}, one(0.5), found);
    CHECK(read(row) == doubled);
    here().list_divide(std::vector<Tensor>{alias(row, {5, 4}, {1, 1}, 0)}, one(2, kFloat64));  // overlapping windows
    CHECK(read(row) == Values{1, 2, 3, 4, 5, 6, 7, 8});
  }
}

double reference_norm(const Values& x, double p) {
  double sum = p < 0 ? std::numeric_limits<double>::infinity() : 0;
  for (const double v : x) {
    if (p == std::numeric_limits<double>::infinity()) {
      sum = std::max(sum, std::abs(v));
    } else if (p < 0 && std::isinf(p)) {
      sum = std::min(sum, std::abs(v));
    } else {
      sum += p == 0 ? (v != 0) : std::pow(std::abs(v), p);
    }
  }
  return p == 0 || std::isinf(p) ? sum : std::pow(sum, 1 / p);
}

bool same_number(double a, double b, double tolerance) {
  return (std::isnan(a) && std::isnan(b)) || a == b || std::abs(a - b) <= tolerance * std::abs(b);
}

TEST_CASE("a norm brings the divisor that limits it", "[kernels][lists]") {
  struct Row {
    Values values;
    double most, divisor;
  };
  const Row rows[] = {{{3, 4}, 10, 1},   {{3, 4}, 1, 5}, {{}, 1, 1},          {{kNaN}, 1, kNaN},
                      {{kInf}, 1, kInf}, {{0}, 0, kInf}, {{3e38, 3e38}, 1, 0}};
  for (const Row& row : rows) {
    Tensor norm = one(-1), divisor = one(-1, kFloat64);
    const Tensor x = filled({static_cast<std::int64_t>(row.values.size())}, kFloat32, row.values);
    here().list_norm(std::vector<Tensor>{x}, 2, norm, {row.most, divisor, {}, {}});
    const double wanted = row.divisor == 0 ? 3e38 * std::sqrt(2) : row.divisor;  // beyond float
    CHECK(same_number(read(divisor)[0], wanted, 1e-6));
    here().list_divide(std::vector<Tensor>{x}, divisor);
    for (std::size_t i = 0; i < row.values.size(); ++i) CHECK(same_number(read(x)[i], row.values[i] / wanted, 1e-6));
  }
}

TEST_CASE("a norm of scaled values is that without the scale, and tells of infinities", "[kernels][lists]") {
  const double scale = 1024;
  for (const Dtype dtype : kFloats) {
    for (const double p : {2.0, 1.0, 0.0, 3.0, 64.0, kInf, -kInf}) {
      for (const double bad : {0.0, kInf, -kInf, kNaN}) {
        INFO("p " << p << " " << dtype << " " << bad);
        Values values = ramp(3000);
        std::vector<Tensor> tensors{filled({3000}, dtype, ramp(3000, 0.125 * scale)), filled({0}, dtype, {}),
                                    filled({2, 3, 2, 2}, kFloat32, ramp(24, 0.125 * scale), Layout::spread)};
        for (const double v : ramp(24)) values.push_back(v);
        if (bad != 0) tensors[0][2999] = bad;
        Tensor norm = one(-1, kFloat64), divisor = one(-1, kFloat64), found = one(0);
        here().list_norm(tensors, p, norm, {0.5, divisor, one(scale), found});
        CHECK(read(found) == Values{bad == 0 ? 0.0 : 1.0});
        if (bad != 0) continue;
        const double wanted = reference_norm(values, p);
        CHECK(read(norm)[0] == Catch::Approx(wanted).epsilon(1e-6));
        CHECK(read(divisor)[0] == Catch::Approx(clip_divisor(wanted, 0.5, scale)).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("a float64 value whose square is infinite is finite all the same", "[kernels][lists]") {
  Tensor norm = one(0, kFloat64), found = one(0);
  here().list_norm(std::vector<Tensor>{filled({2}, kFloat64, {1e200, 1})}, 2, norm, {1, {}, {}, found});
  CHECK(read(found) == Values{0});
  here().list_norm({}, 2, norm, {1, one(0, kFloat64), one(4), found});
  CHECK(read(found) == Values{0});
}

TEST_CASE("a step divides by a double as by a float", "[kernels][lists]") {
  for (const Dtype dtype : kFloats) {
    const auto run = [&](Dtype scale_dtype, double scale, bool adam) {
      const std::vector<Tensor> p{filled({24}, dtype, ramp(24))}, g{filled({24}, dtype, ramp(24, scale))},
          m{zeros_of({24}, state_dtype(dtype))}, v{zeros_of({24}, state_dtype(dtype))};
      if (adam) here().adam(step_of(kAdam[0], 1), p, g, m, v, {}, one(scale, scale_dtype), one(0));
      if (!adam) here().sgd(step_of(kSgd[1]), p, g, m, one(scale, scale_dtype), one(0));
      CHECK(read(g[0]) == ramp(24, 1));
      return read(p[0]);
    };
    for (const bool adam : {false, true}) CHECK(run(kFloat64, 8, adam) == run(kFloat32, 8, adam));
  }
  const std::vector<Tensor> p{filled({1}, kFloat64, {0})}, g{filled({1}, kFloat64, {1e100})};
  here().sgd({.lr = 1}, p, g, {}, one(1e100, kFloat64), one(0));  // no float holds this scale
  CHECK(read(p[0])[0] == Catch::Approx(-1));
}

TEST_CASE("the norm of a list", "[kernels][lists]") {
  const double inf = std::numeric_limits<double>::infinity();
  for (const Dtype dtype : kFloats) {
    for (const double p : {2.0, 1.0, 0.0, 3.0, 0.5, inf, -inf}) {
      const std::vector<Tensor> tensors{filled({70000}, dtype, ramp(70000)),
                                        filled({2, 3, 2, 2}, dtype, ramp(24), Layout::spread),
                                        filled({2, 3, 2, 2}, dtype, ramp(24), Layout::channels_last)};
      Values all = ramp(70000);
      for (int i = 0; i < 2; ++i) {
        for (const double v : ramp(24)) all.push_back(v);
      }
      Tensor y = one(0, state_dtype(dtype));
      here().list_norm(tensors, p, y);
      INFO("p " << p << " " << dtype);
      CHECK(read(y)[0] == Catch::Approx(reference_norm(all, p)).epsilon(1e-6));
    }
  }
  Tensor y = one(7);
  here().list_norm({}, 2, y);
  CHECK(read(y) == Values{0});
  here().list_norm(std::vector<Tensor>{filled({2}, kFloat32, {1, std::nan("")})}, inf, y);
  CHECK(std::isnan(read(y)[0]));
  here().list_norm(std::vector<Tensor>{filled({2}, kFloat32, {3e30, 4e30})}, 2, y);
  CHECK(read(y)[0] == Catch::Approx(5e30));  // squares beyond float
}

TEST_CASE("updates do not depend on the number of threads", "[kernels][lists]") {
  const int threads = get_num_threads();
  const auto run = [&](int n) {
    set_num_threads(n);
    const std::vector<Tensor> p{filled({300000}, kFloat32, ramp(300000)), filled({5}, kFloat32, ramp(5))};
    const std::vector<Tensor> g{filled({300000}, kBFloat16, ramp(300000)), filled({5}, kFloat32, ramp(5))};
    const std::vector<Tensor> m{zeros_of({300000}, kFloat32), zeros_of({5}, kFloat32)};
    Tensor y = one(0);
    here().sgd(step_of(kSgd[1]), p, g, m, {}, {});
    here().list_norm(p, 2, y);
    Values result = read(p[0]);
    result.push_back(read(y)[0]);
    return result;
  };
  const Values alone = run(1);
  CHECK(run(3) == alone);
  set_num_threads(threads);
}

TEST_CASE("a plan packs tensors into batches within the limits", "[lists]") {
  const std::int64_t sizes[] = {5, 0, 12, 1, 1, 1};
  const ListPlan plan =
      plan_list(sizes, {.piece_elements = 5, .batch_elements = 8, .batch_pieces = 3, .batch_tensors = 3});
  CHECK(plan.pieces ==
        std::vector<ListPiece>{{0, 5, 0}, {0, 5, 2}, {5, 5, 2}, {10, 2, 2}, {0, 1, 3}, {0, 1, 4}, {0, 1, 5}});
  CHECK(plan.batches == std::vector<ListBatch>{{0, 2, 0, 3}, {2, 3, 2, 2}, {5, 2, 4, 2}});
  CHECK(plan_list({}, {}).batches.empty());
}

TEST_CASE("a plan's batches cover every element once", "[lists]") {
  std::vector<std::int64_t> sizes;
  for (std::int64_t i = 0; i < 300; ++i) sizes.push_back((i * i * 37) % 1000);
  for (const ListLimits& limits : {ListLimits{}, ListLimits{64, 500, 20, 4}, ListLimits{1000, INT64_MAX, 320, 110}}) {
    const ListPlan plan = plan_list(sizes, limits);
    std::vector<std::int64_t> covered(sizes.size(), 0);
    std::int32_t next = 0;
    for (const ListBatch& batch : plan.batches) {
      CHECK(batch.first_piece == next);
      CHECK(batch.pieces <= limits.batch_pieces);
      CHECK(batch.tensors <= limits.batch_tensors);
      next += batch.pieces;
      for (std::int32_t i = batch.first_piece; i < next; ++i) {
        const ListPiece& piece = plan.pieces[static_cast<std::size_t>(i)];
        CHECK(piece.tensor - batch.first_tensor < batch.tensors);
        CHECK(piece.first == covered[static_cast<std::size_t>(piece.tensor)]);
        covered[static_cast<std::size_t>(piece.tensor)] += piece.count;
      }
    }
    CHECK(next == static_cast<std::int32_t>(plan.pieces.size()));
    CHECK(covered == sizes);
  }
}

}  // namespace
}  // namespace halftone
