// What this processor and oneDNN do together. Only the files onednn*.cpp know the library; built without it, the
// queries say no, every entry point declines, and the portable path does the work.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/cpu/convolution.h"
#include "kernels/cpu/gemm.h"

namespace halftone::cpu {

/// Whether halftone was built with oneDNN.
bool has_onednn();

/// Whether bfloat16 products and convolutions run on the processor's own instructions (AVX512_BF16 or AMX), so that
/// they are faster than float32. Elsewhere bfloat16 is widened and is no faster.
bool has_fast_bf16();

/// One line for people: the instructions found and what does the products, such as "AMX bfloat16 by oneDNN 2.6.3".
std::string_view cpu_capability();

/// While one lives, the whole process uses the portable path alone. For tests and comparisons.
class PortableScope {
 public:
  PortableScope();
  ~PortableScope();
  PortableScope(const PortableScope&) = delete;
  PortableScope& operator=(const PortableScope&) = delete;
};

namespace onednn {

/// Whether the library is to be used for this dtype, here and now: it exists, it has the instructions, nothing forbids
/// it.
bool serves(Dtype dtype);

/// c = a * b, or c += a * b: row-major with the given leading dimensions, `a` and `b` possibly stored transposed.
struct Sgemm {
  bool a_transposed, b_transposed;
  std::int64_t m, n, k;
  const float* a;
  std::int64_t lda;
  const float* b;
  std::int64_t ldb;
  bool accumulate;
  float* c;
  std::int64_t ldc;
};
void sgemm(const Sgemm& p);

/// One bfloat16 product on the calling thread. y is row-major; a and b are row-major or column-major.
void matmul_bf16(const GemmArgs& args);

/// One convolution on the calling thread. False, with nothing written, when the library has no quick way to do it.
bool conv_forward(const ConvShape& shape, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y);
bool conv_backward_data(const ConvShape& shape, const ConstConvData& g, const ConstConvData& w, const ConvData& dx);
/// dw and, unless null, dbias are float32.
bool conv_backward_weight(const ConvShape& shape, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias);

}  // namespace onednn

}  // namespace halftone::cpu
