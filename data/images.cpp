#include "data/images.h"

#include <mutex>

#include "core/parallel.h"

namespace halftone::data::datasets {

struct LabelledImages::Floats {
  std::once_flag made;
  Tensor images;
};

namespace {

// The loop is over a constant count so that the compiler turns it into vector code.
constexpr std::int64_t kBlock = 16;

void to_unit_interval(const std::uint8_t* from, float* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (std::int64_t k = 0; k < kBlock; ++k) to[i + k] = static_cast<float>(from[i + k]) / 255.0f;
  }
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]) / 255.0f;
}

Dims with_count(const Tensor& images, std::int64_t count) {
  Dims sizes = dims(images.sizes());
  sizes[0] = count;
  return sizes;
}

}  // namespace

LabelledImages::LabelledImages(Tensor pixels, Tensor targets)
    : pixels_(std::move(pixels)), targets_(std::move(targets)), floats_(std::make_shared<Floats>()) {
  check<TypeError>(pixels_.dtype() == kUInt8 && targets_.dtype() == kInt64,
                   "labelled images: expected uint8 pixels and int64 targets, got ", describe(pixels_), " and ",
                   describe(targets_));
  check<ValueError>(pixels_.dim() == 4 && pixels_.is_contiguous() && targets_.is_contiguous(),
                    "labelled images: expected contiguous pixels [N, C, H, W], got ", describe(pixels_));
  check<ValueError>(targets_.dim() == 1 && targets_.size(0) == pixels_.size(0), "labelled images: ", pixels_.size(0),
                    " images but targets ", targets_.sizes());
}

const Tensor& LabelledImages::images() const {
  std::call_once(floats_->made, [this] {
    const Tensor all = empty(pixels_.sizes(), kFloat32);
    to_unit_interval(pixels_.const_data_ptr<std::uint8_t>(), all.data_ptr<float>(), all.numel());
    floats_->images = all;
  });
  return floats_->images;
}

Example<> LabelledImages::get(std::size_t index) const {
  const Example<> one = get_stacked(index);
  return {one.data[0], one.target[0]};
}

Example<> LabelledImages::get_stacked(ArrayRef<std::size_t> indices) const {
  const auto count = static_cast<std::int64_t>(indices.size());
  const std::int64_t size = pixels_.numel() / std::max<std::int64_t>(pixels_.size(0), 1);
  for (const std::size_t index : indices)
    check<IndexError>(index < this->count(), "dataset: index ", index, " is out of range for ", this->count(),
                      " images");
  Example<> batch(empty(with_count(pixels_, count), kFloat32), empty(count, kInt64));
  const std::uint8_t* const from = pixels_.const_data_ptr<std::uint8_t>();
  const std::int64_t* const labels = targets_.const_data_ptr<std::int64_t>();
  float* const to = batch.data.data_ptr<float>();
  std::int64_t* const to_labels = batch.target.data_ptr<std::int64_t>();

  constexpr std::int64_t kGrain = 1 << 17;  // pixels that pay for waking a thread
  parallel_for(0, count, kGrain / std::max<std::int64_t>(size, 1) + 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const auto index = static_cast<std::int64_t>(indices[static_cast<std::size_t>(i)]);
      to_unit_interval(from + index * size, to + i * size, size);
      to_labels[i] = labels[index];
    }
  });
  return batch;
}

}  // namespace halftone::data::datasets
