// What a dataset yields: data with a target, or data alone.
#pragma once

#include <utility>

#include "core/tensor.h"

namespace halftone::data {

/// One example of a dataset, or, after Stack, one batch: `example.data`, `example.target`.
template <class Data = Tensor, class Target = Tensor> struct Example {
  using DataType = Data;
  using TargetType = Target;

  Example() = default;
  Example(Data data_value, Target target_value) : data(std::move(data_value)), target(std::move(target_value)) {}

  Data data;
  Target target;
};

namespace example {
using NoTarget = void;
}

/// An example without a target; converts to its data.
template <class Data> struct Example<Data, example::NoTarget> {
  using DataType = Data;
  using TargetType = example::NoTarget;

  Example() = default;
  Example(Data data_value) : data(std::move(data_value)) {}  // NOLINT: data without a target is an example

  operator Data&() { return data; }              // NOLINT
  operator const Data&() const { return data; }  // NOLINT

  Data data;
};

using TensorExample = Example<Tensor, example::NoTarget>;

}  // namespace halftone::data
