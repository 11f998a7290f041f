// Where the taps of a convolution fall: gathers an image's windows into a matrix of columns, and adds such a matrix
// back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/convolution.h"

namespace halftone::cpu {

/// One group of one image, with three spatial axes whatever the rank: missing ones in front have size 1.
struct Geometry {
  std::int64_t channels = 0;  // of the group
  std::int64_t in[3], kernel[3], out[3], stride[3], padding[3], dilation[3];
  bool channels_last = false;  // the columns' order; of one channel there is none, and the first makes longer runs

  explicit Geometry(const ConvShape& s, bool last)
      : channels(s.in_channels / s.groups), channels_last(last && channels > 1) {
    for (int i = 0; i < 3; ++i) {
      const int from = i - (3 - s.rank);
      const bool used = from >= 0;
      in[i] = used ? s.in[from] : 1;
      kernel[i] = used ? s.kernel[from] : 1;
      out[i] = used ? s.out[from] : 1;
      stride[i] = used ? s.stride[from] : 1;
      padding[i] = used ? s.padding[from] : 0;
      dilation[i] = used ? s.dilation[from] : 1;
    }
  }
  std::int64_t pixels() const { return in[0] * in[1] * in[2]; }
  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  std::int64_t positions() const { return out[0] * out[1] * out[2]; }
  std::int64_t column() const { return channels * taps(); }
};

/// A run of neighbouring outputs of one row as one tap sees them: output `at` + i reads pixel `pixel` + i * step, for i
/// in [first, last); the other i below `count` read padding.
struct Run {
  std::int64_t at, count, first, last, pixel, step;
};

/// Calls f(tap, run) for all taps of the outputs [begin, end).
template <class F> void for_each_run(const Geometry& g, std::int64_t begin, std::int64_t end, F f) {
  for (std::int64_t tap = 0; tap < g.taps(); ++tap) {
    const std::int64_t kx = tap % g.kernel[2], ky = tap / g.kernel[2] % g.kernel[1],
                       kz = tap / g.kernel[2] / g.kernel[1];
    const std::int64_t left = kx * g.dilation[2] - g.padding[2], step = g.stride[2];
    const std::int64_t inside =
        std::clamp<std::int64_t>((step - 1 - left) / step, 0, g.out[2]);  // first output of a row that is
    const std::int64_t beyond =
        g.in[2] > left ? std::clamp((g.in[2] - left + step - 1) / step, inside, g.out[2]) : inside;
    std::int64_t ox = begin % g.out[2], oy = begin / g.out[2] % g.out[1], oz = begin / g.out[2] / g.out[1];
    for (std::int64_t p = begin; p < end;) {
      const std::int64_t count = std::min(end - p, g.out[2] - ox);
      const std::int64_t z = oz * g.stride[0] - g.padding[0] + kz * g.dilation[0];
      const std::int64_t y = oy * g.stride[1] - g.padding[1] + ky * g.dilation[1];
      Run run{p - begin, count, 0, 0, (z * g.in[1] + y) * g.in[2] + ox * step + left, step};
      if (z >= 0 && z < g.in[0] && y >= 0 && y < g.in[1]) {
        run.first = std::clamp<std::int64_t>(inside - ox, 0, count);
        run.last = std::clamp(beyond - ox, run.first, count);
      }
      f(tap, run);
      p += count;
      ox = 0;
      if (++oy == g.out[1]) {
        oy = 0;
        ++oz;
      }
    }
  }
}

/// Elements behind an image that gather_columns may read, and behind the columns that it may write.
inline constexpr std::int64_t kGatherSlack = 16;

/// to[i] = from[i * step]. Copies whole vectors, so up to kGatherSlack - 1 more elements: calling memcpy would take
/// longer than copying a row of a small image.
template <class C> void copy_run(const C* from, std::int64_t step, std::int64_t n, C* to) {
  if (step == 1)
    for (std::int64_t i = 0; i < n; i += kGatherSlack) std::memcpy(to + i, from + i, kGatherSlack * sizeof(C));
  else
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * step];
}

/// Rows of `row` elements for [channels, taps], one for each window's element. A row's surplus is overwritten by the
/// next row.
template <class C>
void gather_rows(const Geometry& g, const C* image, std::int64_t begin, std::int64_t end, std::int64_t row,
                 C* columns) {
  for (std::int64_t c = 0; c < g.channels; ++c)
    for_each_run(g, begin, end, [&](std::int64_t tap, const Run& r) {
      C* to = columns + (c * g.taps() + tap) * row + r.at;
      for (std::int64_t i = 0; i < r.first; ++i) to[i] = C{0};
      copy_run(image + c * g.pixels() + r.pixel + r.first * r.step, r.step, r.last - r.first, to + r.first);
      for (std::int64_t i = r.last; i < r.count; ++i) to[i] = C{0};
    });
}

/// Rows of [taps, channels], one for each window.
template <class C>
void gather_windows(const Geometry& g, const C* image, std::int64_t begin, std::int64_t end, C* columns) {
  for_each_run(g, begin, end, [&](std::int64_t tap, const Run& r) {
    for (std::int64_t i = 0; i < r.count; ++i) {
      C* to = columns + ((r.at + i) * g.taps() + tap) * g.channels;
      if (i >= r.first && i < r.last)
        std::copy_n(image + (r.pixel + i * r.step) * g.channels, g.channels, to);
      else
        std::fill_n(to, g.channels, C{0});
    }
  });
}

/// columns = the windows of the outputs [begin, end). The image holds the group's channels densely, in its own order;
/// with n = end - begin, columns is [channels, taps, n] when the channels come first and [n, taps, channels] when they
/// come last.
template <class C>
void gather_columns(const Geometry& g, const C* image, std::int64_t begin, std::int64_t end, C* columns) {
  if (g.channels_last)
    gather_windows(g, image, begin, end, columns);
  else
    gather_rows(g, image, begin, end, end - begin, columns);
}

/// The adjoint: image += what the columns say about each pixel.
template <class C>
void scatter_columns(const Geometry& g, const C* columns, std::int64_t begin, std::int64_t end, C* image) {
  const std::int64_t n = end - begin, taps = g.taps(), channels = g.channels, pixels = g.pixels();
  for_each_run(g, begin, end, [&](std::int64_t tap, const Run& r) {
    if (g.channels_last) {
      for (std::int64_t i = r.first; i < r.last; ++i) {
        const C* from = columns + ((r.at + i) * taps + tap) * channels;
        C* to = image + (r.pixel + i * r.step) * channels;
        for (std::int64_t c = 0; c < channels; ++c) to[c] += from[c];
      }
      return;
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const C* from = columns + (c * taps + tap) * n + r.at;
      C* to = image + c * pixels + r.pixel;
      for (std::int64_t i = r.first; i < r.last; ++i) to[i * r.step] += from[i];
    }
  });
}

}  // namespace halftone::cpu
