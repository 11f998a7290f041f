#include "nn/init.h"

#include <cmath>

#include "autograd/ops.h"

namespace halftone::nn::init {

namespace {

double kaiming_std(const Tensor& tensor, double a, FanModeType mode, NonlinearityType nonlinearity) {
  const auto [fan_in, fan_out] = _calculate_fan_in_and_fan_out(tensor);
  const auto fan = static_cast<double>(std::holds_alternative<enumtype::kFanIn>(mode) ? fan_in : fan_out);
  return calculate_gain(nonlinearity, a) / std::sqrt(fan);
}

double xavier_std(const Tensor& tensor, double gain) {
  const auto [fan_in, fan_out] = _calculate_fan_in_and_fan_out(tensor);
  return gain * std::sqrt(2.0 / static_cast<double>(fan_in + fan_out));
}

/// A uniform distribution of deviation `std` reaches this far.
double uniform_bound(double std) { return std::sqrt(3.0) * std; }

}  // namespace

double calculate_gain(NonlinearityType nonlinearity, double param) {
  if (std::holds_alternative<enumtype::kTanh>(nonlinearity)) return 5.0 / 3.0;
  if (std::holds_alternative<enumtype::kReLU>(nonlinearity)) return std::sqrt(2.0);
  if (std::holds_alternative<enumtype::kLeakyReLU>(nonlinearity)) return std::sqrt(2.0 / (1 + param * param));
  return 1;
}

std::pair<std::int64_t, std::int64_t> _calculate_fan_in_and_fan_out(const Tensor& tensor) {
  check<ValueError>(tensor.dim() >= 2,
                    "Fan in and fan out cannot be computed for tensor with fewer than 2 dimensions, ", "got ",
                    tensor.sizes());
  std::int64_t kernel = 1;
  for (std::int64_t d = 2; d < tensor.dim(); ++d) kernel *= tensor.size(d);
  return {tensor.size(1) * kernel, tensor.size(0) * kernel};
}

Tensor constant_(Tensor tensor, Scalar value) {
  const NoGradGuard no_grad;
  return tensor.fill_(value);
}

Tensor ones_(Tensor tensor) { return constant_(std::move(tensor), 1); }
Tensor zeros_(Tensor tensor) { return constant_(std::move(tensor), 0); }

Tensor normal_(Tensor tensor, double mean, double std) {
  const NoGradGuard no_grad;
  return tensor.normal_(mean, std);
}

Tensor uniform_(Tensor tensor, double low, double high) {
  const NoGradGuard no_grad;
  return tensor.uniform_(low, high);
}

Tensor eye_(Tensor matrix) {
  const NoGradGuard no_grad;
  check<ValueError>(matrix.dim() == 2, "eye_: Only tensors with 2 dimensions are supported, got ", matrix.sizes());
  return matrix.copy_(eye(matrix.size(0), matrix.size(1), matrix.options()));
}

Tensor dirac_(Tensor tensor) {
  const NoGradGuard no_grad;
  const std::int64_t rank = tensor.dim();
  check<ValueError>(rank >= 3 && rank <= 5, "dirac_: Only tensors with 3, 4, or 5 dimensions are supported, got ",
                    tensor.sizes());
  tensor.zero_();
  const std::int64_t channels = std::min(tensor.size(0), tensor.size(1));
  Tensor centre = tensor;
  for (std::int64_t d = rank - 1; d >= 2; --d) centre = centre.select(d, tensor.size(d) / 2);
  for (std::int64_t c = 0; c < channels; ++c) centre.select(0, c).select(0, c).fill_(1);
  return tensor;
}

namespace {

/// Orthonormal columns that span those of x [n, m], n >= m. The columns' signs are such that the upper triangular
/// factor has a positive diagonal, which makes the result unique.
Tensor orthonormal_columns(const Tensor& x) {
  Tensor q = x.to(kFloat64).contiguous();
  for (std::int64_t column = 0; column < q.size(1); ++column) {
    const Tensor v = q.select(1, column);
    for (int pass = 0; pass < 2; ++pass) {  // the second removes what rounding left of the first
      if (column == 0) break;
      const Tensor before = q.narrow(1, 0, column);
      v.sub_(before.mv(before.t().mv(v)));
    }
    v.div_(v.norm());
  }
  return q;
}

}  // namespace

Tensor orthogonal_(Tensor tensor, double gain) {
  const NoGradGuard no_grad;
  check<ValueError>(tensor.dim() >= 2, "orthogonal_: Only tensors with 2 or more dimensions are supported, got ",
                    tensor.sizes());
  const std::int64_t rows = tensor.size(0);
  const Tensor drawn = randn({rows, tensor.numel() / rows}, tensor.options());
  const bool wide = rows < drawn.size(1);
  const Tensor q = orthonormal_columns(wide ? drawn.t() : drawn);
  tensor.copy_((wide ? q.t() : q).reshape(tensor.sizes()));
  return tensor.mul_(gain);
}

Tensor sparse_(Tensor matrix, double sparsity, double std) {
  const NoGradGuard no_grad;
  check<ValueError>(matrix.dim() == 2, "sparse_: Only tensors with 2 dimensions are supported, got ", matrix.sizes());
  const std::int64_t rows = matrix.size(0);
  const auto zeroes = static_cast<std::int64_t>(std::ceil(sparsity * static_cast<double>(rows)));
  matrix.normal_(0, std);
  for (std::int64_t column = 0; column < matrix.size(1); ++column) {
    const Tensor chosen = randperm(rows, TensorOptions(kInt64).device(matrix.device())).slice(0, 0, zeroes);
    matrix.select(1, column).scatter_(0, chosen, 0);
  }
  return matrix;
}

Tensor xavier_normal_(Tensor tensor, double gain) {
  const double std = xavier_std(tensor, gain);
  return normal_(std::move(tensor), 0, std);
}

Tensor xavier_uniform_(Tensor tensor, double gain) {
  const double bound = uniform_bound(xavier_std(tensor, gain));
  return uniform_(std::move(tensor), -bound, bound);
}

Tensor kaiming_normal_(Tensor tensor, double a, FanModeType mode, NonlinearityType nonlinearity) {
  const double std = kaiming_std(tensor, a, mode, nonlinearity);
  return normal_(std::move(tensor), 0, std);
}

Tensor kaiming_uniform_(Tensor tensor, double a, FanModeType mode, NonlinearityType nonlinearity) {
  const double bound = uniform_bound(kaiming_std(tensor, a, mode, nonlinearity));
  return uniform_(std::move(tensor), -bound, bound);
}

}  // namespace halftone::nn::init
