// Out of the header, so that who includes it does not compile the maps again.
#include "core/state_dict.h"

namespace halftone {

StateDict::StateDict() = default;
StateDict::StateDict(const StateDict&) = default;
StateDict::StateDict(StateDict&&) noexcept = default;
StateDict& StateDict::operator=(const StateDict&) = default;
StateDict& StateDict::operator=(StateDict&&) noexcept = default;
StateDict::~StateDict() = default;

void StateDict::set(const std::string& key, bool value) { values[key] = value ? "true" : "false"; }
void StateDict::set(const std::string& key, const std::string& value) { values[key] = value; }

bool StateDict::has(const std::string& key) const { return values.contains(key) || tensors.contains(key); }

const Tensor& StateDict::tensor(const std::string& key) const {
  const auto found = tensors.find(key);
  check<IndexError>(found != tensors.end(), "state has no tensor '", key, "'");
  return found->second;
}

void StateDict::put(const std::string& prefix, const StateDict& part) {
  for (const auto& [key, value] : part.tensors) tensors[prefix + key] = value;
  for (const auto& [key, value] : part.values) values[prefix + key] = value;
}

StateDict StateDict::part(const std::string& prefix) const {
  StateDict found;
  for (const auto& [key, value] : tensors) {
    if (key.starts_with(prefix)) found.tensors[key.substr(prefix.size())] = value;
  }
  for (const auto& [key, value] : values) {
    if (key.starts_with(prefix)) found.values[key.substr(prefix.size())] = value;
  }
  return found;
}

const std::string& StateDict::text_of(const std::string& key) const {
  const auto found = values.find(key);
  check<IndexError>(found != values.end(), "state has no value '", key, "'");
  return found->second;
}

}  // namespace halftone
