// Mixed precision in twenty lines: a net of two layers learns to tell the sign of a sum.
#include <fmt/format.h>

#include "halftone.h"

int main() {
  ht::manual_seed(0);
  const ht::Tensor inputs = ht::randn({512, 20});
  const ht::Tensor labels = inputs.sum(1).gt(0).to(ht::kInt64);

  ht::nn::Sequential model(ht::nn::Linear(20, 64), ht::nn::ReLU(), ht::nn::Linear(64, 2));
  ht::optim::AdamW optimizer(model->parameters(), ht::optim::AdamWOptions(1e-2));
  ht::amp::GradScaler scaler(ht::kCPU);

  ht::Tensor loss;
  for (int step = 0; step < 100; ++step) {
    optimizer.zero_grad();
    {
      const ht::amp::autocast region(ht::kCPU, ht::kFloat16);                    // products in float16 ...
      loss = ht::nn::functional::cross_entropy(model->forward(inputs), labels);  // ... the loss in float32
    }
    scaler.scale(loss).backward();  // small gradients do not vanish
    scaler.step(optimizer);         // divides by the scale; skips the step if a gradient overflowed
    scaler.update();                // the scale follows
  }
  fmt::print("loss {:.4f}, scale {}\n", loss.item<float>(), scaler.get_scale());
  return loss.item<float>() < 0.1f ? 0 : 1;
}
