// Activations. Each keeps the shape of its input; `inplace` writes into it.
#pragma once

#include <string>

#include "core/arg.h"
#include "nn/cloneable.h"

namespace halftone::nn {

struct ReLUOptions {
  ReLUOptions(bool inplace = false) : inplace_(inplace) {}  // NOLINT: ReLU(true)
  TORCH_ARG(bool, inplace);
};

/// max(0, x).
class ReLUImpl : public Cloneable<ReLUImpl> {
 public:
  explicit ReLUImpl(const ReLUOptions& relu_options = {}) : options(relu_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  ReLUOptions options;
};
HALFTONE_LAYER(ReLU);

struct LeakyReLUOptions {
  TORCH_ARG(double, negative_slope) = 1e-2;
  TORCH_ARG(bool, inplace) = false;
};

/// x, times negative_slope where it is below 0.
class LeakyReLUImpl : public Cloneable<LeakyReLUImpl> {
 public:
  explicit LeakyReLUImpl(const LeakyReLUOptions& relu_options = {}) : options(relu_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  LeakyReLUOptions options;
};
HALFTONE_LAYER(LeakyReLU);

struct ELUOptions {
  TORCH_ARG(double, alpha) = 1;
  TORCH_ARG(bool, inplace) = false;
};

/// x, and alpha (e^x - 1) where it is below 0.
class ELUImpl : public Cloneable<ELUImpl> {
 public:
  explicit ELUImpl(const ELUOptions& elu_options = {}) : options(elu_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  ELUOptions options;
};
HALFTONE_LAYER(ELU);

struct GELUOptions {
  /// "none", or "tanh" for the approximation by it.
  TORCH_ARG(std::string, approximate) = "none";
};

/// x times the normal distribution's value at x.
class GELUImpl : public Cloneable<GELUImpl> {
 public:
  explicit GELUImpl(GELUOptions gelu_options = {}) : options(std::move(gelu_options)) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  GELUOptions options;
};
HALFTONE_LAYER(GELU);

/// x sigmoid(x).
class SiLUImpl : public Cloneable<SiLUImpl> {
 public:
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);
};
HALFTONE_LAYER(SiLU);

/// 1 / (1 + e^-x).
class SigmoidImpl : public Cloneable<SigmoidImpl> {
 public:
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);
};
HALFTONE_LAYER(Sigmoid);

class TanhImpl : public Cloneable<TanhImpl> {
 public:
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);
};
HALFTONE_LAYER(Tanh);

struct SoftmaxOptions {
  SoftmaxOptions(std::int64_t dim) : dim_(dim) {}  // NOLINT: Softmax(1)
  TORCH_ARG(std::int64_t, dim);
};
using LogSoftmaxOptions = SoftmaxOptions;

/// e^x, divided by its sum along a dimension.
class SoftmaxImpl : public Cloneable<SoftmaxImpl> {
 public:
  explicit SoftmaxImpl(std::int64_t dim) : SoftmaxImpl(SoftmaxOptions(dim)) {}
  explicit SoftmaxImpl(const SoftmaxOptions& softmax_options) : options(softmax_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  SoftmaxOptions options;
};
HALFTONE_LAYER(Softmax);

/// The logarithm of softmax, without its rounding to 0.
class LogSoftmaxImpl : public Cloneable<LogSoftmaxImpl> {
 public:
  explicit LogSoftmaxImpl(std::int64_t dim) : LogSoftmaxImpl(LogSoftmaxOptions(dim)) {}
  explicit LogSoftmaxImpl(const LogSoftmaxOptions& softmax_options) : options(softmax_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  LogSoftmaxOptions options;
};
HALFTONE_LAYER(LogSoftmax);

struct SoftplusOptions {
  TORCH_ARG(double, beta) = 1;
  TORCH_ARG(double, threshold) = 20;
};

/// log(1 + e^(beta x)) / beta, and x itself where beta x is above threshold.
class SoftplusImpl : public Cloneable<SoftplusImpl> {
 public:
  explicit SoftplusImpl(const SoftplusOptions& softplus_options = {}) : options(softplus_options) {}
  void reset() override {}
  void pretty_print(std::ostream& out) const override;
  Tensor forward(const Tensor& x);

  SoftplusOptions options;
};
HALFTONE_LAYER(Softplus);

namespace functional {

using ReLUFuncOptions = ReLUOptions;
using LeakyReLUFuncOptions = LeakyReLUOptions;
using ELUFuncOptions = ELUOptions;
using GELUFuncOptions = GELUOptions;
using SoftplusFuncOptions = SoftplusOptions;

struct SoftmaxFuncOptions {
  SoftmaxFuncOptions(std::int64_t dim) : dim_(dim) {}  // NOLINT
  TORCH_ARG(std::int64_t, dim);
  /// Converts the input first.
  TORCH_ARG(optional<Dtype>, dtype) = nullopt;
};
using LogSoftmaxFuncOptions = SoftmaxFuncOptions;

Tensor relu(const Tensor& x, const ReLUFuncOptions& options = {});
Tensor leaky_relu(const Tensor& x, const LeakyReLUFuncOptions& options = {});
Tensor elu(const Tensor& x, const ELUFuncOptions& options = {});
Tensor gelu(const Tensor& x, const GELUFuncOptions& options = {});
Tensor silu(const Tensor& x);
Tensor softmax(const Tensor& x, const SoftmaxFuncOptions& options);
Tensor log_softmax(const Tensor& x, const LogSoftmaxFuncOptions& options);
Tensor softplus(const Tensor& x, const SoftplusFuncOptions& options = {});

}  // namespace functional
}  // namespace halftone::nn
