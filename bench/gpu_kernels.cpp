// Bytes a second of kernels that memory limits, beside the bandwidth of a plain copy: a kernel can come near that, and
// not pass it by much. Each result is checked against the CPU's.
#include "bench/gpu_kernels.h"

namespace {

using namespace bench;

void measure_copy(const GpuOptions& options, const std::string& name, std::int64_t bytes, double budget) {
  const Tensor from = rand({bytes / 4});
  const Tensor to = empty_like(from);
  const Device device = from.device();
  Runtime& memory = runtime(device.type());
  const auto copy = [&] {
    memory.copy(to.data_ptr(), device, from.data_ptr(), device, static_cast<std::size_t>(bytes));
  };
  const double seconds = seconds_on_device(options, budget, copy);
  check(to.equal(from), "a copy differs");
  emit("gpu_kernels/" + name, 2e-9 * static_cast<double>(bytes) / seconds, "GB/s", kFloat32, 1);
}

/// The kernel's tensors on the CPU, or the first rows of them.
Tensors on_cpu(const Kernel& kernel) {
  constexpr std::int64_t kCheckedRows = 16;
  const std::int64_t rows = kernel.tensors[0].size(0);
  Tensors copies;
  for (std::size_t i = 0; i < kernel.tensors.size(); ++i) {
    const Tensor& t = kernel.tensors[i];
    const bool shared = std::ranges::find(kernel.shared, i) != kernel.shared.end();
    const bool cut = !kernel.whole && !shared && t.defined() && t.dim() > 0 && t.size(0) == rows && rows > kCheckedRows;
    copies.push_back(t.defined() ? (cut ? t.slice(0, 0, kCheckedRows) : t).to(kCPU, false, true) : Tensor());
  }
  return copies;
}

/// Runs the kernel once on each device, and compares.
void verify(const std::string& name, Kernel& kernel) {
  Tensors expected = on_cpu(kernel);
  kernel.run(backend(kernel.tensors[0]), kernel.tensors);
  kernel.run(backend(kCPU), expected);
  const Tensors actual = on_cpu(kernel);
  for (const std::size_t i : kernel.results) check_close(name, actual[i], expected[i], rounding(actual[i].dtype()));
}

void measure(const GpuOptions& options, const NamedKernel& named, double budget) {
  Kernel kernel = named.make();
  if (!options.unchecked) verify(named.name, kernel);
  Backend& device = backend(kernel.tensors[0]);
  const double seconds = seconds_on_device(options, budget, [&] { kernel.run(device, kernel.tensors); });
  emit("gpu_kernels/" + named.name, 1e-9 * kernel.bytes / seconds, "GB/s", named.dtype, 1);
}

std::vector<GpuCase> cases(const GpuOptions& options) {
  std::vector<GpuCase> all;
  const std::int64_t scale = options.smoke ? 1 << 16 : 1;
  for (const auto& [name, bytes] :
       {std::pair{"copy_256MB", std::int64_t{1} << 28}, {"copy_1GB", std::int64_t{1} << 30}})
    all.push_back({name, [=](double budget) { measure_copy(options, name, bytes / scale, budget); }});
  const auto kernels = std::make_shared<Kernels>(options.smoke);
  for (const NamedKernel& kernel : kernels->all())
    all.push_back(
        {kernel.name, [options, kernel, owner = kernels](double budget) { measure(options, kernel, budget); }});
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::gpu_main(argc, argv, "gpu_kernels", "Memory-bound kernels beside the bandwidth of a copy.", cases);
}
