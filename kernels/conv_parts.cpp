#include "kernels/conv_parts.h"

#include <algorithm>

namespace halftone {
namespace {

/// Calls f(shape of the part, its first image).
template <class F> void for_each_part(const ConvShape& s, std::int64_t images, F f) {
  for (std::int64_t first = 0; first < s.batch; first += images) {
    ConvShape part = s;
    part.batch = std::min(images, s.batch - first);
    f(part, first);
  }
}

Tensor images_of(const Tensor& t, std::int64_t first, std::int64_t count) {
  Dims sizes = dims(t.sizes());
  sizes[0] = count;
  return alias(t, sizes, dims(t.strides()), t.storage_offset() + first * t.stride(0));
}

}  // namespace

std::int64_t images_in_part(const ConvShape& s, std::int64_t limit) {
  const std::int64_t image = std::max(s.in_channels * s.window.in_size(), s.out_channels * s.window.out_size());
  return limit / std::max<std::int64_t>(image, 1);
}

void conv_in_parts(Backend& backend, std::int64_t images, const ConvShape& s, const Tensor& x, const Tensor& w,
                   const Tensor& bias, Tensor& y) {
  for_each_part(s, images, [&](const ConvShape& part, std::int64_t first) {
    Tensor to = images_of(y, first, part.batch);
    backend.conv(part, images_of(x, first, part.batch), w, bias, to);
  });
}

void conv_data_grad_in_parts(Backend& backend, std::int64_t images, const ConvShape& s, const Tensor& g,
                             const Tensor& w, Tensor& dx) {
  for_each_part(s, images, [&](const ConvShape& part, std::int64_t first) {
    Tensor to = images_of(dx, first, part.batch);
    backend.conv_data_grad(part, images_of(g, first, part.batch), w, to);
  });
}

void conv_weight_grad_in_parts(Backend& backend, std::int64_t images, const ConvShape& s, const Tensor& x,
                               const Tensor& g, Tensor& dw, Tensor& dbias) {
  Tensor more_dw = empty_like(dw), more_dbias = dbias.defined() ? empty_like(dbias) : Tensor{};
  for_each_part(s, images, [&](const ConvShape& part, std::int64_t first) {
    Tensor &to = first == 0 ? dw : more_dw, &to_bias = first == 0 ? dbias : more_dbias;
    backend.conv_weight_grad(part, images_of(x, first, part.batch), images_of(g, first, part.batch), to, to_bias);
    if (first == 0) return;
    backend.binary(fn::Add{}, dw, more_dw, dw, dw.dtype());
    if (dbias.defined()) backend.binary(fn::Add{}, dbias, more_dbias, dbias, dbias.dtype());
  });
}

}  // namespace halftone
