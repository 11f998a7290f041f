// Cross entropy of rows of logits and its gradient.
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"
#include "kernels/cpu/team.h"

namespace halftone {

namespace {

using cpu::SerialTeam;
using rows::Row;

/// What the forward and the backward pass read alike.
template <class X> struct Job {
  cpu::Source<X> logits;
  std::int64_t rows, classes;
  std::int64_t row_stride, class_stride;
  const std::int64_t* labels;
  std::int64_t label_stride;
  std::int64_t ignored;
  rows::CrossEntropy<X> formula;
  std::vector<X> weight;  // of each class

  Job(const Tensor& x, const Tensor& y, const Tensor& w, std::int64_t ignore_index, double smoothing)
      : logits(x),
        rows(x.size(0)),
        classes(x.size(1)),
        row_stride(x.stride(0)),
        class_stride(x.stride(1)),
        labels(y.const_data_ptr<std::int64_t>()),
        label_stride(y.stride(0)),
        ignored(ignore_index),
        formula{static_cast<X>(smoothing), static_cast<X>(classes)},
        weight(w.defined() ? static_cast<std::size_t>(classes) : 0) {
    if (weight.empty()) return;
    cpu::Source<X>(w).copy(0, w.stride(0), classes, weight.data());
    formula.weight_sum = SerialTeam{}.sum(classes, Row<const X>{weight.data()});
  }

  std::int64_t label(std::int64_t row) const { return labels[row * label_stride]; }

  void check_labels() const {
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t t = label(i);
      check<IndexError>(t == ignored || (0 <= t && t < classes), "cross_entropy: label ", t, " at position ", i,
                        " is out of range for ", classes, " classes");
    }
  }

  /// Calls `f` with the weights as formulas read them.
  template <class F> auto with_weight(F f) const {
    return weight.empty() ? f(rows::Constant<X>{1}) : f(Row<const X>{weight.data()});
  }
};

template <class X> rows::LossAndLse<X> forward(const Job<X>& job, std::int64_t label, const X* logits) {
  return job.with_weight([&](auto w) {
    return rows::cross_entropy(SerialTeam{}, job.classes, job.formula, label, Row<const X>{logits}, w);
  });
}

template <class X> void backward(const Job<X>& job, std::int64_t label, X g, X lse, const X* logits, X* dx) {
  job.with_weight([&](auto w) {
    rows::cross_entropy_grad(SerialTeam{}, job.classes, job.formula, label, g, lse, Row<const X>{logits}, w,
                             Row<X>{dx});
  });
}

}  // namespace

void CpuBackend::cross_entropy(const Tensor& logits, const Tensor& labels, const Tensor& weight,
                               std::int64_t ignore_index, double smoothing, Tensor& loss, Tensor& lse) {
  cpu::visit_real({logits.dtype()}, [&]<class X>(Type<X>) {
    const Job<X> job(logits, labels, weight, ignore_index, smoothing);
    job.check_labels();
    const cpu::Sink<X> to_loss(loss), to_lse(lse);
    parallel_for(0, job.rows, cpu::rows_per_grain(job.classes), [&](std::int64_t first, std::int64_t last) {
      cpu::Buffer<X> buffer(job.classes);
      for (std::int64_t i = first; i < last; ++i) {
        rows::LossAndLse<X> result{0, 0};
        if (const std::int64_t label = job.label(i); label != job.ignored) {
          const X* x = job.logits.row(i * job.row_stride, job.class_stride, job.classes, buffer.data());
          result = forward(job, label, x);
        }
        to_loss.put(i * loss.stride(0), result.loss);
        to_lse.put(i * lse.stride(0), result.lse);
      }
    });
  });
}

void CpuBackend::cross_entropy_grad(const Tensor& g, const Tensor& logits, const Tensor& labels, const Tensor& weight,
                                    const Tensor& lse, std::int64_t ignore_index, double smoothing, Tensor& dx) {
  cpu::visit_real({logits.dtype()}, [&]<class X>(Type<X>) {
    const Job<X> job(logits, labels, weight, ignore_index, smoothing);
    const cpu::Source<X> gradient(g), log_sum(lse);
    const cpu::Sink<X> to(dx);
    parallel_for(0, job.rows, cpu::rows_per_grain(job.classes), [&](std::int64_t first, std::int64_t last) {
      cpu::Buffer<X> in(job.classes), out(job.classes);
      for (std::int64_t i = first; i < last; ++i) {
        X* const row = to.row(i * dx.stride(0), dx.stride(1), out.data());
        if (const std::int64_t label = job.label(i); label == job.ignored) {
          std::fill_n(row, job.classes, X(0));
        } else {
          const X* x = job.logits.row(i * job.row_stride, job.class_stride, job.classes, in.data());
          backward(job, label, gradient.at(i * g.stride(0)), log_sum.at(i * lse.stride(0)), x, row);
        }
        to.put(i * dx.stride(0), dx.stride(1), job.classes, row);
      }
    });
  });
}

}  // namespace halftone
