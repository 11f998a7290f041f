// Mixed precision on several devices: an autocast region belongs to the thread that opened it. Replicas in threads of
// one's own compute in float32, though a region is open around them. Shown is this wrong way, and the right ones.
#include <fmt/format.h>

#include <thread>

#include "halftone.h"

namespace {

using Tensors = std::vector<ht::Tensor>;

/// Opens the region itself, whoever calls it.
struct NetImpl : ht::nn::Cloneable<NetImpl> {
  NetImpl() { reset(); }
  void reset() override { fc = register_module("fc", ht::nn::Linear(8, 4)); }
  ht::Tensor forward(const ht::Tensor& x) {
    const ht::amp::autocast region(x.device().type(), ht::kBFloat16);
    return fc(x);
  }
  ht::nn::Linear fc{nullptr};
};
TORCH_MODULE(Net);

/// Runs work(k) for every k in a thread of its own.
template <class Work> void in_threads(std::size_t count, const Work& work) {
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < count; ++k) threads.emplace_back([&work, k] { work(k); });
  for (std::thread& thread : threads) thread.join();
}

bool show(const char* what, const Tensors& ys, ht::Dtype expected) {
  fmt::print("{:<50}", what);
  bool as_expected = true;
  for (const ht::Tensor& y : ys) {
    fmt::print(" {}", ht::str(y.dtype()));
    as_expected &= y.dtype() == expected;
  }
  fmt::print("\n");
  return as_expected;
}

/// In a region: one replica a device, called in three ways.
bool show_replicas(const ht::nn::Linear& layer, const ht::Tensor& x, const std::vector<ht::Device>& devices) {
  const auto replicas = ht::nn::parallel::replicate(layer, devices);
  const Tensors shares = ht::nn::parallel::scatter(x, devices);
  Tensors ys(devices.size());
  in_threads(devices.size(), [&](std::size_t k) { ys[k] = replicas[k]->forward(shares[k]); });
  bool as_expected = show("wrong: replicas in threads of one's own", ys, ht::kFloat32);  // the region stayed behind

  ys = ht::nn::parallel::parallel_apply(replicas, shares);
  as_expected &= show("right: the same replicas by parallel_apply", ys, ht::kBFloat16);

  const auto state = ht::amp::AutocastState::current();
  in_threads(devices.size(), [&](std::size_t k) {
    const ht::amp::autocast region(state);
    ys[k] = replicas[k]->forward(shares[k]);
  });
  return show("right: threads that enter the region's state", ys, ht::kBFloat16) && as_expected;
}

}  // namespace

int main() {
  // Two GPUs, or two of the CPU devices, which exist for this.
  const ht::DeviceType kind = ht::cuda::device_count() >= 2 ? ht::kCUDA : ht::kCPU;
  const std::vector<ht::Device> devices{{kind, 0}, {kind, 1}};
  ht::set_default_device(devices[0]);

  ht::nn::Linear layer(8, 4);
  ht::nn::DataParallel parallel(layer, devices);
  const ht::Tensor x = ht::randn({6, 8});
  bool as_expected = true;
  {
    const ht::amp::autocast region(kind, ht::kBFloat16);
    as_expected &= show_replicas(layer, x, devices);
    as_expected &= show("right: DataParallel, all of it in one call", {parallel(x)}, ht::kBFloat16);
  }

  ht::nn::DataParallel opens_its_own(Net(), devices);
  const ht::Tensor y = opens_its_own(x);
  as_expected &= show("right: a forward that opens the region itself", {y}, ht::kBFloat16);

  y.sum().backward();  // to the module's own parameters, in their dtype
  as_expected &= show("the gradient of its weight", {opens_its_own->module->fc->weight.grad()}, ht::kFloat32);
  return as_expected ? 0 : 1;
}
