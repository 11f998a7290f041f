#include "nn/any.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

namespace halftone::nn {

std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 ? text.get() : type.name();
}

AnyModule AnyModule::clone(optional<Device> device) const {
  return is_empty() ? AnyModule() : content_->wrap(content_->pointer->clone(device));
}

namespace any_detail {

void fail_argument(const Module& module, std::size_t index, const std::type_info& wanted, const std::type_info& given) {
  fail<TypeError>("Expected argument #", index, " to be of type ", type_name(wanted), ", but received value of type ",
                  type_name(given), ", in ", module.display_name());
}

void fail_count(const Module& module, std::size_t wanted, std::size_t given) {
  fail<TypeError>(module.name(), "'s forward() method expects ", wanted, " argument(s), but received ", given, ", in ",
                  module.display_name());
}

}  // namespace any_detail
}  // namespace halftone::nn
