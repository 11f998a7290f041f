// The methods of Tensor over the free functions of ops.h, which have the documentation.
#include "autograd/leaf.h"
#include "autograd/ops.h"
#include "core/runtime.h"

namespace halftone {

Tensor Tensor::reshape(IntArrayRef sizes) const { return halftone::reshape(*this, sizes); }
Tensor Tensor::flatten(std::int64_t start_dim, std::int64_t end_dim) const {
  return halftone::flatten(*this, start_dim, end_dim);
}
Tensor Tensor::unflatten(std::int64_t dim, IntArrayRef sizes) const { return halftone::unflatten(*this, dim, sizes); }
Tensor Tensor::squeeze() const { return halftone::squeeze(*this); }
Tensor Tensor::squeeze(std::int64_t dim) const { return halftone::squeeze(*this, dim); }
Tensor Tensor::unsqueeze(std::int64_t dim) const { return halftone::unsqueeze(*this, dim); }
Tensor Tensor::transpose(std::int64_t dim0, std::int64_t dim1) const { return halftone::transpose(*this, dim0, dim1); }
Tensor Tensor::t() const { return halftone::t(*this); }
Tensor Tensor::permute(IntArrayRef order) const { return halftone::permute(*this, order); }
Tensor Tensor::expand(IntArrayRef sizes) const { return halftone::expand(*this, sizes); }
Tensor Tensor::narrow(std::int64_t dim, std::int64_t start, std::int64_t length) const {
  return halftone::narrow(*this, dim, start, length);
}
Tensor Tensor::select(std::int64_t dim, std::int64_t index) const { return halftone::select(*this, dim, index); }
Tensor Tensor::slice(std::int64_t dim, optional<std::int64_t> start, optional<std::int64_t> end,
                     std::int64_t step) const {
  return halftone::slice(*this, dim, start, end, step);
}
Tensor Tensor::as_strided(IntArrayRef sizes, IntArrayRef strides, optional<std::int64_t> offset) const {
  return halftone::as_strided(*this, sizes, strides, offset);
}
Tensor Tensor::contiguous(MemoryFormat format) const { return halftone::contiguous(*this, format); }
Tensor Tensor::clone(MemoryFormat format) const { return halftone::clone(*this, format); }
std::vector<Tensor> Tensor::split(std::int64_t split_size, std::int64_t dim) const {
  return halftone::split(*this, split_size, dim);
}
std::vector<Tensor> Tensor::split_with_sizes(IntArrayRef sizes, std::int64_t dim) const {
  return halftone::split_with_sizes(*this, sizes, dim);
}
std::vector<Tensor> Tensor::chunk(std::int64_t chunks, std::int64_t dim) const {
  return halftone::chunk(*this, chunks, dim);
}
std::vector<Tensor> Tensor::unbind(std::int64_t dim) const { return halftone::unbind(*this, dim); }
Tensor Tensor::movedim(std::int64_t from, std::int64_t to) const { return halftone::movedim(*this, from, to); }
Tensor Tensor::repeat(IntArrayRef repeats) const { return halftone::repeat(*this, repeats); }
Tensor Tensor::index_select(std::int64_t dim, const Tensor& index) const {
  return halftone::index_select(*this, dim, index);
}
Tensor Tensor::gather(std::int64_t dim, const Tensor& index) const { return halftone::gather(*this, dim, index); }
Tensor Tensor::scatter(std::int64_t dim, const Tensor& index, const Tensor& source) const {
  return halftone::scatter(*this, dim, index, source);
}
Tensor Tensor::scatter_add(std::int64_t dim, const Tensor& index, const Tensor& source) const {
  return halftone::scatter_add(*this, dim, index, source);
}
Tensor Tensor::masked_fill(const Tensor& mask, const Scalar& value) const {
  return halftone::masked_fill(*this, mask, value);
}
Tensor Tensor::masked_select(const Tensor& mask) const { return halftone::masked_select(*this, mask); }
Tensor Tensor::nonzero() const { return halftone::nonzero(*this); }
Tensor Tensor::add(const Tensor& other, const Scalar& alpha) const { return halftone::add(*this, other, alpha); }
Tensor Tensor::add(const Scalar& other) const { return halftone::add(*this, other); }
Tensor Tensor::sub(const Tensor& other, const Scalar& alpha) const { return halftone::sub(*this, other, alpha); }
Tensor Tensor::sub(const Scalar& other) const { return halftone::sub(*this, other); }
Tensor Tensor::mul(const Tensor& other) const { return halftone::mul(*this, other); }
Tensor Tensor::mul(const Scalar& other) const { return halftone::mul(*this, other); }
Tensor Tensor::div(const Tensor& other) const { return halftone::div(*this, other); }
Tensor Tensor::div(const Scalar& other) const { return halftone::div(*this, other); }
Tensor Tensor::remainder(const Tensor& other) const { return halftone::remainder(*this, other); }
Tensor Tensor::remainder(const Scalar& other) const { return halftone::remainder(*this, other); }
Tensor Tensor::pow(const Tensor& exponent) const { return halftone::pow(*this, exponent); }
Tensor Tensor::pow(const Scalar& exponent) const { return halftone::pow(*this, exponent); }
Tensor Tensor::maximum(const Tensor& other) const { return halftone::maximum(*this, other); }
Tensor Tensor::minimum(const Tensor& other) const { return halftone::minimum(*this, other); }
Tensor Tensor::lerp(const Tensor& end, const Scalar& weight) const { return halftone::lerp(*this, end, weight); }
Tensor Tensor::lerp(const Tensor& end, const Tensor& weight) const { return halftone::lerp(*this, end, weight); }
Tensor Tensor::addcmul(const Tensor& a, const Tensor& b, const Scalar& value) const {
  return halftone::addcmul(*this, a, b, value);
}
Tensor Tensor::addcdiv(const Tensor& a, const Tensor& b, const Scalar& value) const {
  return halftone::addcdiv(*this, a, b, value);
}
Tensor Tensor::abs() const { return halftone::abs(*this); }
Tensor Tensor::neg() const { return halftone::neg(*this); }
Tensor Tensor::exp() const { return halftone::exp(*this); }
Tensor Tensor::expm1() const { return halftone::expm1(*this); }
Tensor Tensor::log() const { return halftone::log(*this); }
Tensor Tensor::log1p() const { return halftone::log1p(*this); }
Tensor Tensor::log2() const { return halftone::log2(*this); }
Tensor Tensor::log10() const { return halftone::log10(*this); }
Tensor Tensor::sqrt() const { return halftone::sqrt(*this); }
Tensor Tensor::rsqrt() const { return halftone::rsqrt(*this); }
Tensor Tensor::reciprocal() const { return halftone::reciprocal(*this); }
Tensor Tensor::square() const { return halftone::square(*this); }
Tensor Tensor::sin() const { return halftone::sin(*this); }
Tensor Tensor::cos() const { return halftone::cos(*this); }
Tensor Tensor::tan() const { return halftone::tan(*this); }
Tensor Tensor::sinh() const { return halftone::sinh(*this); }
Tensor Tensor::cosh() const { return halftone::cosh(*this); }
Tensor Tensor::tanh() const { return halftone::tanh(*this); }
Tensor Tensor::sigmoid() const { return halftone::sigmoid(*this); }
Tensor Tensor::relu() const { return halftone::relu(*this); }
Tensor Tensor::erf() const { return halftone::erf(*this); }
Tensor Tensor::sign() const { return halftone::sign(*this); }
Tensor Tensor::floor() const { return halftone::floor(*this); }
Tensor Tensor::ceil() const { return halftone::ceil(*this); }
Tensor Tensor::round() const { return halftone::round(*this); }
Tensor Tensor::trunc() const { return halftone::trunc(*this); }
Tensor Tensor::clamp(optional<Scalar> min, optional<Scalar> max) const { return halftone::clamp(*this, min, max); }
Tensor Tensor::clamp_min(const Scalar& min) const { return halftone::clamp_min(*this, min); }
Tensor Tensor::clamp_max(const Scalar& max) const { return halftone::clamp_max(*this, max); }
Tensor Tensor::isnan() const { return halftone::isnan(*this); }
Tensor Tensor::isinf() const { return halftone::isinf(*this); }
Tensor Tensor::isfinite() const { return halftone::isfinite(*this); }
Tensor Tensor::logical_not() const { return halftone::logical_not(*this); }
Tensor Tensor::logical_and(const Tensor& other) const { return halftone::logical_and(*this, other); }
Tensor Tensor::logical_or(const Tensor& other) const { return halftone::logical_or(*this, other); }
Tensor Tensor::logical_xor(const Tensor& other) const { return halftone::logical_xor(*this, other); }
Tensor Tensor::bitwise_not() const { return halftone::bitwise_not(*this); }
Tensor Tensor::bitwise_and(const Tensor& other) const { return halftone::bitwise_and(*this, other); }
Tensor Tensor::bitwise_or(const Tensor& other) const { return halftone::bitwise_or(*this, other); }
Tensor Tensor::bitwise_xor(const Tensor& other) const { return halftone::bitwise_xor(*this, other); }
Tensor Tensor::eq(const Tensor& other) const { return halftone::eq(*this, other); }
Tensor Tensor::ne(const Tensor& other) const { return halftone::ne(*this, other); }
Tensor Tensor::lt(const Tensor& other) const { return halftone::lt(*this, other); }
Tensor Tensor::le(const Tensor& other) const { return halftone::le(*this, other); }
Tensor Tensor::gt(const Tensor& other) const { return halftone::gt(*this, other); }
Tensor Tensor::ge(const Tensor& other) const { return halftone::ge(*this, other); }
Tensor Tensor::eq(const Scalar& other) const { return halftone::eq(*this, other); }
Tensor Tensor::ne(const Scalar& other) const { return halftone::ne(*this, other); }
Tensor Tensor::lt(const Scalar& other) const { return halftone::lt(*this, other); }
Tensor Tensor::le(const Scalar& other) const { return halftone::le(*this, other); }
Tensor Tensor::gt(const Scalar& other) const { return halftone::gt(*this, other); }
Tensor Tensor::ge(const Scalar& other) const { return halftone::ge(*this, other); }
bool Tensor::equal(const Tensor& other) const { return halftone::equal(*this, other); }
bool Tensor::allclose(const Tensor& other, double rtol, double atol, bool equal_nan) const {
  return halftone::allclose(*this, other, rtol, atol, equal_nan);
}
Tensor Tensor::isclose(const Tensor& other, double rtol, double atol, bool equal_nan) const {
  return halftone::isclose(*this, other, rtol, atol, equal_nan);
}
Tensor Tensor::sum(optional<Dtype> dtype) const { return halftone::sum(*this, dtype); }
Tensor Tensor::sum(IntArrayRef dims, bool keepdim, optional<Dtype> dtype) const {
  return halftone::sum(*this, dims, keepdim, dtype);
}
Tensor Tensor::mean(optional<Dtype> dtype) const { return halftone::mean(*this, dtype); }
Tensor Tensor::mean(IntArrayRef dims, bool keepdim, optional<Dtype> dtype) const {
  return halftone::mean(*this, dims, keepdim, dtype);
}
Tensor Tensor::prod(optional<Dtype> dtype) const { return halftone::prod(*this, dtype); }
Tensor Tensor::prod(std::int64_t dim, bool keepdim, optional<Dtype> dtype) const {
  return halftone::prod(*this, dim, keepdim, dtype);
}
Tensor Tensor::max() const { return halftone::max(*this); }
Tensor Tensor::min() const { return halftone::min(*this); }
std::tuple<Tensor, Tensor> Tensor::max(std::int64_t dim, bool keepdim) const {
  return halftone::max(*this, dim, keepdim);
}
std::tuple<Tensor, Tensor> Tensor::min(std::int64_t dim, bool keepdim) const {
  return halftone::min(*this, dim, keepdim);
}
Tensor Tensor::amax(IntArrayRef dims, bool keepdim) const { return halftone::amax(*this, dims, keepdim); }
Tensor Tensor::amin(IntArrayRef dims, bool keepdim) const { return halftone::amin(*this, dims, keepdim); }
Tensor Tensor::argmax(optional<std::int64_t> dim, bool keepdim) const { return halftone::argmax(*this, dim, keepdim); }
Tensor Tensor::argmin(optional<std::int64_t> dim, bool keepdim) const { return halftone::argmin(*this, dim, keepdim); }
Tensor Tensor::all() const { return halftone::all(*this); }
Tensor Tensor::all(std::int64_t dim, bool keepdim) const { return halftone::all(*this, dim, keepdim); }
Tensor Tensor::any() const { return halftone::any(*this); }
Tensor Tensor::any(std::int64_t dim, bool keepdim) const { return halftone::any(*this, dim, keepdim); }
Tensor Tensor::var(bool unbiased) const { return halftone::var(*this, unbiased); }
Tensor Tensor::var(IntArrayRef dims, bool unbiased, bool keepdim) const {
  return halftone::var(*this, dims, unbiased, keepdim);
}
Tensor Tensor::std(bool unbiased) const { return halftone::std(*this, unbiased); }
Tensor Tensor::std(IntArrayRef dims, bool unbiased, bool keepdim) const {
  return halftone::std(*this, dims, unbiased, keepdim);
}
Tensor Tensor::norm(const Scalar& p) const { return halftone::norm(*this, p); }
Tensor Tensor::norm(const Scalar& p, IntArrayRef dims, bool keepdim, optional<Dtype> dtype) const {
  return halftone::norm(*this, p, dims, keepdim, dtype);
}
Tensor Tensor::logsumexp(IntArrayRef dims, bool keepdim) const { return halftone::logsumexp(*this, dims, keepdim); }
Tensor Tensor::softmax(std::int64_t dim, optional<Dtype> dtype) const { return halftone::softmax(*this, dim, dtype); }
Tensor Tensor::log_softmax(std::int64_t dim, optional<Dtype> dtype) const {
  return halftone::log_softmax(*this, dim, dtype);
}
Tensor Tensor::cumsum(std::int64_t dim, optional<Dtype> dtype) const { return halftone::cumsum(*this, dim, dtype); }
Tensor Tensor::mm(const Tensor& other) const { return halftone::mm(*this, other); }
Tensor Tensor::bmm(const Tensor& other) const { return halftone::bmm(*this, other); }
Tensor Tensor::matmul(const Tensor& other) const { return halftone::matmul(*this, other); }
Tensor Tensor::mv(const Tensor& vector) const { return halftone::mv(*this, vector); }
Tensor Tensor::dot(const Tensor& other) const { return halftone::dot(*this, other); }
Tensor Tensor::addmm(const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) const {
  return halftone::addmm(*this, a, b, beta, alpha);
}
Tensor Tensor::outer(const Tensor& other) const { return halftone::outer(*this, other); }

Tensor Tensor::to(const TensorOptions& options, bool non_blocking, bool copy, optional<MemoryFormat> format) const {
  return halftone::to(*this, options, non_blocking, copy, format);
}
Tensor Tensor::to(Dtype dtype, bool non_blocking, bool copy) const {
  return halftone::to(*this, TensorOptions(dtype), non_blocking, copy);
}
Tensor Tensor::to(Device device, Dtype dtype, bool non_blocking, bool copy) const {
  return halftone::to(*this, TensorOptions(dtype).device(device), non_blocking, copy);
}
Tensor Tensor::to(const Tensor& other, bool non_blocking, bool copy) const {
  return halftone::to(*this, other.options(), non_blocking, copy);
}
Tensor Tensor::cpu() const { return to(Device(kCPU)); }
Tensor Tensor::cuda() const { return to(Device(kCUDA)); }

Tensor Tensor::operator[](const Tensor& index) const { return this->index({index}); }
Tensor Tensor::index(std::initializer_list<TensorIndex> indices) const {
  return halftone::index(*this, ArrayRef<TensorIndex>(indices.begin(), indices.size()));
}
Tensor Tensor::index(ArrayRef<TensorIndex> indices) const { return halftone::index(*this, indices); }
Tensor Tensor::where(const Tensor& condition, const Tensor& other) const {
  return halftone::where(condition, *this, other);
}

Tensor Tensor::new_zeros(IntArrayRef sizes, const TensorOptions& options) const {
  return zeros(sizes, options.or_else(this->options()));
}
Tensor Tensor::new_ones(IntArrayRef sizes, const TensorOptions& options) const {
  return ones(sizes, options.or_else(this->options()));
}
Tensor Tensor::new_empty(IntArrayRef sizes, const TensorOptions& options) const {
  return empty(sizes, options.or_else(this->options()));
}
Tensor Tensor::new_full(IntArrayRef sizes, const Scalar& value, const TensorOptions& options) const {
  return full(sizes, value, options.or_else(this->options()));
}
Tensor Tensor::new_tensor(const Tensor& data, const TensorOptions& options) const {
  const TensorOptions wanted = options.or_else(this->options());
  return data.detach().to(wanted, false, /*copy=*/true).requires_grad_(options.requires_grad());
}

// ------------------------------------------------------------------------------------------------ geometry in place
// The handle takes over the geometry, and the history, of the view that the op out of place makes.

namespace {

const Tensor& take_over(const Tensor& self, const Tensor& view) {
  TensorImpl& impl = *self.impl();
  check(!impl.requires_grad || impl.edge.node || !context.record,
        "a leaf Variable that requires grad is being used in an in-place operation: ", describe(self));
  impl.set_geometry(dims(view.sizes()), dims(view.strides()), view.storage_offset());
  impl.edge = view.impl()->edge;
  return self;
}

}  // namespace

const Tensor& Tensor::squeeze_(std::int64_t dim) const { return take_over(*this, squeeze(dim)); }
const Tensor& Tensor::unsqueeze_(std::int64_t dim) const { return take_over(*this, unsqueeze(dim)); }
const Tensor& Tensor::transpose_(std::int64_t dim0, std::int64_t dim1) const {
  return take_over(*this, transpose(dim0, dim1));
}
const Tensor& Tensor::t_() const { return take_over(*this, t()); }

// Keeps the elements that both shapes have, in memory order; new ones are uninitialised.
const Tensor& Tensor::resize_(IntArrayRef sizes) const {
  check(!requires_grad(), "resize_: cannot resize variables that require grad");
  TensorImpl& impl = ref();
  const std::int64_t wanted = count_elements(sizes);
  if ((wanted + impl.offset) * element_size() > static_cast<std::int64_t>(impl.storage->nbytes())) {
    const Tensor larger = empty(sizes, options());
    const std::size_t kept =
        std::min(impl.storage->nbytes() - static_cast<std::size_t>(impl.offset * element_size()), larger.nbytes());
    if (kept > 0) runtime(device().type()).copy(larger.data_ptr(), larger.device(), data_ptr(), device(), kept);
    impl.storage = larger.storage();
    impl.offset = 0;
  }
  impl.set_geometry(dims(sizes), contiguous_strides(sizes), impl.offset);
  impl.storage->bump_version();
  return *this;
}

}  // namespace halftone
