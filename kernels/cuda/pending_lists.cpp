#include "kernels/cuda/cuda_backend.h"

namespace halftone {

void CudaBackend::gather(const Tensor&, std::int64_t, const Tensor&, Tensor&) { fail<NotImplementedError>("gather"); }
void CudaBackend::scatter(Write, std::int64_t, const Tensor&, const Tensor&, Tensor&) {
  fail<NotImplementedError>("scatter");
}
void CudaBackend::index(const IndexPlan&, const Tensor&, Tensor&) { fail<NotImplementedError>("index"); }
void CudaBackend::index_put(const IndexPlan&, Write, const Tensor&, Tensor&) { fail<NotImplementedError>("index_put"); }
Tensor CudaBackend::nonzero(const Tensor&) { fail<NotImplementedError>("nonzero"); }
void CudaBackend::random(const RandomFill&, Tensor&, Generator&) { fail<NotImplementedError>("random"); }
void CudaBackend::randperm(Tensor&, Generator&) { fail<NotImplementedError>("randperm"); }
void CudaBackend::dropout(const DropoutMask&, const Tensor&, Tensor&) { fail<NotImplementedError>("dropout"); }
void CudaBackend::sgd(const SgdStep&, TensorList, TensorList, TensorList, const Tensor&, const Tensor&) {
  fail<NotImplementedError>("sgd");
}
void CudaBackend::adam(const AdamStep&, TensorList, TensorList, TensorList, TensorList, TensorList, const Tensor&,
                       const Tensor&, const Tensor&) {
  fail<NotImplementedError>("adam");
}
void CudaBackend::next_scale(const ScaleRule&, const Tensor&, const Tensor&, const Tensor&, Tensor&, Tensor&) {
  fail<NotImplementedError>("next_scale");
}
void CudaBackend::unscale(TensorList, const Tensor&, Tensor&) { fail<NotImplementedError>("unscale"); }
void CudaBackend::list_norm(TensorList, double, Tensor&) { fail<NotImplementedError>("list_norm"); }
void CudaBackend::list_scale(TensorList, const Tensor&) { fail<NotImplementedError>("list_scale"); }

}  // namespace halftone
