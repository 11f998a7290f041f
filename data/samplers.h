// Samplers: in which order, and by which process, the examples of a dataset are visited.
#pragma once

#include <optional>
#include <vector>

#include "core/tensor.h"

namespace halftone::serialize {
class OutputArchive;
class InputArchive;
}  // namespace halftone::serialize

namespace halftone::data::samplers {

/// Gives the requests of one pass, a batch at a time.
template <class BatchRequest = std::vector<std::size_t>> class Sampler {
 public:
  using BatchRequestType = BatchRequest;
  virtual ~Sampler() = default;

  /// Starts a new pass, over another number of examples if one is given.
  virtual void reset(std::optional<std::size_t> new_size) = 0;
  void reset() { reset(std::nullopt); }
  /// The next request, or nothing when the pass is over. The last one may be for fewer examples.
  virtual std::optional<BatchRequest> next(std::size_t batch_size) = 0;

  /// Where the sampler stands, so that a loaded one goes on with what was not given yet.
  virtual void save(serialize::OutputArchive& archive) const = 0;
  virtual void load(serialize::InputArchive& archive) = 0;
};

/// 0, 1, 2, ...
class SequentialSampler : public Sampler<> {
 public:
  explicit SequentialSampler(std::size_t size) : size_(size) {}
  using Sampler::reset;
  void reset(std::optional<std::size_t> new_size) override;
  std::optional<std::vector<std::size_t>> next(std::size_t batch_size) override;
  void save(serialize::OutputArchive& archive) const override;
  void load(serialize::InputArchive& archive) override;
  /// How many examples of this pass were given.
  std::size_t index() const { return index_; }

 private:
  std::size_t size_;
  std::size_t index_ = 0;
};

/// Every example once a pass, in an order drawn from the default generator.
class RandomSampler : public Sampler<> {
 public:
  explicit RandomSampler(std::int64_t size, Dtype index_dtype = kInt64);
  using Sampler::reset;
  void reset(std::optional<std::size_t> new_size) override;
  std::optional<std::vector<std::size_t>> next(std::size_t batch_size) override;
  void save(serialize::OutputArchive& archive) const override;
  void load(serialize::InputArchive& archive) override;
  std::size_t index() const { return static_cast<std::size_t>(index_); }

 private:
  Tensor indices_;
  std::int64_t index_ = 0;
};

/// For datasets that are asked for a number of examples: `epoch_size` of them a pass.
class StreamSampler : public Sampler<std::size_t> {
 public:
  explicit StreamSampler(std::size_t epoch_size) : epoch_size_(epoch_size) {}
  using Sampler::reset;
  void reset(std::optional<std::size_t> new_size) override;
  std::optional<std::size_t> next(std::size_t batch_size) override;
  void save(serialize::OutputArchive& archive) const override;
  void load(serialize::InputArchive& archive) override;

 private:
  std::size_t given_ = 0;
  std::size_t epoch_size_;
};

/// What the two distributed samplers share: a part of the examples, by the rank of the process.
class DistributedSampler : public Sampler<> {
 public:
  DistributedSampler(std::size_t size, std::size_t replicas, std::size_t rank, bool allow_duplicates);
  using Sampler::reset;
  std::optional<std::vector<std::size_t>> next(std::size_t batch_size) override;
  void save(serialize::OutputArchive& archive) const override;
  void load(serialize::InputArchive& archive) override;
  std::size_t index() const { return index_; }
  /// Decides the shuffle of the next pass; all processes must set the same.
  void set_epoch(std::size_t epoch) { epoch_ = epoch; }
  std::size_t epoch() const { return epoch_; }

 protected:
  /// How many examples this rank visits. With duplicates allowed all ranks visit equally many, by wrapping around.
  std::size_t local_count() const;
  /// The examples of this rank, given an order of all of them.
  void take_share(const std::vector<std::size_t>& order);

  std::size_t size_, replicas_, rank_, epoch_ = 0;
  bool allow_duplicates_;

 private:
  std::vector<std::size_t> indices_;
  std::size_t index_ = 0;
};

/// Shuffles by the epoch, the same in every process, and takes this rank's part.
class DistributedRandomSampler : public DistributedSampler {
 public:
  explicit DistributedRandomSampler(std::size_t size, std::size_t replicas = 1, std::size_t rank = 0,
                                    bool allow_duplicates = true);
  using DistributedSampler::reset;
  void reset(std::optional<std::size_t> new_size) override;
};

class DistributedSequentialSampler : public DistributedSampler {
 public:
  explicit DistributedSequentialSampler(std::size_t size, std::size_t replicas = 1, std::size_t rank = 0,
                                        bool allow_duplicates = true);
  using DistributedSampler::reset;
  void reset(std::optional<std::size_t> new_size) override;
};

template <class S>
concept IsSampler = requires(S& sampler) {
  typename S::BatchRequestType;
  sampler.next(std::size_t{1});
};

}  // namespace halftone::data::samplers
