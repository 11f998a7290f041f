#include "data/mnist.h"

#include <fstream>

#include "data/idx.h"

namespace halftone::data::datasets {

namespace {

constexpr std::int64_t kSide = 28;
constexpr int kClasses = 10;

bool exists(const std::string& path) { return std::ifstream(path).good(); }

std::string find_file(const std::string& root, const std::string& name) {
  std::string plain = root + "/" + name;
  std::string packed = plain + ".gz";
  if (exists(plain)) return plain;
  check(exists(packed), "MNIST: found neither ", plain, " nor ", packed);
  return packed;
}

Tensor read(const std::string& path, std::int64_t dims) { return parse_idx(read_bytes(path), dims, path); }

Tensor to_labels(const Tensor& bytes, const std::string& path) {
  const std::int64_t count = bytes.numel();
  const std::uint8_t* const from = bytes.const_data_ptr<std::uint8_t>();
  Tensor labels = empty(count, TensorOptions(kInt64).device(kCPU));
  std::int64_t* const to = labels.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    check(from[i] < kClasses, path, ": label ", i, " is ", int{from[i]}, ", not a digit");
    to[i] = from[i];
  }
  return labels;
}

LabelledImages load(const std::string& root, bool train) {
  const std::string prefix = train ? "train" : "t10k";
  const std::string image_path = find_file(root, prefix + "-images-idx3-ubyte");
  const std::string label_path = find_file(root, prefix + "-labels-idx1-ubyte");
  const Tensor images = read(image_path, 3);
  const Tensor labels = read(label_path, 1);
  check(images.size(1) == kSide && images.size(2) == kSide, image_path, ": images are ", images.size(1), " x ",
        images.size(2), ", not 28 x 28");
  check(images.size(0) == labels.size(0), image_path, " has ", images.size(0), " images, but ", label_path, " has ",
        labels.size(0), " labels");
  return {alias(images, {images.size(0), 1, kSide, kSide}, {kSide * kSide, kSide * kSide, kSide, 1}, 0),
          to_labels(labels, label_path)};
}

}  // namespace

MNIST::MNIST(const std::string& root, Mode mode) : mode_(mode), data_(load(root, mode == Mode::kTrain)) {}

}  // namespace halftone::data::datasets
