// Convolutions by cuDNN. The tensors are brought to one order of memory, that of the images; where the library has no
// algorithm in that order the other one is tried, and what it does not take at all is summed directly.
#include <limits>

#include "core/cuda_graph.h"
#include "core/cuda_library_use.h"
#include "core/cuda_options.h"
#include "kernels/conv_parts.h"
#include "kernels/cuda/convolution_library.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/direct_convolution.h"

namespace halftone {

using namespace cuda;

namespace {

constexpr std::uint32_t kAlignment = 16;  // of the loads of cuDNN's kernels

bool is_channels_last(const Tensor& t) { return t.suggest_memory_format() == MemoryFormat::ChannelsLast; }

bool lies_as(const Tensor& t, Dtype dtype, MemoryFormat format) {
  return t.dtype() == dtype && t.is_contiguous(format) && alignment_of(t.data_ptr()) >= kAlignment;
}

Tensor make_as(const Tensor& t, Dtype dtype, MemoryFormat format) {
  return empty(t.sizes(), t.options().dtype(dtype).memory_format(format));
}

/// t, or a copy of it.
Tensor brought_to(CudaBackend& backend, const Tensor& t, Dtype dtype, MemoryFormat format) {
  if (lies_as(t, dtype, format)) return t;
  Tensor copy = make_as(t, dtype, format);
  backend.copy(t, copy);
  return copy;
}

Tensor& result_of(ConvResult result, ConvTensors& t) {
  return result == ConvResult::y ? t.y : result == ConvResult::x ? t.x : t.w;
}

ConvProblem problem_of(const ConvShape& s, ConvResult result, Dtype dtype, MemoryFormat format) {
  ConvProblem p;
  p.shape = s;
  p.result = result;
  p.dtype = dtype;
  p.format = format;
  p.tf32 = allow_tf32();
  p.deterministic = deterministic();
  p.workspace_limit = workspace_limit();
  p.timed = benchmark() && !deterministic();  // a measurement may decide otherwise in the next run
  return p;
}

/// False if cuDNN has no algorithm for it that runs, in whichever order of memory.
bool by_library(CudaBackend& backend, const ConvShape& s, ConvResult result, ConvTensors given, const Tensor& bias) {
  if (!is_plain(s)) return false;
  Tensor& target = result_of(result, given);
  const Dtype dtype = target.dtype();
  const bool channels_last = is_channels_last(result == ConvResult::x ? given.y : given.x);
  Convolutions& library = context_of<Convolutions>(gpu(target));
  for (const MemoryFormat format : formats_for(s, dtype, channels_last)) {
    const ConvProblem problem = problem_of(s, result, dtype, format);
    if (!library.can(problem)) continue;
    ConvTensors t = given;
    for (Tensor* each : {&t.x, &t.w, &t.y}) {
      if (each != &result_of(result, t)) *each = brought_to(backend, *each, dtype, format);
    }
    Tensor& written = result_of(result, t);
    if (!lies_as(target, dtype, format)) written = make_as(target, dtype, format);
    if (!is_capturing(target.device())) library.prepare(problem, t);
    if (!library.run(problem, t, bias)) continue;
    if (!written.is_same(target)) backend.copy(written, target);
    const bool as_given = (format == MemoryFormat::ChannelsLast) == channels_last;
    count_use(as_given ? &LibraryUse::library_convolutions : &LibraryUse::other_order_convolutions);
    return true;
  }
  return false;
}

/// How many images cuDNN, which counts in int, takes at once; 0: the batch as it is.
std::int64_t part_of(const ConvShape& s) {
  const std::int64_t images = images_in_part(s, std::numeric_limits<int>::max());
  return images < s.batch ? images : 0;
}

}  // namespace

void CudaBackend::conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  if (const std::int64_t images = part_of(s)) return conv_in_parts(*this, images, s, x, w, bias, y);
  if (by_library(*this, s, ConvResult::y, {x, w, y}, bias)) return;
  direct_conv(s, x, w, bias, y);
  count_use(&LibraryUse::direct_convolutions);
}

void CudaBackend::conv_data_grad(const ConvShape& s, const Tensor& g, const Tensor& w, Tensor& dx) {
  if (const std::int64_t images = part_of(s)) return conv_data_grad_in_parts(*this, images, s, g, w, dx);
  if (by_library(*this, s, ConvResult::x, {dx, w, g}, {})) return;
  direct_conv_data_grad(s, g, w, dx);
  count_use(&LibraryUse::direct_convolutions);
}

void CudaBackend::conv_weight_grad(const ConvShape& s, const Tensor& x, const Tensor& g, Tensor& dw, Tensor& dbias) {
  if (const std::int64_t images = part_of(s)) return conv_weight_grad_in_parts(*this, images, s, x, g, dw, dbias);
  if (!by_library(*this, s, ConvResult::w, {x, dw, g}, {})) {
    direct_conv_weight_grad(s, x, g, dw);
    count_use(&LibraryUse::direct_convolutions);
  }
  constexpr unsigned kChannels = 1u << 1;
  if (dbias.defined()) reduce(Reduce{ReduceKind::sum}, g, ((1u << g.dim()) - 1) & ~kChannels, dbias);
}

}  // namespace halftone
