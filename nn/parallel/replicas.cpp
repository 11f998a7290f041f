// Replicas are bound to the original before a forward, and what the forward showed is kept.
#include "nn/parallel/replicas.h"

#include <algorithm>
#include <map>

#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "core/runtime.h"
#include "nn/parallel/joinable.h"
#include "nn/parallel/replica_tensors.h"

namespace halftone::nn::parallel {

namespace {

/// Makes `handle` look at the memory of `bytes`, whatever it was before. What is right stays untouched: another thread
/// may read the handle in a backward of an earlier forward.
void look_at(const Tensor& handle, const Tensor& bytes) {
  TensorImpl& impl = *handle.impl();
  if (impl.storage != bytes.storage()) impl.storage = bytes.storage();
  if (impl.dtype != bytes.dtype()) impl.dtype = bytes.dtype();
  if (handle.sizes().equals(bytes.sizes()) && handle.strides().equals(bytes.strides()) &&
      handle.storage_offset() == bytes.storage_offset())
    return;
  impl.set_geometry(dims(bytes.sizes()), dims(bytes.strides()), bytes.storage_offset());
}

/// Whether `bytes` are as empty_like(original, dtype, device) would make them.
bool fits(const Tensor& bytes, const Tensor& original, Dtype dtype, Device device) {
  if (!bytes.defined() || bytes.device() != device || bytes.dtype() != dtype) return false;
  if (bytes.storage_offset() != 0 || bytes.storage()->nbytes() != bytes.nbytes()) return false;
  const Dims strides = original.is_contiguous() ? contiguous_strides(original.sizes())
                                                : preserved_strides(original.sizes(), original.strides());
  return bytes.sizes().equals(original.sizes()) && bytes.strides().equals(strides);
}

/// Fetches what `from` holds now, and refuses when it was written to meanwhile.
std::function<void(void*)> fetch_later(const Tensor& from, Device device, const std::string& name) {
  return [from = from.detach(), version = from._version(), device, name](void* memory) {
    const auto check_unwritten = [&] {
      check(from._version() == version, "DataParallel: the original of '", name,
            "' was written to before its replica on ", device,
            " was read; a forward must not write to the parameters that other replicas use");
    };
    check_unwritten();
    const DeviceType runner = from.is_cuda() || device.is_cuda() ? kCUDA : kCPU;
    runtime(runner).copy(memory, device, from.data_ptr(), from.device(), from.nbytes());
    check_unwritten();  // who writes in another thread has counted it first
  };
}

/// Makes `handle` what the node of the edge has made.
void become_result(const Tensor& handle, const Edge& edge) {
  TensorImpl& impl = *handle.impl();
  impl.requires_grad = false;
  impl.leaf = nullptr;
  impl.retains_grad = false;
  impl.edge = edge;
}

/// The dtype in which the region's products read such a tensor; Undefined when they take it as it is.
Dtype lowered(const Tensor& t) {
  const Tensor cast = context.filter->lower(empty({0}, TensorOptions(t.dtype()).device(t.device())));
  return cast.defined() ? cast.dtype() : Dtype::Undefined;
}

/// The tensor in another dtype, without history and seen by nobody.
Tensor cast_plainly(const Tensor& t, Dtype dtype) {
  const ContextScope plain([](Context& c) {
    c.record = false;
    c.filter = nullptr;
    c.observer = nullptr;
  });
  Tensor cast = empty_like(t, TensorOptions(dtype));
  cast.copy_(t.detach());
  return cast;
}

}  // namespace

Origin Origin::of(const Tensor& t) {
  return {t.storage(), t.storage_offset(), t._version(), cuda::graph_replays(t.device())};
}

void Replicas::follow(std::size_t k) {
  for (const auto& [original, copy] : pairs_[k]) {
    copy->is_training_ = original->is_training_;
    copy->pre_hooks_ = original->pre_hooks_;
    copy->hooks_ = original->hooks_;
    copy->hooks_made_ = original->hooks_made_;
  }
}

// What a copy is to be of is noted when it has been made: a failure must not let stale bytes pass for new ones.
void Replicas::Copy::note_bytes(const Tensor& original) {
  source = Origin::of(original);
  version = handles[0]._version();
}

void Replicas::bind_values(Source& source, std::size_t k, bool deferred, Update& update) {
  Copy& copy = source.copies[k];
  const Tensor& original = source.tensor;
  Tensor bytes = copy.handles[0];
  if (k == 0) {
    bytes = original;
  } else if (!fits(bytes, original, original.dtype(), devices_[k])) {
    bytes = empty_like(original, TensorOptions(devices_[k]));
    copy.source = {};
  }
  for (const Tensor& handle : copy.handles) look_at(handle, bytes);
  copy.was_deferred = false;
  if (k == 0) copy.version = original._version();
  if (k == 0) return;

  Storage& storage = *bytes.storage();
  const bool same = copy.source == Origin::of(original) && copy.version == bytes._version();
  if (!same) storage.bump_version();
  const bool by_bytes = is_dense(original.sizes(), original.strides());
  if (deferred && by_bytes) {
    if (!same) storage.defer(fetch_later(original, devices_[k], source.name));
    copy.note_bytes(original);
    copy.was_deferred = storage.is_deferred();
  } else if (!same) {
    copy.source = {};
    storage.defer(nullptr);
    update.spread.to.push_back(bytes);
    update.copies.push_back(&copy);
  }
}

void Replicas::bind_casts(Source& source, std::size_t count, Dtype low, Update& update) {
  const Tensor& original = source.tensor;
  Tensor& own = source.copies[0].cast;
  for (std::size_t k = 0; k < count; ++k) {
    Copy& copy = source.copies[k];
    const bool same = fits(copy.cast, original, low, devices_[k]) && copy.cast_source == Origin::of(original);
    // A graph may still need the old one.
    if (!same && k == 0) {
      own = cast_plainly(original, low);
      copy.cast_source = Origin::of(original);
    } else if (!same) {
      copy.cast = empty_like(own, TensorOptions(devices_[k]));
      copy.cast_source = {};
      update.spread.to.push_back(copy.cast);
      update.copies.push_back(&copy);
    }
    copy.given = alias(copy.cast);
    copy.cast_was_used = false;
  }
  update.spread.from = own;
}

// One node for all values and one for all casts, so that the gradients of all tensors are added up together.
void Replicas::bind_edges(std::size_t count) {
  const comm::Devices used = comm::Devices(devices_).first(count);
  std::vector<Tensor> values, casts;
  Dtype low = Dtype::Undefined;
  for (const auto& source : sources_) {
    if (!needs_grad(source->tensor)) continue;
    values.push_back(source->tensor);
    if (const Tensor& cast = source->copies[0].given; cast.defined()) {
      casts.push_back(source->tensor);
      low = cast.dtype();
    }
  }
  const auto value_node = comm::broadcast_node(values, used), cast_node = comm::broadcast_node(casts, used, low);
  if (cast_node) cast_node->sum_dtype = kFloat32;
  std::uint32_t value_slot = 0, cast_slot = 0;
  for (const auto& source : sources_) {
    const bool wanted = needs_grad(source->tensor);
    for (Copy& copy : std::span(source->copies).first(count)) {
      const Edge edge = wanted ? Edge{value_node, value_slot++} : Edge{};
      for (const Tensor& handle : copy.handles) become_result(handle, edge);
      if (wanted && copy.given.defined()) copy.given.impl()->edge = {cast_node, cast_slot++};
    }
  }
}

// All tensors whose bytes are out of date are copied together.
void Replicas::run(std::span<const Update> values, std::span<const Update> casts, std::size_t count) {
  std::vector<comm::Spread> spreads;
  for (const auto& updates : {values, casts}) {
    for (const Update& update : updates) {
      if (!update.copies.empty()) spreads.push_back(update.spread);
    }
  }
  comm::copy_elements(spreads, comm::Devices(devices_).first(count));
  for (const Update& update : values) {
    for (Copy* copy : update.copies) copy->note_bytes(update.source->tensor);
  }
  for (const Update& update : casts) {
    for (Copy* copy : update.copies) copy->cast_source = Origin::of(update.source->tensor);
  }
}

void Replicas::bind(std::size_t count, bool in_region) {
  release();
  if (!is_current()) make();
  for (std::size_t k = 0; k < count; ++k) follow(k);
  try {
    bind_tensors(count, in_region);
  } catch (...) {
    forget_casts();  // no forward will use them
    throw;
  }
}

void Replicas::bind_tensors(std::size_t count, bool in_region) {
  std::map<Dtype, Dtype> lows;
  const auto low_of = [&](const Tensor& t) {
    const auto [place, is_new] = lows.try_emplace(t.dtype());
    if (is_new) place->second = lowered(t);
    return place->second;
  };
  std::vector<Update> values, casts;
  for (const auto& source : sources_) {
    casts.push_back({source.get(), {}, {}});
    const bool casts_it = in_region && context.filter && source->may_be_cast;
    const Dtype low = casts_it ? low_of(source->tensor) : Dtype::Undefined;
    if (low != Dtype::Undefined) bind_casts(*source, count, low, casts.back());
    const bool deferred = low != Dtype::Undefined && !source->needs_bytes;
    values.push_back({source.get(), {source->tensor, {}}, {}});
    for (std::size_t k = 0; k < count; ++k) bind_values(*source, k, deferred, values.back());
  }
  bind_edges(count);
  run(values, casts, count);
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

bool Replicas::Copy::was_read() const { return was_deferred && !handles[0].storage()->is_deferred(); }

void Replicas::finish(std::size_t count, Buffers policy) {
  for (const auto& source : sources_) {
    const std::span copies(source->copies.data(), count);
    const bool used = std::ranges::any_of(copies, &Copy::cast_was_used);
    // Who was not used at all may be used next time.
    if (!used && std::ranges::any_of(copies, &Copy::was_read)) source->may_be_cast = false;
  }
  if (policy == Buffers::Mean) average_buffers(count);
}

void Replicas::release() {
  for (const auto& source : sources_) {
    const Copy& own = source->copies[0];
    if (own.given.defined())
      source->needs_bytes |= own.was_written() || std::ranges::any_of(source->copies, &Copy::was_read);
  }
  forget_casts();
}

void Replicas::forget_casts() {
  for (const auto& source : sources_) {
    for (Copy& copy : source->copies) copy.given.reset();
    if (context.record) source->copies[0].cast.reset();  // the weights are about to change
  }
}

void Replicas::average_buffers(std::size_t count) {
  const ContextScope plain([](Context& c) {
    c.record = false;
    c.filter = nullptr;
  });
  for (const auto& source : sources_) {
    const std::span copies(source->copies.data(), count);
    if (!source->is_buffer || !source->tensor.is_floating_point()) continue;
    if (std::ranges::none_of(copies, &Copy::was_written)) continue;
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
