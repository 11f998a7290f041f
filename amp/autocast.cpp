#include "amp/autocast.h"

#include <atomic>
#include <map>

#include "autograd/node.h"
#include "autograd/ops.h"
#include "core/cuda_graph.h"
#include "core/runtime.h"

namespace halftone::amp {
namespace {

std::array<std::atomic<Dtype>, kDeviceTypes> default_low{kBFloat16, kFloat16};  // by device type

// Casts of weights, made once and shared by all their uses.
class CastCache {
 public:
  const Tensor& get(const Tensor& source, Dtype dtype, bool& hit) {
    Entry& entry = entries_[{source.unsafeGetTensorImpl(), dtype}];
    hit = entry.is_of(source);
    ++(hit ? info_.hits : info_.misses);
    if (!hit) entry = make(source, dtype);
    if (entry.used) *entry.used = true;
    return entry.cast;
  }
  void put(const Tensor& source, const Tensor& cast, bool* used) {
    entries_[{source.unsafeGetTensorImpl(), cast.dtype()}] = Entry(source, cast, used);
    any_provided_ = true;
  }
  /// Whether somebody else made a cast of this tensor: asked for tensors that the cache keeps no casts of by itself.
  bool is_provided(const Tensor& source, Dtype dtype) const {
    return any_provided_ && entries_.contains({source.unsafeGetTensorImpl(), dtype});
  }
  CacheInfo info() const {
    CacheInfo info = info_;
    info.entries = entries_.size();
    for (const auto& [key, entry] : entries_) info.bytes += entry.cast.nbytes();
    return info;
  }
  void clear() {
    entries_.clear();
    any_provided_ = false;
  }

 private:
  // A weight that was written to, exchanged or frozen since is cast anew. So is one on a GPU when a captured graph was
  // replayed, as its writes do not count, and where a capture begins or ends: the graph needs a cast of its own, which
  // is computed when it is replayed.
  struct Entry {
    Entry() = default;
    Entry(const Tensor& from, Tensor to, bool* use)
        : source(from),
          storage(from.storage()),
          sizes(dims(from.sizes())),
          strides(dims(from.strides())),
          offset(from.storage_offset()),
          version(from._version()),
          has_history(from.requires_grad()),
          capture(cuda::current_capture(from.device())),
          replays(cuda::graph_replays(from.device())),
          cast(std::move(to)),
          used(use) {}

    bool is_of(const Tensor& t) const {
      return storage == t.storage() && version == t._version() && offset == t.storage_offset() &&
             has_history == t.requires_grad() && t.sizes().equals(sizes) && t.strides().equals(strides) &&
             capture == cuda::current_capture(t.device()) && replays == cuda::graph_replays(t.device());
    }

    Tensor source;  // keeps the key's address from being used again
    std::shared_ptr<Storage> storage;
    Dims sizes, strides;
    std::int64_t offset = 0;
    std::uint32_t version = 0;
    bool has_history = false;
    std::uint64_t capture = 0, replays = 0;
    Tensor cast;
    bool* used = nullptr;
  };

  // Recorded even when the first use is not: a later one may need the gradient. All uses send theirs to this one node,
  // so it sums them in float32: in 16 bits the small ones would be lost.
  static Entry make(const Tensor& source, Dtype dtype) {
    const AutoGradMode recording(true);
    Tensor cast = source.to(dtype);
    if (const auto node = cast.grad_fn()) node->sum_dtype = kFloat32;
    return {source, std::move(cast), nullptr};
  }

  std::map<std::pair<const TensorImpl*, Dtype>, Entry> entries_;
  CacheInfo info_;
  bool any_provided_ = false;
};

}  // namespace

class Region final : public InputFilter {
 public:
  Region(const AutocastState& state, Region* around) : state_(state), cache_(around ? around->cache_ : &own_cache_) {}

  static Region* current() { return dynamic_cast<Region*>(context.filter); }
  const AutocastState& state() const { return state_; }
  CastCache& cache() { return *cache_; }
  std::uint64_t hits() const { return hits_; }

  void operator()(const OpInfo& op, std::span<Tensor> inputs) override {
    hits_ = 0;
    if (op.precision == Precision::any || op.precision == Precision::full_if_unset) return;
    for (const DeviceType type : {kCPU, kCUDA}) {
      if (state_.of(type).enabled) cast_inputs(op, type, inputs);
    }
  }
  std::optional<Dtype> output_dtype(const OpInfo& op, const Tensor& first) override {
    if (!state_.of(first.device().type()).enabled) return std::nullopt;
    const Dtype dtype = wanted_output(op.precision, first.dtype());
    return dtype == Dtype::Undefined ? std::nullopt : std::optional(dtype);
  }
  Tensor lower(const Tensor& x) override {
    const AutocastState::Setting& setting = state_.of(x.device().type());
    const bool casts = setting.enabled && castable(x.dtype()) && x.dtype() != setting.low;
    return casts ? cast(x, setting.low, setting.low, kNoPosition) : Tensor();
  }
  void provide(const Tensor& x, const Tensor& cast, bool* used) override { cache_->put(x, cast, used); }
  std::unique_ptr<InputFilter> for_another_thread() const override {
    return std::make_unique<Region>(state_, nullptr);  // with a cache of its own: there is no lock
  }

 private:
  static constexpr std::size_t kNoPosition = 64;  // not among the inputs of an op

  static bool lives_on(const Tensor& x, DeviceType type) { return x.defined() && x.device().type() == type; }
  [[noreturn]] static void refuse(const OpInfo& op);
  void cast_inputs(const OpInfo& op, DeviceType type, std::span<Tensor> inputs);
  Tensor cast(const Tensor& x, Dtype dtype, Dtype low, std::size_t position);

  AutocastState state_;
  CastCache own_cache_;
  CastCache* cache_;  // of the outermost region
  std::uint64_t hits_ = 0;
};

void Region::cast_inputs(const OpInfo& op, DeviceType type, std::span<Tensor> inputs) {
  Dtype widest = Dtype::Undefined;
  for (const Tensor& x : inputs) {
    if (!lives_on(x, type)) continue;
    if (op.precision == Precision::banned) refuse(op);
    widest = widen(widest, x.dtype());
  }
  const Dtype low = state_.of(type).low;
  const Dtype dtype = wanted(op.precision, low, widest);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Tensor& x = inputs[i];
    if (lives_on(x, type) && castable(x.dtype()) && x.dtype() != dtype) x = cast(x, dtype, low, i);
  }
}

Tensor Region::cast(const Tensor& x, Dtype dtype, Dtype low, std::size_t position) {
  const ContextScope unseen([](Context& c) {
    c.filter = nullptr;
    c.observer = nullptr;
  });
  const bool is_weight = x.dtype() == kFloat32 && (x.requires_grad() || x.impl()->is_parameter);
  const bool kept = state_.cache_enabled && dtype == low && is_weight && x.is_leaf() && !x.is_view();
  if (!kept && !cache_->is_provided(x, dtype)) return x.to(dtype);
  bool hit = false;
  Tensor cached = cache_->get(x, dtype, hit);
  if (hit && position < 64) hits_ |= std::uint64_t{1} << position;
  return cached;
}

void Region::refuse(const OpInfo& op) {
  const std::string safe = std::string(op.name) + "_with_logits";
  fail(op.name,
       " is unsafe to autocast: its gradient may not fit into 16 bits, and in float32 it would have to be cast back. ",
       find_op(safe) ? "Leave out the sigmoid before it and call " + safe + ", which is safe in a region; or "
                     : std::string("To run it all the same, "),
       "call it inside autocast(device, nullopt, /*enabled=*/false) on inputs cast to float32");
}

namespace {

bool is_usable(DeviceType type, Dtype low) {
  check<ValueError>(is_floating_point(low), "autocast: the low dtype must be a floating one, not ", low);
  if (type == kCUDA && !cuda::is_available()) {
    warn("autocast was asked for cuda, but CUDA is not available: the region is disabled");
    return false;
  }
  check(type != kCUDA || low != kBFloat16 || cuda::is_bf16_supported(), "autocast: ", canonical(Device(kCUDA)),
        " does not support bfloat16, which takes compute capability 8.0. Please switch the region's dtype to float16");
  if (type == kCPU && !is_low_precision(low)) {
    warn(str("autocast on the CPU supports bfloat16 and float16, not ", low, ": the region is disabled"));
    return false;
  }
  return true;
}

AutocastState changed(AutocastState state, DeviceType type, optional<Dtype> dtype, bool enabled,
                      optional<bool> cache_enabled) {
  const Dtype low = dtype.value_or(state.of(type).low);
  state.of(type) = {enabled && is_usable(type, low), low};
  state.cache_enabled = cache_enabled.value_or(state.cache_enabled);
  return state;
}

}  // namespace

AutocastState AutocastState::current() {
  if (const Region* region = Region::current()) return region->state();
  AutocastState state;
  for (std::size_t i = 0; i < state.settings.size(); ++i) state.settings[i].low = default_low[i].load();
  return state;
}

autocast::autocast(DeviceType type, optional<Dtype> dtype, bool enabled, optional<bool> cache_enabled)
    : autocast(changed(AutocastState::current(), type, dtype, enabled, cache_enabled)) {}

autocast::autocast(std::string_view type, optional<Dtype> dtype, bool enabled, optional<bool> cache_enabled)
    : autocast(device_type(type), dtype, enabled, cache_enabled) {}

autocast::autocast(const AutocastState& state)
    : region_(std::make_unique<Region>(state, Region::current())), outer_(context.filter) {
  context.filter = region_.get();
}

autocast::~autocast() { context.filter = outer_; }

DeviceType device_type(std::string_view text) {
  for (const DeviceType type : {kCPU, kCUDA}) {
    if (text == name(type)) return type;
  }
  fail("unknown device type '", text, "'; there are 'cpu' and 'cuda', without an index");
}

bool is_autocast_enabled(DeviceType type) { return AutocastState::current().of(type).enabled; }
Dtype get_autocast_dtype(DeviceType type) { return AutocastState::current().of(type).low; }
bool is_autocast_cache_enabled() { return AutocastState::current().cache_enabled; }

void set_autocast_dtype(DeviceType type, Dtype dtype) {
  check<ValueError>(is_floating_point(dtype), "set_autocast_dtype: expected a floating dtype, not ", dtype);
  default_low[static_cast<std::size_t>(type)] = dtype;
}

CacheInfo autocast_cache() {
  Region* region = Region::current();
  return region ? region->cache().info() : CacheInfo();
}

void clear_autocast_cache() {
  if (Region* region = Region::current()) region->cache().clear();
}

std::uint64_t last_cache_hits() {
  const Region* region = Region::current();
  return region ? region->hits() : 0;
}

}  // namespace halftone::amp
