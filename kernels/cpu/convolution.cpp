#include "kernels/cpu/convolution.h"

#include <algorithm>
#include <atomic>

#include "core/parallel.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/convolution_narrow.h"
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

template <class Pointer>
ConvView<Pointer> view_of(const ConvView<Pointer>& v, Images images, std::int64_t image_size) {
  using Byte = std::conditional_t<std::is_same_v<Pointer, const void*>, const std::byte, std::byte>;
  ConvView<Pointer> part = v;
  part.data = static_cast<Byte*>(v.data) + images.first * image_size * element_size(v.dtype);
  return part;
}

/// How many threads share the batch: none of them gets less than is worth waking it for.
std::int64_t plan_parts(const ConvShape& s, Dtype dtype) {
  if (in_parallel_region()) return 1;
  const double least = dtype == kBFloat16 ? 8e6 : 1e6;  // multiplications, about 15 microseconds
  const double work = static_cast<double>(s.batch * output_size(s)) *
                      static_cast<double>(weight_size(s) / std::max<std::int64_t>(s.out_channels, 1));
  const auto worth = static_cast<std::int64_t>(std::min<double>(work / least, get_num_threads()));
  return std::clamp<std::int64_t>(worth, 1, s.batch);
}

/// Calls f(part, images) for each part of the batch; false as soon as one of them says false.
template <class F>
bool for_each_part(std::int64_t batch, std::int64_t parts, F f) {
  std::atomic<bool> done{true};
  parallel_for(0, parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      if (!f(i, Images{batch * i / parts, batch * (i + 1) / parts})) done = false;
  });
  return done;
}

bool is_empty(const ConvShape& s) { return s.batch == 0 || output_size(s) == 0 || input_size(s) == 0 || weight_size(s) == 0; }

/// The library is slow at bfloat16 with one channel or three: it was made for sixteen.
bool prefers_narrow(const ConvShape& s, Dtype dtype) { return dtype == kBFloat16 && narrow_channels::serves(s, dtype); }

template <class T>
void store(const float* from, void* to, std::int64_t n) {
  narrow(from, static_cast<T*>(to), n);
}

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
    return onednn::conv_backward_weight(shape_of(s, images), view_of(x, images, input_size(s)),
                                        view_of(g, images, output_size(s)), {sum, kFloat32, dw.channels_last}, part_bias);
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
  if (!is_empty(s) && onednn::serves(x.dtype) && !prefers_narrow(s, x.dtype)) {
    const bool done = for_each_part(s.batch, plan_parts(s, x.dtype), [&](std::int64_t, Images images) {
      return onednn::conv_forward(shape_of(s, images), view_of(x, images, input_size(s)), w, bias,
                                  view_of(y, images, output_size(s)));
    });
    if (done) return;
  }
  if (!is_empty(s) && narrow_channels::serves(s, x.dtype)) return narrow_channels::conv_forward(s, x, w, bias, y);
  portable::conv_forward(s, x, w, bias, y);
}

void conv_backward_data(const ConvShape& s, const ConstConvData& g, const ConstConvData& w, const ConvData& dx) {
  if (!is_empty(s) && onednn::serves(g.dtype)) {
    const bool done = for_each_part(s.batch, plan_parts(s, g.dtype), [&](std::int64_t, Images images) {
      return onednn::conv_backward_data(shape_of(s, images), view_of(g, images, output_size(s)), w,
                                        view_of(dx, images, input_size(s)));
    });
    if (done) return;
  }
  portable::conv_backward_data(s, g, w, dx);
}

void conv_backward_weight(const ConvShape& s, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias) {
  const bool by_library = !is_empty(s) && onednn::serves(x.dtype) && !prefers_narrow(s, x.dtype);
  if (by_library && backward_weight_by_library(s, x, g, dw, dbias)) return;
  if (!is_empty(s) && narrow_channels::serves(s, x.dtype)) return narrow_channels::conv_backward_weight(s, x, g, dw, dbias);
  portable::conv_backward_weight(s, x, g, dw, dbias);
}

}  // namespace halftone::cpu
