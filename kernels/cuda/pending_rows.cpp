#include "kernels/cuda/cuda_backend.h"

namespace halftone {

void CudaBackend::reduce(const Reduce&, const Tensor&, unsigned, Tensor&) { fail<NotImplementedError>("reduce"); }
void CudaBackend::extreme(Extreme, const Tensor&, std::int64_t, Tensor&, Tensor&) {
  fail<NotImplementedError>("extreme");
}
void CudaBackend::scan(Scan, const Tensor&, std::int64_t, Tensor&) { fail<NotImplementedError>("scan"); }
void CudaBackend::softmax(const Tensor&, std::int64_t, bool, Tensor&) { fail<NotImplementedError>("softmax"); }
void CudaBackend::softmax_grad(const Tensor&, const Tensor&, std::int64_t, bool, Tensor&) {
  fail<NotImplementedError>("softmax_grad");
}
void CudaBackend::cross_entropy(const Tensor&, const Tensor&, const Tensor&, std::int64_t, double, Tensor&, Tensor&) {
  fail<NotImplementedError>("cross_entropy");
}
void CudaBackend::cross_entropy_grad(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                     std::int64_t, double, Tensor&) {
  fail<NotImplementedError>("cross_entropy_grad");
}
void CudaBackend::layer_norm(const Tensor&, const Tensor&, const Tensor&, std::int64_t, double, Tensor&, Tensor&,
                             Tensor&) {
  fail<NotImplementedError>("layer_norm");
}
void CudaBackend::layer_norm_grad(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                  std::int64_t, Tensor&, Tensor&, Tensor&) {
  fail<NotImplementedError>("layer_norm_grad");
}
void CudaBackend::batch_norm(const Tensor&, const Tensor&, const Tensor&, Tensor&, Tensor&, bool, double, double,
                             Tensor&, Tensor&, Tensor&) {
  fail<NotImplementedError>("batch_norm");
}
void CudaBackend::batch_norm_grad(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, bool,
                                  Tensor&, Tensor&, Tensor&) {
  fail<NotImplementedError>("batch_norm_grad");
}

}  // namespace halftone
