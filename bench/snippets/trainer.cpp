// What a small trainer costs to compile, with halftone or with libtorch.
#ifdef BENCH_TORCH
#include <torch/torch.h>
namespace halftone = torch;
#else
#include "halftone.h"
#endif

namespace ht = halftone;

struct Net : ht::nn::Module {
  Net() : fc1(register_module("fc1", ht::nn::Linear(784, 128))), fc2(register_module("fc2", ht::nn::Linear(128, 10))) {}
  ht::Tensor forward(const ht::Tensor& x) { return ht::log_softmax(fc2(ht::relu(fc1(x.flatten(1)))), 1); }
  ht::nn::Linear fc1, fc2;
};

int main() {
  Net net;
  ht::optim::SGD optimizer(net.parameters(), ht::optim::SGDOptions(0.01).momentum(0.5));
  auto loader = ht::data::make_data_loader(ht::data::datasets::MNIST("data")
                                               .map(ht::data::transforms::Normalize<>(0.1307, 0.3081))
                                               .map(ht::data::transforms::Stack<>()),
                                           64);
  for (auto& batch : *loader) {
    optimizer.zero_grad();
    ht::Tensor loss = ht::nll_loss(net.forward(batch.data), batch.target);
    loss.backward();
    optimizer.step();
  }
}
