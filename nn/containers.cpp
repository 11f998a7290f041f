#include "nn/containers.h"

#include "nn/sequential.h"

namespace halftone::nn {

// Sequential is a template all through; what need not be in the header is here.
std::shared_ptr<Module> SequentialImpl::clone(const optional<Device>& device) const {
  auto copy = std::make_shared<SequentialImpl>(*this);
  copy->modules_.clear();
  copy->children_.clear();
  for (std::size_t i = 0; i < size(); ++i) copy->push_back(children_[i].key(), modules_[i].clone(device));
  return copy;
}

void SequentialImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "Sequential"; }

void FunctionalImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "Functional()"; }

// ------------------------------------------------------------------------------------------------ ModuleList

std::shared_ptr<Module> ModuleListImpl::clone(const optional<Device>& device) const {
  auto copy = std::make_shared<ModuleListImpl>(*this);
  copy->modules_.clear();
  copy->children_.clear();
  for (const auto& module : modules_) copy->push_back(module->clone(device));
  return copy;
}

void ModuleListImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "ModuleList"; }

void ModuleListImpl::push_back(std::shared_ptr<Module> module) {
  register_module(std::to_string(size()), module);
  modules_.push_back(std::move(module));
}

void ModuleListImpl::insert(std::size_t index, std::shared_ptr<Module> module) {
  check<IndexError>(index <= size(), "Index out of range: ", index, " of ", size(), " modules");
  if (index == size()) return push_back(std::move(module));
  const auto place = modules_.begin() + static_cast<std::ptrdiff_t>(index);
  check<ValueError>(module != nullptr, "ModuleList: the module is a null pointer");
  modules_.insert(place, std::move(module));
  register_module(std::to_string(size() - 1), modules_.back());
  for (std::size_t i = index; i + 1 < size(); ++i) replace_module(std::to_string(i), modules_[i]);
}

// ------------------------------------------------------------------------------------------------ ModuleDict

std::shared_ptr<Module> ModuleDictImpl::clone(const optional<Device>& device) const {
  auto copy = std::make_shared<ModuleDictImpl>(*this);
  copy->children_.clear();
  for (const auto& child : children_) copy->insert(child.key(), child.value()->clone(device));
  return copy;
}

void ModuleDictImpl::pretty_print(std::ostream& out) const { out << kPrintPrefix << "ModuleDict"; }

std::shared_ptr<Module> ModuleDictImpl::insert(const std::string& key, std::shared_ptr<Module> module) {
  return contains(key) ? replace_module(key, std::move(module)) : register_module(key, std::move(module));
}

void ModuleDictImpl::update(const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& modules) {
  for (const auto& [key, module] : modules) insert(key, module);
}

void ModuleDictImpl::update(const Modules& modules) { update(modules.pairs()); }

std::vector<std::pair<std::string, std::shared_ptr<Module>>> ModuleDictImpl::items() const { return children_.pairs(); }
std::vector<std::string> ModuleDictImpl::keys() const { return children_.keys(); }
std::vector<std::shared_ptr<Module>> ModuleDictImpl::values() const { return children_.values(); }

std::shared_ptr<Module> ModuleDictImpl::pop(const std::string& key) {
  auto module = ptr(key);
  unregister_module(key);
  return module;
}

std::shared_ptr<Module> ModuleDictImpl::ptr(const std::string& key) const {
  const auto* module = children_.find(key);
  check<IndexError>(module != nullptr, "Key '", key, "' is not defined");
  return *module;
}

template class Cloneable<SequentialImpl>;
template class Cloneable<FunctionalImpl>;
template class Cloneable<ModuleListImpl>;
template class Cloneable<ModuleDictImpl>;

}  // namespace halftone::nn
