// Module::to and its kin: what is under a module's handles is replaced.
#include "nn/module.h"

namespace halftone::nn {
namespace {

/// Tensors and gradients keep their identity. Shared ones are converted once: the second time there is nothing to do.
void convert(const Tensor& tensor, const TensorOptions& options, bool non_blocking) {
  const bool keeps_dtype = !options.has_dtype() || !tensor.is_floating_point();
  const TensorOptions wanted = keeps_dtype ? options.dtype(nullopt) : options;
  const Tensor converted = tensor.detach().to(wanted, non_blocking);
  const bool changes = converted.dtype() != tensor.dtype() || converted.device() != tensor.device();
  if (tensor.grad().defined()) convert(tensor.grad(), options, non_blocking);
  if (changes) tensor.set_data(converted);
}

/// A kernel of one pixel lies in both orders and stays as it is.
void lay(const Tensor& tensor, MemoryFormat format) {
  if (tensor.dim() != 4 && tensor.dim() != 5) return;
  if (tensor.grad().defined()) lay(tensor.grad(), format);
  if (!tensor.is_contiguous(format)) tensor.set_data(tensor.detach().contiguous(format));
}

}  // namespace

void Module::to(Device device, Dtype dtype, bool non_blocking) {
  check_target(dtype);
  for (const auto& child : children_) child.value()->to(device, dtype, non_blocking);
  convert_own(TensorOptions(device).dtype(dtype), non_blocking);
}

void Module::to(Dtype dtype, bool non_blocking) {
  check_target(dtype);
  for (const auto& child : children_) child.value()->to(dtype, non_blocking);
  convert_own(dtype, non_blocking);
}

void Module::to(Device device, bool non_blocking) {
  for (const auto& child : children_) child.value()->to(device, non_blocking);
  convert_own(device, non_blocking);
}

void Module::to(MemoryFormat format) {
  if (format == MemoryFormat::Preserve) return;
  for (const auto& child : children_) child.value()->to(format);
  visit_own([&](const Tensor& tensor) { lay(tensor, format); });
}

void Module::to_low_precision(Dtype dtype, bool keep_norm_fp32) {
  if (!keep_norm_fp32) return to(dtype);
  for (const auto& child : children_) child.value()->to_low_precision(dtype, true);
  convert_own(is_normalization() ? kFloat32 : dtype, false);
}

void Module::check_target(Dtype dtype) const {
  if (is_floating_point(dtype)) return;
  for (const auto& item : named_parameters()) {
    check<TypeError>(!item.value().requires_grad(), "to: the parameter '", item.key(), "' of ", name(),
                     " requires a gradient, so it cannot become ", dtype);
  }
}

void Module::visit_own(const std::function<void(const Tensor&)>& f) const {
  for (const auto* registry : {&parameters_, &buffers_}) {
    for (const auto& item : *registry) {
      if (item.value().defined()) f(item.value());
    }
  }
}

void Module::convert_own(const TensorOptions& options, bool non_blocking) {
  visit_own([&](const Tensor& tensor) { convert(tensor, options, non_blocking); });
}

}  // namespace halftone::nn
