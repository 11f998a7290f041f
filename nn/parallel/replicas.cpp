// Replicas are bound to the original before a forward, and what the forward showed is kept.
#include "nn/parallel/replicas.h"

#include <algorithm>

#include "autograd/ops.h"
#include "core/runtime.h"
#include "nn/parallel/joinable.h"
#include "nn/parallel/replica_tensors.h"

namespace halftone::nn::parallel {

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

// What a copy is to be of is noted when it has been made: a failure must not let stale bytes pass for new ones.
void Replicas::Copy::note_bytes(const Tensor& original) {
  source = original.storage();
  source_version = original._version();
  version = handles[0]._version();
}

void Replicas::Copy::note_cast(const Tensor& original) {
  cast_source = original.storage();
  cast_version = original._version();
}

void Replicas::bind_values(Source& source, std::size_t k, bool deferred, Update& update) {
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
  if (!same) storage.bump_version();
  const bool by_bytes = is_dense(original.sizes(), original.strides());
  if (deferred && by_bytes) {
    if (!same) storage.defer(fetch_later(original, devices_[k], source.name));
    copy.note_bytes(original);
    copy.was_deferred = storage.is_deferred();
  } else if (!same) {
    copy.source = nullptr;
    storage.defer(nullptr);
    update.spread.to.push_back(bytes);
    update.copies.push_back(&copy);
  }
}

void Replicas::bind_casts(Source& source, std::size_t count, Update& update) {
  const Tensor cast = context.filter->lower(source.tensor);
  if (!cast.defined()) return;
  if (const auto made = cast.grad_fn()) made->sum_dtype = kFloat32;
  const auto node = comm::broadcast_node(cast, comm::Devices(devices_).first(count));
  if (node) node->sum_dtype = kFloat32;
  update.spread.from = cast;
  for (std::size_t k = 0; k < count; ++k) {
    Copy& copy = source.copies[k];
    const bool same = k > 0 && fits(copy.cast, cast, devices_[k]) && copy.cast_source == source.tensor.storage() &&
                      copy.cast_version == source.tensor._version();
    if (k == 0) {
      copy.cast = alias(cast);
    } else if (!same) {
      // A graph may still need the old one.
      copy.cast = empty_like(cast, TensorOptions(devices_[k]));
      copy.cast_source = nullptr;
      update.spread.to.push_back(copy.cast);
      update.copies.push_back(&copy);
    }
    copy.given = alias(copy.cast);
    if (node) copy.given.impl()->edge = {node, static_cast<std::uint32_t>(k)};
    copy.cast_was_used = false;
  }
}

void Replicas::bind_edges(Source& source, std::size_t count) {
  const auto node = comm::broadcast_node(source.tensor, comm::Devices(devices_).first(count));
  for (std::size_t k = 0; k < count; ++k) {
    for (const Tensor& handle : source.copies[k].handles) {
      TensorImpl& impl = *handle.impl();
      impl.requires_grad = false;
      impl.leaf = nullptr;
      impl.retains_grad = false;
      impl.edge = node ? Edge{node, static_cast<std::uint32_t>(k)} : Edge{};
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
    for (Copy* copy : update.copies) copy->note_cast(update.source->tensor);
  }
}

void Replicas::bind(std::size_t count, bool in_region) {
  release();
  if (!is_current()) make();
  for (std::size_t k = 0; k < count; ++k) follow(k);
  std::vector<Update> values, casts;
  for (const auto& source : sources_) {
    casts.push_back({source.get(), {}, {}});
    if (in_region && context.filter && source->may_be_cast) bind_casts(*source, count, casts.back());
    const bool deferred = source->copies[0].given.defined() && !source->was_read_in_region;
    values.push_back({source.get(), {source->tensor, {}}, {}});
    for (std::size_t k = 0; k < count; ++k) bind_values(*source, k, deferred, values.back());
    bind_edges(*source, count);
  }
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
    source->copies[0].cast.reset();  // the region's own; the others are kept for weights that do not change
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
