// Transforms: what happens to batches on their way from a dataset to the training loop.
#pragma once

#include <functional>
#include <vector>

#include "data/example.h"

namespace halftone::data::transforms {

/// Turns a batch into a batch.
template <class InputBatch, class OutputBatch> class BatchTransform {
 public:
  using InputBatchType = InputBatch;
  using OutputBatchType = OutputBatch;
  virtual ~BatchTransform() = default;
  virtual OutputBatch apply_batch(InputBatch batch) = 0;
};

/// Turns one example into one example.
template <class Input, class Output> class Transform : public BatchTransform<std::vector<Input>, std::vector<Output>> {
 public:
  using InputType = Input;
  using OutputType = Output;

  virtual Output apply(Input input) = 0;

  std::vector<Output> apply_batch(std::vector<Input> batch) override {
    std::vector<Output> out;
    out.reserve(batch.size());
    for (Input& input : batch) out.push_back(apply(std::move(input)));
    return out;
  }
};

/// A BatchTransform from a function.
template <class Input, class Output = Input> class BatchLambda : public BatchTransform<Input, Output> {
 public:
  using FunctionType = std::function<Output(Input)>;
  explicit BatchLambda(FunctionType function) : function_(std::move(function)) {}
  Output apply_batch(Input batch) override { return function_(std::move(batch)); }

 private:
  FunctionType function_;
};

/// A Transform from a function.
template <class Input, class Output = Input> class Lambda : public Transform<Input, Output> {
 public:
  using FunctionType = std::function<Output(Input)>;
  explicit Lambda(FunctionType function) : function_(std::move(function)) {}
  Output apply(Input input) override { return function_(std::move(input)); }

 private:
  FunctionType function_;
};

/// Turns the data of an example and leaves its target alone.
template <class Target = Tensor>
class TensorTransform : public Transform<Example<Tensor, Target>, Example<Tensor, Target>> {
 public:
  using E = Example<Tensor, Target>;

  virtual Tensor operator()(Tensor input) = 0;

  E apply(E example) override {
    example.data = (*this)(std::move(example.data));
    return example;
  }
};

/// A TensorTransform from a function.
template <class Target = Tensor> class TensorLambda : public TensorTransform<Target> {
 public:
  using FunctionType = std::function<Tensor(Tensor)>;
  explicit TensorLambda(FunctionType function) : function_(std::move(function)) {}
  Tensor operator()(Tensor input) override { return function_(std::move(input)); }

 private:
  FunctionType function_;
};

namespace detail {
/// Values as a float32 tensor [C, 1, 1], which broadcasts over an image [C, H, W] and over a batch of them.
Tensor per_channel(ArrayRef<double> values);
/// (x - mean) / stddev into the memory of x.
Tensor normalize_in_place(Tensor x, const Tensor& mean, const Tensor& stddev);
/// (x - mean) / stddev.
Tensor normalize(const Tensor& x, const Tensor& mean, const Tensor& stddev);
Tensor stack_all(const std::vector<Tensor>& tensors);
}  // namespace detail

/// (x - mean) / stddev, with one number for all channels or one for each.
template <class Target = Tensor> class Normalize : public TensorTransform<Target> {
 public:
  Normalize(ArrayRef<double> means, ArrayRef<double> stddevs)
      : mean(detail::per_channel(means)), stddev(detail::per_channel(stddevs)) {}

  Tensor operator()(Tensor input) override { return detail::normalize(input, mean, stddev); }

  /// The same for stacked examples whose memory nobody else has.
  Example<Tensor, Target> apply_stacked(Example<Tensor, Target> stacked) {
    stacked.data = detail::normalize_in_place(std::move(stacked.data), mean, stddev);
    return stacked;
  }

  Tensor mean, stddev;  // [C, 1, 1]
};

/// A batch of examples made into one.
template <class T = Example<>, class Batch = std::vector<T>> using Collation = BatchTransform<Batch, T>;

/// A Collation from a function.
template <class T = Example<>, class Batch = std::vector<T>> using Collate = BatchLambda<Batch, T>;

/// Stacks the tensors of all examples along a new first axis.
template <class T = Example<>> class Stack;

template <> class Stack<Example<>> : public Collation<Example<>> {
 public:
  Example<> apply_batch(std::vector<Example<>> examples) override;
};

template <> class Stack<TensorExample> : public Collation<TensorExample> {
 public:
  TensorExample apply_batch(std::vector<TensorExample> examples) override;
};

template <class T> inline constexpr bool is_stack = false;
template <class T> inline constexpr bool is_stack<Stack<T>> = true;

}  // namespace halftone::data::transforms
