// Cross entropy of rows of logits and its gradient.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/row_kernel.cuh"
#include "kernels/indexing.h"

namespace halftone {

using namespace cuda;

namespace {

/// The labels of the rows; one that is not a class counts as ignored, after it has been reported.
struct Labels {
  const std::int64_t* data;
  std::int64_t stride, ignored;

  static constexpr std::int64_t kNone = -1;

  /// `bad` is null where nothing is to be reported; `op` is a literal of the host.
  __device__ std::int64_t of(std::int64_t row, std::int64_t classes, BadIndex* bad, const char* op) const {
    const std::int64_t label = data[row * stride];
    if (label == ignored) return kNone;
    if (in_range(label, classes)) return label;
    if (bad != nullptr) report(bad, op, label, classes);
    return kNone;
  }
};

struct CrossEntropyLoss {
  static constexpr int kHeld = 1, kLate = 1, kOutputs = 0;  // logits; weights of the classes
  Labels labels;
  double smoothing;
  Line loss, lse;
  BadIndex* bad;
  const char* op;

  template <class Team>
  __device__ void operator()(const Team& team, std::int64_t row, std::int64_t n, bool there) const {
    using C = typename Team::C;
    const std::int64_t label = there ? labels.of(row, n, team.leads() ? bad : nullptr, op) : Labels::kNone;
    const bool counts = label != Labels::kNone;
    // Threads of one warp may have rows with and without a label: all of them compute, and some results are dropped.
    const WithOne<decltype(team.held(0)), C> x{team.held(0), label, counts ? team.template read<C>(0, label) : C(0)};
    const WithOne<decltype(team.late(0)), C> w{team.late(0), label, counts ? team.template read<C>(1, label) : C(0)};
    const rows::CrossEntropy<C> f{static_cast<C>(smoothing), static_cast<C>(n)};
    const rows::LossAndLse<C> result = rows::cross_entropy(team, n, f, label, x, w);
    if (!there || !team.leads()) return;
    loss.store(row, counts ? result.loss : C(0));
    lse.store(row, counts ? result.lse : C(0));
  }
};

struct CrossEntropyGrad {
  static constexpr int kHeld = 1, kLate = 1, kOutputs = 1;  // logits; weights of the classes; dx
  Labels labels;
  double smoothing;
  bool weighted;
  Line g, lse;

  template <class Team>
  __device__ void operator()(const Team& team, std::int64_t row, std::int64_t n, bool there) const {
    using C = typename Team::C;
    const std::int64_t label = there ? labels.of(row, n, nullptr, nullptr) : Labels::kNone;
    const bool counts = label != Labels::kNone;
    const auto x = team.held(0);
    const auto w_of_all = team.late(0);
    rows::CrossEntropy<C> f{static_cast<C>(smoothing), static_cast<C>(n)};
    if (weighted && smoothing != 0) f.weight_sum = team.sum(n, w_of_all);
    if (!counts) return team.each(n, [&](std::int64_t i) { team.out(0)(i, C(0)); });
    const WithOne<decltype(team.late(0)), C> w{w_of_all, label, team.template read<C>(1, label)};
    rows::cross_entropy_grad(team, n, f, label, g.load<C>(row), lse.load<C>(row), x, w, team.out(0));
  }
};

Labels labels_of(const Tensor& labels, std::int64_t ignored) {
  return {labels.const_data_ptr<std::int64_t>(), labels.stride(0), ignored};
}

}  // namespace

void CudaBackend::cross_entropy(const Tensor& logits, const Tensor& labels, const Tensor& weight,
                                std::int64_t ignore_index, double smoothing, Tensor& loss, Tensor& lse) {
  if (logits.size(0) == 0) return;
  const CrossEntropyLoss op{labels_of(labels, ignore_index), smoothing,      line_of(loss), line_of(lse),
                            gpu(logits).bad_index_on_device, "cross_entropy"};
  with_real({logits.dtype()}, [&]<class C>(Type<C>) {
    run_rows<C>(logits.device(), op, {logits.size(0)}, logits.size(1),
                std::array{row_operand(logits, 1), shared_row(weight, 1, 1)});
  });
}

void CudaBackend::cross_entropy_grad(const Tensor& g, const Tensor& logits, const Tensor& labels, const Tensor& weight,
                                     const Tensor& lse, std::int64_t ignore_index, double smoothing, Tensor& dx) {
  if (logits.numel() == 0) return;
  const CrossEntropyGrad op{labels_of(labels, ignore_index), smoothing, weight.defined(), line_of(g), line_of(lse)};
  with_real({logits.dtype()}, [&]<class C>(Type<C>) {
    run_rows<C>(logits.device(), op, {logits.size(0)}, logits.size(1),
                std::array{row_operand(logits, 1), shared_row(weight, 1, 1), row_operand(dx, 1)});
  });
}

}  // namespace halftone
