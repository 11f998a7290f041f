#include "nn/any.h"

namespace halftone::nn {

AnyModule AnyModule::clone(optional<Device> device) const {
  return is_empty() ? AnyModule() : content_->wrap(content_->pointer->clone(device));
}

namespace any_detail {

void fail_argument(const Module& module, std::size_t index, const std::type_info& wanted, const std::type_info& given) {
  fail<TypeError>("Expected argument #", index, " to be of type ", type_name(wanted), ", but received value of type ",
                  type_name(given), ", in ", module.label());
}

void fail_count(const Module& module, std::size_t wanted, std::size_t given) {
  fail<TypeError>(module.name(), "'s forward() method expects ", wanted, " argument(s), but received ", given, ", in ",
                  module.label());
}

}  // namespace any_detail
}  // namespace halftone::nn
