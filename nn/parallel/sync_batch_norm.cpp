#include "nn/parallel/sync_batch_norm.h"

#include "autograd/ops.h"

namespace halftone::nn::parallel {

Tensor SyncBatchNorm::operator()(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                                 const Tensor& running_var) const {
  const ContextScope uncast([](Context& c) { c.filter = nullptr; });  // batch_norm takes what comes
  Dims column(static_cast<std::size_t>(x.dim()), 1);
  column[1] = x.size(1);
  std::vector<std::int64_t> axes{0};
  for (std::int64_t i = 2; i < x.dim(); ++i) axes.push_back(i);

  const Tensor wide = x.dtype() == kFloat64 ? x : x.to(kFloat32);
  const std::int64_t own_count = x.size(1) == 0 ? 0 : x.numel() / x.size(1);
  const auto [total, count] =
      group.sum(rank, wide.sum(axes), static_cast<double>(own_count), "batch_norm over replicas");
  check<ValueError>(count > 1,
                    "batch_norm over replicas: expected more than 1 value per channel in all replicas together, ",
                    "got ", count, "; the input of this one is ", describe(x));
  const Tensor mean = total / count;
  const Tensor centered = wide - mean.reshape(column);
  const Tensor squares = group.sum(rank, (centered * centered).sum(axes), 0, "batch_norm over replicas").tensor;

  if (running_mean.defined()) {
    const NoGradGuard no_grad;
    const Tensor usable = (mean.isfinite() & squares.isfinite()).all();  // one overflow would spoil them for ever
    update(running_mean, mean, usable);
    update(running_var, squares / (count - 1), usable);
  }
  Tensor y = centered * (squares / count + eps).rsqrt().reshape(column);
  if (weight.defined()) y = y * weight.to(wide.dtype()).reshape(column) + bias.to(wide.dtype()).reshape(column);
  return y.to(x.dtype());
}

void SyncBatchNorm::update(const Tensor& running, const Tensor& value, const Tensor& usable) const {
  const Tensor moved = running.to(value.dtype()) * (1 - step) + value.detach() * step;
  running.copy_(where(usable, moved.to(running.dtype()), running));
}

}  // namespace halftone::nn::parallel
