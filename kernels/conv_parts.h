// Convolutions of more images than a library counts: a part of the batch at a time.
#pragma once

#include "kernels/backend.h"

namespace halftone {

/// How many images fit into a part whose x and y have at most `limit` elements each; 0 if not even one does.
std::int64_t images_in_part(const ConvShape& s, std::int64_t limit);

// What the backend's own functions compute, `images` at a time.
void conv_in_parts(Backend& backend, std::int64_t images, const ConvShape& s, const Tensor& x, const Tensor& w,
                   const Tensor& bias, Tensor& y);
void conv_data_grad_in_parts(Backend& backend, std::int64_t images, const ConvShape& s, const Tensor& g,
                             const Tensor& w, Tensor& dx);
/// The parts' gradients are rounded to dw's dtype before they are added.
void conv_weight_grad_in_parts(Backend& backend, std::int64_t images, const ConvShape& s, const Tensor& x,
                               const Tensor& g, Tensor& dw, Tensor& dbias);

}  // namespace halftone
