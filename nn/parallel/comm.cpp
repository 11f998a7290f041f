#include "nn/parallel/comm.h"

#include <algorithm>

#include "autograd/apply.h"
#include "autograd/engine.h"
#include "autograd/ops.h"
#include "core/runtime.h"

namespace halftone::nn::parallel {

std::vector<std::int64_t> share_lengths(std::int64_t n, std::size_t devices, Split split) {
  check<ValueError>(devices > 0 && n >= 0, "share_lengths: ", n, " rows cannot be divided among ", devices, " devices");
  const auto most = static_cast<std::int64_t>(devices);
  if (n == 0) return std::vector<std::int64_t>(devices, 0);
  std::vector<std::int64_t> lengths;
  if (split == Split::Balanced) {
    const std::int64_t count = std::min(n, most);
    for (std::int64_t i = 0; i < count; ++i) lengths.push_back(n / count + (i < n % count ? 1 : 0));
    return lengths;
  }
  const std::int64_t size = (n + most - 1) / most;
  for (std::int64_t start = 0; start < n; start += size) lengths.push_back(std::min(size, n - start));
  return lengths;
}

namespace comm {
namespace {

constexpr OpInfo kScatter{"parallel_scatter", Precision::any, "pieces of a tensor on several devices"};
constexpr OpInfo kGather{"parallel_gather", Precision::any, "tensors of several devices joined on one"};
constexpr OpInfo kBroadcast{"parallel_broadcast", Precision::any, "a tensor on several devices"};
constexpr OpInfo kAllReduce{"parallel_all_reduce", Precision::any, "the sum over several devices on each of them"};

/// What happens inside is neither recorded nor cast nor observed.
ContextScope plain_scope() {
  return ContextScope([](Context& c) {
    c.record = false;
    c.filter = nullptr;
    c.observer = nullptr;
  });
}

bool records(TensorList inputs) { return context.record && std::ranges::any_of(inputs, needs_grad); }

/// What the nodes have in common: edges, targets, no saved tensors.
class Transfer : public Node {
 public:
  Transfer(const OpInfo& info, std::vector<Edge> edges) : Node(info), edges_(std::move(edges)) {}
  Transfer(const OpInfo& info, TensorList inputs) : Node(info) {
    for (const Tensor& x : inputs) edges_.push_back(edge_of(x));
    if (context.anomaly) created_by = describe_all({inputs.data(), inputs.size()});
  }
  ~Transfer() override { bury(edges_); }

  std::span<Edge> edges() override { return edges_; }
  std::span<const GradTarget> targets() const override { return targets_; }
  void expect(const GradTarget& target) { targets_.push_back(target); }

 protected:
  std::vector<Edge> edges_;
  std::vector<GradTarget> targets_;
};

/// Makes `outputs` the results of `node`.
void adopt(const std::shared_ptr<Transfer>& node, std::vector<Tensor>& outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    node->expect(GradTarget(outputs[i]));
    outputs[i].impl()->edge = {node, static_cast<std::uint32_t>(i)};
  }
}

Tensor zeros_for(const GradTarget& target) {
  return zeros(target.sizes, TensorOptions(target.dtype).device(target.device));
}

class ScatterNode final : public Transfer {
 public:
  ScatterNode(const Tensor& x, std::int64_t dim) : Transfer(kScatter, x), device_(x.device()), dim_(dim) {}
  std::vector<Tensor> backward(std::span<const Tensor> grads) override {
    std::vector<Tensor> all(grads.begin(), grads.end());
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!all[i].defined()) all[i] = zeros_for(targets_[i]);
    }
    return {gather(all, device_, dim_)};
  }

 private:
  Device device_;
  std::int64_t dim_;
};

class GatherNode final : public Transfer {
 public:
  GatherNode(TensorList tensors, std::int64_t dim) : Transfer(kGather, tensors), dim_(dim) {
    for (const Tensor& t : tensors) {
      lengths_.push_back(t.size(dim));
      devices_.push_back(t.device());
    }
  }
  std::vector<Tensor> backward(std::span<const Tensor> grads) override {
    return scatter(grads[0], lengths_, devices_, dim_);
  }

 private:
  std::vector<std::int64_t> lengths_;
  std::vector<Device> devices_;
  std::int64_t dim_;
};

/// Of one tensor or several: edges_[i] is that of the i-th, whose copies are results i * copies_ and on.
class BroadcastNode final : public Transfer, public autograd::Bundle {
 public:
  BroadcastNode(TensorList tensors, std::size_t copies)
      : Transfer(kBroadcast, tensors), device_(tensors[0].device()), copies_(copies) {}
  std::vector<Tensor> backward(std::span<const Tensor> grads) override {
    std::vector<TensorList> lists;
    for (std::size_t i = 0; i < edges_.size(); ++i) lists.emplace_back(&grads[i * copies_], copies_);
    return reduce_add(lists, device_);
  }
  std::size_t edge_behind(std::uint32_t slot) const override { return slot / copies_; }

 private:
  Device device_;
  std::size_t copies_;
};

bool has_same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.sizes().equals(b.sizes()) && a.strides().equals(b.strides()) &&
         is_dense(a.sizes(), a.strides());
}

/// The sum, in float32 for 16 bits; each tensor is fetched when its turn comes.
Tensor added_here(TensorList tensors, Device device) {
  Tensor sum;
  bool own = false;  // whether nobody else sees the memory of the sum
  for (const Tensor& t : tensors) {
    if (!t.defined()) continue;
    Tensor here = t.to(TensorOptions(device));
    if (is_low_precision(here.dtype())) here = here.to(kFloat32);
    if (!sum.defined()) {
      sum = here;
    } else if (own && !context.record) {
      sum.add_(here);
    } else {
      sum = sum + here;
      own = true;
    }
  }
  return sum;
}

std::vector<Device> devices_of(TensorList tensors) {
  std::vector<Device> devices;
  for (const Tensor& t : tensors) {
    if (t.defined()) devices.push_back(t.device());
  }
  return devices;
}

/// Whether NCCL can add the tensors up where it serves their devices: without history, and of memory that is alike.
bool suit_nccl(TensorList tensors) {
  if (context.record && std::ranges::any_of(tensors, needs_grad)) return false;
  return std::ranges::all_of(tensors, [&](const Tensor& t) {
    return t.defined() && t.is_cuda() && t.is_floating_point() && has_same_bytes(t, tensors[0]);
  });
}

/// Those of the lists that NCCL adds up in one call: of the same devices, `device` among them.
std::vector<std::size_t> added_by_nccl(std::span<const TensorList> lists, Device device) {
  std::vector<std::size_t> chosen;
  std::vector<Device> devices;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (!suit_nccl(lists[i])) continue;
    std::vector<Device> own = devices_of(lists[i]);
    if (std::ranges::find(own, device) == own.end()) continue;
    if (chosen.empty()) devices = own;
    if (own == devices) chosen.push_back(i);
  }
  return cuda::nccl::serves(devices) ? chosen : std::vector<std::size_t>();
}

/// Replaces tensors of 16 bits by copies on `device`: NCCL would round their sums on every device on its way.
void bring_by_nccl(std::span<std::vector<Tensor>> lists, Device device) {
  if (lists.empty()) return;
  const std::vector<Device> devices = devices_of(lists[0]);
  std::vector<Tensor> tensors, copies;
  for (std::vector<Tensor>& list : lists) {
    for (Tensor& t : list) {
      if (t.device() == device) continue;
      tensors.push_back(t);
      t = copies.emplace_back(empty_like(t, TensorOptions(device)));
    }
  }
  cuda::nccl::gather(tensors, copies, devices);
}

std::vector<Tensor> sum_on_each(TensorList tensors, Devices devices) {
  if (suit_nccl(tensors) && !is_low_precision(tensors[0].dtype()) && cuda::nccl::serves(devices)) {
    std::vector<Tensor> sums;
    for (const Tensor& t : tensors) sums.push_back(empty_like(t));
    cuda::nccl::all_reduce(tensors, sums);
    return sums;
  }
  const Tensor sum = reduce_add(tensors, devices[0]);
  std::vector<Tensor> sums;
  for (const Device device : devices) sums.push_back(sum.to(TensorOptions(device)));
  return sums;
}

class AllReduceNode final : public Transfer {
 public:
  AllReduceNode(std::vector<Edge> edges, std::vector<Device> devices)
      : Transfer(kAllReduce, std::move(edges)), devices_(std::move(devices)) {}
  std::vector<Tensor> backward(std::span<const Tensor> grads) override {
    return sum_on_each({grads.data(), grads.size()}, devices_);
  }

 private:
  std::vector<Device> devices_;
};

Tensor piece_of(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length) {
  const auto axis = static_cast<std::size_t>(dim);
  Dims sizes = dims(x.sizes());
  sizes[axis] = length;
  return alias(x, sizes, dims(x.strides()), x.storage_offset() + start * x.strides()[axis]);
}

MemoryFormat common_format(TensorList tensors) {
  const auto channels_last = [](const Tensor& t) { return t.suggest_memory_format() == MemoryFormat::ChannelsLast; };
  return std::ranges::all_of(tensors, channels_last) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

Tensor joined(TensorList tensors, Device device, std::int64_t dim) {
  const auto axis = static_cast<std::size_t>(dim);
  Dims sizes = dims(tensors[0].sizes());
  Dtype dtype = tensors[0].dtype();
  sizes[axis] = 0;
  for (const Tensor& t : tensors) {
    sizes[axis] += t.size(dim);
    dtype = promote_types(dtype, t.dtype());
  }
  const TensorOptions options = tensors[0].options().dtype(dtype).device(device);
  Tensor out = empty(sizes, options.memory_format(common_format(tensors)));
  std::int64_t start = 0;
  for (const Tensor& t : tensors) {
    copy_elements(t, piece_of(out, dim, start, t.size(dim)));
    start += t.size(dim);
  }
  return out;
}

/// `dim` counted from the front; `what` names the function in errors.
std::int64_t axis_of(const char* what, const Tensor& x, std::int64_t dim) {
  const std::int64_t rank = x.dim();
  check<ValueError>(dim >= -rank && dim < rank, what, ": ", describe(x), " has no dimension ", dim);
  return dim < 0 ? dim + rank : dim;
}

void check_pieces(const Tensor& x, IntArrayRef lengths, std::size_t devices, std::int64_t axis) {
  check<ValueError>(lengths.size() == devices, "comm::scatter: got ", lengths.size(), " lengths for ", devices,
                    " devices");
  std::int64_t sum = 0;
  for (const std::int64_t length : lengths) {
    check<ValueError>(length >= 0, "comm::scatter: a piece cannot have the length ", length);
    sum += length;
  }
  check<ValueError>(sum == x.size(axis), "comm::scatter: pieces of ", lengths, " do not make up ", describe(x),
                    " along dimension ", axis);
}

void check_defined(const char* what, TensorList tensors) {
  check<ValueError>(!tensors.empty(), what, ": there are no tensors");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check<ValueError>(tensors[i].defined(), what, ": tensor ", i, " is undefined");
  }
}

/// Undefined ones fit. Along `except` they may differ.
void check_sizes(const char* what, TensorList tensors, std::int64_t except = -1) {
  const auto first = std::ranges::find_if(tensors, [](const Tensor& t) { return t.defined(); });
  for (const Tensor& t : tensors) {
    bool fits = !t.defined() || t.dim() == first->dim();
    for (std::int64_t i = 0; t.defined() && fits && i < t.dim(); ++i) fits = i == except || t.size(i) == first->size(i);
    check<ValueError>(fits, what, ": ", describe(t), " does not go with ", describe(*first));
  }
}

}  // namespace

void copy_elements(const Tensor& from, const Tensor& to) {
  check<ValueError>(from.sizes().equals(to.sizes()), "comm::copy_elements: ", describe(from), " does not fit into ",
                    describe(to));
  if (!has_same_bytes(from, to)) {
    to.detach().copy_(from.detach());
  } else if (from.numel() > 0) {
    const DeviceType runner = from.is_cuda() || to.is_cuda() ? kCUDA : kCPU;
    runtime(runner).copy(to.data_ptr(), to.device(), from.data_ptr(), from.device(), from.nbytes());
  }
}

void copy_elements(std::span<const Spread> spreads, Devices devices) {
  std::vector<Spread> together;
  const bool is_served = !spreads.empty() && cuda::nccl::serves(devices);
  for (const Spread& spread : spreads) {
    const auto fits = [&](const Tensor& to) { return has_same_bytes(spread.from, to); };
    if (is_served && spread.to.size() + 1 == devices.size() && std::ranges::all_of(spread.to, fits)) {
      together.push_back(spread);
    } else {
      for (const Tensor& to : spread.to) copy_elements(spread.from, to);
    }
  }
  if (!together.empty()) cuda::nccl::broadcast(together, devices);
}

std::vector<Tensor> scatter(const Tensor& x, IntArrayRef lengths, Devices devices, std::int64_t dim) {
  check_defined("comm::scatter", x);
  dim = axis_of("comm::scatter", x, dim);
  check_pieces(x, lengths, devices.size(), dim);
  std::vector<Tensor> pieces;
  {
    const ContextScope plain = plain_scope();
    std::int64_t start = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      pieces.push_back(piece_of(x, dim, start, lengths[i]).to(TensorOptions(devices[i])));
      start += lengths[i];
    }
  }
  if (records(x)) adopt(std::make_shared<ScatterNode>(x, dim), pieces);
  return pieces;
}

Tensor gather(TensorList tensors, Device device, std::int64_t dim) {
  check_defined("comm::gather", tensors);
  dim = axis_of("comm::gather", tensors[0], dim);
  check_sizes("comm::gather", tensors, dim);
  std::vector<Tensor> out;
  {
    const ContextScope plain = plain_scope();
    out.push_back(joined(tensors, device, dim));
  }
  if (records(tensors)) adopt(std::make_shared<GatherNode>(tensors, dim), out);
  return out[0];
}

std::vector<Tensor> broadcast(const Tensor& x, Devices devices) {
  check_defined("comm::broadcast", x);
  std::vector<Tensor> copies;
  {
    const ContextScope plain = plain_scope();
    for (const Device device : devices) copies.push_back(alias(x).to(TensorOptions(device)));
  }
  if (records(x)) adopt(std::make_shared<BroadcastNode>(x, copies.size()), copies);
  return copies;
}

std::shared_ptr<Node> broadcast_node(TensorList tensors, Devices devices, Dtype dtype) {
  if (tensors.empty()) return nullptr;
  auto node = std::make_shared<BroadcastNode>(tensors, devices.size());
  for (const Tensor& x : tensors) {
    for (const Device device : devices) {
      GradTarget target(x);
      target.device = device;
      if (dtype != Dtype::Undefined) target.dtype = dtype;
      node->expect(target);
    }
  }
  return node;
}

std::vector<Tensor> reduce_add(std::span<const TensorList> lists, Device device) {
  for (const TensorList& tensors : lists) check_sizes("comm::reduce_add", tensors);
  std::vector<Tensor> sums(lists.size());
  std::vector<cuda::nccl::Sum> wide;
  std::vector<std::vector<Tensor>> narrow;
  std::vector<std::size_t> narrow_at;
  for (const std::size_t i : added_by_nccl(lists, device)) {
    if (is_low_precision(lists[i][0].dtype())) {
      narrow.emplace_back(lists[i].begin(), lists[i].end());
      narrow_at.push_back(i);
    } else {
      sums[i] = empty_like(lists[i][0], TensorOptions(device));
      wide.push_back({lists[i], sums[i]});
    }
  }
  if (!wide.empty()) cuda::nccl::reduce(wide);
  bring_by_nccl(narrow, device);
  for (std::size_t n = 0; n < narrow.size(); ++n) sums[narrow_at[n]] = added_here(narrow[n], device);
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (!sums[i].defined()) sums[i] = added_here(lists[i], device);
  }
  return sums;
}

Tensor reduce_add(TensorList tensors, Device device) { return reduce_add(std::span(&tensors, 1), device)[0]; }

std::vector<Tensor> all_reduce(TensorList tensors, std::vector<Edge> edges) {
  check_defined("comm::all_reduce", tensors);
  check_sizes("comm::all_reduce", tensors);
  check<ValueError>(edges.size() == tensors.size(), "comm::all_reduce: got ", edges.size(), " edges for ",
                    tensors.size(), " tensors");
  std::vector<Device> devices;
  for (const Tensor& t : tensors) devices.push_back(t.device());
  std::vector<Tensor> sums;
  {
    const ContextScope plain = plain_scope();
    for (const Tensor& sum : sum_on_each(tensors, devices)) sums.push_back(alias(sum));
  }
  if (std::ranges::any_of(edges, [](const Edge& edge) { return edge.node != nullptr; }))
    adopt(std::make_shared<AllReduceNode>(std::move(edges), std::move(devices)), sums);
  return sums;
}

}  // namespace comm
}  // namespace halftone::nn::parallel
