// Mixed precision on several devices: an autocast region belongs to a thread. Shown is what a thread of one's own makes
// of it (nothing), and two right ways: DataParallel, which takes the region along, and a forward that opens its own.
#include <fmt/format.h>

#include <thread>

#include "halftone.h"

namespace {

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

bool show(const char* what, const ht::Tensor& y, ht::Dtype expected) {
  fmt::print("{:<44} {}\n", what, ht::str(y.dtype()));
  return y.dtype() == expected;
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
    as_expected &= show("in the region:", layer(x), ht::kBFloat16);

    ht::Tensor y;
    std::thread([&] { y = layer(x); }).join();  // wrong: the region stayed behind
    as_expected &= show("in a thread of one's own:", y, ht::kFloat32);

    as_expected &= show("in the replicas of a DataParallel:", parallel(x), ht::kBFloat16);
  }

  ht::nn::DataParallel opens_its_own(Net(), devices);
  const ht::Tensor y = opens_its_own(x);
  as_expected &= show("in a forward that opens the region itself:", y, ht::kBFloat16);

  y.sum().backward();  // to the module's own parameters, in their dtype
  as_expected &= show("the gradient of its weight:", opens_its_own->module->fc->weight.grad(), ht::kFloat32);
  return as_expected ? 0 : 1;
}
