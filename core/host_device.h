// HD marks a function that runs on the host and in CUDA kernels: formulas are written once for both.
#pragma once

#ifdef __CUDACC__
#define HD __host__ __device__
#else
#define HD
#endif
