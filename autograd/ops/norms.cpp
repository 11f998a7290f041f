// Normalization. An ordinary backward is one kernel; a recorded one writes the same formula in ops, with the statistics
// as functions of x, so that it can be differentiated again.
#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

using plain::at;

// y = (x - mean) rstd weight + bias. `statistics` are the axes that mean and rstd are over, `parameters` those over
// which all elements share a weight; `weight` broadcasts to x.
struct Normalization {
  std::vector<std::int64_t> statistics, parameters;
  bool from_x = true;  // else mean and rstd are constants

  std::array<Tensor, 3> gradients(const Tensor& given, const Tensor& input, const Tensor& weight, const Tensor& mean,
                                  const Tensor& rstd, double eps, Wants want) const {
    const Dtype wide = plain::wide(input.dtype());
    const Tensor g = given.to(wide), x = input.to(wide);
    const Tensor centered = x - (from_x ? x.mean(statistics, true) : mean);
    const Tensor scale = from_x ? rsqrt(square(centered).mean(statistics, true) + eps) : rstd;
    const Tensor normal = centered * scale;
    const Tensor weighted = weight.defined() ? g * weight : g;
    return {want[0] ? data_grad(weighted, normal, scale) : Tensor{}, want[1] ? to_parameter(g * normal) : Tensor{},
            want[2] ? to_parameter(g) : Tensor{}};
  }

  // An empty list of axes would mean all of them.
  Tensor to_parameter(const Tensor& t) const { return parameters.empty() ? t : t.sum(parameters); }

  Tensor data_grad(const Tensor& g, const Tensor& normal, const Tensor& scale) const {
    if (!from_x) return g * scale;
    return scale * (g - g.mean(statistics, true) - normal * (g * normal).mean(statistics, true));
  }
};

std::vector<std::int64_t> axes_between(std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> axes;
  for (std::int64_t i = first; i < last; ++i) axes.push_back(i);
  return axes;
}

Tensor gradient_buffer(bool wanted, std::int64_t n, Dtype dtype, const Tensor& like) {
  return wanted ? empty({n}, like.options().dtype(dtype)) : Tensor{};
}

// What an observer sees of a kernel with three results.
const Tensor& first_defined(const Tensor& a, const Tensor& b, const Tensor& c) {
  return a.defined() ? a : b.defined() ? b : c;
}

// ------------------------------------------------------------------------------------------------ batch norm

struct BatchNormRule {
  bool training;
  double momentum, eps;
  Dtype weight_dtype = kFloat32, bias_dtype = kFloat32;
  Saved x, weight, mean, rstd;
  auto saved() { return std::tie(x, weight, mean, rstd); }

  Tensor forward(const Tensor& input, const Tensor& w, const Tensor& bias, const Tensor& running_mean,
                 const Tensor& running_var) {
    const plain::Scope scope;
    const TensorOptions statistics = input.options().dtype(plain::wide(input.dtype()));
    Tensor batch_mean, batch_rstd, old_mean = running_mean, old_var = running_var;
    if (training) {
      batch_mean = empty({input.size(1)}, statistics);
      batch_rstd = empty({input.size(1)}, statistics);
    } else {
      batch_mean = plain::cast(running_mean, statistics.dtype());
      batch_rstd = (running_var.to(statistics.dtype()) + eps).rsqrt();
    }
    const MemoryFormat format = input.suggest_memory_format();
    Tensor y = empty(input.sizes(), input.options().memory_format(format));
    if (input.numel() > 0) {
      backend(y).batch_norm(plain::dense(input, format), w, bias, old_mean, old_var, training, momentum, eps, y,
                            batch_mean, batch_rstd);
    }
    if (training && old_mean.defined()) old_mean.storage()->bump_version();
    if (training && old_var.defined()) old_var.storage()->bump_version();
    keep(input, w, bias, batch_mean, batch_rstd);
    return y;
  }

  void keep(const Tensor& input, const Tensor& w, const Tensor& bias, const Tensor& batch_mean,
            const Tensor& batch_rstd) {
    weight_dtype = w.defined() ? w.dtype() : input.dtype();
    bias_dtype = bias.defined() ? bias.dtype() : input.dtype();
    x = input;
    weight = w;
    mean = batch_mean;
    rstd = batch_rstd;
  }

  std::array<Tensor, 5> backward(const Tensor& g, Wants want) const {
    auto [dx, dweight, dbias] = context.record || g.numel() == 0 ? recorded(g, want) : fused(g, want);
    return {dx, dweight, dbias, Tensor{}, Tensor{}};
  }

  std::array<Tensor, 3> fused(const Tensor& g, Wants want) const {
    const std::int64_t channels = g.size(1);
    Tensor dx, dweight = gradient_buffer(want[1], channels, weight_dtype, g),
               dbias = gradient_buffer(want[2], channels, bias_dtype, g);
    apply_plain(op("batch_norm_grad"), std::array{g, *x, *weight},
                [&](const Tensor& gradient, const Tensor& input, const Tensor& w) {
                  const MemoryFormat format = input.suggest_memory_format();
                  if (want[0]) dx = empty(input.sizes(), input.options().memory_format(format));
                  backend(g).batch_norm_grad(plain::dense(gradient, format), plain::dense(input, format), w, *mean,
                                             *rstd, training, dx, dweight, dbias);
                  return first_defined(dx, dweight, dbias);
                });
    return {dx, dweight, dbias};
  }

  std::array<Tensor, 3> recorded(const Tensor& g, Wants want) const {
    const Tensor w = *weight;
    Dims column(at(g.dim()), 1);
    column[1] = g.size(1);
    Normalization n;
    for (std::int64_t i = 0; i < g.dim(); ++i) {
      if (i != 1) n.statistics.push_back(i);
    }
    n.parameters = n.statistics;
    n.from_x = training;
    return n.gradients(g, *x, w.defined() ? w.reshape(column) : w, mean->reshape(column), rstd->reshape(column), eps,
                       want);
  }
};

void check_per_channel(std::string_view what, const Tensor& t, const Tensor& x) {
  check<ValueError>(!t.defined() || (t.dim() == 1 && t.size(0) == x.size(1)), "batch_norm: ", what,
                    " should have one element a channel of x ", x.sizes(), ", got ", describe(t));
}

// ------------------------------------------------------------------------------------------------ layer norm

struct LayerNormRule {
  std::int64_t axes;  // how many of the last ones
  double eps;
  Dtype bias_dtype = kFloat32;
  Saved x, weight, mean, rstd;
  auto saved() { return std::tie(x, weight, mean, rstd); }

  Tensor forward(const Tensor& input, const Tensor& w, const Tensor& bias) {
    check_floating(op("layer_norm"), input);
    const Tensor from = plain::dense(input);
    const std::int64_t width = width_of(input), rows = width == 0 ? 0 : input.numel() / width;
    const TensorOptions statistics = input.options().dtype(plain::wide(input.dtype()));
    Tensor y = empty(input.sizes(), input.options()), row_mean = empty({rows}, statistics),
           row_rstd = empty({rows}, statistics);
    if (rows > 0) backend(y).layer_norm(from, dense_or_none(w), dense_or_none(bias), width, eps, y, row_mean, row_rstd);
    bias_dtype = bias.defined() ? bias.dtype() : input.dtype();
    x = input;
    weight = w;
    mean = row_mean;
    rstd = row_rstd;
    return y;
  }
  static Tensor dense_or_none(const Tensor& t) { return t.defined() ? plain::dense(t) : t; }

  std::int64_t width_of(const Tensor& t) const { return count_elements(t.sizes().slice(at(t.dim() - axes))); }

  std::array<Tensor, 3> backward(const Tensor& g, Wants want) const {
    return context.record || g.numel() == 0 ? recorded(g, want) : fused(g, want);
  }

  std::array<Tensor, 3> fused(const Tensor& g, Wants want) const {
    const std::int64_t width = width_of(g);
    const Tensor w = *weight;
    Tensor dx, dweight = gradient_buffer(want[1], width, w.defined() ? w.dtype() : g.dtype(), g),
               dbias = gradient_buffer(want[2], width, bias_dtype, g);
    apply_plain(op("layer_norm_grad"), std::array{g, *x, w},
                [&](const Tensor& gradient, const Tensor& input, const Tensor& scale) {
                  if (want[0]) dx = empty(input.sizes(), input.options());
                  backend(g).layer_norm_grad(plain::dense(gradient), plain::dense(input), dense_or_none(scale), *mean,
                                             *rstd, width, dx, dweight, dbias);
                  return first_defined(dx, dweight, dbias);
                });
    return {dx, shaped(dweight, g), shaped(dbias, g)};
  }
  Tensor shaped(const Tensor& t, const Tensor& g) const {
    return t.defined() ? plain::reshaped(t, dims(g.sizes().slice(at(g.dim() - axes)))) : t;
  }

  std::array<Tensor, 3> recorded(const Tensor& g, Wants want) const {
    const std::int64_t lead = g.dim() - axes;
    const Normalization n{axes_between(lead, g.dim()), axes_between(0, lead), true};
    return n.gradients(g, *x, *weight, {}, {}, eps, want);
  }
};

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                  const Tensor& running_var, bool training, double momentum, double eps, bool) {
  const OpInfo& info = op("batch_norm");
  check<ValueError>(x.dim() >= 2, info.name, ": expected x of at least 2 dimensions [N, C, ...], got ", describe(x));
  check_floating(info, x);
  check_per_channel("weight", weight, x);
  check_per_channel("bias", bias, x);
  check_per_channel("running_mean", running_mean, x);
  check_per_channel("running_var", running_var, x);
  check<ValueError>(training || (running_mean.defined() && running_var.defined()), info.name,
                    ": running_mean and running_var must be defined in evaluation mode");
  const std::int64_t per_channel = x.size(1) == 0 ? 0 : x.numel() / x.size(1);
  check<ValueError>(!training || per_channel != 1, info.name,
                    ": Expected more than 1 value per channel when training, got input size ", x.sizes());
  return apply(info, BatchNormRule{training, momentum, eps, kFloat32, kFloat32, {}, {}, {}, {}},
               std::array{x, weight, bias, running_mean, running_var});
}

Tensor layer_norm(const Tensor& x, IntArrayRef normalized_shape, const Tensor& weight, const Tensor& bias, double eps,
                  bool) {
  const OpInfo& info = op("layer_norm");
  const auto axes = static_cast<std::int64_t>(normalized_shape.size());
  const bool fits = axes > 0 && axes <= x.dim() && x.sizes().slice(at(x.dim() - axes)).equals(normalized_shape);
  check<ValueError>(fits, info.name, ": given normalized_shape ", normalized_shape,
                    ", expected x with these last sizes, got ", describe(x));
  for (const Tensor& t : {weight, bias}) {
    check<ValueError>(!t.defined() || t.sizes().equals(normalized_shape), info.name,
                      ": expected weight and bias of normalized_shape ", normalized_shape, ", got ", describe(t));
  }
  return apply(info, LayerNormRule{axes, eps, kFloat32, {}, {}, {}, {}}, std::array{x, weight, bias});
}

Tensor group_norm(const Tensor& x, std::int64_t num_groups, const Tensor& weight, const Tensor& bias, double eps) {
  const OpInfo& info = op("group_norm");
  check<ValueError>(x.dim() >= 2, info.name, ": expected x of at least 2 dimensions [N, C, ...], got ", describe(x));
  check<ValueError>(num_groups > 0 && x.size(1) % num_groups == 0, info.name, ": ", num_groups,
                    " groups do not divide the ", x.size(1), " channels of x ", x.sizes());
  for (const Tensor& t : {weight, bias}) {
    check<ValueError>(!t.defined() || (t.dim() == 1 && t.size(0) == x.size(1)), info.name,
                      ": weight and bias should have one element a channel of x ", x.sizes(), ", got ", describe(t));
  }
  return apply_composite(info, std::array{x, weight, bias}, [&](const Tensor& input, const Tensor& w, const Tensor& b) {
    const std::int64_t groups = input.size(0) * num_groups, width = groups == 0 ? 0 : input.numel() / groups;
    if (input.numel() == 0) return input;
    Dims column(at(input.dim()), 1);
    column[1] = input.size(1);
    Tensor y = layer_norm(input.reshape({groups, width}), width, {}, {}, eps).reshape(input.sizes());
    if (w.defined()) y = y * w.reshape(column);
    if (b.defined()) y = y + b.reshape(column);
    return y.to(input.dtype());  // 16-bit x takes float32 weight and bias
  });
}

}  // namespace halftone
