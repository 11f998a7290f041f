// Losses. Those of single elements are pointwise formulas and a mean; those of labels have rules of their own.
#include "autograd/ops.h"
#include "autograd/ops/indexing.h"
#include "autograd/ops/plain.h"
#include "autograd/ops/pointwise.h"

namespace halftone {
namespace {

using plain::at;

void check_reduction(const OpInfo& info, std::int64_t reduction) {
  check<ValueError>(reduction >= Reduction::None && reduction <= Reduction::Sum, info.name,
                    ": reduction must be None (0), Mean (1) or Sum (2), got ", reduction);
}

Tensor reduced(const Tensor& losses, std::int64_t reduction) {
  if (reduction == Reduction::None) return losses;
  return reduction == Reduction::Mean ? losses.mean() : losses.sum();
}

Tensor pointwise_loss(const OpInfo& info, const Binary& f, const Tensor& x, const Tensor& target,
                      std::int64_t reduction) {
  check_reduction(info, reduction);
  if (!x.sizes().equals(target.sizes())) {
    warn(str(info.name, ": using a target size (", target.sizes(), ") that is different to the input size (", x.sizes(),
             "). This will likely lead to incorrect results due to broadcasting."));
  }
  return reduced(binary_op(info, f, x, target), reduction);
}

}  // namespace

Tensor mse_loss(const Tensor& x, const Tensor& target, std::int64_t reduction) {
  return pointwise_loss(op("mse_loss"), fn::SquaredError{}, x, target, reduction);
}

Tensor l1_loss(const Tensor& x, const Tensor& target, std::int64_t reduction) {
  return pointwise_loss(op("l1_loss"), fn::AbsoluteError{}, x, target, reduction);
}

Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, std::int64_t reduction, double beta) {
  const OpInfo& info = op("smooth_l1_loss");
  check<ValueError>(beta >= 0, info.name, " does not support negative values for beta, got ", beta);
  if (beta == 0) return pointwise_loss(info, fn::AbsoluteError{}, x, target, reduction);
  fn::SmoothAbsoluteError f;
  f.beta = beta;
  return pointwise_loss(info, f, x, target, reduction);
}

Tensor huber_loss(const Tensor& x, const Tensor& target, std::int64_t reduction, double delta) {
  const OpInfo& info = op("huber_loss");
  check<ValueError>(delta > 0, info.name, " does not support non-positive values for delta, got ", delta);
  fn::SmoothAbsoluteError f;
  f.beta = delta;
  f.huber = true;
  return pointwise_loss(info, f, x, target, reduction);
}

Tensor kl_div(const Tensor& x, const Tensor& target, std::int64_t reduction, bool log_target) {
  const OpInfo& info = op("kl_div");
  check_reduction(info, reduction);
  return apply_composite(info, std::array{x, target}, [&](const Tensor& input, const Tensor& t) {
    if (log_target) return reduced(exp(t) * (t - input), reduction);
    const Tensor is_positive = t > 0;
    const Tensor logarithm = log(where(is_positive, t, ones_like(t)));  // 0 log 0 counts as 0
    return reduced(where(is_positive, t * logarithm, zeros_like(t)) - t * input, reduction);
  });
}

// ------------------------------------------------------------------------------------------------ binary

namespace {

// [N, 1] against [N] is meant as elements in order.
Tensor target_like(const OpInfo& info, const Tensor& target, const Tensor& x) {
  if (x.sizes().equals(target.sizes())) return target;
  const bool same_elements = x.numel() == target.numel() && x.squeeze().sizes().equals(target.squeeze().sizes());
  check<ValueError>(same_elements, info.name, ": using a target size (", target.sizes(),
                    ") that is different to the input size (", x.sizes(), ") is not allowed");
  return target.reshape(x.sizes());
}

void check_probabilities(const OpInfo& info, const Tensor& x) {
  if (!x.is_cpu() || x.numel() == 0) return;  // elsewhere a look at the values would wait for them
  const plain::Scope scope;
  const double low = x.min().item<double>(), high = x.max().item<double>();
  check<ValueError>(!(low < 0) && !(high > 1), info.name, ": all elements of input should be between 0 and 1, got ",
                    low, " to ", high, "; for logits there is binary_cross_entropy_with_logits");
}

Tensor weighted(const Tensor& losses, const Tensor& weight) { return weight.defined() ? losses * weight : losses; }

}  // namespace

Tensor binary_cross_entropy(const Tensor& x, const Tensor& target, const Tensor& weight, std::int64_t reduction) {
  const OpInfo& info = op("binary_cross_entropy");
  check_reduction(info, reduction);
  const Tensor losses = binary_op(info, fn::BinaryCrossEntropy{}, x, target_like(info, target, x));
  check_probabilities(info, x);
  return reduced(weighted(losses, weight), reduction);
}

Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target, const Tensor& weight,
                                        const Tensor& pos_weight, std::int64_t reduction) {
  const OpInfo& info = op("binary_cross_entropy_with_logits");
  check_reduction(info, reduction);
  check<ValueError>(x.sizes().equals(target.sizes()), info.name, ": target size (", target.sizes(),
                    ") must be the same as input size (", x.sizes(), ")");
  if (!pos_weight.defined()) {
    return reduced(weighted(binary_op(info, fn::BinaryCrossEntropyWithLogits{}, x, target), weight), reduction);
  }
  return apply_composite(info, std::array{x, target, weight, pos_weight},
                         [&](const Tensor& logits, const Tensor& t, const Tensor& w, const Tensor& positive) {
                           const Tensor scale = (positive - 1) * t + 1;
                           return reduced(weighted((1 - t) * logits + scale * softplus(-logits), w), reduction);
                         });
}

Tensor cosine_similarity(const Tensor& a, const Tensor& b, std::int64_t dim, double eps) {
  return apply_composite(op("cosine_similarity"), std::array{a, b}, [&](const Tensor& x, const Tensor& y) {
    const auto unit = [&](const Tensor& t) { return t / t.norm(2, dim, true).clamp_min(eps); };
    return (unit(x) * unit(y)).sum(dim);
  });
}

// ------------------------------------------------------------------------------------------------ labels

namespace {

void check_labels(const OpInfo& info, const Tensor& labels, std::int64_t classes, std::int64_t ignore_index) {
  if (!labels.is_cpu()) return;  // the kernels check there
  const Tensor list = plain::dense(labels);
  const std::int64_t* values = list.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < list.numel(); ++i) {
    const std::int64_t t = values[i];
    check<IndexError>(t == ignore_index || (t >= 0 && t < classes), info.name, ": label ", t, " at position ", i,
                      " is out of range for ", classes, " classes");
  }
}

// Which labels count.
Tensor counted_labels(const Tensor& labels, std::int64_t ignore_index) { return labels.ne(ignore_index); }

// By what a mean divides: the weights of the labels that count.
Tensor total_weight(const Tensor& labels, const Tensor& counted, const Tensor& weight, Dtype dtype) {
  if (!weight.defined()) return counted.sum().to(dtype);
  const Tensor safe = where(counted, labels, zeros_like(labels));
  return (weight.index_select(0, safe).to(dtype) * counted).sum();
}

// The loss's gradient as one number a row, without copying.
Tensor gradient_per_row(const Tensor& g, const Tensor& total, std::int64_t reduction, std::int64_t rows, Dtype dtype) {
  Tensor wide = g.to(dtype);
  if (reduction == Reduction::None) return wide;
  return (reduction == Reduction::Mean ? wide / total : wide).expand({rows});
}

// logits [rows, classes], labels [rows].
struct CrossEntropyRule {
  std::int64_t reduction, ignore_index;
  double smoothing;
  Saved logits, labels, weight, lse, total;
  auto saved() { return std::tie(logits, labels, weight, lse, total); }

  Tensor forward(const Tensor& x, const Tensor& t, const Tensor& w) {
    const plain::Scope scope;
    check_floating(op("cross_entropy_loss"), x);
    const TensorOptions wide = x.options().dtype(plain::wide(x.dtype()));
    Tensor losses = empty({x.size(0)}, wide), log_sums = empty({x.size(0)}, wide);
    backend(x).cross_entropy(x, t, w, ignore_index, smoothing, losses, log_sums);
    logits = x;
    labels = t;
    weight = w;
    lse = log_sums;
    return reduce(losses, t, w).to(x.dtype());
  }

  Tensor reduce(const Tensor& losses, const Tensor& t, const Tensor& w) {
    if (reduction == Reduction::None) return losses;
    if (reduction == Reduction::Sum) return losses.sum();
    const Tensor divisor = total_weight(t, counted_labels(t, ignore_index), w, losses.dtype());
    total = divisor;
    return losses.sum() / divisor;
  }

  std::array<Tensor, 3> backward(const Tensor& g, Wants) const {
    const Tensor x = *logits;
    const Tensor per_row = gradient_per_row(g, *total, reduction, x.size(0), plain::wide(x.dtype()));
    if (context.record) return {recorded(per_row, x), Tensor{}, Tensor{}};
    Tensor dx = empty_like(x);
    backend(x).cross_entropy_grad(per_row, x, *labels, *weight, *lse, ignore_index, smoothing, dx);
    return {dx, Tensor{}, Tensor{}};
  }

  Tensor recorded(const Tensor& per_row, const Tensor& x) const {
    const Tensor aim = targets(x);
    return (softmax(x.to(aim.dtype()), 1) * aim.sum(1, true) - aim) * per_row.unsqueeze(1);
  }

  // The weight that each class has in each row's loss, [rows, classes].
  Tensor targets(const Tensor& x) const {
    const plain::Scope scope;
    const Tensor t = *labels, w = *weight, counted = counted_labels(t, ignore_index);
    const Tensor safe = where(counted, t, zeros_like(t));
    const auto classes = static_cast<double>(x.size(1));
    Tensor aim = zeros(x.sizes(), x.options().dtype(plain::wide(x.dtype())));
    aim.scatter_(1, safe.unsqueeze(1), 1 - smoothing);
    aim = aim + smoothing / classes;
    if (w.defined()) aim = aim * w;
    return aim * counted.unsqueeze(1);
  }
};

struct NllRule {
  std::int64_t reduction, ignore_index;
  Dims sizes;
  Saved labels, row_weight, total;
  auto saved() { return std::tie(labels, row_weight, total); }

  Tensor forward(const Tensor& x, const Tensor& t, const Tensor& w) {
    const plain::Scope scope;
    check_floating(op("nll_loss"), x);
    const Dtype wide = plain::wide(x.dtype());
    const Tensor counted = counted_labels(t, ignore_index), safe = where(counted, t, zeros_like(t));
    Tensor picked = empty({x.size(0), 1}, x.options());
    // Before the labels are used for anything else: a kernel tells of the first one that is out of range.
    if (picked.numel() > 0) backend(x).gather(x, 1, safe.unsqueeze(1), picked, "nll_loss");
    picked = picked.squeeze(1).to(wide);
    const Tensor weights = w.defined() ? w.index_select(0, safe).to(wide) * counted : counted.to(wide);
    const Tensor losses = where(counted, picked * -weights, zeros_like(picked));
    const Tensor divisor = weights.sum();
    sizes = dims(x.sizes());
    labels = safe;
    row_weight = weights;
    total = divisor;
    if (reduction == Reduction::None) return losses.to(x.dtype());
    return (reduction == Reduction::Mean ? losses.sum() / divisor : losses.sum()).to(x.dtype());
  }

  std::array<Tensor, 3> backward(const Tensor& g, Wants) const {
    const Tensor weights = *row_weight;
    const Tensor per_row = gradient_per_row(g, *total, reduction, sizes[0], weights.dtype());
    const Tensor dx = scatter_to_zeros(sizes, 1, labels->unsqueeze(1), (per_row * -weights).unsqueeze(1));
    return {dx, Tensor{}, Tensor{}};
  }
};

// [C], [N, C] or [N, C, ...] as rows of classes, and labels as a list.
struct LabelledRows {
  Tensor rows, labels;
};

LabelledRows labelled_rows(const OpInfo& info, const Tensor& x, const Tensor& target, const Tensor& weight) {
  check<ValueError>(x.dim() >= 1, info.name, ": expected x of at least 1 dimension [N, C, ...], got ", describe(x));
  check<TypeError>(is_integral(target.dtype()), info.name, ": expected int64 labels, got ", describe(target));
  const std::int64_t axis = x.dim() == 1 ? 0 : 1, classes = x.size(axis);
  Dims expected = dims(x.sizes());
  expected.erase(at(axis));
  check<ValueError>(target.sizes() == expected, info.name, ": x ", describe(x), " wants labels ", expected, ", got ",
                    describe(target));
  check<ValueError>(!weight.defined() || (weight.dim() == 1 && weight.size(0) == classes), info.name,
                    ": weight should have one element a class, of which there are ", classes, ", got ",
                    describe(weight));
  check_same_device(info, "x and labels", x, target);
  const Tensor rows = x.dim() == 2 ? x : x.movedim(axis, -1).reshape({target.numel(), classes});
  return {rows, target.to(kInt64).reshape({target.numel()})};
}

Tensor cross_entropy_of_probabilities(const OpInfo& info, const Tensor& logits, const Tensor& target,
                                      const Tensor& weight, std::int64_t reduction, double smoothing) {
  const std::int64_t axis = logits.dim() == 1 ? 0 : 1, classes = logits.size(axis);
  check<ValueError>(logits.sizes().equals(target.sizes()), info.name, ": expected probabilities of the logits' shape ",
                    logits.sizes(), ", got ", describe(target));
  return apply_composite(
      info, std::array{logits, target, weight}, [&](const Tensor& x, const Tensor& t, const Tensor& w) {
        const Tensor aim = smoothing > 0 ? t * (1 - smoothing) + smoothing / static_cast<double>(classes) : t;
        Tensor logs = log_softmax(x, axis);
        if (w.defined()) {
          Dims column(at(x.dim()), 1);
          column[at(axis)] = classes;
          logs = logs * w.reshape(column);
        }
        const Tensor losses = -(logs * aim).sum(axis);
        return reduction == Reduction::Mean ? losses.sum() / static_cast<double>(losses.numel())
                                            : reduced(losses, reduction);
      });
}

}  // namespace

Tensor cross_entropy_loss(const Tensor& logits, const Tensor& target, const Tensor& weight, std::int64_t reduction,
                          std::int64_t ignore_index, double label_smoothing) {
  const OpInfo& info = op("cross_entropy_loss");
  check_reduction(info, reduction);
  check<ValueError>(label_smoothing >= 0 && label_smoothing <= 1, info.name,
                    ": label_smoothing must be between 0 and 1, got ", label_smoothing);
  if (target.is_floating_point()) {
    return cross_entropy_of_probabilities(info, logits, target, weight, reduction, label_smoothing);
  }
  const LabelledRows in = labelled_rows(info, logits, target, weight);
  const Tensor loss = apply(info, CrossEntropyRule{reduction, ignore_index, label_smoothing, {}, {}, {}, {}, {}},
                            std::array{in.rows, in.labels, weight});
  return reduction == Reduction::None ? loss.reshape(target.sizes()) : loss;
}

Tensor nll_loss(const Tensor& x, const Tensor& target, const Tensor& weight, std::int64_t reduction,
                std::int64_t ignore_index) {
  const OpInfo& info = op("nll_loss");
  check_reduction(info, reduction);
  const LabelledRows in = labelled_rows(info, x, target, weight);
  check_labels(info, in.labels, in.rows.size(1), ignore_index);
  const Tensor loss =
      apply(info, NllRule{reduction, ignore_index, {}, {}, {}, {}}, std::array{in.rows, in.labels, weight});
  return reduction == Reduction::None ? loss.reshape(target.sizes()) : loss;
}

}  // namespace halftone
