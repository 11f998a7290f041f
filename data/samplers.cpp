#include "data/samplers.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "autograd/ops.h"
#include "core/serialize.h"

namespace halftone::data::samplers {

namespace {

std::size_t read_number(serialize::InputArchive& archive, const char* key) {
  std::int64_t value = 0;
  archive.read(key, value);
  check<ValueError>(value >= 0, "sampler: '", key, "' of the saved state is ", value);
  return static_cast<std::size_t>(value);
}

}  // namespace

void SequentialSampler::reset(std::optional<std::size_t> new_size) {
  size_ = new_size.value_or(size_);
  index_ = 0;
}

std::optional<std::vector<std::size_t>> SequentialSampler::next(std::size_t batch_size) {
  const std::size_t left = size_ - index_;
  if (left == 0) return std::nullopt;
  std::vector<std::size_t> indices(std::min(batch_size, left));
  std::iota(indices.begin(), indices.end(), index_);
  index_ += indices.size();
  return indices;
}

void SequentialSampler::save(serialize::OutputArchive& archive) const { archive.write("index", index_); }

void SequentialSampler::load(serialize::InputArchive& archive) {
  const std::size_t index = read_number(archive, "index");
  check<ValueError>(index <= size_, "SequentialSampler: place ", index, " of the saved state is beyond ", size_,
                    " examples");
  index_ = index;
}

// The indices are read one by one, so they stay on the CPU whatever the default device.
RandomSampler::RandomSampler(std::int64_t size, Dtype index_dtype)
    : indices_(randperm(size, TensorOptions(index_dtype).device(kCPU))) {}

void RandomSampler::reset(std::optional<std::size_t> new_size) {
  const std::int64_t size = new_size ? static_cast<std::int64_t>(*new_size) : indices_.numel();
  indices_ = randperm(size, indices_.options());
  index_ = 0;
}

std::optional<std::vector<std::size_t>> RandomSampler::next(std::size_t batch_size) {
  const std::int64_t left = indices_.numel() - index_;
  if (left == 0) return std::nullopt;
  const std::int64_t count = std::min(static_cast<std::int64_t>(batch_size), left);
  const Tensor part = indices_.narrow(0, index_, count).to(kInt64);
  index_ += count;
  const std::int64_t* const first = part.const_data_ptr<std::int64_t>();
  return std::vector<std::size_t>(first, first + count);
}

void RandomSampler::save(serialize::OutputArchive& archive) const {
  archive.write("index", index_);
  archive.write("indices", indices_, /*is_buffer=*/true);
}

void RandomSampler::load(serialize::InputArchive& archive) {
  Tensor indices;
  archive.read("indices", indices, /*is_buffer=*/true);
  const auto index = static_cast<std::int64_t>(read_number(archive, "index"));
  check<ValueError>(indices.dim() == 1 && index <= indices.numel(), "RandomSampler: place ", index,
                    " of the saved state is not within indices ", indices.sizes());
  indices_ = indices.cpu();
  index_ = index;
}

void StreamSampler::reset(std::optional<std::size_t> new_size) {
  epoch_size_ = new_size.value_or(epoch_size_);
  given_ = 0;
}

std::optional<std::size_t> StreamSampler::next(std::size_t batch_size) {
  if (given_ == epoch_size_) return std::nullopt;
  const std::size_t count = std::min(batch_size, epoch_size_ - given_);
  given_ += count;
  return count;
}

void StreamSampler::save(serialize::OutputArchive& archive) const { archive.write("given", given_); }

void StreamSampler::load(serialize::InputArchive& archive) {
  given_ = std::min(read_number(archive, "given"), epoch_size_);
}

DistributedSampler::DistributedSampler(std::size_t size, std::size_t replicas, std::size_t rank, bool allow_duplicates)
    : size_(size), replicas_(replicas), rank_(rank), allow_duplicates_(allow_duplicates) {
  check<ValueError>(replicas > 0 && rank < replicas, "distributed sampler: rank ", rank, " is not one of ", replicas,
                    " replicas");
}

std::optional<std::vector<std::size_t>> DistributedSampler::next(std::size_t batch_size) {
  if (index_ == indices_.size()) return std::nullopt;
  const auto first = indices_.begin() + static_cast<std::ptrdiff_t>(index_);
  const std::size_t count = std::min(batch_size, indices_.size() - index_);
  index_ += count;
  return std::vector<std::size_t>(first, first + static_cast<std::ptrdiff_t>(count));
}

std::size_t DistributedSampler::local_count() const {
  if (allow_duplicates_) return (size_ + replicas_ - 1) / replicas_;
  return size_ / replicas_ + (rank_ < size_ % replicas_ ? 1 : 0);
}

void DistributedSampler::take_share(const std::vector<std::size_t>& order) {
  const std::size_t count = local_count();
  const std::size_t others = size_ % replicas_;  // ranks below have one more when there are no duplicates
  const std::size_t first = allow_duplicates_ ? rank_ * count : rank_ * (size_ / replicas_) + std::min(rank_, others);
  indices_.resize(size_ == 0 ? 0 : count);
  for (std::size_t i = 0; i < indices_.size(); ++i) indices_[i] = order[(first + i) % size_];
  index_ = 0;
}

void DistributedSampler::save(serialize::OutputArchive& archive) const {
  archive.write("index", index_);
  archive.write("epoch", epoch_);
}

void DistributedSampler::load(serialize::InputArchive& archive) {
  set_epoch(read_number(archive, "epoch"));
  reset(size_);
  index_ = std::min(read_number(archive, "index"), indices_.size());
}

DistributedRandomSampler::DistributedRandomSampler(std::size_t size, std::size_t replicas, std::size_t rank,
                                                   bool allow_duplicates)
    : DistributedSampler(size, replicas, rank, allow_duplicates) {
  DistributedRandomSampler::reset(size_);
}

void DistributedRandomSampler::reset(std::optional<std::size_t> new_size) {
  size_ = new_size.value_or(size_);
  std::vector<std::size_t> order(size_);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(static_cast<std::mt19937::result_type>(epoch_)));
  take_share(order);
}

DistributedSequentialSampler::DistributedSequentialSampler(std::size_t size, std::size_t replicas, std::size_t rank,
                                                           bool allow_duplicates)
    : DistributedSampler(size, replicas, rank, allow_duplicates) {
  DistributedSequentialSampler::reset(size_);
}

void DistributedSequentialSampler::reset(std::optional<std::size_t> new_size) {
  size_ = new_size.value_or(size_);
  std::vector<std::size_t> order(size_);
  std::iota(order.begin(), order.end(), std::size_t{0});
  take_share(order);
}

}  // namespace halftone::data::samplers
