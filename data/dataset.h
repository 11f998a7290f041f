// Datasets: something that gives the examples of a batch when asked for it. A dataset of one's own derives from
// Dataset and says get(index) and size(); map() puts a transform behind it.
#pragma once

#include <optional>
#include <type_traits>
#include <vector>

#include "core/array_ref.h"
#include "data/example.h"

namespace halftone::data::datasets {

template <class Source, class Applied> class MapDataset;

namespace detail {
template <class T> struct is_optional : std::false_type {};
template <class T> struct is_optional<std::optional<T>> : std::true_type {};
}  // namespace detail

/// Gives whole batches for a request, which is a list of indices unless the dataset says otherwise.
template <class Self, class Batch = std::vector<Example<>>, class BatchRequest = ArrayRef<std::size_t>>
class BatchDataset {
 public:
  using SelfType = Self;
  using BatchType = Batch;
  using BatchRequestType = BatchRequest;
  /// A dataset whose batches are optional decides itself when a pass is over.
  static constexpr bool is_stateful = detail::is_optional<Batch>::value;

  virtual ~BatchDataset() = default;

  virtual Batch get_batch(BatchRequest request) = 0;
  /// The number of examples, where it is known.
  virtual std::optional<std::size_t> size() const = 0;

  /// This dataset, copied, with `transform` applied to every batch.
  template <class Transform> MapDataset<Self, Transform> map(Transform transform) & {
    return {static_cast<Self&>(*this), std::move(transform)};
  }
  template <class Transform> MapDataset<Self, Transform> map(Transform transform) && {
    return {std::move(static_cast<Self&>(*this)), std::move(transform)};
  }
};

/// Gives single examples; a batch is the vector of those asked for.
template <class Self, class SingleExample = Example<>>
class Dataset : public BatchDataset<Self, std::vector<SingleExample>> {
 public:
  using ExampleType = SingleExample;

  virtual ExampleType get(std::size_t index) = 0;

  std::vector<ExampleType> get_batch(ArrayRef<std::size_t> indices) override {
    std::vector<ExampleType> batch;
    batch.reserve(indices.size());
    for (const std::size_t index : indices) batch.push_back(get(index));
    return batch;
  }
};

/// Keeps its own place in the data, so that loaders share one instance: `get_batch` answers nothing at the end of a
/// pass, and `reset` starts the next one.
template <class Self, class Batch = std::vector<Example<>>, class BatchRequest = std::size_t>
class StatefulDataset : public BatchDataset<Self, std::optional<Batch>, BatchRequest> {
 public:
  virtual void reset() = 0;
};

/// A dataset asked for a number of examples instead of indices: a stream, a socket, a generator.
template <class Self, class Batch = std::vector<Example<>>>
using StreamDataset = BatchDataset<Self, Batch, std::size_t>;

/// Rows of one tensor, without targets.
class TensorDataset : public Dataset<TensorDataset, TensorExample> {
 public:
  explicit TensorDataset(Tensor rows) : rows_(std::move(rows)) {}
  /// Stacks the tensors.
  explicit TensorDataset(const std::vector<Tensor>& rows);

  TensorExample get(std::size_t index) override { return rows_[static_cast<std::int64_t>(index)]; }
  std::optional<std::size_t> size() const override { return static_cast<std::size_t>(rows_.size(0)); }

 private:
  Tensor rows_;
};

/// One dataset behind a pointer, so that workers share it instead of copying it. The dataset must then bear calls from
/// several threads.
template <class Underlying>
class SharedBatchDataset : public BatchDataset<SharedBatchDataset<Underlying>, typename Underlying::BatchType,
                                               typename Underlying::BatchRequestType> {
 public:
  using BatchType = typename Underlying::BatchType;
  using BatchRequestType = typename Underlying::BatchRequestType;

  SharedBatchDataset(std::shared_ptr<Underlying> shared) : shared_(std::move(shared)) {}  // NOLINT

  BatchType get_batch(BatchRequestType request) override { return shared_->get_batch(std::move(request)); }
  std::optional<std::size_t> size() const override { return shared_->size(); }
  void reset() requires Underlying::is_stateful { shared_->reset(); }

  Underlying& operator*() { return *shared_; }
  const Underlying& operator*() const { return *shared_; }
  Underlying* operator->() { return shared_.get(); }
  const Underlying* operator->() const { return shared_.get(); }

 private:
  std::shared_ptr<Underlying> shared_;
};

template <class Underlying, class... Args> SharedBatchDataset<Underlying> make_shared_dataset(Args&&... args) {
  return std::make_shared<Underlying>(std::forward<Args>(args)...);
}

}  // namespace halftone::data::datasets
