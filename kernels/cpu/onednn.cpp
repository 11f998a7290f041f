#include "kernels/cpu/onednn.h"

#include <atomic>
#include <string>

#include "core/error.h"

#if HALFTONE_HAS_ONEDNN

#include "kernels/cpu/onednn_api.h"

namespace halftone::cpu {

namespace {

bool includes(dnnl::cpu_isa all, dnnl::cpu_isa one) {  // instruction sets are sets of bits
  return (static_cast<unsigned>(all) & static_cast<unsigned>(one)) == static_cast<unsigned>(one);
}

bool has_amx() {
  static const bool has = includes(dnnl::get_effective_cpu_isa(), dnnl::cpu_isa::avx512_core_amx);
  return has;
}

std::string describe() {
  const dnnl_version_t& v = *dnnl_version();
  const char* instructions = has_amx()         ? "AMX: bfloat16 products are several times as fast as float32"
                             : has_fast_bf16() ? "AVX512_BF16: bfloat16 products are twice as fast as float32"
                                               : "no bfloat16 instructions: bfloat16 is computed in float32";
  return str("oneDNN ", v.major, '.', v.minor, '.', v.patch, ", ", instructions);
}

}  // namespace

bool has_onednn() { return true; }

bool has_fast_bf16() {
  static const bool has = includes(dnnl::get_effective_cpu_isa(), dnnl::cpu_isa::avx512_core_bf16);
  return has;
}

std::string_view cpu_capability() {
  static const std::string text = describe();
  return text;
}

}  // namespace halftone::cpu

#endif

namespace halftone::cpu {

namespace {

std::atomic<int> portable_scopes{0};

}  // namespace

PortableScope::PortableScope() { ++portable_scopes; }
PortableScope::~PortableScope() { --portable_scopes; }

bool onednn::serves(Dtype dtype) {
  if (portable_scopes.load(std::memory_order_relaxed) != 0) return false;
  return (dtype == kFloat32 && has_onednn()) || (dtype == kBFloat16 && has_fast_bf16());
}

}  // namespace halftone::cpu
