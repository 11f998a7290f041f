// The kernels that gpu_kernels.cpp measures: what each reads and writes, how it is called, and the bytes that must move
// whatever the kernel does. Tensors are 256 MB, so that no cache holds them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/gpu.h"
#include "kernels/backend.h"

namespace bench {

using Tensors = std::vector<Tensor>;

/// A call of a backend's method on tensors that are there. Tensors as long as the first one along axis 0 have a row for
/// each of its rows, so that some of the rows can be computed anew on the CPU.
struct Kernel {
  Tensors tensors;                   // what it reads, then what it writes
  std::vector<std::size_t> results;  // those of them to check
  double bytes = 0;                  // that have to be read and written
  std::function<void(Backend&, Tensors&)> run;
  bool whole = false;                    // results depend on all rows: checked on all of them
  std::vector<std::size_t> shared = {};  // tensors of all rows, whatever their length
};

/// A kernel that is made when its turn comes: all of them at once would not fit.
struct NamedKernel {
  std::string name;
  Dtype dtype;
  std::function<Kernel()> make;
};

/// Has to live as long as the kernels it names.
class Kernels {
 public:
  explicit Kernels(bool tiny) : bytes_(tiny ? 1 << 13 : std::int64_t{1} << 28), tiny_(tiny) {}

  std::vector<NamedKernel> all() {
    for (const Dtype dtype : {kFloat32, kFloat16}) {
      pointwise(dtype);
      sums(dtype);
      rows(dtype);
      images(dtype);
    }
    pointwise_in_bfloat16();
    casts();
    lists();
    return std::move(kernels_);
  }

 private:
  void add(const std::string& name, Dtype dtype, std::function<Kernel()> make) {
    kernels_.push_back({name, dtype, std::move(make)});
  }

  std::int64_t width(std::int64_t wanted) const { return tiny_ ? wanted / 16 : wanted; }
  /// [rows, width], normal numbers.
  Tensor matrix(Dtype dtype, std::int64_t width) const {
    return randn({std::max<std::int64_t>(2, bytes_ / element_size(dtype) / width), width}, dtype);
  }
  Tensor matrix(Dtype dtype) const { return matrix(dtype, 1024); }
  static double size_of(const Tensor& t) { return static_cast<double>(t.numel() * element_size(t.dtype())); }

  void map(const std::string& name, Dtype dtype, Unary f) {
    add(name, dtype, [=, this] {
      const Tensor x = matrix(dtype);
      return Kernel{{x, zeros_like(x)}, {1}, 2 * size_of(x), [f](Backend& b, Tensors& t) {
                      b.unary(f, t[0], t[1], t[0].dtype());
                    }};
    });
  }
  void pointwise_in_bfloat16() {
    map("gelu", kBFloat16, fn::Gelu{});
    binary("add", kBFloat16);
  }
  void binary(const std::string& name, Dtype dtype) {
    add(name, dtype, [=, this] {
      const Tensor a = matrix(dtype), b = matrix(dtype);
      return Kernel{{a, b, zeros_like(a)}, {2}, 3 * size_of(a), [](Backend& backend, Tensors& t) {
                      backend.binary(fn::Add{}, t[0], t[1], t[2], t[0].dtype());
                    }};
    });
  }
  void gradient(const std::string& name, Dtype dtype, Unary f, bool of_y) {
    add(name, dtype, [=, this] {
      const Tensor g = matrix(dtype), x = matrix(dtype);
      return Kernel{{g, x, zeros_like(g)}, {2}, 3 * size_of(g), [f, of_y](Backend& b, Tensors& t) {
                      b.unary_grad(f, t[0], of_y ? Tensor() : t[1], of_y ? t[1] : Tensor(), t[2]);
                    }};
    });
  }
  void pointwise(Dtype dtype) {
    binary("add", dtype);
    map("relu", dtype, fn::Relu{});
    gradient("relu_grad", dtype, fn::Relu{}, true);
    map("gelu", dtype, fn::Gelu{});
    gradient("gelu_grad", dtype, fn::Gelu{}, false);
    add("dropout", dtype, [=, this] {
      const Tensor x = matrix(dtype);
      return Kernel{{x, zeros_like(x)}, {1}, 2 * size_of(x), [](Backend& b, Tensors& t) {
                      b.dropout({.p = 0.5, .seed = 1}, t[0], t[1]);
                    }};
    });
  }
  void casts() {
    for (const auto& [name, from, to] : {std::tuple{"cast_to_float16", kFloat32, kFloat16},
                                         {"cast_to_bfloat16", kFloat32, kBFloat16},
                                         {"cast_to_float32", kFloat16, kFloat32}}) {
      add(name, from, [=, this] {
        const Tensor x = matrix(from), y = empty(x.sizes(), to);
        return Kernel{{x, y}, {1}, size_of(x) + size_of(y), [](Backend& b, Tensors& t) { b.copy(t[0], t[1]); }};
      });
    }
  }

  // Positive numbers: sums of normal ones cancel, and what is left says little about the rounding.
  void sum_over(const std::string& name, Dtype dtype, unsigned mask) {
    add(name, dtype, [=, this] {
      const Tensor x = matrix(dtype).abs();
      std::vector<std::int64_t> left;
      for (const unsigned axis : {0u, 1u})
        if ((mask >> axis & 1u) == 0) left.push_back(x.size(axis));
      const auto sum = [mask](Backend& b, Tensors& t) { b.reduce({ReduceKind::sum}, t[0], mask, t[1]); };
      return Kernel{{x, empty(left, dtype == kFloat16 && left.empty() ? kFloat32 : dtype)}, {1}, size_of(x), sum, true};
    });
  }
  void sums(Dtype dtype) {
    if (dtype == kFloat32) sum_over("sum", dtype, 0b11);  // of 16-bit numbers it would be infinite
    sum_over("sum_of_rows", dtype, 0b10);
    if (dtype == kFloat32) sum_over("sum_of_columns", dtype, 0b01);
  }

  void rows(Dtype dtype) {
    for (const std::int64_t wanted : {1024, 8192}) {
      const std::string suffix = "_" + std::to_string(wanted);
      softmax(dtype, wanted, suffix);
      layer_norm(dtype, wanted, suffix);
    }
    for (const std::int64_t classes : {1000, 32768}) cross_entropy(dtype, classes, "_" + std::to_string(classes));
  }
  void softmax(Dtype dtype, std::int64_t wanted, const std::string& suffix) {
    for (const bool log : {false, true}) {
      const std::string name = log ? "log_softmax" : "softmax";
      add(name + suffix, dtype, [=, this] {
        const Tensor x = matrix(dtype, width(wanted));
        return Kernel{
            {x, zeros_like(x)}, {1}, 2 * size_of(x), [log](Backend& b, Tensors& t) { b.softmax(t[0], 1, log, t[1]); }};
      });
      add(name + "_grad" + suffix, dtype, [=, this] {
        const Tensor g = matrix(dtype, width(wanted)), x = matrix(dtype, width(wanted));
        const Tensor y = log ? halftone::log_softmax(x, 1) : halftone::softmax(x, 1);
        return Kernel{{g, y, zeros_like(g)}, {2}, 3 * size_of(g), [log](Backend& b, Tensors& t) {
                        b.softmax_grad(t[0], t[1], 1, log, t[2]);
                      }};
      });
    }
  }
  void layer_norm(Dtype dtype, std::int64_t wanted, const std::string& suffix) {
    add("layer_norm" + suffix, dtype, [=, this] {
      const Tensor x = matrix(dtype, width(wanted)), w = rand({x.size(1)}, dtype), b = randn({x.size(1)}, dtype);
      const Tensor mean = empty({x.size(0)}, kFloat32), rstd = empty({x.size(0)}, kFloat32);
      const auto run = [](Backend& backend, Tensors& t) {
        backend.layer_norm(t[0], t[1], t[2], t[0].size(1), 1e-5, t[3], t[4], t[5]);
      };
      return Kernel{{x, w, b, zeros_like(x), mean, rstd}, {3, 5}, 2 * size_of(x), run, false, {1, 2}};
    });
    add("layer_norm_grad" + suffix, dtype, [=, this] {
      const Tensor g = matrix(dtype, width(wanted)), x = matrix(dtype, width(wanted)), w = rand({x.size(1)}, dtype);
      const Tensor mean = randn({x.size(0)}, kFloat32), rstd = rand({x.size(0)}, kFloat32);
      return Kernel{{g, x, w, mean, rstd, zeros_like(x), zeros_like(w), zeros_like(w)},
                    {5, 6, 7},
                    3 * size_of(x),
                    [](Backend& backend, Tensors& t) {
                      backend.layer_norm_grad(t[0], t[1], t[2], t[3], t[4], t[1].size(1), t[5], t[6], t[7]);
                    },
                    true};
    });
  }
  void cross_entropy(Dtype dtype, std::int64_t classes, const std::string& suffix) {
    const auto inputs = [=, this] {
      const Tensor x = matrix(dtype, width(classes));
      return std::pair{x, randint(x.size(1), {x.size(0)})};
    };
    add("cross_entropy" + suffix, dtype, [=] {
      const auto [x, labels] = inputs();
      const Tensor loss = empty({x.size(0)}, kFloat32);
      return Kernel{{x, labels, loss, zeros_like(loss)}, {2, 3}, size_of(x), [](Backend& b, Tensors& t) {
                      b.cross_entropy(t[0], t[1], {}, -100, 0, t[2], t[3]);
                    }};
    });
    add("cross_entropy_grad" + suffix, dtype, [=] {
      const auto [x, labels] = inputs();
      const Tensor g = rand({x.size(0)}, kFloat32), lse = x.to(kFloat32).exp().sum({1}).log();
      return Kernel{{g, x, labels, lse, zeros_like(x)}, {4}, 2 * size_of(x), [](Backend& b, Tensors& t) {
                      b.cross_entropy_grad(t[0], t[1], t[2], {}, t[3], -100, 0, t[4]);
                    }};
    });
  }

  /// [N, C, H, W], channels last.
  Tensor image_batch(Dtype dtype) const {
    const std::int64_t channels = 64, side = tiny_ ? 4 : 56;
    const std::int64_t batch = std::max<std::int64_t>(2, bytes_ / element_size(dtype) / (channels * side * side));
    return randn({batch, channels, side, side}, dtype).contiguous(MemoryFormat::ChannelsLast);
  }
  void images(Dtype dtype) {
    batch_norm(dtype);
    max_pool(dtype);
    add("to_channels_last", dtype, [=, this] {
      const Tensor y = image_batch(dtype), x = y.contiguous();
      return Kernel{{x, zeros_like(y)}, {1}, 2 * size_of(x), [](Backend& b, Tensors& t) { b.copy(t[0], t[1]); }};
    });
  }
  // The statistics are known when all has been read, and by then no cache holds the beginning: x is read twice, and g.
  void batch_norm(Dtype dtype) {
    add("batch_norm", dtype, [=, this] {
      const Tensor x = image_batch(dtype), channels = rand({x.size(1)}, kFloat32);
      const auto another = [&] { return channels.clone(); };
      return Kernel{
          {x, another(), another(), another(), another(), zeros_like(x), another(), another()},
          {3, 4, 5, 6, 7},
          3 * size_of(x),
          [](Backend& b, Tensors& t) { b.batch_norm(t[0], t[1], t[2], t[3], t[4], true, 0.1, 1e-5, t[5], t[6], t[7]); },
          true};
    });
    add("batch_norm_grad", dtype, [=, this] {
      const Tensor g = image_batch(dtype), x = image_batch(dtype), weight = rand({x.size(1)}, kFloat32);
      const Tensor mean = zeros({x.size(1)}), rstd = ones({x.size(1)});
      return Kernel{
          {g, x, weight, mean, rstd, zeros_like(x), zeros_like(weight), zeros_like(weight)},
          {5, 6, 7},
          5 * size_of(x),
          [](Backend& b, Tensors& t) { b.batch_norm_grad(t[0], t[1], t[2], t[3], t[4], true, t[5], t[6], t[7]); },
          true};
    });
  }
  static PoolShape two_by_two(const Tensor& x, const Tensor& y) {
    PoolShape s;
    s.batch = x.size(0), s.channels = x.size(1);
    s.window.in = {x.size(2), x.size(3), 1}, s.window.kernel = s.window.stride = {2, 2, 1};
    s.window.out = {y.size(2), y.size(3), 1};
    return s;
  }
  void max_pool(Dtype dtype) {
    const auto pooled = [](const Tensor& x, Dtype of) {
      return zeros({x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2}, of).contiguous(MemoryFormat::ChannelsLast);
    };
    add("max_pool", dtype, [=, this] {
      const Tensor x = image_batch(dtype), y = pooled(x, dtype), indices = pooled(x, kInt64);
      return Kernel{{x, y, indices}, {1, 2}, size_of(x) + size_of(y) + size_of(indices), [](Backend& b, Tensors& t) {
                      b.max_pool(two_by_two(t[0], t[1]), t[0], t[1], t[2]);
                    }};
    });
    add("max_pool_grad", dtype, [=, this] {
      const Tensor dx = image_batch(dtype), indices = std::get<1>(max_pool2d_with_indices(dx, 2));
      const Tensor g = randn_like(indices, dtype).contiguous(MemoryFormat::ChannelsLast);
      return Kernel{{g, indices, dx}, {2}, size_of(g) + size_of(indices) + size_of(dx), [](Backend& b, Tensors& t) {
                      b.max_pool_grad(two_by_two(t[2], t[0]), t[0], t[1], t[2]);
                    }};
    });
  }

  static constexpr std::size_t kListLength = 64;
  /// `count` lists of tensors that make up 256 MB each, then one more tensor.
  Kernel list_kernel(std::size_t count, Tensor last, double lists_moved,
                     std::function<void(Backend&, std::vector<TensorList>, Tensor&)> f) const {
    Kernel kernel;
    for (std::size_t i = 0; i < count * kListLength; ++i) {
      kernel.tensors.push_back(rand({bytes_ / 4 / static_cast<std::int64_t>(kListLength)}));
      kernel.results.push_back(i);
    }
    kernel.bytes = lists_moved * static_cast<double>(kListLength) * size_of(kernel.tensors[0]);
    kernel.tensors.push_back(std::move(last));
    kernel.run = [=](Backend& b, Tensors& t) {
      std::vector<TensorList> lists;
      for (std::size_t i = 0; i < count; ++i) lists.emplace_back(t.data() + i * kListLength, kListLength);
      f(b, lists, t.back());
    };
    return kernel;
  }
  void lists() {
    add("unscale_and_check", kFloat32, [this] {
      // Near enough to 1 that thousands of calls leave the numbers in range.
      const Tensor scale = full({1}, 1 + 0x1p-10), found = zeros({1});
      return list_kernel(1, found, 2, [scale](Backend& b, const auto& l, Tensor& found_inf) {
        b.unscale(l[0], scale.to(found_inf.device()), found_inf);
      });
    });
    add("sgd_momentum", kFloat32, [this] {
      return list_kernel(3, {}, 5, [](Backend& b, const auto& l, Tensor&) {
        b.sgd({.lr = 1e-3, .momentum = 0.9, .weight_decay = 1e-4}, l[0], l[1], l[2], {}, {});
      });
    });
    add("adamw", kFloat32, [this] {
      return list_kernel(4, {}, 7, [](Backend& b, const auto& l, Tensor&) {
        const AdamStep step{.lr = 1e-3, .weight_decay = 1e-2, .bias1 = 0.1, .bias2 = 0.001, .decoupled = true};
        b.adam(step, l[0], l[1], l[2], l[3], {}, {}, {});
      });
    });
    add("gradient_norm", kFloat32, [this] {
      Kernel kernel =
          list_kernel(1, empty({}), 1, [](Backend& b, const auto& l, Tensor& norm) { b.list_norm(l[0], 2, norm); });
      kernel.results = {kListLength};
      kernel.whole = true;
      return kernel;
    });
  }

  std::int64_t bytes_;
  bool tiny_;
  std::vector<NamedKernel> kernels_;
};

}  // namespace bench
