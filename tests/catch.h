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
