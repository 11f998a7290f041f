// Values that hold tensors, however deep: in vectors, arrays, optionals, tuples, pairs and maps. map_tensors() builds
// such a value anew with each tensor replaced.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/ordered_dict.h"
#include "core/tensor.h"

namespace halftone {

template <class T> inline constexpr bool is_ordered_dict = false;
template <class Key, class Value> inline constexpr bool is_ordered_dict<OrderedDict<Key, Value>> = true;
template <class T> inline constexpr bool is_array_ref = false;
template <class T> inline constexpr bool is_array_ref<ArrayRef<T>> = true;

template <class T> consteval bool holds_tensors();

template <class Element> consteval bool element_holds_tensors() {
  constexpr bool holds = holds_tensors<std::remove_cvref_t<Element>>();
  static_assert(!holds || !std::is_reference_v<Element>, "a tuple of references to tensors cannot be built anew");
  return holds;
}
template <class Tuple, std::size_t... I> consteval bool any_element_holds_tensors(std::index_sequence<I...>) {
  return (element_holds_tensors<std::tuple_element_t<I, Tuple>>() || ...);
}

/// Whether map_tensors() looks into a T.
template <class T> consteval bool holds_tensors() {
  if constexpr (std::is_same_v<T, Tensor>) {
    return true;
  } else if constexpr (requires { std::tuple_size<T>::value; }) {
    return any_element_holds_tensors<T>(std::make_index_sequence<std::tuple_size_v<T>>());
  } else if constexpr (is_ordered_dict<T>) {
    return holds_tensors<std::remove_cvref_t<decltype(std::declval<T>().front().value())>>();
  } else if constexpr (requires { typename T::mapped_type; }) {
    return holds_tensors<typename T::mapped_type>();
  } else if constexpr (requires { typename T::value_type; }) {
    using Item = std::remove_cv_t<typename T::value_type>;
    if constexpr (!std::is_same_v<T, Item>) return holds_tensors<Item>();
    return false;
  } else {
    return false;
  }
}

template <class T, class F> auto map_tensors(const T& value, const F& f);

template <class T, class F> T map_nested(const T& value, const F& f) {
  static_assert(!is_array_ref<T>, "a list that owns nothing (TensorList) cannot be nested: use std::vector");
  return map_tensors(value, f);
}

/// `value` with every tensor replaced by `f(tensor)`; keys and what holds no tensor are copied. A TensorList, which
/// owns nothing, becomes a vector.
template <class T, class F> auto map_tensors(const T& value, const F& f) {
  if constexpr (std::is_same_v<T, Tensor>) {
    return f(value);
  } else if constexpr (!holds_tensors<T>()) {
    return value;
  } else if constexpr (requires { std::tuple_size<T>::value; }) {
    return std::apply([&](const auto&... items) { return T{map_nested(items, f)...}; }, value);
  } else if constexpr (is_array_ref<T>) {
    return map_tensors(std::vector(value.begin(), value.end()), f);
  } else if constexpr (is_ordered_dict<T>) {
    T result = value;
    for (auto& item : result) item.value() = map_nested(item.value(), f);
    return result;
  } else if constexpr (requires { typename T::mapped_type; }) {
    T result = value;
    for (auto& [key, item] : result) item = map_nested(item, f);
    return result;
  } else if constexpr (requires { value.has_value(); }) {
    T result;
    if (value.has_value()) result = map_nested(*value, f);
    return result;
  } else {
    T result = value;
    for (auto& item : result) item = map_nested(item, f);
    return result;
  }
}

}  // namespace halftone
