// TORCH_ARG: one field of an options class, with libtorch's builder and getters.
#pragma once

#include <utility>

/// Inside a class: a field `name_`, set by `name(value)`, which returns the object so that calls chain, and read by
/// `name()`. An initialiser follows: `TORCH_ARG(bool, bias) = true;`
#define TORCH_ARG(T, name)                           \
 public:                                             \
  auto name(const T& new_##name)->decltype(*this) {  \
    this->name##_ = new_##name;                      \
    return *this;                                    \
  }                                                  \
  auto name(T&& new_##name)->decltype(*this) {       \
    this->name##_ = std::move(new_##name);           \
    return *this;                                    \
  }                                                  \
  const T& name() const noexcept { return name##_; } \
  T& name() noexcept { return name##_; }             \
                                                     \
 private:                                            \
  T name##_
