#include "autograd/tensor_factory.h"

#include "autograd/ops.h"

namespace halftone {
namespace {

// "int64", or what a list of floats is called whatever the default dtype is.
std::string_view kind_of(Dtype d) { return d == kFloat64 ? "floating" : name(d); }

Dtype resolved(Dtype d) { return d == kFloat64 || d == Dtype::Undefined ? get_default_dtype() : d; }

Tensor finished(const Tensor& on_cpu, const TensorOptions& options) {
  Tensor out = on_cpu.to(TensorOptions(on_cpu.dtype()).device(options.device()));
  return options.requires_grad() ? out.requires_grad_() : out;
}

}  // namespace

NestedList::NestedList(std::initializer_list<NestedList> parts) : sizes_{static_cast<std::int64_t>(parts.size())} {
  if (parts.size() == 0) return;
  const NestedList& first = *parts.begin();
  for (const NestedList& part : parts) {
    check<ValueError>(part.sizes_ == first.sizes_, "tensor: expected all sub-lists to have sizes ", first.sizes_,
                      ", but got one of sizes ", part.sizes_);
    check<TypeError>(part.dtype_ == first.dtype_,
                     "tensor: expected all elements to have the same type: ", kind_of(first.dtype_),
                     ", but got an element of type ", kind_of(part.dtype_));
    values_.insert(values_.end(), part.values_.begin(), part.values_.end());
  }
  for (const std::int64_t size : first.sizes_) sizes_.push_back(size);
  dtype_ = first.dtype_;
}

Tensor tensor(const NestedList& data, const TensorOptions& options) {
  const NoGradGuard no_grad;
  const Dtype dtype = options.has_dtype() ? options.dtype() : resolved(data.dtype());
  Tensor out = empty(data.sizes(), TensorOptions(dtype).device(kCPU));
  visit_all(out.dtype(), [&]<class T>(Type<T>) {
    T* to = out.data_ptr<T>();
    for (const Scalar& value : data.values()) *to++ = value.to<T>();
  });
  return finished(out, options);
}

Tensor tensor_factory::copy_of_list(const Tensor& data, const TensorOptions& options) {
  const NoGradGuard no_grad;
  const Dtype own = data.dtype() == kFloat32 ? kFloat64 : data.dtype();
  return finished(data.to(options.has_dtype() ? options.dtype() : resolved(own), false, true), options);
}

}  // namespace halftone
