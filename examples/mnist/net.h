// The two nets.
#pragma once

#include <memory>
#include <string>

#include "halftone.h"

namespace mnist {

/// Takes images [N, 1, 28, 28] and gives a score for each of ten digits, [N, 10].
struct Net : ht::nn::Module {
  virtual ht::Tensor forward(const ht::Tensor& images) = 0;
};

/// Two linear layers.
struct Mlp : Net {
  Mlp();
  ht::Tensor forward(const ht::Tensor& images) override;

  ht::nn::Linear fc1{nullptr}, fc2{nullptr};
};

/// Two convolutions, each followed by a pool that halves the image, and two linear layers.
struct Cnn : Net {
  Cnn();
  ht::Tensor forward(const ht::Tensor& images) override;

  ht::nn::Conv2d conv1{nullptr}, conv2{nullptr};
  ht::nn::Linear fc1{nullptr}, fc2{nullptr};
};

/// name: "mlp" or "cnn".
std::shared_ptr<Net> make_net(const std::string& name);

}  // namespace mnist
