#include "nn/activation.h"

#include "autograd/ops.h"
#include "nn/detail.h"

namespace halftone::nn {

namespace functional {

Tensor relu(const Tensor& x, const ReLUFuncOptions& options) {
  return options.inplace() ? x.relu_() : halftone::relu(x);
}

Tensor leaky_relu(const Tensor& x, const LeakyReLUFuncOptions& options) {
  const auto f = [&](const Tensor& t) { return halftone::leaky_relu(t, options.negative_slope()); };
  return options.inplace() ? detail::in_place(x, f) : f(x);
}

Tensor elu(const Tensor& x, const ELUFuncOptions& options) {
  const auto f = [&](const Tensor& t) { return halftone::elu(t, options.alpha()); };
  return options.inplace() ? detail::in_place(x, f) : f(x);
}

Tensor gelu(const Tensor& x, const GELUFuncOptions& options) { return halftone::gelu(x, options.approximate()); }

Tensor silu(const Tensor& x) { return halftone::silu(x); }

Tensor softmax(const Tensor& x, const SoftmaxFuncOptions& options) {
  return halftone::softmax(x, options.dim(), options.dtype());
}

Tensor log_softmax(const Tensor& x, const LogSoftmaxFuncOptions& options) {
  return halftone::log_softmax(x, options.dim(), options.dtype());
}

Tensor softplus(const Tensor& x, const SoftplusFuncOptions& options) {
  return halftone::softplus(x, options.beta(), options.threshold());
}

}  // namespace functional

void ReLUImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "ReLU(" << (options.inplace() ? "inplace=true" : "") << ')';
}
Tensor ReLUImpl::forward(const Tensor& x) { return functional::relu(x, options); }

void LeakyReLUImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "LeakyReLU(negative_slope=" << options.negative_slope()
      << (options.inplace() ? ", inplace=true" : "") << ')';
}
Tensor LeakyReLUImpl::forward(const Tensor& x) { return functional::leaky_relu(x, options); }

void ELUImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "ELU(alpha=" << options.alpha() << (options.inplace() ? ", inplace=true" : "") << ')';
}
Tensor ELUImpl::forward(const Tensor& x) { return functional::elu(x, options); }

void GELUImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "GELU()"; }
Tensor GELUImpl::forward(const Tensor& x) { return functional::gelu(x, options); }

void SiLUImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "SiLU()"; }
Tensor SiLUImpl::forward(const Tensor& x) { return silu(x); }

void SigmoidImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "Sigmoid()"; }
Tensor SigmoidImpl::forward(const Tensor& x) { return sigmoid(x); }

void TanhImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "Tanh()"; }
Tensor TanhImpl::forward(const Tensor& x) { return tanh(x); }

void SoftmaxImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "Softmax(dim=" << options.dim() << ')';
}
Tensor SoftmaxImpl::forward(const Tensor& x) { return softmax(x, options.dim()); }

void LogSoftmaxImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "LogSoftmax(dim=" << options.dim() << ')';
}
Tensor LogSoftmaxImpl::forward(const Tensor& x) { return log_softmax(x, options.dim()); }

void SoftplusImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "Softplus(beta=" << options.beta() << ", threshold=" << options.threshold() << ')';
}
Tensor SoftplusImpl::forward(const Tensor& x) { return functional::softplus(x, options); }

template class Cloneable<ReLUImpl>;
template class Cloneable<LeakyReLUImpl>;
template class Cloneable<ELUImpl>;
template class Cloneable<GELUImpl>;
template class Cloneable<SiLUImpl>;
template class Cloneable<SigmoidImpl>;
template class Cloneable<TanhImpl>;
template class Cloneable<SoftmaxImpl>;
template class Cloneable<LogSoftmaxImpl>;
template class Cloneable<SoftplusImpl>;

}  // namespace halftone::nn
