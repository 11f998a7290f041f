// One header for Catch2, whichever major version the system has. Tests use version 3's names:
// Catch::Approx, Catch::Matchers::ContainsSubstring.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>

namespace Catch {
using Detail::Approx;
#if defined(CATCH_CONFIG_RUNNER)
using EventListenerBase = TestEventListenerBase;
#endif
namespace Matchers {
inline auto ContainsSubstring(const std::string& part) { return Contains(part); }
}  // namespace Matchers
}  // namespace Catch
#endif

namespace halftone::test {

/// Ends the test case here, without failing it, and prints why. Catch2 has SKIP from version 3.3 on only, and its exit
/// status when every case was skipped would read as a failure.
[[noreturn]] inline void skip(const std::string& why) {
  WARN("skipped: " << why);
  throw Catch::TestFailureException();
}

}  // namespace halftone::test
