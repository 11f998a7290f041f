// A dataset with a transform behind it, and the short cut that makes batches of tensors quick.
//
// The short cut: a dataset that can gather many examples in one go says so by a member get_stacked(indices), which
// returns them stacked in memory of their own. Transforms that treat a stack as they treat its examples have a member
// apply_stacked. Where a chain of these ends in Stack, no tensor is made for a single example: MNIST(...)
// .map(Normalize<>(m, s)).map(Stack<>()) costs one pass over the batch instead of hundreds of small ops.
#pragma once

#include <concepts>

#include "data/dataset.h"
#include "data/transforms.h"

namespace halftone::data::datasets {

template <class D>
concept StacksItself = requires(D& dataset, ArrayRef<std::size_t> indices) {
  dataset.get_stacked(indices);
};

template <class D> using StackedType = decltype(std::declval<D&>().get_stacked(ArrayRef<std::size_t>()));

template <class T, class Stacked>
concept ActsOnStacks = requires(T& transform, Stacked stacked) {
  { transform.apply_stacked(std::move(stacked)) } -> std::same_as<Stacked>;
};

/// A dataset whose batches are those of another one, transformed.
template <class Source, class Applied>
class MapDataset
    : public BatchDataset<MapDataset<Source, Applied>,
                          std::conditional_t<Source::is_stateful, std::optional<typename Applied::OutputBatchType>,
                                             typename Applied::OutputBatchType>,
                          typename Source::BatchRequestType> {
 public:
  using DatasetType = Source;
  using TransformType = Applied;
  using BatchRequestType = typename Source::BatchRequestType;
  using OutputBatchType = std::conditional_t<Source::is_stateful, std::optional<typename Applied::OutputBatchType>,
                                             typename Applied::OutputBatchType>;

  MapDataset(Source source, Applied transform) : source_(std::move(source)), transform_(std::move(transform)) {}

  OutputBatchType get_batch(BatchRequestType request) override {
    if constexpr (Source::is_stateful) {
      auto batch = source_.get_batch(std::move(request));
      if (!batch) return std::nullopt;
      return transform_.apply_batch(std::move(*batch));
    } else if constexpr (transforms::is_stack<Applied> && StacksItself<Source>) {
      return source_.get_stacked(request);
    } else {
      return transform_.apply_batch(source_.get_batch(std::move(request)));
    }
  }

  auto get_stacked(ArrayRef<std::size_t> indices) requires StacksItself<Source> &&
      ActsOnStacks<Applied, StackedType<Source>> {
    return transform_.apply_stacked(source_.get_stacked(indices));
  }

  std::optional<std::size_t> size() const noexcept override { return source_.size(); }

  void reset() requires Source::is_stateful { source_.reset(); }

  const Source& dataset() const { return source_; }
  const Applied& transform() const { return transform_; }

 private:
  Source source_;
  Applied transform_;
};

/// The function behind dataset.map(transform).
template <class Source, class Applied> MapDataset<Source, Applied> map(Source source, Applied transform) {
  return {std::move(source), std::move(transform)};
}

}  // namespace halftone::data::datasets
