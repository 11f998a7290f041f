#include "kernels/cuda/cuda_backend.h"

namespace halftone {

void CudaBackend::random(const RandomFill&, Tensor&, Generator&) { fail<NotImplementedError>("random"); }
void CudaBackend::randperm(Tensor&, Generator&) { fail<NotImplementedError>("randperm"); }
void CudaBackend::dropout(const DropoutMask&, const Tensor&, Tensor&) { fail<NotImplementedError>("dropout"); }

}  // namespace halftone
