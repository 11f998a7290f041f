#include "kernels/cuda/cuda_backend.h"

namespace halftone {

void CudaBackend::gemm(const Tensor&, const Tensor&, const Tensor&, Activation, bool, Tensor&) {
  fail<NotImplementedError>("gemm");
}
void CudaBackend::conv(const ConvShape&, const Tensor&, const Tensor&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("conv");
}
void CudaBackend::conv_data_grad(const ConvShape&, const Tensor&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("conv_data_grad");
}
void CudaBackend::conv_weight_grad(const ConvShape&, const Tensor&, const Tensor&, Tensor&, Tensor&) {
  fail<NotImplementedError>("conv_weight_grad");
}
void CudaBackend::max_pool(const PoolShape&, const Tensor&, Tensor&, Tensor&) { fail<NotImplementedError>("max_pool"); }
void CudaBackend::max_pool_grad(const PoolShape&, const Tensor&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("max_pool_grad");
}
void CudaBackend::max_pool_take(const PoolShape&, const Tensor&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("max_pool_take");
}
void CudaBackend::avg_pool(const PoolShape&, const Tensor&, Tensor&) { fail<NotImplementedError>("avg_pool"); }
void CudaBackend::avg_pool_grad(const PoolShape&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("avg_pool_grad");
}
void CudaBackend::adaptive_avg_pool(const PoolShape&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("adaptive_avg_pool");
}
void CudaBackend::adaptive_avg_pool_grad(const PoolShape&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("adaptive_avg_pool_grad");
}

}  // namespace halftone
