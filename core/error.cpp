#include "core/error.h"

#include <atomic>
#include <cstdio>

namespace halftone {
namespace {

void print_warning(const std::string& message) { std::fprintf(stderr, "halftone: warning: %s\n", message.c_str()); }

std::atomic<WarningHandler> warning_handler{&print_warning};

}  // namespace

void warn(const std::string& message) { warning_handler.load()(message); }

WarningHandler set_warning_handler(WarningHandler handler) {
  return warning_handler.exchange(handler ? handler : &print_warning);
}

}  // namespace halftone
