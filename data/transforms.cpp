#include "data/transforms.h"

#include "autograd/ops.h"

namespace halftone::data::transforms {

namespace detail {

Tensor per_channel(ArrayRef<double> values) {
  Tensor t = empty({static_cast<std::int64_t>(values.size()), 1, 1}, TensorOptions(kFloat32).device(kCPU));
  std::transform(values.begin(), values.end(), t.data_ptr<float>(), [](double v) { return static_cast<float>(v); });
  return t;
}

Tensor normalize_in_place(Tensor x, const Tensor& mean, const Tensor& stddev) {
  x.sub_(mean.to(x.device())).div_(stddev.to(x.device()));
  return x;
}

Tensor normalize(const Tensor& x, const Tensor& mean, const Tensor& stddev) {
  return x.sub(mean.to(x.device())).div(stddev.to(x.device()));
}

Tensor stack_all(const std::vector<Tensor>& tensors) {
  check<ValueError>(!tensors.empty(), "Stack: a batch without examples cannot be stacked");
  return stack(tensors);
}

}  // namespace detail

Example<> Stack<Example<>>::apply_batch(std::vector<Example<>> examples) {
  std::vector<Tensor> data, targets;
  data.reserve(examples.size());
  targets.reserve(examples.size());
  for (Example<>& example : examples) {
    data.push_back(std::move(example.data));
    targets.push_back(std::move(example.target));
  }
  return {detail::stack_all(data), detail::stack_all(targets)};
}

TensorExample Stack<TensorExample>::apply_batch(std::vector<TensorExample> examples) {
  std::vector<Tensor> data;
  data.reserve(examples.size());
  for (TensorExample& example : examples) data.push_back(std::move(example.data));
  return detail::stack_all(data);
}

}  // namespace halftone::data::transforms
