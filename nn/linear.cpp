#include "nn/linear.h"

#include <cmath>

#include "autograd/ops.h"
#include "nn/detail.h"
#include "nn/init.h"

namespace halftone::nn {

LinearImpl::LinearImpl(const LinearOptions& linear_options) : options(linear_options) { LinearImpl::reset(); }

void LinearImpl::reset() {
  weight = register_parameter("weight", empty({options.out_features(), options.in_features()}));
  if (options.bias()) {
    bias = register_parameter("bias", empty(options.out_features()));
  } else {
    bias = register_parameter("bias", {}, false);
  }
  reset_parameters();
}

void LinearImpl::reset_parameters() {
  init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (!bias.defined()) return;
  const double bound = 1 / std::sqrt(static_cast<double>(options.in_features()));
  init::uniform_(bias, -bound, bound);
}

void LinearImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "Linear(in_features=" << options.in_features() << ", out_features=" << options.out_features()
      << ", bias=" << detail::text(options.bias()) << ')';
}

Tensor LinearImpl::forward(const Tensor& x) {
  const std::int64_t in_features = weight.size(1);
  check(x.dim() > 0 && x.size(-1) == in_features, label(),
        ": expected an input whose last size is in_features=", in_features, ", got ", describe(x));
  detail::check_matches(*this, x, weight);
  return linear(x, weight, bias);
}

void IdentityImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "Identity()"; }

void FlattenImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "Flatten(start_dim=" << options.start_dim() << ", end_dim=" << options.end_dim() << ')';
}

Tensor FlattenImpl::forward(const Tensor& x) { return x.flatten(options.start_dim(), options.end_dim()); }

void UnflattenImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "Unflatten(dim=" << options.dim() << ", unflattened_size={";
  for (std::size_t i = 0; i < options.sizes().size(); ++i) out << (i ? ", " : "") << options.sizes()[i];
  out << "})";
}

Tensor UnflattenImpl::forward(const Tensor& x) { return x.unflatten(options.dim(), options.sizes()); }

template class Cloneable<LinearImpl>;
template class Cloneable<IdentityImpl>;
template class Cloneable<FlattenImpl>;
template class Cloneable<UnflattenImpl>;

}  // namespace halftone::nn
