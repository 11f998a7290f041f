// What stands between the brackets of t.index({...}): a number, a range, None, Ellipsis, a bool or a tensor.
#pragma once

#include "core/tensor.h"

namespace halftone {

namespace indexing {

struct EllipsisType {};
/// As many full ranges as the tensor has axes left.
inline constexpr EllipsisType Ellipsis{};
/// A new axis of size 1; inside a Slice, an end that is not given.
inline constexpr std::nullopt_t None = std::nullopt;

/// start, start + step, ... before stop; negative ends count from the end of the axis. step is at least 1.
struct Slice {
  optional<std::int64_t> start, stop, step;
  Slice(optional<std::int64_t> first = nullopt, optional<std::int64_t> last = nullopt,
        optional<std::int64_t> by = nullopt)
      : start(first), stop(last), step(by) {}
};
std::ostream& operator<<(std::ostream& out, const Slice& slice);

}  // namespace indexing

class TensorIndex {
 public:
  enum class Kind : std::int8_t { none, ellipsis, integer, boolean, slice, tensor };

  TensorIndex(std::nullopt_t) : kind_(Kind::none) {}              // NOLINT: x.index({None, 2})
  TensorIndex(indexing::EllipsisType) : kind_(Kind::ellipsis) {}  // NOLINT
  TensorIndex(const char* text) : kind_(Kind::ellipsis) {         // NOLINT
    check<ValueError>(std::string_view(text) == "...", "index: expected \"...\", got \"", text, '"');
  }
  template <class T>
  requires std::is_integral_v<T> TensorIndex(T value)  // NOLINT
      : kind_(std::is_same_v<T, bool> ? Kind::boolean : Kind::integer), integer_(static_cast<std::int64_t>(value)) {}
  TensorIndex(indexing::Slice slice) : kind_(Kind::slice), slice_(slice) {}        // NOLINT
  TensorIndex(Tensor tensor) : kind_(Kind::tensor), tensor_(std::move(tensor)) {}  // NOLINT

  Kind kind() const { return kind_; }
  bool is_none() const { return kind_ == Kind::none; }
  bool is_ellipsis() const { return kind_ == Kind::ellipsis; }
  bool is_integer() const { return kind_ == Kind::integer; }
  bool is_boolean() const { return kind_ == Kind::boolean; }
  bool is_slice() const { return kind_ == Kind::slice; }
  bool is_tensor() const { return kind_ == Kind::tensor; }
  std::int64_t integer() const { return integer_; }
  bool boolean() const { return integer_ != 0; }
  const indexing::Slice& slice() const { return slice_; }
  const Tensor& tensor() const { return tensor_; }

 private:
  Kind kind_;
  std::int64_t integer_ = 0;
  indexing::Slice slice_;
  Tensor tensor_;
};

std::ostream& operator<<(std::ostream& out, const TensorIndex& index);

}  // namespace halftone
