// The nets that are timed; twins/common.py has the same in PyTorch.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "halftone.h"

namespace bench {

using namespace halftone;

struct Net : nn::Module {
  virtual Tensor forward(const Tensor& x) = 0;
};

struct Mlp : Net {
  Mlp() : fc1(register_module("fc1", nn::Linear(784, 128))), fc2(register_module("fc2", nn::Linear(128, 10))) {}
  Tensor forward(const Tensor& x) override { return log_softmax(fc2(relu(fc1(x.flatten(1)))), 1); }

  nn::Linear fc1, fc2;
};

/// The net of PyTorch's C++ MNIST example.
struct CppExampleCnn : Net {
  CppExampleCnn()
      : conv1(register_module("conv1", nn::Conv2d(nn::Conv2dOptions(1, 10, 5)))),
        conv2(register_module("conv2", nn::Conv2d(nn::Conv2dOptions(10, 20, 5)))),
        conv2_drop(register_module("conv2_drop", nn::Dropout2d())),
        fc1(register_module("fc1", nn::Linear(320, 50))),
        fc2(register_module("fc2", nn::Linear(50, 10))) {}
  Tensor forward(const Tensor& images) override {
    Tensor x = relu(max_pool2d(conv1(images), 2));
    x = relu(max_pool2d(conv2_drop(conv2(x)), 2));
    x = relu(fc1(x.reshape({-1, 320})));
    x = dropout(x, 0.5, is_training());
    return log_softmax(fc2(x), 1);
  }

  nn::Conv2d conv1, conv2;
  nn::Dropout2d conv2_drop;
  nn::Linear fc1, fc2;
};

/// The net of PyTorch's Python MNIST example.
struct PythonExampleCnn : Net {
  PythonExampleCnn()
      : conv1(register_module("conv1", nn::Conv2d(nn::Conv2dOptions(1, 32, 3)))),
        conv2(register_module("conv2", nn::Conv2d(nn::Conv2dOptions(32, 64, 3)))),
        fc1(register_module("fc1", nn::Linear(9216, 128))),
        fc2(register_module("fc2", nn::Linear(128, 10))) {}
  Tensor forward(const Tensor& images) override {
    Tensor x = relu(conv1(images));
    x = relu(conv2(x));
    x = dropout(max_pool2d(x, 2), 0.25, is_training());
    x = dropout(relu(fc1(x.flatten(1))), 0.5, is_training());
    return log_softmax(fc2(x), 1);
  }

  nn::Conv2d conv1, conv2;
  nn::Linear fc1, fc2;
};

/// The small net of examples/mnist; gives scores, not probabilities.
struct ExampleCnn : Net {
  ExampleCnn()
      : conv1(register_module("conv1", nn::Conv2d(nn::Conv2dOptions(1, 16, 3).padding(1)))),
        conv2(register_module("conv2", nn::Conv2d(nn::Conv2dOptions(16, 32, 3).padding(1)))),
        fc1(register_module("fc1", nn::Linear(32 * 7 * 7, 128))),
        fc2(register_module("fc2", nn::Linear(128, 10))) {}
  Tensor forward(const Tensor& images) override {
    Tensor x = relu(max_pool2d(conv1(images), 2)).contiguous(MemoryFormat::ChannelsLast);
    x = relu(max_pool2d(conv2(x), 2));
    return fc2(relu(fc1(x.flatten(1))));
  }

  nn::Conv2d conv1, conv2;
  nn::Linear fc1, fc2;
};

inline nn::Conv2d conv_without_bias(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride) {
  return nn::Conv2d(nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

/// Two convolutions and a way around them, as in the residual nets for CIFAR-10.
struct Block : Net {
  Block(std::int64_t in, std::int64_t out, std::int64_t stride)
      : conv1(register_module("conv1", conv_without_bias(in, out, 3, stride))),
        bn1(register_module("bn1", nn::BatchNorm2d(out))),
        conv2(register_module("conv2", conv_without_bias(out, out, 3, 1))),
        bn2(register_module("bn2", nn::BatchNorm2d(out))) {
    if (stride == 1) return;
    conv3 = register_module("conv3", conv_without_bias(in, out, 1, stride));
    bn3 = register_module("bn3", nn::BatchNorm2d(out));
  }
  Tensor forward(const Tensor& x) override {
    const Tensor y = bn2(conv2(relu(bn1(conv1(x)))));
    return relu(y + (conv3.is_empty() ? x : bn3(conv3(x))));
  }

  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  nn::Conv2d conv3{nullptr};
  nn::BatchNorm2d bn3{nullptr};
};

struct ResNet20 : Net {
  ResNet20()
      : conv(register_module("conv", conv_without_bias(3, 16, 3, 1))), bn(register_module("bn", nn::BatchNorm2d(16))) {
    std::int64_t in = 16;
    for (const std::int64_t out : {16, 32, 64}) {
      for (int i = 0; i < 3; ++i) {
        blocks.push_back(std::make_shared<Block>(in, out, in == out ? 1 : 2));
        register_module("block" + std::to_string(blocks.size()), blocks.back());
        in = out;
      }
    }
    fc = register_module("fc", nn::Linear(64, 10));
  }
  Tensor forward(const Tensor& images) override {
    Tensor x = relu(bn(conv(images)));
    for (const auto& block : blocks) x = block->forward(x);
    return log_softmax(fc(x.mean({2, 3})), 1);
  }

  nn::Conv2d conv;
  nn::BatchNorm2d bn;
  std::vector<std::shared_ptr<Block>> blocks;
  nn::Linear fc{nullptr};
};

struct NamedNet {
  std::string name;
  std::function<std::shared_ptr<Net>()> make;
};

inline std::vector<NamedNet> timed_nets() {
  return {{"mlp", [] { return std::make_shared<Mlp>(); }},
          {"cnn_of_cpp_example", [] { return std::make_shared<CppExampleCnn>(); }},
          {"cnn_of_python_example", [] { return std::make_shared<PythonExampleCnn>(); }},
          {"resnet20", [] { return std::make_shared<ResNet20>(); }}};
}

}  // namespace bench
