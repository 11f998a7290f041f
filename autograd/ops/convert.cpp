// Copies, casts and moves. The cast is an ordinary op: that is why gradients under autocast have the right dtypes
// without a word about it anywhere.
#include "autograd/apply.h"
#include "autograd/ops.h"
#include "core/runtime.h"
#include "kernels/backend.h"

namespace halftone {
namespace {

// The same elements on another device: bytes travel dense, strides are kept.
Tensor moved(const Tensor& x, Device device) {
  const bool dense = is_dense(x.sizes(), x.strides());
  const Tensor source = dense ? x : x.contiguous();
  Tensor out = empty_strided(source.sizes(), source.strides(), source.options().device(device));
  const DeviceType runner = x.is_cuda() || device.is_cuda() ? kCUDA : kCPU;
  runtime(runner).copy(out.data_ptr(), out.device(), source.data_ptr(), x.device(), source.nbytes());
  return out;
}

struct ToRule {
  Dtype dtype;
  Device device;
  MemoryFormat format;
  bool non_blocking = false;
  Dtype from_dtype = kFloat32;
  Device from_device = kCPU;

  // Casts where the narrower of the two forms travels.
  Tensor forward(const Tensor& x) {
    from_dtype = x.dtype();
    from_device = x.device();
    if (x.device() != device && can_travel_as_it_lies(x)) return moved(x, device);
    const bool cast_first = element_size(dtype) <= element_size(x.dtype());
    Tensor source = x.device() == device || cast_first ? x : moved(x, device);
    Tensor out = empty_like(source, TensorOptions(dtype).memory_format(format));
    backend(source).copy(source, out);
    return out.device() == device ? out : moved(out, device);
  }
  // Pinned memory is read later, and only who says non_blocking knows that it must not be changed until then.
  bool can_travel_as_it_lies(const Tensor& x) const {
    return dtype == x.dtype() && is_dense(x.sizes(), x.strides()) &&
           (format == MemoryFormat::Preserve || x.is_contiguous(format)) && (non_blocking || !x.is_pinned());
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    return {to(g, TensorOptions(from_dtype).device(from_device))};
  }
};

struct CloneRule {
  MemoryFormat format;
  Tensor forward(const Tensor& x) const {
    Tensor out = empty_like(x, TensorOptions(format));
    backend(x).copy(x, out);
    return out;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const { return {g}; }
};

}  // namespace

Tensor to(const Tensor& x, const TensorOptions& options, bool non_blocking, bool copy, optional<MemoryFormat> format) {
  const Dtype dtype = options.has_dtype() ? options.dtype() : x.dtype();
  const Device device = options.has_device() ? canonical(options.device()) : x.device();
  const MemoryFormat wanted = format                        ? *format
                              : options.has_memory_format() ? options.memory_format()
                                                            : MemoryFormat::Preserve;
  const bool laid_out = wanted == MemoryFormat::Preserve || x.is_contiguous(wanted);
  if (dtype == x.dtype() && device == x.device() && laid_out && !copy) return x;
  return apply(op("to"), ToRule{dtype, device, wanted, non_blocking}, std::array{x});
}

Tensor clone(const Tensor& x, MemoryFormat format) { return apply(op("clone"), CloneRule{format}, std::array{x}); }

Tensor contiguous(const Tensor& x, MemoryFormat format) {
  check(format != MemoryFormat::Preserve, "contiguous: wants contiguous or channels_last, not preserve");
  return x.is_contiguous(format) ? x : clone(x, format);
}

const Tensor& Tensor::copy_(const Tensor& source, bool) const {
  const OpInfo& info = op("copy");
  const Dims shape = broadcast_shapes("copy_", sizes(), source.sizes());
  check<ValueError>(sizes().equals(shape), "copy_: the source ", describe(source), " does not broadcast to ",
                    describe(*this));
  return write_in_place(
      info, *this, std::array{source},
      [&](const Tensor& old) { return source.to(TensorOptions(old.dtype()).device(old.device())).expand(old.sizes()); },
      [&](const Tensor& self) {
        const NoGradGuard no_grad;
        Tensor here = source.device() == self.device() ? source : moved(source, self.device());
        if (here.is_alias_of(self)) here = here.clone();  // the kernels do not copy between overlapping places
        if (!here.sizes().equals(self.sizes())) here = here.expand(self.sizes());
        Tensor target = self;
        backend(self).copy(here, target);
      });
}

}  // namespace halftone
