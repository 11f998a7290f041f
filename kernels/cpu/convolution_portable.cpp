#include "kernels/cpu/convolution_portable.h"

#include <algorithm>
#include <type_traits>

#include "core/parallel.h"
#include "kernels/cpu/convolution_columns.h"
#include "kernels/cpu/convolution_slices.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/scratch.h"

namespace halftone::cpu::portable {

namespace {

/// What the three primitives have in common. T is the dtype in memory, C what is computed in.
template <class T> struct Conv {
  using C = Compute<T>;
  static constexpr std::int64_t kManyChannels = 8;

  const ConvShape& shape;
  bool x_last;         // of the tensor
  Geometry geometry;   // of an image in scratch: channels last there only if there are enough of them to copy at a time
  std::int64_t outs;   // output channels of a group
  std::int64_t block;  // outputs whose columns are made at once

  Conv(const ConvShape& s, bool x_channels_last)
      : shape(s),
        x_last(x_channels_last),
        geometry(s, x_channels_last && s.in_channels / s.groups >= kManyChannels),
        outs(s.out_channels / s.groups) {
    constexpr std::int64_t kCacheBytes = 256 * 1024;  // half of a small second-level cache
    const std::int64_t bytes = std::max<std::int64_t>(geometry.column(), 1) * static_cast<std::int64_t>(sizeof(C));
    block =
        std::clamp<std::int64_t>(kCacheBytes / bytes / 16 * 16, 16, std::max<std::int64_t>(geometry.positions(), 16));
  }
  std::int64_t blocks() const { return (geometry.positions() + block - 1) / block; }
  Range positions(std::int64_t b) const { return {b * block, std::min((b + 1) * block, geometry.positions())}; }
};

template <class T> Slice input_slice(const Conv<T>& conv, std::int64_t image, std::int64_t group) {
  const Geometry& g = conv.geometry;
  return {image, group, g.channels, conv.shape.in_channels, g.pixels(), {0, g.pixels()}, conv.x_last};
}

template <class T>
Slice output_slice(const Conv<T>& conv, std::int64_t image, std::int64_t group, Range p, bool channels_last) {
  return {image, group, conv.outs, conv.shape.out_channels, conv.geometry.positions(), p, channels_last};
}

/// The group's channels of one image, in the order of the geometry.
template <class T>
Compute<T>* load_image(const Conv<T>& conv, const ConstConvData& x, std::int64_t image, std::int64_t group) {
  const Slice s = input_slice(conv, image, group);
  if (conv.x_last == conv.geometry.channels_last) return load_slice<T>(x, s, ScratchUse::wide_input);
  auto* to = scratch<Compute<T>>(ScratchUse::wide_input, s.channels * s.count() + kGatherSlack);
  const T* data = static_cast<const T*>(x.data);
  s.for_each_piece([&](std::int64_t at, std::int64_t dense, std::int64_t n) {
    for (std::int64_t c = 0; c < n; ++c) to[c * s.count() + dense / n] = static_cast<Compute<T>>(data[at + c]);
  });
  return to;
}

template <class T>
void store_image(const Conv<T>& conv, const Compute<T>* from, std::int64_t image, std::int64_t group,
                 const ConvData& dx) {
  const Slice s = input_slice(conv, image, group);
  T* data = static_cast<T*>(dx.data);
  s.for_each_piece([&](std::int64_t at, std::int64_t dense, std::int64_t n) {
    if (conv.x_last == conv.geometry.channels_last) return store(from + dense, data + at, n);
    for (std::int64_t c = 0; c < n; ++c) data[at + c] = static_cast<T>(from[c * s.count() + dense / n]);
  });
}

/// Offset in w of (output channel, column index), the index counted in the order of the geometry.
std::int64_t weight_offset(const Geometry& g, bool w_last, std::int64_t out, std::int64_t k) {
  const std::int64_t taps = g.taps();
  const std::int64_t tap = g.channels_last ? k / g.channels : k % taps;
  const std::int64_t channel = g.channels_last ? k % g.channels : k / taps;
  return out * g.column() + (w_last ? tap * g.channels + channel : channel * taps + tap);
}

/// w as [out_channels, column] in the order of the geometry.
template <class T> const Compute<T>* load_weight(const Conv<T>& conv, const ConstConvData& w) {
  const Geometry& g = conv.geometry;
  const T* data = static_cast<const T*>(w.data);
  const std::int64_t n = conv.shape.out_channels * g.column();
  const bool same_order = w.channels_last == g.channels_last || g.channels == 1;
  if (same_order) {
    if constexpr (std::is_same_v<T, Compute<T>>) return data;
  }
  auto* to = scratch<Compute<T>>(ScratchUse::wide_weight, n);
  if (same_order) {
    load(data, to, n);
    return to;
  }
  for (std::int64_t o = 0, i = 0; o < conv.shape.out_channels; ++o)
    for (std::int64_t k = 0; k < g.column(); ++k, ++i)
      to[i] = static_cast<Compute<T>>(data[weight_offset(g, w.channels_last, o, k)]);
  return to;
}

/// A matrix of n positions by `width`, stored [n, width] when channels come last and [width, n] when they come first.
template <class Pointer>
MatrixView<Pointer> by_position(Pointer data, std::int64_t n, std::int64_t width, bool channels_last) {
  if (channels_last) return {data, n, width, width, 1};
  return {data, n, width, 1, n};
}

template <class C> ConstMatrix weight_matrix(const C* w, std::int64_t outs, std::int64_t column) {
  return {w, outs, column, column, 1};
}

template <class C> void multiply(const ConstMatrix& a, const ConstMatrix& b, const Matrix& y, bool accumulate = false) {
  GemmArgs args;
  args.dtype = dtype_of<C>;
  args.a = a;
  args.b = b;
  args.y = y;
  args.accumulate = accumulate;
  gemm(args);
}

/// The bias in the type computed in, or null.
template <class T> const Compute<T>* load_bias(const ConvShape& shape, const ConstConvData& bias) {
  using C = Compute<T>;
  if (bias.data == nullptr) return nullptr;
  if (bias.dtype == dtype_of<C>) return static_cast<const C*>(bias.data);
  C* to = scratch<C>(ScratchUse::weight_sum, shape.out_channels);
  load(static_cast<const T*>(bias.data), to, shape.out_channels);
  return to;
}

template <class C> void add_bias(C* y, const Slice& s, const C* bias) {
  for (std::int64_t i = 0; i < s.channels * s.count(); ++i)
    y[i] += bias[s.group * s.channels + (s.channels_last ? i % s.channels : i / s.count())];
}

/// Runs f(image, group, blocks) so that every thread has something: images and groups, and blocks too when those are
/// few.
template <class T, class F> void for_each_image(const Conv<T>& conv, bool may_cut_images, F f) {
  const std::int64_t images = conv.shape.batch * conv.shape.groups, threads = get_num_threads();
  const std::int64_t pieces = may_cut_images && images < threads ? std::min(threads, conv.blocks()) : 1;
  parallel_for(0, images * pieces, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t piece = i % pieces, image = i / pieces;
      const Range blocks{conv.blocks() * piece / pieces, conv.blocks() * (piece + 1) / pieces};
      f(image / conv.shape.groups, image % conv.shape.groups, blocks);
    }
  });
}

template <class T> Compute<T>* columns_of(const Conv<T>& conv, const Compute<T>* image, Range p) {
  auto* columns = scratch<Compute<T>>(ScratchUse::columns, conv.geometry.column() * conv.block + kGatherSlack);
  gather_columns(conv.geometry, image, p.first, p.last, columns);
  return columns;
}

template <class T>
void forward(const ConvShape& shape, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
             const ConvData& y) {
  using C = Compute<T>;
  const Conv<T> conv(shape, x.channels_last);
  const C* weight = load_weight(conv, w);
  const C* wide_bias = load_bias<T>(shape, bias);
  const std::int64_t column = conv.geometry.column();
  for_each_image(conv, true, [&](std::int64_t image, std::int64_t group, Range blocks) {
    const C* wide = load_image(conv, x, image, group);
    for (std::int64_t b = blocks.first; b < blocks.last; ++b) {
      const Slice s = output_slice(conv, image, group, conv.positions(b), y.channels_last);
      const void* columns = columns_of(conv, wide, s.p);
      C* result = scratch<C>(ScratchUse::wide_output, conv.outs * conv.block);
      multiply<C>(by_position(columns, s.count(), column, conv.geometry.channels_last),
                  weight_matrix(weight + group * conv.outs * column, conv.outs, column).transposed(),
                  by_position<void*>(result, s.count(), conv.outs, y.channels_last));
      if (wide_bias != nullptr) add_bias(result, s, wide_bias);
      T* data = static_cast<T*>(y.data);
      s.for_each_piece(
          [&](std::int64_t at, std::int64_t dense, std::int64_t n) { store(result + dense, data + at, n); });
    }
  });
}

template <class T>
void backward_data(const ConvShape& shape, const ConstConvData& g, const ConstConvData& w, const ConvData& dx) {
  using C = Compute<T>;
  const Conv<T> conv(shape, dx.channels_last);
  const C* weight = load_weight(conv, w);
  const std::int64_t column = conv.geometry.column();
  for_each_image(conv, false, [&](std::int64_t image, std::int64_t group, Range blocks) {
    const Slice whole = input_slice(conv, image, group);
    C* wide = scratch<C>(ScratchUse::wide_input, whole.channels * whole.count());
    std::fill_n(wide, whole.channels * whole.count(), C{0});
    for (std::int64_t b = blocks.first; b < blocks.last; ++b) {
      const Slice s = output_slice(conv, image, group, conv.positions(b), g.channels_last);
      const void* grad = load_slice<T>(g, s, ScratchUse::wide_output);
      C* columns = scratch<C>(ScratchUse::columns, column * conv.block);
      multiply<C>(by_position(grad, s.count(), conv.outs, g.channels_last),
                  weight_matrix(weight + group * conv.outs * column, conv.outs, column),
                  by_position<void*>(columns, s.count(), column, conv.geometry.channels_last));
      scatter_columns(conv.geometry, columns, s.p.first, s.p.last, wide);
    }
    store_image(conv, wide, image, group, dx);
  });
}

/// Sums of one thread's share of the outputs: dw as [out_channels, column] and dbias behind it.
template <class T>
void add_share(const Conv<T>& conv, const ConstConvData& x, const ConstConvData& g, Range blocks, bool with_bias,
               Compute<T>* sum) {
  using C = Compute<T>;
  const std::int64_t column = conv.geometry.column(), groups = conv.shape.groups;
  C* bias_sum = sum + conv.shape.out_channels * column;
  for (std::int64_t group = 0; group < groups; ++group) {
    std::int64_t loaded = -1;
    const C* wide = nullptr;
    for (std::int64_t b = blocks.first; b < blocks.last; ++b) {
      const std::int64_t image = b / conv.blocks();
      if (image != loaded) wide = load_image(conv, x, image, group);
      loaded = image;
      const Slice s = output_slice(conv, image, group, conv.positions(b % conv.blocks()), g.channels_last);
      const C* grad = load_slice<T>(g, s, ScratchUse::wide_output);
      const void* columns = columns_of(conv, wide, s.p);
      C* to = sum + group * conv.outs * column;
      multiply<C>(by_position<const void*>(grad, s.count(), conv.outs, g.channels_last).transposed(),
                  by_position(columns, s.count(), column, conv.geometry.channels_last),
                  {to, conv.outs, column, column, 1}, true);
      if (!with_bias) continue;
      for (std::int64_t i = 0; i < conv.outs * s.count(); ++i)
        bias_sum[group * conv.outs + (g.channels_last ? i % conv.outs : i / s.count())] += grad[i];
    }
  }
}

template <class C> void store_scalar(const ConvData& to, std::int64_t at, C value) {
  visit_floating(to.dtype, [&]<class T>(Type<T>) {
    static_cast<T*>(to.data)[at] = static_cast<T>(static_cast<Compute<T>>(value));
  });
}

template <class T>
void backward_weight(const ConvShape& shape, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                     const ConvData& dbias) {
  using C = Compute<T>;
  const Conv<T> conv(shape, x.channels_last);
  const std::int64_t column = conv.geometry.column(), count = shape.out_channels * column;
  const std::int64_t size = count + shape.out_channels;
  const std::int64_t blocks = shape.batch * conv.blocks();
  const std::int64_t shares = std::clamp<std::int64_t>(blocks, 1, in_parallel_region() ? 1 : get_num_threads());
  C* sums = scratch<C>(ScratchUse::weight_sum, shares * size);
  parallel_for(0, shares, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      std::fill_n(sums + i * size, size, C{0});
      add_share<T>(conv, x, g, {blocks * i / shares, blocks * (i + 1) / shares}, dbias.data != nullptr,
                   sums + i * size);
    }
  });
  for (std::int64_t share = 1; share < shares; ++share)
    for (std::int64_t i = 0; i < size; ++i) sums[i] += sums[share * size + i];
  for (std::int64_t o = 0; o < shape.out_channels; ++o)
    for (std::int64_t k = 0; k < column; ++k)
      store_scalar(dw, weight_offset(conv.geometry, dw.channels_last, o, k), sums[o * column + k]);
  if (dbias.data == nullptr) return;
  for (std::int64_t o = 0; o < shape.out_channels; ++o) store_scalar(dbias, o, sums[count + o]);
}

}  // namespace

void conv_forward(const ConvShape& shape, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y) {
  visit_floating(x.dtype, [&]<class T>(Type<T>) { forward<T>(shape, x, w, bias, y); });
}

void conv_backward_data(const ConvShape& shape, const ConstConvData& g, const ConstConvData& w, const ConvData& dx) {
  visit_floating(g.dtype, [&]<class T>(Type<T>) { backward_data<T>(shape, g, w, dx); });
}

void conv_backward_weight(const ConvShape& shape, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias) {
  visit_floating(x.dtype, [&]<class T>(Type<T>) { backward_weight<T>(shape, x, g, dw, dbias); });
}

}  // namespace halftone::cpu::portable
