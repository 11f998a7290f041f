// What stands in for oneDNN in a build without it: nothing is served, so nothing is asked of it either.
#include "kernels/cpu/onednn.h"

#if !HALFTONE_HAS_ONEDNN

namespace halftone::cpu {

bool has_onednn() { return false; }
bool has_fast_bf16() { return false; }
std::string_view cpu_capability() { return "no oneDNN: products by Eigen, bfloat16 is computed in float32"; }

namespace onednn {

void sgemm(const Sgemm&) {}
void matmul_bf16(const GemmArgs&) {}
bool conv_forward(const ConvShape&, const ConstConvData&, const ConstConvData&, const ConstConvData&, const ConvData&) {
  return false;
}
bool conv_backward_data(const ConvShape&, const ConstConvData&, const ConstConvData&, const ConvData&) { return false; }
bool conv_backward_weight(const ConvShape&, const ConstConvData&, const ConstConvData&, const ConvData&,
                          const ConvData&) {
  return false;
}

}  // namespace onednn

}  // namespace halftone::cpu

#endif
