#include "nn/parallel/replicas.h"

#include <algorithm>
#include <typeinfo>

#include "autograd/ops.h"
#include "core/random.h"
#include "core/runtime.h"
#include "nn/parallel/joinable.h"

namespace halftone::nn::parallel {

/// A tensor of the original on one of the devices.
struct Replicas::Copy {
  std::vector<Tensor> handles;      // of the replica; several where its module does not share what the original shares
  std::shared_ptr<Storage> source;  // what the bytes are a copy of, with its version
  std::uint32_t source_version = 0;
  std::uint32_t version = 0;  // of the bytes when they were copied: the replica may write to them

  Tensor cast;  // in 16 bits, likewise
  std::shared_ptr<Storage> cast_source;
  std::uint32_t cast_version = 0;
  Tensor given;  // the cast with its history, for one forward
  bool cast_was_used = false;
  bool was_deferred = false;
};

struct Replicas::Source {
  std::string name;
  Tensor tensor;
  bool is_buffer;
  bool may_be_cast;                 // a guess until a forward has shown it
  bool was_read_in_region = false;  // in its own dtype
  std::vector<Copy> copies;         // by device
};

Replicas::Replicas(std::shared_ptr<Module> original, std::vector<Device> devices, Factory factory)
    : original_(std::move(original)), devices_(std::move(devices)), factory_(std::move(factory)) {}

Replicas::~Replicas() = default;

// ------------------------------------------------------------------------------------------------ making them

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
  for (std::size_t k = 0; k < devices_.size(); ++k) pair(*original_, *modules_[k], "", k);
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
      const auto same = [&](const auto& s) { return s->tensor.is_same(item.value()); };
      auto found = std::ranges::find_if(sources_, same);
      if (found == sources_.end()) {
        const bool is_buffer = registry == &Module::buffers_;
        const bool may_be_cast = !is_buffer && !original.is_normalization();
        sources_.push_back(std::make_unique<Source>(Source{name, item.value(), is_buffer, may_be_cast, false, {}}));
        sources_.back()->copies.resize(devices_.size());
        found = sources_.end() - 1;
      }
      (*found)->copies[k].handles.push_back(*other);
    }
  }
}

// ------------------------------------------------------------------------------------------------ binding

namespace {

/// Makes `handle` look at the memory of `bytes`, whatever it was before.
void look_at(const Tensor& handle, const Tensor& bytes) {
  TensorImpl& impl = *handle.impl();
  impl.storage = bytes.storage();
  impl.dtype = bytes.dtype();
  impl.set_geometry(dims(bytes.sizes()), dims(bytes.strides()), bytes.storage_offset());
}

/// Whether `bytes` are as empty_like(original, device) would make them.
bool fits(const Tensor& bytes, const Tensor& original, Device device) {
  if (!bytes.defined() || bytes.device() != device || bytes.dtype() != original.dtype()) return false;
  const Dims strides = original.is_contiguous() ? contiguous_strides(original.sizes())
                                                : preserved_strides(original.sizes(), original.strides());
  return bytes.sizes().equals(original.sizes()) && bytes.strides().equals(strides);
}

/// Fetches what `from` holds now, and refuses when it was written to meanwhile.
std::function<void(void*)> fetch_later(const Tensor& from, Device device, const std::string& name) {
  return [from = from.detach(), version = from._version(), device, name](void* memory) {
    check(from._version() == version, "DataParallel: the original of '", name,
          "' was written to before its replica on ", device,
          " was read; a forward must not write to the parameters that other replicas use");
    const DeviceType runner = from.is_cuda() || device.is_cuda() ? kCUDA : kCPU;
    runtime(runner).copy(memory, device, from.data_ptr(), from.device(), from.nbytes());
  };
}

}  // namespace

void Replicas::follow(std::size_t k) {
  for (const auto& [original, copy] : pairs_[k]) {
    copy->is_training_ = original->is_training_;
    copy->pre_hooks_ = original->pre_hooks_;
    copy->hooks_ = original->hooks_;
    copy->hooks_made_ = original->hooks_made_;
  }
}

void Replicas::bind_values(Source& source, std::size_t k, bool deferred) {
  Copy& copy = source.copies[k];
  const Tensor& original = source.tensor;
  Tensor bytes = copy.handles[0];
  if (k == 0) {
    bytes = original;
  } else if (!fits(bytes, original, devices_[k])) {
    bytes = empty_like(original, TensorOptions(devices_[k]));
    copy.source = nullptr;
  }
  for (const Tensor& handle : copy.handles) look_at(handle, bytes);
  copy.was_deferred = false;
  if (k == 0) copy.version = original._version();
  if (k == 0) return;

  Storage& storage = *bytes.storage();
  const bool same = copy.source == original.storage() && copy.source_version == original._version() &&
                    copy.version == bytes._version();
  if (!same) {
    storage.bump_version();
    copy.source = original.storage();
    copy.source_version = original._version();
    copy.version = bytes._version();
  }
  const bool by_bytes = is_dense(original.sizes(), original.strides());
  if (deferred && by_bytes) {
    if (!same) storage.defer(fetch_later(original, devices_[k], source.name));
    copy.was_deferred = storage.is_deferred();
  } else if (!same) {
    storage.defer(nullptr);
    comm::copy_elements(original, bytes);
    copy.version = bytes._version();
  }
}

void Replicas::bind_casts(Source& source, std::size_t count) {
  const Tensor cast = context.filter->lower(source.tensor);
  if (!cast.defined()) return;
  if (const auto made = cast.grad_fn()) made->sum_dtype = kFloat32;
  const auto node = comm::broadcast_node(cast, comm::Devices(devices_).first(count));
  if (node) node->sum_dtype = kFloat32;
  for (std::size_t k = 0; k < count; ++k) {
    Copy& copy = source.copies[k];
    const bool same = k > 0 && fits(copy.cast, cast, devices_[k]) && copy.cast_source == source.tensor.storage() &&
                      copy.cast_version == source.tensor._version();
    if (k == 0) {
      copy.cast = alias(cast);
    } else if (!same) {
      // A graph may still need the old one.
      copy.cast = empty_like(cast, TensorOptions(devices_[k]));
      comm::copy_elements(cast, copy.cast);
    }
    copy.cast_source = source.tensor.storage();
    copy.cast_version = source.tensor._version();
    copy.given = alias(copy.cast);
    if (node) copy.given.impl()->edge = {node, static_cast<std::uint32_t>(k)};
    copy.cast_was_used = false;
  }
}

void Replicas::bind(std::size_t count, bool in_region) {
  release();
  if (!is_current()) make();
  for (std::size_t k = 0; k < count; ++k) follow(k);
  const comm::Devices used = comm::Devices(devices_).first(count);
  for (const auto& source : sources_) {
    if (in_region && context.filter && source->may_be_cast) bind_casts(*source, count);
    const bool deferred = source->copies[0].given.defined() && !source->was_read_in_region;
    const auto node = comm::broadcast_node(source->tensor, used);
    for (std::size_t k = 0; k < count; ++k) {
      bind_values(*source, k, deferred);
      for (const Tensor& handle : source->copies[k].handles) {
        TensorImpl& impl = *handle.impl();
        impl.requires_grad = false;
        impl.leaf = nullptr;
        impl.retains_grad = false;
        impl.edge = node ? Edge{node, static_cast<std::uint32_t>(k)} : Edge{};
      }
    }
  }
}

void Replicas::enter(std::size_t k) {
  if (!context.filter) return;
  for (const auto& source : sources_) {
    Copy& copy = source->copies[k];
    if (!copy.given.defined()) continue;
    for (const Tensor& handle : copy.handles) context.filter->provide(handle, copy.given, &copy.cast_was_used);
  }
}

// ------------------------------------------------------------------------------------------------ after a forward

void Replicas::finish(std::size_t count, Buffers policy) {
  for (const auto& source : sources_) {
    const std::span copies(source->copies.data(), count);
    if (copies[0].given.defined()) {
      source->may_be_cast = std::ranges::any_of(copies, &Copy::cast_was_used);
      source->was_read_in_region |= std::ranges::any_of(
          copies, [](const Copy& copy) { return copy.was_deferred && !copy.handles[0].storage()->is_deferred(); });
    }
  }
  if (policy == Buffers::Mean) average_buffers(count);
}

void Replicas::release() {
  for (const auto& source : sources_) {
    for (Copy& copy : source->copies) copy.given.reset();
  }
}

void Replicas::average_buffers(std::size_t count) {
  const ContextScope plain([](Context& c) {
    c.record = false;
    c.filter = nullptr;
  });
  for (const auto& source : sources_) {
    const std::span copies(source->copies.data(), count);
    const auto written = [](const Copy& copy) { return copy.version != copy.handles[0]._version(); };
    if (!source->is_buffer || !source->tensor.is_floating_point() || std::ranges::none_of(copies, written)) continue;
    std::vector<Tensor> values;
    for (const Copy& copy : copies) values.push_back(copy.handles[0].detach());
    source->tensor.detach().copy_(comm::reduce_add(values, devices_[0]) / static_cast<double>(count));
  }
}

void Replicas::join(Group* group, std::size_t count) {
  for (std::size_t k = 0; k < count; ++k) {
    for (const auto& [original, copy] : pairs_[k]) {
      if (auto* const layer = dynamic_cast<Joinable*>(copy)) layer->join(group, k);
    }
  }
}

}  // namespace halftone::nn::parallel
