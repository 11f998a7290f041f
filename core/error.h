// One exception family and one function, check(ok, parts...): the message is formatted only on failure.
#pragma once

#include <exception>
#include <sstream>
#include <string>
#include <utility>

namespace halftone {

/// Base of every error halftone throws. A message names the op, what it wanted and what it got.
class Error : public std::exception {
 public:
  explicit Error(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  /// The message alone; the same as what(), which carries no backtrace.
  const char* what_without_backtrace() const noexcept { return message_.c_str(); }
  /// Says where it happened, in front of the message: for who catches an error and throws it on.
  void add_prefix(const std::string& prefix) { message_.insert(0, prefix); }

 private:
  std::string message_;
};

/// An index or a dimension out of its range.
class IndexError : public Error {
  using Error::Error;
};
/// An argument of the right type and a wrong value.
class ValueError : public Error {
  using Error::Error;
};
/// An argument of a wrong type or dtype.
class TypeError : public Error {
  using Error::Error;
};
/// A combination that halftone does not offer.
class NotImplementedError : public Error {
  using Error::Error;
};

/// Joins its arguments as `operator<<` prints them.
template <class... Parts> std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

template <class E = Error, class... Parts> [[noreturn, gnu::noinline, gnu::cold]] void fail(const Parts&... parts) {
  throw E(str(parts...));
}

/// Throws E with the joined parts unless `ok`.
template <class E = Error, class... Parts> void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail<E>(parts...);
}

/// Prints a warning to stderr, or hands it to the handler set by set_warning_handler.
void warn(const std::string& message);
/// Replaces what warn() does; a null handler restores printing. Returns the previous handler.
using WarningHandler = void (*)(const std::string& message);
WarningHandler set_warning_handler(WarningHandler handler);

}  // namespace halftone

#define TORCH_CHECK(condition, ...) ::halftone::check(static_cast<bool>(condition), __VA_ARGS__)
#define TORCH_INTERNAL_ASSERT(condition, ...) \
  ::halftone::check(static_cast<bool>(condition), "internal error: " #condition " " __VA_OPT__(, ) __VA_ARGS__)
#define AT_ASSERT(condition) ::halftone::check(static_cast<bool>(condition), "assertion failed: " #condition)
#define AT_ERROR(...) ::halftone::fail(__VA_ARGS__)
#define TORCH_WARN(...) ::halftone::warn(::halftone::str(__VA_ARGS__))
#define TORCH_WARN_ONCE(...)                                                                                     \
  do {                                                                                                           \
    [[maybe_unused]] static const bool halftone_warned = (::halftone::warn(::halftone::str(__VA_ARGS__)), true); \
  } while (false)
