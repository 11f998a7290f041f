#include "data/images.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "core/parallel.h"

namespace halftone::data::datasets {

struct LabelledImages::Floats {
  std::once_flag made;
  Tensor images;
};

namespace {

// x / 255 for every byte: two loads a pixel are quicker than a division.
constexpr std::array<float, 256> kUnitInterval = [] {
  std::array<float, 256> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 255.0f;
  return values;
}();

void to_unit_interval(const std::uint8_t* from, float* to, std::int64_t count) {
  std::transform(from, from + count, to, [](std::uint8_t pixel) { return kUnitInterval[pixel]; });
}

// Shuffled images lie all over the memory: without a warning the processor waits for each of them.
void prefetch(const std::uint8_t* from, std::int64_t count) {
  constexpr std::int64_t kCacheLine = 64;
  for (std::int64_t i = 0; i < count; i += kCacheLine) __builtin_prefetch(from + i);
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
    const Tensor all = empty(pixels_.sizes(), TensorOptions(kFloat32).device(kCPU));
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
  Example<> batch(empty(with_count(pixels_, count), TensorOptions(kFloat32).device(kCPU)),
                  empty(count, TensorOptions(kInt64).device(kCPU)));
  const std::uint8_t* const from = pixels_.const_data_ptr<std::uint8_t>();
  const std::int64_t* const labels = targets_.const_data_ptr<std::int64_t>();
  float* const to = batch.data.data_ptr<float>();
  std::int64_t* const to_labels = batch.target.data_ptr<std::int64_t>();

  const auto row_of = [&](std::int64_t i) { return static_cast<std::int64_t>(indices[static_cast<std::size_t>(i)]); };
  constexpr std::int64_t kAhead = 4;        // images
  constexpr std::int64_t kGrain = 1 << 17;  // pixels that pay for waking a thread
  parallel_for(0, count, kGrain / std::max<std::int64_t>(size, 1) + 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      if (i + kAhead < last) prefetch(from + row_of(i + kAhead) * size, size);
      const std::int64_t index = row_of(i);
      to_unit_interval(from + index * size, to + i * size, size);
      to_labels[i] = labels[index];
    }
  });
  return batch;
}

}  // namespace halftone::data::datasets
