// A kernel to step through; docs/cuda-without-gpu.md shows how.
#include <cuda_runtime.h>

__global__ void scale(float* x, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] *= factor;
}

int main() {
  constexpr int kCount = 64;
  float host[kCount];
  for (int i = 0; i < kCount; ++i) host[i] = static_cast<float>(i);
  float* x = nullptr;
  cudaMalloc(&x, sizeof host);
  cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice);
  cudaLaunchConfig_t config{};
  config.gridDim = 2;
  config.blockDim = 32;
  cudaLaunchKernelEx(&config, scale, x, 2.0F, kCount);
  cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost);
  cudaFree(x);
  return host[37] == 74 ? 0 : 1;
}
