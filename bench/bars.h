// What the benchmarks should reach. A name that ends in * stands for all that begin so; the first bar that fits counts.
#pragma once

#include <string>
#include <vector>

namespace bench {

struct Bar {
  std::string name;   // of the benchmark
  std::string dtype;  // "": each
  double limit;
};

// At least so many times PyTorch's rate, or as many times below its cost.
inline const std::vector<Bar> kTimesTorch = {
    {"dispatch/no_grad", "", 4},
    {"dispatch/grad", "", 4},
    {"dispatch/forward_backward", "", 4},
    {"train_step/mlp", "", 2},
    {"train_step/cnn_of_cpp_example", "", 2},
    {"train_step/cnn_of_python_example", "", 2},
    {"train_step/resnet20", "", 1.2},
    {"mnist_to_99", "", 4},
    {"gpu_products/*", "", 0.98},  // PyTorch's are cuBLASLt's and cuDNN's
    {"gpu_train/mlp_captured", "", 1.1},
    {"gpu_train/cnn_of_cpp_example_captured", "", 1.1},
    {"gpu_train/cnn_of_python_example_captured", "", 1.1},
    {"gpu_train/resnet20_captured", "", 1.1},
    {"gpu_train/*", "", 3},
};

// At most so much of its unit.
inline const std::vector<Bar> kAtMost = {
    {"dispatch/no_grad", "", 0.25},        {"dispatch/grad", "", 0.4}, {"dispatch/forward_backward", "", 1.0},
    {"build/include_everything", "", 1.5}, {"build/trainer", "", 3},   {"build/library_size", "", 5},
};

// In this dtype at least so many times as good as in float32.
inline const std::vector<Bar> kTimesFloat = {
    {"train_step/resnet20", "bfloat16", 1.6},         {"train_step/cnn_of_python_example", "bfloat16", 1.6},
    {"peak_memory/train_step", "bfloat16", 1 / 0.60}, {"inference/batch_1", "bfloat16", 1.0},
    {"inference/batch_64", "bfloat16", 1.9},
};

// At least so much of as many times as there are devices, with a core for each.
inline const std::vector<Bar> kOfDevices = {{"parallel_step/speedup/*", "", 0.85}};

// At least so much of the bandwidth of a copy of 256 MB in the same run.
inline const std::string kCopy = "gpu_kernels/copy_256MB";
inline const std::vector<Bar> kOfCopy = {
    {"gpu_kernels/copy_*", "", 0},
    {"gpu_kernels/softmax_grad_*", "", 0.65},
    {"gpu_kernels/log_softmax_grad_*", "", 0.65},
    {"gpu_kernels/layer_norm_grad_*", "", 0.65},
    {"gpu_kernels/cross_entropy_grad_*", "", 0.65},
    {"gpu_kernels/softmax_*", "", 0.80},
    {"gpu_kernels/log_softmax_*", "", 0.80},
    {"gpu_kernels/layer_norm_*", "", 0.80},
    {"gpu_kernels/cross_entropy_*", "", 0.80},
    {"gpu_kernels/batch_norm*", "", 0.70},
    {"gpu_kernels/max_pool*", "", 0.70},
    {"gpu_kernels/*", "", 0.85},
};

}  // namespace bench
