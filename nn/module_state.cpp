// Saving and loading of modules: through archives, and as state dictionaries.
#include "core/serialize.h"
#include "nn/module.h"

namespace halftone::nn {

namespace {

std::string quoted_list(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "'" : ", '") + name + "'";
  return list;
}

}  // namespace

void Module::save(serialize::OutputArchive& archive) const {
  for (const auto* registry : {&parameters_, &buffers_}) {
    for (const auto& item : *registry) {
      if (item.value().defined()) archive.write(item.key(), item.value(), registry == &buffers_);
    }
  }
  for (const auto& child : children_) {
    if (child.value()->is_serializable()) archive.write(child.key(), *child.value());
  }
}

void Module::load(serialize::InputArchive& archive) {
  for (auto* registry : {&parameters_, &buffers_}) {
    for (auto& item : *registry) {
      if (item.value().defined()) archive.read(item.key(), item.value(), registry == &buffers_);
    }
  }
  for (const auto& child : children_) {
    if (!child.value()->is_serializable()) continue;
    serialize::InputArchive part = archive.nested(child.key());
    child.value()->load(part);
  }
}

void Module::collect_state(const std::string& prefix, OrderedDict<std::string, Tensor>& out) const {
  for (const auto* registry : {&parameters_, &buffers_}) {
    for (const auto& item : *registry) {
      if (item.value().defined()) out.insert(join_names(prefix, item.key()), item.value().detach());
    }
  }
  for (const auto& child : children_) child.value()->collect_state(join_names(prefix, child.key()), out);
}

OrderedDict<std::string, Tensor> Module::state_dict() const {
  OrderedDict<std::string, Tensor> state("Tensor");
  collect_state("", state);
  return state;
}

IncompatibleKeys Module::load_state_dict(const OrderedDict<std::string, Tensor>& state, bool strict) {
  const OrderedDict<std::string, Tensor> own = state_dict();
  IncompatibleKeys keys;
  std::string problems;
  for (const auto& item : own) {
    const Tensor* given = state.find(item.key());
    if (!given || !given->defined()) {
      keys.missing_keys.push_back(item.key());
    } else if (given->sizes() != item.value().sizes()) {
      problems += str("\n  size mismatch for '", item.key(), "': the state has ", given->sizes(), ", the module ",
                      item.value().sizes());
    }
  }
  for (const auto& item : state) {
    if (!own.contains(item.key())) keys.unexpected_keys.push_back(item.key());
  }
  if (strict && !keys.missing_keys.empty()) problems += "\n  missing: " + quoted_list(keys.missing_keys);
  if (strict && !keys.unexpected_keys.empty()) problems += "\n  unexpected: " + quoted_list(keys.unexpected_keys);
  check(problems.empty(), "load_state_dict: the state does not fit ", name(), ", and nothing was loaded:", problems);
  for (const auto& item : own) {
    if (const Tensor* given = state.find(item.key()); given && given->defined()) item.value().copy_(given->detach());
  }
  return keys;
}

}  // namespace halftone::nn
