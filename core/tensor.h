// Tensor: a cheap handle on storage, sizes and strides. Every method is const because a Tensor is a handle, as a
// shared_ptr is: `const Tensor&` promises not to rebind it. Metadata and access are defined in core; the methods that
// compute are one-liners over the free functions of autograd/ops.h, where each is documented.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/options.h"
#include "core/scalar.h"
#include "core/shape.h"
#include "core/tensor_impl.h"

namespace halftone {

class Tensor;
class TensorIndex;
using TensorList = ArrayRef<Tensor>;

/// Typed element access by indices, for a tensor in host memory: `auto a = t.accessor<float, 2>(); a[i][j]`.
template <class T, std::size_t N> class TensorAccessor {
 public:
  TensorAccessor(T* data, const std::int64_t* sizes, const std::int64_t* strides)
      : data_(data), sizes_(sizes), strides_(strides) {}
  decltype(auto) operator[](std::int64_t i) const {
    T* at = data_ + i * strides_[0];
    if constexpr (N == 1) {
      return *at;
    } else {
      return TensorAccessor<T, N - 1>(at, sizes_ + 1, strides_ + 1);
    }
  }
  std::int64_t size(std::size_t dim) const { return sizes_[dim]; }
  std::int64_t stride(std::size_t dim) const { return strides_[dim]; }
  T* data() const { return data_; }

 private:
  T* data_;
  const std::int64_t* sizes_;
  const std::int64_t* strides_;
};

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}
  Tensor(const Tensor&) = default;
  Tensor(Tensor&&) noexcept = default;
  ~Tensor() = default;

  /// On a variable, assignment rebinds the handle; on a temporary such as `x[i]` or `x.grad()` it writes into the
  /// memory.
  Tensor& operator=(const Tensor& x) & = default;
  Tensor& operator=(Tensor&& x) & noexcept = default;
  const Tensor& operator=(const Tensor& x) const&&;
  const Tensor& operator=(Tensor&& x) const&&;
  const Tensor& operator=(const Scalar& value) const&&;

  // --- metadata ---
  bool defined() const { return impl_ != nullptr; }
  void reset() { impl_.reset(); }
  IntArrayRef sizes() const { return ref().sizes; }
  IntArrayRef strides() const { return ref().strides; }
  std::int64_t size(std::int64_t dim) const;
  std::int64_t stride(std::int64_t dim) const;
  std::int64_t dim() const { return static_cast<std::int64_t>(ref().sizes.size()); }
  std::int64_t ndimension() const { return dim(); }
  std::int64_t numel() const { return ref().numel; }
  std::int64_t element_size() const { return halftone::element_size(dtype()); }
  std::int64_t itemsize() const { return element_size(); }
  std::size_t nbytes() const { return static_cast<std::size_t>(numel() * element_size()); }
  std::int64_t storage_offset() const { return ref().offset; }
  const std::shared_ptr<Storage>& storage() const { return ref().storage; }
  Dtype dtype() const { return ref().dtype; }
  Dtype scalar_type() const { return ref().dtype; }
  Device device() const { return ref().storage->device(); }
  Layout layout() const { return kStrided; }
  /// dtype and device; requires_grad and the memory format are not part of it.
  TensorOptions options() const { return TensorOptions(dtype()).device(device()); }
  bool is_contiguous(MemoryFormat format = MemoryFormat::Contiguous) const;
  /// ChannelsLast for a tensor stored so and not also contiguous, Contiguous otherwise.
  MemoryFormat suggest_memory_format() const;
  bool is_floating_point() const { return halftone::is_floating_point(dtype()); }
  bool is_signed() const { return halftone::is_signed(dtype()); }
  bool is_cuda() const { return device().is_cuda(); }
  bool is_cpu() const { return device().is_cpu(); }
  /// Whether it lies in page-locked host memory, which a GPU copies from and to while the host goes on.
  bool is_pinned() const;
  /// Itself if pinned, else a copy in page-locked host memory. Takes a CPU tensor, on a machine with a GPU.
  Tensor pin_memory() const;
  DeviceIndex get_device() const { return device().index(); }
  bool is_same(const Tensor& other) const { return impl_ == other.impl_; }
  bool is_alias_of(const Tensor& other) const { return storage() == other.storage(); }
  long use_count() const { return impl_.use_count(); }
  /// An opaque key: equal for handles on the same tensor.
  TensorImpl* unsafeGetTensorImpl() const { return impl_.get(); }
  const std::shared_ptr<TensorImpl>& impl() const { return impl_; }

  // --- access ---
  void* data_ptr() const { return ref().data(); }
  template <class T> T* data_ptr() const {
    expect_dtype(dtype_of<T>, "data_ptr");
    return static_cast<T*>(ref().data());
  }
  const void* const_data_ptr() const { return data_ptr(); }
  template <class T> const T* const_data_ptr() const { return data_ptr<T>(); }
  template <class T> T* mutable_data_ptr() const { return data_ptr<T>(); }
  template <class T, std::size_t N> TensorAccessor<T, N> accessor() const {
    expect_dtype(dtype_of<T>, "accessor");
    check(static_cast<std::size_t>(dim()) == N, "accessor: expected ", N, " dims but tensor has ", dim());
    return TensorAccessor<T, N>(data_ptr<T>(), ref().sizes.data(), ref().strides.data());
  }
  /// The value of a one-element tensor; waits for its device.
  Scalar item() const;
  template <class T> T item() const { return item().to<T>(); }
  std::string toString() const;
  /// Prints values and type to stdout.
  void print() const;

  // --- autograd ---
  void backward(const Tensor& gradient = {}, optional<bool> retain_graph = nullopt, bool create_graph = false,
                optional<TensorList> inputs = nullopt) const;
  const Tensor& grad() const;
  Tensor& mutable_grad() const;
  bool requires_grad() const;
  const Tensor& requires_grad_(bool on = true) const;
  const Tensor& set_requires_grad(bool on) const { return requires_grad_(on); }
  bool is_leaf() const;
  std::shared_ptr<Node> grad_fn() const;
  std::uint32_t output_nr() const { return ref().edge.slot; }
  std::uint32_t _version() const { return ref().storage->version(); }
  Tensor detach() const;
  const Tensor& detach_() const;
  /// The same memory without history, and without sharing in-place checks of this handle.
  Tensor data() const { return detach(); }
  Tensor tensor_data() const { return detach(); }
  /// Swaps storage, shape and dtype under the live handle; its gradient, hooks and identity stay.
  void set_data(const Tensor& other) const;
  void retain_grad() const;
  bool retains_grad() const { return ref().retains_grad; }
  bool is_view() const { return ref().view_base != nullptr; }
  Tensor _base() const;
  /// Calls `hook(grad)` when this tensor's gradient is computed; a hook that returns a defined Tensor replaces it.
  /// Returns a position for remove_hook.
  template <class Hook> unsigned register_hook(Hook hook) const {
    if constexpr (std::is_void_v<std::invoke_result_t<Hook, Tensor>>) {
      return add_hook([hook = std::move(hook)](Tensor g) mutable {
        hook(std::move(g));
        return Tensor();
      });
    } else {
      return add_hook(std::move(hook));
    }
  }
  void remove_hook(unsigned position) const;

  // --- conversion ---
  Tensor to(const TensorOptions& options, bool non_blocking = false, bool copy = false,
            optional<MemoryFormat> format = nullopt) const;
  Tensor to(Dtype dtype, bool non_blocking = false, bool copy = false) const;
  Tensor to(Device device, Dtype dtype, bool non_blocking = false, bool copy = false) const;
  Tensor to(const Tensor& other, bool non_blocking = false, bool copy = false) const;
  Tensor toType(Dtype dtype) const { return to(dtype); }
  Tensor type_as(const Tensor& other) const { return to(other); }
  Tensor half() const { return to(kFloat16); }
  Tensor bfloat16() const { return to(kBFloat16); }
  Tensor toFloat() const { return to(kFloat32); }
  Tensor toDouble() const { return to(kFloat64); }
  Tensor cpu() const;
  Tensor cuda() const;

  // --- views and layout ---
  Tensor view(IntArrayRef sizes) const;
  Tensor reshape(IntArrayRef sizes) const;
  Tensor flatten(std::int64_t start_dim = 0, std::int64_t end_dim = -1) const;
  Tensor unflatten(std::int64_t dim, IntArrayRef sizes) const;
  Tensor squeeze() const;
  Tensor squeeze(std::int64_t dim) const;
  Tensor unsqueeze(std::int64_t dim) const;
  Tensor transpose(std::int64_t dim0, std::int64_t dim1) const;
  Tensor t() const;
  Tensor permute(IntArrayRef order) const;
  Tensor expand(IntArrayRef sizes) const;
  Tensor expand_as(const Tensor& other) const { return expand(other.sizes()); }
  Tensor view_as(const Tensor& other) const { return view(other.sizes()); }
  Tensor reshape_as(const Tensor& other) const { return reshape(other.sizes()); }
  Tensor narrow(std::int64_t dim, std::int64_t start, std::int64_t length) const;
  Tensor select(std::int64_t dim, std::int64_t index) const;
  Tensor slice(std::int64_t dim = 0, optional<std::int64_t> start = nullopt, optional<std::int64_t> end = nullopt,
               std::int64_t step = 1) const;
  Tensor as_strided(IntArrayRef sizes, IntArrayRef strides, optional<std::int64_t> offset = nullopt) const;
  Tensor contiguous(MemoryFormat format = MemoryFormat::Contiguous) const;
  Tensor clone(MemoryFormat format = MemoryFormat::Preserve) const;
  std::vector<Tensor> split(std::int64_t split_size, std::int64_t dim = 0) const;
  std::vector<Tensor> split_with_sizes(IntArrayRef sizes, std::int64_t dim = 0) const;
  std::vector<Tensor> chunk(std::int64_t chunks, std::int64_t dim = 0) const;
  std::vector<Tensor> unbind(std::int64_t dim = 0) const;
  Tensor movedim(std::int64_t from, std::int64_t to) const;
  Tensor repeat(IntArrayRef repeats) const;
  const Tensor& squeeze_(std::int64_t dim) const;
  const Tensor& unsqueeze_(std::int64_t dim) const;
  const Tensor& transpose_(std::int64_t dim0, std::int64_t dim1) const;
  const Tensor& t_() const;
  const Tensor& resize_(IntArrayRef sizes) const;

  // --- indexing ---
  Tensor operator[](std::int64_t index) const { return select(0, index); }
  Tensor operator[](const Tensor& index) const;
  Tensor index(std::initializer_list<TensorIndex> indices) const;
  Tensor index(ArrayRef<TensorIndex> indices) const;
  const Tensor& index_put_(std::initializer_list<TensorIndex> indices, const Tensor& value) const;
  const Tensor& index_put_(std::initializer_list<TensorIndex> indices, const Scalar& value) const;
  const Tensor& index_put_(ArrayRef<TensorIndex> indices, const Tensor& value, bool accumulate = false) const;
  Tensor index_select(std::int64_t dim, const Tensor& index) const;
  Tensor gather(std::int64_t dim, const Tensor& index) const;
  Tensor scatter(std::int64_t dim, const Tensor& index, const Tensor& source) const;
  Tensor scatter_add(std::int64_t dim, const Tensor& index, const Tensor& source) const;
  const Tensor& scatter_(std::int64_t dim, const Tensor& index, const Tensor& source) const;
  const Tensor& scatter_(std::int64_t dim, const Tensor& index, const Scalar& value) const;
  const Tensor& scatter_add_(std::int64_t dim, const Tensor& index, const Tensor& source) const;
  const Tensor& index_add_(std::int64_t dim, const Tensor& index, const Tensor& source) const;
  Tensor masked_fill(const Tensor& mask, const Scalar& value) const;
  const Tensor& masked_fill_(const Tensor& mask, const Scalar& value) const;
  Tensor masked_select(const Tensor& mask) const;
  Tensor nonzero() const;

  // --- arithmetic ---
  Tensor add(const Tensor& other, const Scalar& alpha = 1) const;
  Tensor add(const Scalar& other) const;
  Tensor sub(const Tensor& other, const Scalar& alpha = 1) const;
  Tensor sub(const Scalar& other) const;
  Tensor mul(const Tensor& other) const;
  Tensor mul(const Scalar& other) const;
  Tensor div(const Tensor& other) const;
  Tensor div(const Scalar& other) const;
  Tensor remainder(const Tensor& other) const;
  Tensor remainder(const Scalar& other) const;
  Tensor pow(const Tensor& exponent) const;
  Tensor pow(const Scalar& exponent) const;
  Tensor maximum(const Tensor& other) const;
  Tensor minimum(const Tensor& other) const;
  Tensor lerp(const Tensor& end, const Scalar& weight) const;
  Tensor lerp(const Tensor& end, const Tensor& weight) const;
  Tensor addcmul(const Tensor& a, const Tensor& b, const Scalar& value = 1) const;
  Tensor addcdiv(const Tensor& a, const Tensor& b, const Scalar& value = 1) const;
  Tensor where(const Tensor& condition, const Tensor& other) const;

  Tensor abs() const;
  Tensor neg() const;
  Tensor exp() const;
  Tensor expm1() const;
  Tensor log() const;
  Tensor log1p() const;
  Tensor log2() const;
  Tensor log10() const;
  Tensor sqrt() const;
  Tensor rsqrt() const;
  Tensor reciprocal() const;
  Tensor square() const;
  Tensor sin() const;
  Tensor cos() const;
  Tensor tan() const;
  Tensor sinh() const;
  Tensor cosh() const;
  Tensor tanh() const;
  Tensor sigmoid() const;
  Tensor relu() const;
  Tensor erf() const;
  Tensor sign() const;
  Tensor floor() const;
  Tensor ceil() const;
  Tensor round() const;
  Tensor trunc() const;
  Tensor clamp(optional<Scalar> min = nullopt, optional<Scalar> max = nullopt) const;
  Tensor clamp_min(const Scalar& min) const;
  Tensor clamp_max(const Scalar& max) const;
  Tensor isnan() const;
  Tensor isinf() const;
  Tensor isfinite() const;
  Tensor logical_not() const;
  Tensor logical_and(const Tensor& other) const;
  Tensor logical_or(const Tensor& other) const;
  Tensor logical_xor(const Tensor& other) const;
  Tensor bitwise_not() const;
  Tensor bitwise_and(const Tensor& other) const;
  Tensor bitwise_or(const Tensor& other) const;
  Tensor bitwise_xor(const Tensor& other) const;

  // --- comparison ---
  Tensor eq(const Tensor& other) const;
  Tensor ne(const Tensor& other) const;
  Tensor lt(const Tensor& other) const;
  Tensor le(const Tensor& other) const;
  Tensor gt(const Tensor& other) const;
  Tensor ge(const Tensor& other) const;
  Tensor eq(const Scalar& other) const;
  Tensor ne(const Scalar& other) const;
  Tensor lt(const Scalar& other) const;
  Tensor le(const Scalar& other) const;
  Tensor gt(const Scalar& other) const;
  Tensor ge(const Scalar& other) const;
  bool equal(const Tensor& other) const;
  bool allclose(const Tensor& other, double rtol = 1e-5, double atol = 1e-8, bool equal_nan = false) const;
  Tensor isclose(const Tensor& other, double rtol = 1e-5, double atol = 1e-8, bool equal_nan = false) const;

  // --- in place ---
  const Tensor& fill_(const Scalar& value) const;
  const Tensor& fill_(const Tensor& value) const;
  const Tensor& zero_() const;
  const Tensor& copy_(const Tensor& source, bool non_blocking = false) const;
  const Tensor& add_(const Tensor& other, const Scalar& alpha = 1) const;
  const Tensor& add_(const Scalar& other) const;
  const Tensor& sub_(const Tensor& other, const Scalar& alpha = 1) const;
  const Tensor& sub_(const Scalar& other) const;
  const Tensor& mul_(const Tensor& other) const;
  const Tensor& mul_(const Scalar& other) const;
  const Tensor& div_(const Tensor& other) const;
  const Tensor& div_(const Scalar& other) const;
  const Tensor& pow_(const Scalar& exponent) const;
  const Tensor& addcmul_(const Tensor& a, const Tensor& b, const Scalar& value = 1) const;
  const Tensor& addcdiv_(const Tensor& a, const Tensor& b, const Scalar& value = 1) const;
  const Tensor& addmm_(const Tensor& a, const Tensor& b, const Scalar& beta = 1, const Scalar& alpha = 1) const;
  const Tensor& lerp_(const Tensor& end, const Scalar& weight) const;
  const Tensor& abs_() const;
  const Tensor& neg_() const;
  const Tensor& exp_() const;
  const Tensor& log_() const;
  const Tensor& sqrt_() const;
  const Tensor& rsqrt_() const;
  const Tensor& reciprocal_() const;
  const Tensor& square_() const;
  const Tensor& sin_() const;
  const Tensor& cos_() const;
  const Tensor& tanh_() const;
  const Tensor& sigmoid_() const;
  const Tensor& relu_() const;
  const Tensor& erf_() const;
  const Tensor& sign_() const;
  const Tensor& floor_() const;
  const Tensor& ceil_() const;
  const Tensor& round_() const;
  const Tensor& clamp_(optional<Scalar> min = nullopt, optional<Scalar> max = nullopt) const;
  const Tensor& clamp_min_(const Scalar& min) const;
  const Tensor& clamp_max_(const Scalar& max) const;
  const Tensor& eq_(const Tensor& other) const;
  const Tensor& eq_(const Scalar& other) const;
  const Tensor& normal_(double mean = 0, double std = 1) const;
  const Tensor& uniform_(double from = 0, double to = 1) const;
  const Tensor& random_() const;
  const Tensor& random_(std::int64_t to) const;
  const Tensor& random_(std::int64_t from, std::int64_t to) const;
  const Tensor& bernoulli_(double p = 0.5) const;
  const Tensor& exponential_(double rate = 1) const;

  // --- reductions ---
  Tensor sum(optional<Dtype> dtype = nullopt) const;
  Tensor sum(IntArrayRef dims, bool keepdim = false, optional<Dtype> dtype = nullopt) const;
  Tensor mean(optional<Dtype> dtype = nullopt) const;
  Tensor mean(IntArrayRef dims, bool keepdim = false, optional<Dtype> dtype = nullopt) const;
  Tensor prod(optional<Dtype> dtype = nullopt) const;
  Tensor prod(std::int64_t dim, bool keepdim = false, optional<Dtype> dtype = nullopt) const;
  Tensor max() const;
  Tensor min() const;
  std::tuple<Tensor, Tensor> max(std::int64_t dim, bool keepdim = false) const;
  std::tuple<Tensor, Tensor> min(std::int64_t dim, bool keepdim = false) const;
  Tensor max(const Tensor& other) const { return maximum(other); }
  Tensor min(const Tensor& other) const { return minimum(other); }
  Tensor amax(IntArrayRef dims = {}, bool keepdim = false) const;
  Tensor amin(IntArrayRef dims = {}, bool keepdim = false) const;
  Tensor argmax(optional<std::int64_t> dim = nullopt, bool keepdim = false) const;
  Tensor argmin(optional<std::int64_t> dim = nullopt, bool keepdim = false) const;
  Tensor all() const;
  Tensor all(std::int64_t dim, bool keepdim = false) const;
  Tensor any() const;
  Tensor any(std::int64_t dim, bool keepdim = false) const;
  Tensor var(bool unbiased = true) const;
  Tensor var(IntArrayRef dims, bool unbiased = true, bool keepdim = false) const;
  Tensor std(bool unbiased = true) const;
  Tensor std(IntArrayRef dims, bool unbiased = true, bool keepdim = false) const;
  Tensor norm(const Scalar& p = 2) const;
  Tensor norm(const Scalar& p, IntArrayRef dims, bool keepdim = false, optional<Dtype> dtype = nullopt) const;
  Tensor logsumexp(IntArrayRef dims, bool keepdim = false) const;
  Tensor softmax(std::int64_t dim, optional<Dtype> dtype = nullopt) const;
  Tensor log_softmax(std::int64_t dim, optional<Dtype> dtype = nullopt) const;
  Tensor cumsum(std::int64_t dim, optional<Dtype> dtype = nullopt) const;

  // --- linear algebra ---
  Tensor mm(const Tensor& other) const;
  Tensor bmm(const Tensor& other) const;
  Tensor matmul(const Tensor& other) const;
  Tensor mv(const Tensor& vector) const;
  Tensor dot(const Tensor& other) const;
  Tensor addmm(const Tensor& a, const Tensor& b, const Scalar& beta = 1, const Scalar& alpha = 1) const;
  Tensor outer(const Tensor& other) const;

  // --- making tensors like this one ---
  Tensor new_zeros(IntArrayRef sizes, const TensorOptions& options = {}) const;
  Tensor new_ones(IntArrayRef sizes, const TensorOptions& options = {}) const;
  Tensor new_empty(IntArrayRef sizes, const TensorOptions& options = {}) const;
  Tensor new_full(IntArrayRef sizes, const Scalar& value, const TensorOptions& options = {}) const;
  /// A copy of `data` with this tensor's dtype and device unless `options` say otherwise.
  Tensor new_tensor(const Tensor& data, const TensorOptions& options = {}) const;

  // --- operators ---
  Tensor operator-() const { return neg(); }
  Tensor operator~() const { return bitwise_not(); }
  const Tensor& operator+=(const Tensor& x) const { return add_(x); }
  const Tensor& operator-=(const Tensor& x) const { return sub_(x); }
  const Tensor& operator*=(const Tensor& x) const { return mul_(x); }
  const Tensor& operator/=(const Tensor& x) const { return div_(x); }
  const Tensor& operator+=(const Scalar& x) const { return add_(x); }
  const Tensor& operator-=(const Scalar& x) const { return sub_(x); }
  const Tensor& operator*=(const Scalar& x) const { return mul_(x); }
  const Tensor& operator/=(const Scalar& x) const { return div_(x); }

 private:
  TensorImpl& ref() const {
    if (!impl_) [[unlikely]]
      fail_undefined();
    return *impl_;
  }
  [[noreturn]] static void fail_undefined();
  void expect_dtype(Dtype wanted, const char* what) const {
    check<TypeError>(dtype() == wanted, what, ": expected scalar type ", wanted, " but found ", dtype());
  }
  unsigned add_hook(std::function<Tensor(Tensor)> hook) const;

  std::shared_ptr<TensorImpl> impl_;
};

/// Uninitialised memory. Sizes must not be negative.
Tensor empty(IntArrayRef sizes, const TensorOptions& options = {});
Tensor empty_strided(IntArrayRef sizes, IntArrayRef strides, const TensorOptions& options = {});
/// Like `like` in shape, dtype and device; its dense stride order too, unless options ask for a memory format.
Tensor empty_like(const Tensor& like, const TensorOptions& options = {});

/// Wraps memory of the caller without copying. `strides` default to contiguous; `deleter(data)` runs when the last
/// tensor on it is gone.
Tensor from_blob(void* data, IntArrayRef sizes, const TensorOptions& options = {});
Tensor from_blob(void* data, IntArrayRef sizes, IntArrayRef strides, const TensorOptions& options = {});
Tensor from_blob(void* data, IntArrayRef sizes, std::function<void(void*)> deleter, const TensorOptions& options = {});

/// The same memory seen with another geometry, without history: what views are made of.
Tensor alias(const Tensor& x, const Dims& sizes, const Dims& strides, std::int64_t offset);
inline Tensor alias(const Tensor& x) {
  const TensorImpl& i = *x.impl();
  return alias(x, i.sizes, i.strides, i.offset);
}

std::ostream& operator<<(std::ostream& out, const Tensor& t);

/// How error messages describe a tensor: "float32[2, 3]", with the device when it is not the CPU. Formatted when
/// printed, so that a check which holds costs nothing.
class Description {
 public:
  explicit Description(const Tensor& t) : tensor_(&t) {}
  operator std::string() const;  // NOLINT(google-explicit-constructor): it is text
  friend std::ostream& operator<<(std::ostream& out, const Description& d) { return out << std::string(d); }

 private:
  const Tensor* tensor_;
};
inline Description describe(const Tensor& t) { return Description(t); }

}  // namespace halftone
