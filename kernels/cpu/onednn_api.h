// oneDNN behind one face, whether it is 2.x (descriptors, then primitive descriptors) or 3.x (primitive descriptors
// alone). Included by onednn*.cpp only, and only when the library is there.
#pragma once

#include <oneapi/dnnl/dnnl.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <type_traits>
#include <unordered_map>

#include "core/dtype.h"
#include "kernels/cpu/scratch.h"

extern "C" {
// OpenMP's, if the library uses OpenMP; null otherwise.
[[gnu::weak]] int omp_get_max_threads();
[[gnu::weak]] void omp_set_num_threads(int);
}

namespace halftone::cpu::onednn {

/// Keeps the library from sharing out its work: its OpenMP threads spin at barriers, and two busy processes on two
/// cores then stand still. halftone shares out the work itself, by calls that are each single-threaded. Needed around
/// the making of primitives as well as their execution.
class SingleThreaded {
 public:
  SingleThreaded() : previous_(&omp_get_max_threads == nullptr ? 1 : omp_get_max_threads()) {
    if (previous_ != 1) omp_set_num_threads(1);
  }
  ~SingleThreaded() {
    if (previous_ != 1) omp_set_num_threads(previous_);
  }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  int previous_;
};

inline const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

inline dnnl::stream& cpu_stream() {
  static thread_local dnnl::stream stream(cpu_engine());
  return stream;
}

inline dnnl::memory::data_type data_type(Dtype d) {
  return d == kBFloat16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

/// A description of a call as numbers.
template <std::size_t N> using Key = std::array<std::int64_t, N>;

struct KeyHash {
  template <std::size_t N> std::size_t operator()(const Key<N>& key) const {
    std::uint64_t h = 0x9E3779B97F4A7C15u;
    for (const std::int64_t word : key) {
      h = (h ^ static_cast<std::uint64_t>(word)) * 0xFF51AFD7ED558CCDu;
      h ^= h >> 32;
    }
    return static_cast<std::size_t>(h);
  }
};

/// Held while primitives are made. The library keeps made ones for all threads and guards them itself, but the thread
/// sanitizer cannot see into it; making is rare, so one at a time costs nothing.
inline std::mutex making;

/// What was made for a description. A program with more shapes than it holds starts over: making anew is slow, never
/// wrong.
template <class K, class V> class Cache {
 public:
  template <class Make> V& get(const K& key, Make make) {
    if (last_ != nullptr && key == last_->first) return *last_->second;
    auto found = entries_.find(key);
    if (found == entries_.end()) {
      last_ = nullptr;
      if (entries_.size() >= kCapacity) entries_.clear();
      const std::lock_guard lock(making);
      found = entries_.emplace(key, make()).first;
    }
    last_ = &*found;
    return *last_->second;
  }

 private:
  static constexpr std::size_t kCapacity = 512;
  using Entries = std::unordered_map<K, std::unique_ptr<V>, KeyHash>;
  Entries entries_;
  typename Entries::value_type* last_ = nullptr;
};

using Args = std::unordered_map<int, dnnl::memory>;

/// A primitive with its arguments, ready to be pointed at data.
struct Call {
  dnnl::primitive primitive;
  Args args;
  std::size_t scratchpad_bytes = 0;

  void add(int arg, const dnnl::memory::desc& desc) { args.emplace(arg, dnnl::memory(desc, cpu_engine(), nullptr)); }
  void add_scratchpad(const dnnl::memory::desc& desc) {
    scratchpad_bytes = desc.get_size();
    if (scratchpad_bytes != 0) add(DNNL_ARG_SCRATCHPAD, desc);
  }
  void point(int arg, const void* data) { args.at(arg).set_data_handle(const_cast<void*>(data)); }
  void run() {
    if (scratchpad_bytes != 0) point(DNNL_ARG_SCRATCHPAD, scratch(ScratchUse::library, scratchpad_bytes));
    primitive.execute(cpu_stream(), args);
  }
};

inline dnnl::primitive_attr own_scratchpad() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

using Dims = dnnl::memory::dims;
using Desc = dnnl::memory::desc;

/// The sizes of a convolution as the library wants them: dilation counts gaps, padding is given for both ends.
struct ConvDims {
  Dims stride, dilation, padding_before, padding_after;
};

#if DNNL_VERSION_MAJOR >= 3

inline void append_relu(dnnl::post_ops& ops) { ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0f, 0.0f); }

inline dnnl::matmul::primitive_desc matmul_desc(const Desc& a, const Desc& b, const Desc& bias, const Desc& y,
                                                const dnnl::primitive_attr& attr) {
  return {cpu_engine(), a, b, bias, y, attr};
}
inline dnnl::convolution_forward::primitive_desc forward_desc(const Desc& x, const Desc& w, const Desc& bias,
                                                              const Desc& y, const ConvDims& d) {
  return {cpu_engine(),
          dnnl::prop_kind::forward_training,
          dnnl::algorithm::convolution_direct,
          x,
          w,
          bias,
          y,
          d.stride,
          d.dilation,
          d.padding_before,
          d.padding_after,
          own_scratchpad()};
}
inline dnnl::convolution_backward_data::primitive_desc backward_data_desc(
    const Desc& dx, const Desc& w, const Desc& g, const ConvDims& d,
    const dnnl::convolution_forward::primitive_desc& forward) {
  return {cpu_engine(),
          dnnl::algorithm::convolution_direct,
          dx,
          w,
          g,
          d.stride,
          d.dilation,
          d.padding_before,
          d.padding_after,
          forward,
          own_scratchpad()};
}
inline dnnl::convolution_backward_weights::primitive_desc backward_weight_desc(
    const Desc& x, const Desc& dw, const Desc& dbias, const Desc& g, const ConvDims& d,
    const dnnl::convolution_forward::primitive_desc& forward) {
  return {cpu_engine(),
          dnnl::algorithm::convolution_direct,
          x,
          dw,
          dbias,
          g,
          d.stride,
          d.dilation,
          d.padding_before,
          d.padding_after,
          forward,
          own_scratchpad()};
}

#else

inline void append_relu(dnnl::post_ops& ops) { ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f); }

inline dnnl::matmul::primitive_desc matmul_desc(const Desc& a, const Desc& b, const Desc& bias, const Desc& y,
                                                const dnnl::primitive_attr& attr) {
  return {dnnl::matmul::desc(a, b, bias, y), attr, cpu_engine()};
}
inline dnnl::convolution_forward::primitive_desc forward_desc(const Desc& x, const Desc& w, const Desc& bias,
                                                              const Desc& y, const ConvDims& d) {
  return {dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, x, w,
                                          bias, y, d.stride, d.dilation, d.padding_before, d.padding_after),
          own_scratchpad(), cpu_engine()};
}
inline dnnl::convolution_backward_data::primitive_desc backward_data_desc(
    const Desc& dx, const Desc& w, const Desc& g, const ConvDims& d,
    const dnnl::convolution_forward::primitive_desc& forward) {
  return {dnnl::convolution_backward_data::desc(dnnl::algorithm::convolution_direct, dx, w, g, d.stride, d.dilation,
                                                d.padding_before, d.padding_after),
          own_scratchpad(), cpu_engine(), forward};
}
inline dnnl::convolution_backward_weights::primitive_desc backward_weight_desc(
    const Desc& x, const Desc& dw, const Desc& dbias, const Desc& g, const ConvDims& d,
    const dnnl::convolution_forward::primitive_desc& forward) {
  return {dnnl::convolution_backward_weights::desc(dnnl::algorithm::convolution_direct, x, dw, dbias, g, d.stride,
                                                   d.dilation, d.padding_before, d.padding_after),
          own_scratchpad(), cpu_engine(), forward};
}

#endif

}  // namespace halftone::cpu::onednn
