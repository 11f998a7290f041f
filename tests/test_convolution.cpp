#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/convolution.h"
#include "kernels/cpu/onednn.h"
#include "tests/catch.h"

namespace halftone::cpu {
namespace {

struct Row {
  const char* name;
  ConvShape s;
};

ConvShape with_outputs(ConvShape s) {
  for (int i = 0; i < s.rank; ++i)
    s.out[i] = (s.in[i] + 2 * s.padding[i] - s.dilation[i] * (s.kernel[i] - 1) - 1) / s.stride[i] + 1;
  return s;
}

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {"one channel", {.rank = 2, .batch = 3, .in_channels = 1, .out_channels = 8, .in = {9, 9}, .kernel = {3, 3}}},
      {"three channels, padded",
       {.rank = 2, .batch = 2, .in_channels = 3, .out_channels = 5, .in = {8, 7}, .kernel = {3, 3}, .padding = {1, 1}}},
      {"wide kernel and stride",
       {.rank = 2,
        .batch = 2,
        .in_channels = 4,
        .out_channels = 6,
        .in = {13, 11},
        .kernel = {5, 4},
        .stride = {2, 3},
        .padding = {2, 1}}},
      {"dilated",
       {.rank = 2,
        .batch = 2,
        .in_channels = 4,
        .out_channels = 3,
        .in = {12, 12},
        .kernel = {3, 3},
        .padding = {2, 2},
        .dilation = {2, 3}}},
      {"sixteen channels",
       {.rank = 2,
        .batch = 5,
        .in_channels = 16,
        .out_channels = 32,
        .in = {10, 10},
        .kernel = {3, 3},
        .padding = {1, 1}}},
      {"one by one", {.rank = 2, .batch = 3, .in_channels = 16, .out_channels = 8, .in = {6, 6}, .kernel = {1, 1}}},
      {"one by one, strided",
       {.rank = 2, .batch = 3, .in_channels = 16, .out_channels = 8, .in = {7, 7}, .kernel = {1, 1}, .stride = {2, 2}}},
      {"two groups",
       {.rank = 2,
        .batch = 2,
        .in_channels = 8,
        .out_channels = 6,
        .groups = 2,
        .in = {7, 7},
        .kernel = {3, 3},
        .padding = {1, 1}}},
      {"depthwise",
       {.rank = 2,
        .batch = 2,
        .in_channels = 16,
        .out_channels = 16,
        .groups = 16,
        .in = {9, 9},
        .kernel = {3, 3},
        .stride = {2, 2},
        .padding = {1, 1}}},
      {"depthwise, two each",
       {.rank = 2, .batch = 1, .in_channels = 3, .out_channels = 6, .groups = 3, .in = {5, 5}, .kernel = {3, 3}}},
      {"kernel as large as the image",
       {.rank = 2, .batch = 4, .in_channels = 5, .out_channels = 7, .in = {4, 3}, .kernel = {4, 3}}},
      {"padding wider than the image",
       {.rank = 2, .batch = 1, .in_channels = 2, .out_channels = 2, .in = {1, 1}, .kernel = {3, 3}, .padding = {2, 2}}},
      {"sequence",
       {.rank = 1,
        .batch = 3,
        .in_channels = 4,
        .out_channels = 6,
        .in = {21},
        .kernel = {5},
        .stride = {2},
        .padding = {2}}},
      {"sequence, grouped and dilated",
       {.rank = 1,
        .batch = 2,
        .in_channels = 4,
        .out_channels = 4,
        .groups = 4,
        .in = {40},
        .kernel = {3},
        .dilation = {4}}},
      {"long sequence",
       {.rank = 1, .batch = 1, .in_channels = 20, .out_channels = 3, .in = {3000}, .kernel = {9}, .padding = {4}}},
      {"volume",
       {.rank = 3,
        .batch = 2,
        .in_channels = 3,
        .out_channels = 4,
        .in = {5, 6, 7},
        .kernel = {3, 2, 3},
        .stride = {1, 2, 2},
        .padding = {1, 0, 1}}},
      {"volume, grouped",
       {.rank = 3,
        .batch = 1,
        .in_channels = 4,
        .out_channels = 4,
        .groups = 2,
        .in = {4, 4, 4},
        .kernel = {2, 2, 2},
        .dilation = {2, 1, 1}}},
      {"no image", {.rank = 2, .batch = 0, .in_channels = 2, .out_channels = 3, .in = {5, 5}, .kernel = {3, 3}}},
      {"batch for several threads",
       {.rank = 2,
        .batch = 17,
        .in_channels = 16,
        .out_channels = 16,
        .in = {12, 12},
        .kernel = {3, 3},
        .padding = {1, 1}}},
  };
  return all;
}

std::int64_t volume(const std::int64_t (&sizes)[3], int rank) {
  std::int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= sizes[i];
  return n;
}

/// [outer, channels, spatial] as doubles in channels-first order.
struct Values {
  std::int64_t outer, channels, spatial;
  std::vector<double> at;

  Values(std::int64_t o, std::int64_t c, std::int64_t s)
      : outer(o), channels(c), spatial(s), at(static_cast<std::size_t>(o * c * s)) {}
  double& operator()(std::int64_t o, std::int64_t c, std::int64_t s) {
    return at[static_cast<std::size_t>((o * channels + c) * spatial + s)];
  }
  std::size_t stored(std::size_t i, bool channels_last) const {  // where element i of `at` lies in memory
    if (!channels_last) return i;
    const auto c = static_cast<std::size_t>(channels), s = static_cast<std::size_t>(spatial);
    return i / (c * s) * c * s + i % s * c + i / s % c;
  }
};

std::vector<std::byte> encode(const Values& v, Dtype dtype, bool channels_last) {
  std::vector<std::byte> bytes(v.at.size() * static_cast<std::size_t>(element_size(dtype)));
  visit_floating(dtype, [&]<class T>(Type<T>) {
    auto* to = reinterpret_cast<T*>(bytes.data());
    for (std::size_t i = 0; i < v.at.size(); ++i)
      to[v.stored(i, channels_last)] = static_cast<T>(static_cast<Compute<T>>(v.at[i]));
  });
  return bytes;
}

/// How many elements differ from what the dtype makes of the exact result.
std::size_t differences(const std::vector<std::byte>& got, const Values& wanted, Dtype dtype, bool channels_last) {
  return visit_floating(dtype, [&]<class T>(Type<T>) {
    const auto* from = reinterpret_cast<const T*>(got.data());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < wanted.at.size(); ++i)
      wrong += !(from[wanted.stored(i, channels_last)] == static_cast<T>(static_cast<Compute<T>>(wanted.at[i])));
    return wrong;
  });
}

/// Calls f(image, out channel, in channel within the group, in channel, output, tap, input pixel) for every product.
template <class F> void for_each_product(const ConvShape& s, F f) {
  const std::int64_t ins = s.in_channels / s.groups, outs = s.out_channels / s.groups;
  const std::int64_t outputs = volume(s.out, s.rank), taps = volume(s.kernel, s.rank);
  for (std::int64_t p = 0; p < outputs; ++p)
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      std::int64_t rest_p = p, rest_tap = tap, pixel = 0, step = 1;
      bool inside = true;
      for (int i = s.rank - 1; i >= 0; --i) {
        const std::int64_t at = rest_p % s.out[i] * s.stride[i] - s.padding[i] + rest_tap % s.kernel[i] * s.dilation[i];
        inside = inside && at >= 0 && at < s.in[i];
        pixel += at * step;
        step *= s.in[i];
        rest_p /= s.out[i];
        rest_tap /= s.kernel[i];
      }
      if (!inside) continue;
      for (std::int64_t n = 0; n < s.batch; ++n)
        for (std::int64_t o = 0; o < s.out_channels; ++o)
          for (std::int64_t c = 0; c < ins; ++c) f(n, o, c, o / outs * ins + c, p, tap, pixel);
    }
}

struct Problem {
  ConvShape s;
  Values x, w, g, bias, y, dx, dw, dbias;

  explicit Problem(const ConvShape& shape)
      : s(shape),
        x(s.batch, s.in_channels, volume(s.in, s.rank)),
        w(s.out_channels, s.in_channels / s.groups, volume(s.kernel, s.rank)),
        g(s.batch, s.out_channels, volume(s.out, s.rank)),
        bias(1, s.out_channels, 1),
        y(g),
        dx(x),
        dw(w),
        dbias(bias) {
    std::mt19937 random(3);
    std::uniform_int_distribution<int> whole(-3, 3);  // products and sums of these are exact in float32
    for (Values* v : {&x, &w, &g, &bias})
      for (double& e : v->at) e = whole(random) / 2.0;
    for (std::int64_t n = 0; n < s.batch; ++n)
      for (std::int64_t o = 0; o < s.out_channels; ++o)
        for (std::int64_t p = 0; p < y.spatial; ++p) {
          y(n, o, p) = bias(0, o, 0);
          dbias(0, o, 0) += g(n, o, p);
        }
    for_each_product(s, [&](auto n, auto o, auto c, auto channel, auto p, auto tap, auto pixel) {
      y(n, o, p) += x(n, channel, pixel) * w(o, c, tap);
      dx(n, channel, pixel) += g(n, o, p) * w(o, c, tap);
      dw(o, c, tap) += g(n, o, p) * x(n, channel, pixel);
    });
  }
};

void check_problem(const Problem& p, Dtype dtype, bool x_last, bool w_last, bool y_last) {
  const auto x = encode(p.x, dtype, x_last), w = encode(p.w, dtype, w_last), g = encode(p.g, dtype, y_last);
  const auto bias = encode(p.bias, dtype, false);
  auto y = encode(p.g, dtype, y_last), dx = encode(p.x, dtype, x_last), dw = encode(p.w, dtype, w_last), dbias = bias;
  conv_forward(p.s, {x.data(), dtype, x_last}, {w.data(), dtype, w_last}, {bias.data(), dtype},
               {y.data(), dtype, y_last});
  CHECK(differences(y, p.y, dtype, y_last) == 0);
  conv_backward_data(p.s, {g.data(), dtype, y_last}, {w.data(), dtype, w_last}, {dx.data(), dtype, x_last});
  CHECK(differences(dx, p.dx, dtype, x_last) == 0);
  conv_backward_weight(p.s, {x.data(), dtype, x_last}, {g.data(), dtype, y_last}, {dw.data(), dtype, w_last},
                       {dbias.data(), dtype});
  CHECK(differences(dw, p.dw, dtype, w_last) == 0);
  CHECK(differences(dbias, p.dbias, dtype, false) == 0);
}

/// Runs the rest of the test with the portable path alone and as the machine would.
struct Path {
  std::unique_ptr<PortableScope> portable;
  explicit Path(bool only_portable) : portable(only_portable ? std::make_unique<PortableScope>() : nullptr) {}
};

constexpr Dtype kFloatingDtypes[] = {kFloat16, kBFloat16, kFloat32, kFloat64};

TEST_CASE("convolution and its gradients agree with plain loops in every dtype and layout", "[cpu][convolution]") {
  const bool portable = GENERATE(false, true);
  const Path path(portable);
  for (const Row& row : rows()) {
    const Problem problem(with_outputs(row.s));
    for (const Dtype dtype : kFloatingDtypes)
      for (const int layouts : {0b000, 0b111, 0b101, 0b010, 0b100, 0b011}) {
        INFO(row.name << ", " << dtype << ", layouts x w y " << layouts << (portable ? ", portable" : ""));
        check_problem(problem, dtype, layouts & 4, layouts & 2, layouts & 1);
      }
  }
}

TEST_CASE("convolution gives the same result from any number of threads", "[cpu][convolution][threads]") {
  const Path path(GENERATE(false, true));
  const int before = get_num_threads();
  const Problem problem(with_outputs({.rank = 2,
                                      .batch = 7,
                                      .in_channels = 32,
                                      .out_channels = 32,
                                      .in = {16, 16},
                                      .kernel = {3, 3},
                                      .padding = {1, 1}}));
  const Problem singles[] = {
      Problem(with_outputs({.rank = 2,
                            .batch = 1,
                            .in_channels = 32,
                            .out_channels = 64,
                            .in = {40, 40},
                            .kernel = {3, 3},
                            .padding = {1, 1}})),
      Problem(with_outputs({.rank = 2,
                            .batch = 1,
                            .in_channels = 16,
                            .out_channels = 40,
                            .in = {45, 40},
                            .kernel = {5, 5},
                            .stride = {2, 1},
                            .padding = {2, 2},
                            .dilation = {2, 1}})),
      Problem(with_outputs({.rank = 1,
                            .batch = 1,
                            .in_channels = 64,
                            .out_channels = 64,
                            .in = {1500},
                            .kernel = {3},
                            .stride = {1},
                            .padding = {2}})),
      Problem(with_outputs({.rank = 3,
                            .batch = 1,
                            .in_channels = 16,
                            .out_channels = 32,
                            .in = {9, 10, 11},
                            .kernel = {3, 3, 3},
                            .padding = {1, 1, 1}})),
  };
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    for (const Dtype dtype : kFloatingDtypes)
      for (const bool last : {false, true}) {
        INFO(threads << " threads, " << dtype << (last ? ", channels last" : ""));
        check_problem(problem, dtype, last, last, last);
        for (const Problem& single : singles) check_problem(single, dtype, last, last, last);
      }
  }
  set_num_threads(before);
}

TEST_CASE("convolution works without a bias, and with a float32 bias for 16-bit types", "[cpu][convolution]") {
  const Path path(GENERATE(false, true));
  Problem p(
      with_outputs({.rank = 2, .batch = 2, .in_channels = 16, .out_channels = 16, .in = {6, 6}, .kernel = {3, 3}}));
  const auto float_bias = encode(p.bias, kFloat32, false);
  Values without = p.y;
  for (std::int64_t n = 0; n < p.s.batch; ++n)
    for (std::int64_t o = 0; o < p.s.out_channels; ++o)
      for (std::int64_t i = 0; i < p.y.spatial; ++i) without(n, o, i) -= p.bias(0, o, 0);
  for (const Dtype dtype : {kFloat16, kBFloat16}) {
    const auto x = encode(p.x, dtype, true), w = encode(p.w, dtype, true);
    auto y = encode(p.y, dtype, true);
    conv_forward(p.s, {x.data(), dtype, true}, {w.data(), dtype, true}, {}, {y.data(), dtype, true});
    CHECK(differences(y, without, dtype, true) == 0);
    conv_forward(p.s, {x.data(), dtype, true}, {w.data(), dtype, true}, {float_bias.data(), kFloat32},
                 {y.data(), dtype, true});
    CHECK(differences(y, p.y, dtype, true) == 0);
  }
}

TEST_CASE("weight gradients of 16-bit convolutions may be float32, unrounded", "[cpu][convolution]") {
  const Path path(GENERATE(false, true));
  const Problem p(
      with_outputs({.rank = 2, .batch = 5, .in_channels = 16, .out_channels = 16, .in = {12, 12}, .kernel = {3, 3}}));
  for (const Dtype dtype : {kFloat16, kBFloat16}) {
    const auto x = encode(p.x, dtype, false), g = encode(p.g, dtype, false);
    auto dw = encode(p.w, kFloat32, false), dbias = encode(p.bias, kFloat32, false);
    conv_backward_weight(p.s, {x.data(), dtype}, {g.data(), dtype}, {dw.data(), kFloat32}, {dbias.data(), kFloat32});
    CHECK(differences(dw, p.dw, kFloat32, false) == 0);
    CHECK(differences(dbias, p.dbias, kFloat32, false) == 0);
    conv_backward_weight(p.s, {x.data(), dtype}, {g.data(), dtype}, {dw.data(), kFloat32}, {});
    CHECK(differences(dw, p.dw, kFloat32, false) == 0);
  }
}

}  // namespace
}  // namespace halftone::cpu
