#include "core/tensor.h"

#include "core/runtime.h"

namespace halftone {

void Tensor::fail_undefined() { fail("a defined tensor is needed, this one is undefined"); }

std::int64_t Tensor::size(std::int64_t d) const {
  check<IndexError>(dim() > 0, "Dimension specified as ", d, " but tensor has no dimensions");
  return ref().sizes[static_cast<std::size_t>(wrap_dim(d, dim()))];
}

std::int64_t Tensor::stride(std::int64_t d) const {
  check<IndexError>(dim() > 0, "Dimension specified as ", d, " but tensor has no dimensions");
  return ref().strides[static_cast<std::size_t>(wrap_dim(d, dim()))];
}

bool Tensor::is_contiguous(MemoryFormat format) const {
  if (format == MemoryFormat::ChannelsLast) return is_channels_last(sizes(), strides());
  return ref().contiguous;
}

MemoryFormat Tensor::suggest_memory_format() const {
  const bool channels_last = !ref().contiguous && is_channels_last(sizes(), strides());
  return channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

bool Tensor::is_pinned() const { return is_cpu() && has_runtime(kCUDA) && runtime(kCUDA).is_pinned(data_ptr()); }

Tensor Tensor::pin_memory() const {
  check<TypeError>(is_cpu(), "pin_memory: only host memory can be pinned, not ", describe(*this));
  if (is_pinned()) return *this;
  Tensor pinned = empty_like(*this, TensorOptions().pinned_memory(true));
  return pinned.copy_(*this);
}

Scalar Tensor::item() const {
  check(numel() == 1, "item: a Tensor with ", numel(), " elements cannot be converted to Scalar");
  return visit_all(dtype(), [&]<class T>(Type<T>) -> Scalar {
    T value;
    runtime(device().type()).copy(&value, Device(kCPU), data_ptr(), device(), sizeof(T));
    return value;
  });
}

namespace {

Tensor make_tensor(std::shared_ptr<Storage> storage, IntArrayRef sizes, const Dims& strides, std::int64_t offset,
                   Dtype dtype) {
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = std::move(storage);
  impl->dtype = dtype;
  impl->set_geometry(dims(sizes), strides, offset);
  return Tensor(std::move(impl));
}

void check_sizes(std::string_view op, IntArrayRef sizes) {
  for (const std::int64_t s : sizes) check<ValueError>(s >= 0, op, ": a size cannot be negative, got ", sizes);
}

std::shared_ptr<Storage> make_storage(std::size_t bytes, Device device, bool pinned) {
  if (!pinned) return std::make_shared<Storage>(bytes, device);
  check(device.is_cpu(), "pinned memory is host memory, it cannot be on ", device);
  Runtime& cuda = runtime(kCUDA);
  const auto give_back = [&cuda, bytes](void* data) { cuda.free_pinned(data, bytes); };
  return std::make_shared<Storage>(cuda.allocate_pinned(bytes), bytes, device, give_back);
}

// Memory that a caller hands over is the host's unless said otherwise, whatever the default for new tensors.
Device device_of_caller(const TensorOptions& options) {
  return options.has_device() ? canonical(options.device()) : Device(kCPU);
}

// Elements between the first and the last one reached, plus one.
std::int64_t span_of(IntArrayRef sizes, IntArrayRef strides) {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    last += (sizes[i] - 1) * strides[i];
  }
  return last + 1;
}

Tensor with_grad_flag(Tensor t, const TensorOptions& options) {
  if (options.requires_grad()) {
    check(is_floating_point(t.dtype()), "Only Tensors of floating point dtype can require gradients, not ", t.dtype());
    t.requires_grad_();
  }
  return t;
}

}  // namespace

Tensor empty_strided(IntArrayRef sizes, IntArrayRef strides, const TensorOptions& options) {
  check_sizes("empty_strided", sizes);
  check<ValueError>(sizes.size() == strides.size(), "empty_strided: sizes ", sizes, " and strides ", strides,
                    " differ in length");
  const auto bytes = static_cast<std::size_t>(span_of(sizes, strides) * element_size(options.dtype()));
  auto storage = make_storage(bytes, canonical(options.device()), options.pinned_memory());
  return with_grad_flag(make_tensor(std::move(storage), sizes, dims(strides), 0, options.dtype()), options);
}

Tensor empty(IntArrayRef sizes, const TensorOptions& options) {
  check_sizes("empty", sizes);
  const bool channels_last = options.memory_format() == MemoryFormat::ChannelsLast;
  const Dims strides = channels_last ? channels_last_strides(sizes) : contiguous_strides(sizes);
  const auto bytes = static_cast<std::size_t>(count_elements(sizes) * element_size(options.dtype()));
  auto storage = make_storage(bytes, canonical(options.device()), options.pinned_memory());
  return with_grad_flag(make_tensor(std::move(storage), sizes, strides, 0, options.dtype()), options);
}

Tensor empty_like(const Tensor& like, const TensorOptions& options) {
  if (options.has_memory_format() && options.memory_format() != MemoryFormat::Preserve) {
    return empty(like.sizes(), options.or_else(like.options()));
  }
  const TensorImpl& impl = *like.impl();
  const Dtype dtype = options.dtype_opt().value_or(impl.dtype);
  const Device device = options.device_opt() ? canonical(*options.device_opt()) : like.device();
  const Dims strides = impl.contiguous ? contiguous_strides(impl.sizes) : preserved_strides(impl.sizes, impl.strides);
  const auto bytes = static_cast<std::size_t>(impl.numel * element_size(dtype));
  auto storage = make_storage(bytes, device, options.pinned_memory());
  return with_grad_flag(make_tensor(std::move(storage), impl.sizes, strides, 0, dtype), options);
}

Tensor from_blob(void* data, IntArrayRef sizes, IntArrayRef strides, const TensorOptions& options) {
  check_sizes("from_blob", sizes);
  check<ValueError>(sizes.size() == strides.size(), "from_blob: sizes ", sizes, " and strides ", strides,
                    " differ in length");
  const auto bytes = static_cast<std::size_t>(span_of(sizes, strides) * element_size(options.dtype()));
  auto storage = std::make_shared<Storage>(data, bytes, device_of_caller(options), nullptr);
  return with_grad_flag(make_tensor(std::move(storage), sizes, dims(strides), 0, options.dtype()), options);
}

Tensor from_blob(void* data, IntArrayRef sizes, const TensorOptions& options) {
  return from_blob(data, sizes, contiguous_strides(sizes), options);
}

Tensor from_blob(void* data, IntArrayRef sizes, std::function<void(void*)> deleter, const TensorOptions& options) {
  check_sizes("from_blob", sizes);
  const auto bytes = static_cast<std::size_t>(count_elements(sizes) * element_size(options.dtype()));
  auto storage = std::make_shared<Storage>(data, bytes, device_of_caller(options), std::move(deleter));
  return with_grad_flag(make_tensor(std::move(storage), sizes, contiguous_strides(sizes), 0, options.dtype()), options);
}

Tensor alias(const Tensor& x, const Dims& sizes, const Dims& strides, std::int64_t offset) {
  return make_tensor(x.storage(), sizes, strides, offset, x.dtype());
}

Description::operator std::string() const {
  const Tensor& t = *tensor_;
  if (!t.defined()) return "an undefined tensor";
  return t.is_cpu() && t.get_device() <= 0 ? str(t.dtype(), t.sizes()) : str(t.dtype(), t.sizes(), " on ", t.device());
}

}  // namespace halftone
