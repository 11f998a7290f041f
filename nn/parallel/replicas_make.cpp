// Replicas are made, and their tensors paired with the original's, by name.
#include <algorithm>
#include <set>
#include <typeinfo>

#include "autograd/context.h"
#include "core/random.h"
#include "nn/parallel/replica_tensors.h"

namespace halftone::nn::parallel {

Replicas::Replicas(std::shared_ptr<Module> original, std::vector<Device> devices, Factory factory)
    : original_(std::move(original)), devices_(std::move(devices)), factory_(std::move(factory)) {}

Replicas::~Replicas() = default;

namespace {

/// Making a replica draws initial values that nobody sees: the caller's random numbers must not depend on it.
class KeptRandomState {
 public:
  KeptRandomState() {
    for (const Device device : {Device(kCPU), get_default_device()})
      states_.emplace_back(device, default_generator(device).get_state());
  }
  ~KeptRandomState() {
    for (const auto& [device, state] : states_) default_generator(device).set_state(state);
  }
  KeptRandomState(const KeptRandomState&) = delete;
  KeptRandomState& operator=(const KeptRandomState&) = delete;

 private:
  std::vector<std::pair<Device, Tensor>> states_;
};

}  // namespace

// All modules and tensors of the tree: replicas are as good as new while these are the same.
std::vector<const void*> Replicas::parts_of(const Module& module) {
  std::vector<const void*> parts;
  const std::function<void(const Module&)> visit = [&](const Module& m) {
    parts.push_back(&m);
    for (const auto* registry : {&m.parameters_, &m.buffers_})
      for (const auto& item : *registry) parts.push_back(item.value().unsafeGetTensorImpl());
    for (const auto& child : m.children_) visit(*child.value());
  };
  visit(module);
  return parts;
}

bool Replicas::is_current() const { return !modules_.empty() && parts_of(*original_) == parts_; }

void Replicas::clear() {
  modules_.clear();
  sources_.clear();
  pairs_.clear();
  parts_.clear();
  kept_.clear();
}

void Replicas::make() {
  clear();
  const KeptRandomState random;
  const ContextScope plain([](Context& c) {
    c.record = false;
    c.filter = nullptr;
    c.observer = nullptr;
  });
  for (const Device device : devices_) modules_.push_back(make_one(device));
  pairs_.resize(devices_.size());
  for (std::size_t k = 0; k < devices_.size(); ++k) {
    pair(*original_, *modules_[k], "", k);
    if (k > 0) take_over(k, factory_ == nullptr);
  }
  guess(*original_);
  parts_ = parts_of(*original_);
  for (const auto& source : sources_) kept_.push_back(source->tensor.impl());
  for (const auto& child : original_->named_modules("", false)) kept_.push_back(child.value());
}

std::shared_ptr<Module> Replicas::make_one(Device device) const {
  if (factory_) {
    std::shared_ptr<Module> made = factory_();
    check<ValueError>(made != nullptr, "DataParallel: the factory of replicas returned a null pointer");
    check<ValueError>(made != original_,
                      "DataParallel: the factory of replicas returned the module itself, not a new one");
    return made;
  }
  try {
    return original_->clone(device);
  } catch (Error& error) {
    error.add_prefix(
        "DataParallel cannot make a replica (derive the module from Cloneable, or give DataParallelOptions a "
        "replica_factory): ");
    throw;
  }
}

void Replicas::pair(Module& original, Module& copy, const std::string& path, std::size_t k) {
  const std::string where = path.empty() ? "the module" : "'" + path + "'";
  check<TypeError>(typeid(original) == typeid(copy), "DataParallel: ", where, " is a ", type_name(typeid(original)),
                   " but in the replica a ", type_name(typeid(copy)));
  copy.is_replica_ = true;
  pairs_[k].emplace_back(&original, &copy);
  pair_tensors(original, copy, path, k);
  check<ValueError>(original.children_.size() == copy.children_.size(), "DataParallel: ", where, " has ",
                    original.children_.size(), " submodules but ", copy.children_.size(), " in the replica");
  for (const auto& child : original.children_) {
    const std::string name = join_names(path, child.key());
    const auto* const other = copy.children_.find(child.key());
    check<ValueError>(other != nullptr, "DataParallel: the submodule '", name, "' is missing in the replica");
    pair(*child.value(), **other, name, k);
  }
}

void Replicas::pair_tensors(const Module& original, Module& copy, const std::string& path, std::size_t k) {
  for (const auto registry : {&Module::parameters_, &Module::buffers_}) {
    for (const auto& item : original.*registry) {
      const std::string name = join_names(path, item.key());
      const Tensor* const other = (copy.*registry).find(item.key());
      check<ValueError>(other && other->defined() == item.value().defined(), "DataParallel: '", name,
                        "' is missing in the replica, or in the original");
      if (!other->defined()) continue;
      check<ValueError>(!other->is_same(item.value()), "DataParallel: the replica shares '", name,
                        "' with the module; its factory must make a module with tensors of its own");
      pair_tensor(name, item.value(), *other, k, registry == &Module::buffers_);
    }
  }
}

void Replicas::pair_tensor(const std::string& name, const Tensor& original, const Tensor& copy, std::size_t k,
                           bool is_buffer) {
  Source* paired = nullptr;
  for (const auto& source : sources_) {
    if (source->tensor.is_same(original)) paired = source.get();
    const auto is_it = [&](const Tensor& handle) { return handle.is_same(copy); };
    check<ValueError>(source->tensor.is_same(original) || std::ranges::none_of(source->copies[k].handles, is_it),
                      "DataParallel: in the replica '", name, "' is the same tensor as '", source->name,
                      "', in the module it is another; its factory must make a module that shares the same tensors");
  }
  if (!paired) {
    sources_.push_back(std::make_unique<Source>(Source{name, original, is_buffer, false, false, {}}));
    paired = sources_.back().get();
    paired->copies.resize(devices_.size());
  }
  paired->copies[k].handles.push_back(copy);
}

// A tensor that several layers have is cast when one of them wants that.
void Replicas::guess(const Module& module) {
  for (const auto& item : module.parameters_) {
    const auto is_it = [&](const auto& source) { return source->tensor.is_same(item.value()); };
    const auto found = std::ranges::find_if(sources_, is_it);
    if (found == sources_.end()) continue;
    const bool is_cast = module.products_read_parameters();
    (*found)->may_be_cast |= is_cast;
    (*found)->needs_bytes |= !is_cast;
  }
  for (const auto& child : module.children_) guess(*child.value());
}

// Tensors that share memory get some of their own, for each is bound alone; a clone has the values already.
void Replicas::take_over(std::size_t k, bool has_values) {
  std::set<const Storage*> taken;
  for (const auto& source : sources_) {
    Copy& copy = source->copies[k];
    const Tensor& bytes = copy.handles[0];
    if (!taken.insert(bytes.storage().get()).second) {
      bytes.set_data(empty_like(bytes));
    } else if (has_values && bytes.dtype() == source->tensor.dtype()) {
      copy.note_bytes(source->tensor);
    }
  }
}

}  // namespace halftone::nn::parallel
