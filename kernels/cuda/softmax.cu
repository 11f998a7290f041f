// Softmax and log-softmax along any axis, and their gradients.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/row_kernel.cuh"

namespace halftone {

using namespace cuda;

namespace {

template <bool kLog> struct Softmax {
  static constexpr int kHeld = 1, kLate = 0, kOutputs = 1;
  template <class Team> __device__ void operator()(const Team& team, std::int64_t, std::int64_t n, bool) const {
    if constexpr (kLog) {
      rows::log_softmax(team, n, team.held(0), team.out(0));
    } else {
      rows::softmax(team, n, team.held(0), team.out(0));
    }
  }
};

template <bool kLog> struct SoftmaxGrad {
  static constexpr int kHeld = 2, kLate = 0, kOutputs = 1;
  template <class Team> __device__ void operator()(const Team& team, std::int64_t, std::int64_t n, bool) const {
    if constexpr (kLog) {
      rows::log_softmax_grad(team, n, team.held(0), team.held(1), team.out(0));
    } else {
      rows::softmax_grad(team, n, team.held(0), team.held(1), team.out(0));
    }
  }
};

template <class C, template <bool> class Op, std::size_t Operands>
void run(bool log, std::int64_t dim, const Tensor& x, const std::array<RowOperand, Operands>& operands) {
  const Dims places = without(x.sizes(), dim);
  const std::int64_t n = x.dim() == 0 ? 1 : x.size(dim);
  log ? run_rows<C>(x.device(), Op<true>{}, places, n, operands)
      : run_rows<C>(x.device(), Op<false>{}, places, n, operands);
}

}  // namespace

void CudaBackend::softmax(const Tensor& x, std::int64_t dim, bool log, Tensor& y) {
  if (x.numel() == 0) return;
  with_real({x.dtype(), y.dtype()}, [&]<class C>(Type<C>) {
    run<C, Softmax>(log, dim, x, std::array{row_operand(x, dim), row_operand(y, dim)});
  });
}

void CudaBackend::softmax_grad(const Tensor& g, const Tensor& y, std::int64_t dim, bool log, Tensor& dx) {
  if (g.numel() == 0) return;
  with_real({g.dtype(), y.dtype(), dx.dtype()}, [&]<class C>(Type<C>) {
    run<C, SoftmaxGrad>(log, dim, g, std::array{row_operand(g, dim), row_operand(y, dim), row_operand(dx, dim)});
  });
}

}  // namespace halftone
