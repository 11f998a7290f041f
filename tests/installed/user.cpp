#include <iostream>

#include "halftone.h"

int main() {
  const ht::Tensor x = ht::ones({2, 3}, ht::requires_grad());
  const ht::Tensor loss = (x * 2).sum();
  loss.backward();
  std::cout << loss << x.grad();
  return x.grad().sum().item<float>() == 12 ? 0 : 1;
}
