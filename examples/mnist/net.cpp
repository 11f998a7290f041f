#include "examples/mnist/net.h"

namespace mnist {

Mlp::Mlp() {
  fc1 = register_module("fc1", ht::nn::Linear(28 * 28, 256));
  fc2 = register_module("fc2", ht::nn::Linear(256, 10));
}

ht::Tensor Mlp::forward(const ht::Tensor& images) { return fc2(ht::relu(fc1(images.flatten(1)))); }

Cnn::Cnn() {
  conv1 = register_module("conv1", ht::nn::Conv2d(ht::nn::Conv2dOptions(1, 16, 3).padding(1)));
  conv2 = register_module("conv2", ht::nn::Conv2d(ht::nn::Conv2dOptions(16, 32, 3).padding(1)));
  fc1 = register_module("fc1", ht::nn::Linear(32 * 7 * 7, 128));
  fc2 = register_module("fc2", ht::nn::Linear(128, 10));
}

ht::Tensor Cnn::forward(const ht::Tensor& images) {
  // The pool comes before relu, which has less to do then; conv2 is quicker with the channels innermost.
  ht::Tensor x =
      ht::relu(ht::max_pool2d(conv1(images), 2)).contiguous(ht::MemoryFormat::ChannelsLast);  // [N, 16, 14, 14]
  x = ht::relu(ht::max_pool2d(conv2(x), 2));                                                  // [N, 32, 7, 7]
  return fc2(ht::relu(fc1(x.flatten(1))));
}

std::shared_ptr<Net> make_net(const std::string& name) {
  if (name == "mlp") return std::make_shared<Mlp>();
  return std::make_shared<Cnn>();
}

}  // namespace mnist
