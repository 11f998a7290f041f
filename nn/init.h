// First values of parameters. Every function fills the tensor in place, unrecorded, and returns it; with the same seed
// the numbers are PyTorch's.
#pragma once

#include <utility>
#include <variant>

#include "core/enum.h"
#include "core/tensor.h"

namespace halftone::nn::init {

using NonlinearityType =
    std::variant<enumtype::kLinear, enumtype::kConv1D, enumtype::kConv2D, enumtype::kConv3D, enumtype::kConvTranspose1D,
                 enumtype::kConvTranspose2D, enumtype::kConvTranspose3D, enumtype::kSigmoid, enumtype::kTanh,
                 enumtype::kReLU, enumtype::kLeakyReLU>;
using FanModeType = std::variant<enumtype::kFanIn, enumtype::kFanOut>;

/// How much a nonlinearity shrinks the deviation of what goes through it. `param` is the slope of a leaky ReLU.
double calculate_gain(NonlinearityType nonlinearity, double param = 0.01);

Tensor constant_(Tensor tensor, Scalar value);
Tensor ones_(Tensor tensor);
Tensor zeros_(Tensor tensor);
Tensor normal_(Tensor tensor, double mean = 0, double std = 1);
Tensor uniform_(Tensor tensor, double low = 0, double high = 1);
/// A matrix with ones on its diagonal.
Tensor eye_(Tensor matrix);
/// A convolution weight [out, in, kernel...] that passes its input on unchanged.
Tensor dirac_(Tensor tensor);
/// A matrix with orthonormal rows or columns, whichever are fewer; dimensions from the second on count as one.
Tensor orthogonal_(Tensor tensor, double gain = 1);
/// Normal numbers with this fraction of zeros in every column.
Tensor sparse_(Tensor matrix, double sparsity, double std = 0.01);

// Glorot and Bengio: keeps the variance through a layer in both directions.
Tensor xavier_normal_(Tensor tensor, double gain = 1);
Tensor xavier_uniform_(Tensor tensor, double gain = 1);

// He et al.: keeps the variance in one direction behind a rectifier. `a` is the rectifier's negative slope.
Tensor kaiming_normal_(Tensor tensor, double a = 0, FanModeType mode = kFanIn,
                       NonlinearityType nonlinearity = kLeakyReLU);
Tensor kaiming_uniform_(Tensor tensor, double a = 0, FanModeType mode = kFanIn,
                        NonlinearityType nonlinearity = kLeakyReLU);

/// How many inputs an output of a weight [out, in, kernel...] sees, and how many outputs an input feeds.
std::pair<std::int64_t, std::int64_t> _calculate_fan_in_and_fan_out(const Tensor& tensor);

}  // namespace halftone::nn::init
