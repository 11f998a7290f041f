// Values in device memory as the simulated libraries compute with them: in float, or double for double, rounded once
// when they are stored.
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <library_types.h>
#include "core/float16.h"

namespace cudasim {

inline std::size_t bytes_of(cudaDataType_t type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

inline bool is_16_bit(cudaDataType_t type) { return type == CUDA_R_16F || type == CUDA_R_16BF; }

inline bool is_aligned(const void* pointer, std::size_t to) {
  return reinterpret_cast<std::uintptr_t>(pointer) % to == 0;
}

/// Memory without gaps: its first byte, and the byte behind its last.
using Run = std::pair<std::uintptr_t, std::uintptr_t>;

inline Run run_of(const void* first, std::size_t bytes) {
  const auto start = reinterpret_cast<std::uintptr_t>(first);
  return {start, start + bytes};
}

/// Whether two operands, each of runs, share a byte.
inline bool overlap(std::vector<Run> a, std::vector<Run> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i].first < b[j].second && b[j].first < a[i].second) return true;
    a[i].second <= b[j].second ? ++i : ++j;
  }
  return false;
}

/// What tensor cores keep of a float's fraction.
inline float as_tf32(float value) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(value) + 0x1000u) & ~std::uint32_t{0x1FFF});
}

inline double load(cudaDataType_t type, const void* from, std::int64_t i) {
  switch (type) {
    case CUDA_R_64F: return static_cast<const double*>(from)[i];
    case CUDA_R_32F: return static_cast<double>(static_cast<const float*>(from)[i]);
    case CUDA_R_16F: return static_cast<double>(static_cast<float>(static_cast<const halftone::Half*>(from)[i]));
    default: return static_cast<double>(static_cast<float>(static_cast<const halftone::BFloat16*>(from)[i]));
  }
}

inline void store(cudaDataType_t type, void* to, std::int64_t i, double value) {
  const auto single = static_cast<float>(value);
  switch (type) {
    case CUDA_R_64F: static_cast<double*>(to)[i] = value; break;
    case CUDA_R_32F: static_cast<float*>(to)[i] = single; break;
    case CUDA_R_16F: static_cast<halftone::Half*>(to)[i] = halftone::Half(single); break;
    default: static_cast<halftone::BFloat16*>(to)[i] = halftone::BFloat16(single);
  }
}

/// A sum of products in the type that the library adds up in.
class Sum {
 public:
  explicit Sum(bool in_double) : in_double_(in_double) {}
  void add(double a, double b) {
    if (in_double_) {
      twice_ += a * b;
    } else {
      single_ += static_cast<float>(a) * static_cast<float>(b);
    }
  }
  double value() const { return in_double_ ? twice_ : static_cast<double>(single_); }

 private:
  bool in_double_;
  float single_ = 0;
  double twice_ = 0;
};

}  // namespace cudasim
