// Layer normalization of rows of `width` elements, and its gradients.
#include <vector>

#include "kernels/cpu/column_sum.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"
#include "kernels/cpu/team.h"

namespace halftone {

namespace {

using cpu::SerialTeam;
using rows::Row;

template <class X> class Backward {
 public:
  Backward(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd,
           std::int64_t width)
      : g_(g), x_(x), mean_(mean), rstd_(rstd), weight_(cpu::weight_or<X>(weight, width, 1)), width_(width) {}

  /// Gradients of x's rows [first, last) into `dx` and of the weights into `sums`; either may be null.
  void run(std::int64_t first, std::int64_t last, const cpu::Sink<X>* dx, cpu::ColumnSums<X>* sums) const {
    cpu::Buffer<X> g_buffer(width_), x_buffer(width_), out(width_);
    for (std::int64_t i = first; i < last; ++i) {
      const Row<const X> g{g_.row(i * width_, 1, width_, g_buffer.data())};
      const Row<const X> x{x_.row(i * width_, 1, width_, x_buffer.data())};
      const rows::MeanAndRstd<X> s{mean_.at(i), rstd_.at(i)};
      if (dx) {
        X* const to = dx->row(i * width_, 1, out.data());
        rows::layer_norm_grad(SerialTeam{}, width_, s, g, x, Row<const X>{weight_.data()}, Row<X>{to});
        dx->put(i * width_, 1, width_, to);
      }
      if (sums) sums->add(g.data, [=](std::int64_t k) { return g(k) * ((x(k) - s.mean) * s.rstd); });
    }
  }

 private:
  cpu::Source<X> g_, x_, mean_, rstd_;
  std::vector<X> weight_;
  std::int64_t width_;
};

}  // namespace

void CpuBackend::layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t width, double eps,
                            Tensor& y, Tensor& mean, Tensor& rstd) {
  if (x.numel() == 0) return;
  cpu::visit_real({x.dtype()}, [&]<class X>(Type<X>) {
    const std::vector<X> w = cpu::weight_or<X>(weight, width, 1), b = cpu::weight_or<X>(bias, width, 0);
    const cpu::Source<X> from(x);
    const cpu::Sink<X> to(y), to_mean(mean), to_rstd(rstd);
    parallel_for(0, x.numel() / width, cpu::rows_per_grain(width), [&](std::int64_t first, std::int64_t last) {
      cpu::Buffer<X> in(width), out(width);
      for (std::int64_t i = first; i < last; ++i) {
        const Row<const X> row{from.row(i * width, 1, width, in.data())};
        X* const result = to.row(i * width, 1, out.data());
        const auto s = rows::layer_norm(SerialTeam{}, width, eps, row, Row<const X>{w.data()}, Row<const X>{b.data()},
                                        Row<X>{result});
        to.put(i * width, 1, width, result);
        to_mean.put(i, s.mean);
        to_rstd.put(i, s.rstd);
      }
    });
  });
}

void CpuBackend::layer_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean,
                                 const Tensor& rstd, std::int64_t width, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  const std::int64_t rows = width == 0 ? 0 : x.numel() / width;
  cpu::visit_real({x.dtype()}, [&]<class X>(Type<X>) {
    const Backward<X> backward(g, x, weight, mean, rstd, width);
    const std::unique_ptr<cpu::Sink<X>> to = dx.defined() ? std::make_unique<cpu::Sink<X>>(dx) : nullptr;
    if (!dweight.defined() && !dbias.defined()) {
      return parallel_for(0, rows, cpu::rows_per_grain(width),
                          [&](std::int64_t first, std::int64_t last) { backward.run(first, last, to.get(), nullptr); });
    }
    const cpu::Shares shares(rows, width);
    cpu::ShareSums<X> sums(shares, width);
    parallel_for(0, shares.count, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t share = first; share < last; ++share) {
        cpu::ColumnSums<X> own = sums.of(share);
        backward.run(shares.begin(share), shares.begin(share + 1), to.get(), &own);
        own.finish();
      }
    });
    sums.combine();
    if (dbias.defined()) cpu::Sink<double>(dbias).put(0, 1, width, sums.plain());
    if (dweight.defined()) cpu::Sink<double>(dweight).put(0, 1, width, sums.weighted());
  });
}

}  // namespace halftone
