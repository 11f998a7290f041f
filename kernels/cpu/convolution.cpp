#include "kernels/cpu/convolution.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/convolution_portable.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/scratch.h"

namespace halftone::cpu {

namespace {

std::int64_t product(const std::int64_t (&sizes)[3], int rank) {
  std::int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= sizes[i];
  return n;
}

std::int64_t input_size(const ConvShape& s) { return s.in_channels * product(s.in, s.rank); }
std::int64_t output_size(const ConvShape& s) { return s.out_channels * product(s.out, s.rank); }
std::int64_t weight_size(const ConvShape& s) {
  return s.out_channels * (s.in_channels / s.groups) * product(s.kernel, s.rank);
}

/// The images [first, last) of the batch.
struct Images {
  std::int64_t first, last;
};

ConvShape shape_of(const ConvShape& s, Images images) {
  ConvShape part = s;
  part.batch = images.last - images.first;
  return part;
}

template <class Pointer> ConvView<Pointer> view_of(const ConvView<Pointer>& v, Images images, std::int64_t image_size) {
  using Byte = std::conditional_t<std::is_same_v<Pointer, const void*>, const std::byte, std::byte>;
  ConvView<Pointer> part = v;
  part.data = static_cast<Byte*>(v.data) + images.first * image_size * element_size(v.dtype);
  return part;
}

/// How many threads have enough to do: none of them gets less than is worth waking it for.
std::int64_t worthy_parts(const ConvShape& s, Dtype dtype) {
  if (in_parallel_region()) return 1;
  const double least = dtype == kBFloat16 ? 8e6 : 1e6;  // multiplications, about 15 microseconds
  const std::int64_t of_output = weight_size(s) / std::max<std::int64_t>(s.out_channels, 1);
  const double work = static_cast<double>(s.batch * output_size(s)) * static_cast<double>(of_output);
  return std::max<std::int64_t>(static_cast<std::int64_t>(std::min<double>(work / least, get_num_threads())), 1);
}

/// How many threads share the batch.
std::int64_t plan_parts(const ConvShape& s, Dtype dtype) { return std::min(worthy_parts(s, dtype), s.batch); }

/// Calls f(part, images) for each part of the batch; false as soon as one of them says false.
template <class F> bool for_each_part(std::int64_t batch, std::int64_t parts, F f) {
  std::atomic<bool> done{true};
  parallel_for(0, parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      if (!f(i, Images{batch * i / parts, batch * (i + 1) / parts})) done = false;
  });
  return done;
}

/// Calls f(images) for each part of the batch, as for_each_part does; a part whose activations have to be reordered in
/// a few images at a time, so that what was reordered is still in the cache when it is used; unless the weights, which
/// are reordered each time, are large.
template <class F> bool for_each_run_of_images(const ConvShape& s, Dtype dtype, bool reordered, F f) {
  constexpr std::int64_t kCacheBytes = 1024 * 1024;
  const std::int64_t image_bytes = (input_size(s) + output_size(s)) * element_size(dtype);
  const bool by_few = reordered && weight_size(s) * element_size(dtype) < kCacheBytes / 8;
  const std::int64_t step = by_few ? std::max<std::int64_t>(kCacheBytes / image_bytes, 1) : s.batch;
  return for_each_part(s.batch, plan_parts(s, dtype), [&](std::int64_t, Images part) {
    for (std::int64_t i = part.first; i < part.last; i += step)
      if (!f(Images{i, std::min(i + step, part.last)})) return false;
    return true;
  });
}

/// Part of a forward convolution: a shape of its own, and how far into each tensor it starts, in elements.
struct Piece {
  ConvShape shape;
  std::int64_t x = 0, w = 0, bias = 0, y = 0;
};

/// The outputs [first, last) along the first spatial axis of the one image; empty batch when they see nothing but
/// padding.
Piece rows_piece(const ConvShape& s, std::int64_t first, std::int64_t last) {
  Piece p{s};
  const std::int64_t from = first * s.stride[0] - s.padding[0];
  const std::int64_t to = (last - 1) * s.stride[0] - s.padding[0] + (s.kernel[0] - 1) * s.dilation[0] + 1;
  const std::int64_t begin = std::max<std::int64_t>(from, 0), end = std::min(to, s.in[0]);
  if (begin >= end) p.shape.batch = 0;
  p.shape.padding[0] = begin - from;  // what is needed behind follows from the other sizes
  p.shape.in[0] = end - begin;
  p.shape.out[0] = last - first;
  p.x = begin * (input_size(s) / s.in[0]);
  p.y = first * (output_size(s) / s.out[0]);
  return p;
}

/// The output channels [first, last) of the one image.
Piece channels_piece(const ConvShape& s, std::int64_t first, std::int64_t last) {
  Piece p{s};
  p.shape.out_channels = last - first;
  p.w = first * (weight_size(s) / s.out_channels);
  p.bias = first;
  p.y = first * (output_size(s) / s.out_channels);
  return p;
}

template <class Pointer> ConvView<Pointer> skip(const ConvView<Pointer>& v, std::int64_t elements) {
  return v.data == nullptr ? v : view_of(v, {elements, elements}, 1);
}

/// One image in pieces: of rows where those are contiguous in memory, else of output channels. Empty when it is better
/// left whole.
std::vector<Piece> pieces_of_one_image(const ConvShape& s, Dtype dtype, bool x_last, bool y_last) {
  constexpr std::int64_t kChannels = 16;  // a vector of them
  const bool by_rows = x_last && y_last;
  if (!by_rows && (y_last || s.groups != 1)) return {};
  const std::int64_t unit = by_rows ? 1 : kChannels, all = by_rows ? s.out[0] : s.out_channels;
  const std::int64_t count = std::min(worthy_parts(s, dtype), all / unit);
  std::vector<Piece> pieces;
  for (std::int64_t i = 0; count > 1 && i < count; ++i) {
    const std::int64_t first = all / unit * i / count * unit;
    const std::int64_t last = i + 1 == count ? all : all / unit * (i + 1) / count * unit;
    pieces.push_back(by_rows ? rows_piece(s, first, last) : channels_piece(s, first, last));
    if (pieces.back().shape.batch == 0) return {};
  }
  return pieces;
}

/// False when there is nothing to share out, or the library declines.
bool forward_one_image(const ConvShape& s, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                       const ConvData& y) {
  const std::vector<Piece> pieces = pieces_of_one_image(s, x.dtype, x.channels_last, y.channels_last);
  if (pieces.empty()) return false;
  std::atomic<bool> done{true};
  parallel_for(0, static_cast<std::int64_t>(pieces.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Piece& p = pieces[static_cast<std::size_t>(i)];
      if (!onednn::conv_forward(p.shape, skip(x, p.x), skip(w, p.w), skip(bias, p.bias), skip(y, p.y))) done = false;
    }
  });
  return done;
}

bool is_empty(const ConvShape& s) {
  return s.batch == 0 || output_size(s) == 0 || input_size(s) == 0 || weight_size(s) == 0;
}

/// Whether the library takes it. A transposed convolution may leave cells of x that no window reaches: there the output
/// is smaller than the window allows, which it refuses.
bool is_for_library(const ConvShape& s, Dtype dtype) {
  for (int i = 0; i < s.rank; ++i) {
    const std::int64_t room = s.in[i] + 2 * s.padding[i] - s.dilation[i] * (s.kernel[i] - 1) - 1;
    if (room / s.stride[i] + 1 != s.out[i]) return false;
  }
  return !is_empty(s) && onednn::serves(dtype);
}

template <class T> void store(const float* from, void* to, std::int64_t n) { narrow(from, static_cast<T*>(to), n); }

void store_sums(const float* sums, const ConvData& to, std::int64_t n) {
  if (to.dtype == kBFloat16)
    store<BFloat16>(sums, to.data, n);
  else
    store<float>(sums, to.data, n);
}

/// Adds up `parts` partial results of `size` floats into the first.
void add_parts(float* sums, std::int64_t parts, std::int64_t size) {
  constexpr std::int64_t kGrain = 16384;
  if (parts < 2) return;
  parallel_for(0, size, kGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t part = 1; part < parts; ++part)
      for (std::int64_t i = first; i < last; ++i) sums[i] += sums[part * size + i];
  });
}

/// bfloat16 images with so few channels are widened for the weight gradient: the library fills its matrix instructions
/// with padding then, and takes twice as long as in float32 with the widening.
constexpr std::int64_t kFewChannels = 4;

ConstConvData widened(const ConstConvData& from, std::int64_t n, ScratchUse use) {
  float* to = scratch<float>(use, n);
  widen(static_cast<const BFloat16*>(from.data), to, n);
  return {to, kFloat32, from.channels_last};
}

/// The part's sums in float32.
bool sum_part(const ConvShape& s, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
              const ConvData& dbias) {
  if (x.dtype == kFloat32 || s.in_channels / s.groups > kFewChannels)
    return onednn::conv_backward_weight(s, x, g, dw, dbias);
  return onednn::conv_backward_weight(s, widened(x, s.batch * input_size(s), ScratchUse::wide_input),
                                      widened(g, s.batch * output_size(s), ScratchUse::wide_output), dw, dbias);
}

/// Each thread's weight gradient is kept in float32; they are added up and rounded once.
bool backward_weight_by_library(const ConvShape& s, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                                const ConvData& dbias) {
  const std::int64_t parts = plan_parts(s, x.dtype), count = weight_size(s);
  constexpr std::int64_t kLine = 16;  // floats; partial results start on cache lines of their own
  const std::int64_t bias_at = (count + kLine - 1) / kLine * kLine;
  const std::int64_t size = bias_at + (s.out_channels + kLine - 1) / kLine * kLine;
  float* sums = scratch<float>(ScratchUse::weight_sum, parts * size);
  const bool done = for_each_part(s.batch, parts, [&](std::int64_t part, Images images) {
    float* sum = sums + part * size;
    const ConvData part_bias{dbias.data == nullptr ? nullptr : sum + bias_at, kFloat32, false};
    return sum_part(shape_of(s, images), view_of(x, images, input_size(s)), view_of(g, images, output_size(s)),
                    {sum, kFloat32, dw.channels_last}, part_bias);
  });
  if (!done) return false;
  add_parts(sums, parts, size);
  store_sums(sums, dw, count);
  if (dbias.data != nullptr) store_sums(sums + bias_at, dbias, s.out_channels);
  return true;
}

}  // namespace

void conv_forward(const ConvShape& s, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y) {
  if (is_for_library(s, x.dtype)) {
    if (s.batch == 1 && forward_one_image(s, x, w, bias, y)) return;
    const bool reordered = !x.channels_last || !y.channels_last;
    const bool done = for_each_run_of_images(s, x.dtype, reordered, [&](Images images) {
      return onednn::conv_forward(shape_of(s, images), view_of(x, images, input_size(s)), w, bias,
                                  view_of(y, images, output_size(s)));
    });
    if (done) return;
  }
  portable::conv_forward(s, x, w, bias, y);
}

void conv_backward_data(const ConvShape& s, const ConstConvData& g, const ConstConvData& w, const ConvData& dx) {
  if (is_for_library(s, g.dtype)) {
    const bool reordered = !g.channels_last || !dx.channels_last;
    const bool done = for_each_run_of_images(s, g.dtype, reordered, [&](Images images) {
      return onednn::conv_backward_data(shape_of(s, images), view_of(g, images, output_size(s)), w,
                                        view_of(dx, images, input_size(s)));
    });
    if (done) return;
  }
  portable::conv_backward_data(s, g, w, dx);
}

void conv_backward_weight(const ConvShape& s, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias) {
  if (is_for_library(s, x.dtype) && backward_weight_by_library(s, x, g, dw, dbias)) return;
  portable::conv_backward_weight(s, x, g, dw, dbias);
}

}  // namespace halftone::cpu
