// The two nets.
#pragma once

#include <memory>
#include <string>

#include "halftone.h"

namespace mnist {

using namespace halftone;

/// Takes images [N, 1, 28, 28] and gives a score for each of ten digits, [N, 10].
struct Net : nn::Module {
  virtual Tensor forward(const Tensor& images) = 0;
};

/// Two linear layers.
struct Mlp : Net {
  Mlp();
  Tensor forward(const Tensor& images) override;

  nn::Linear fc1{nullptr}, fc2{nullptr};
};

/// Two convolutions, each followed by a pool that halves the image, and two linear layers.
struct Cnn : Net {
  Cnn();
  Tensor forward(const Tensor& images) override;

  nn::Conv2d conv1{nullptr}, conv2{nullptr};
  nn::Linear fc1{nullptr}, fc2{nullptr};
};

/// name: "mlp" or "cnn".
std::shared_ptr<Net> make_net(const std::string& name);

}  // namespace mnist
