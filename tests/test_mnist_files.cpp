// Files of images: MNIST's IDX format and CIFAR-10's, good ones, damaged ones, and bytes changed at random.
#include <unistd.h>

#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "autograd/ops.h"
#include "data/data.h"
#include "data/idx.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::data;
using Catch::Matchers::ContainsSubstring;
using Bytes = std::vector<std::uint8_t>;
namespace fs = std::filesystem;

namespace {

const std::string kBundled = HALFTONE_SOURCE_DIR "/examples/data/mnist";

class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(fs::temp_directory_path() / ("halftone_" + name + std::to_string(getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string str() const { return path_.string(); }
  void write(const std::string& name, const Bytes& bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  fs::path path_;
};

void append(Bytes& bytes, std::uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<std::uint8_t>(value >> shift));
}

Bytes idx(std::uint32_t magic, const std::vector<std::uint32_t>& sizes, const Bytes& data) {
  Bytes bytes;
  append(bytes, magic);
  for (const std::uint32_t size : sizes) append(bytes, size);
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

Bytes ramp(std::size_t count) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(i % 251);
  return bytes;
}

Bytes images_file(std::uint32_t count) { return idx(2051, {count, 28, 28}, ramp(count * 784)); }
Bytes labels_file(std::uint32_t count) {
  Bytes labels(count);
  for (std::uint32_t i = 0; i < count; ++i) labels[i] = static_cast<std::uint8_t>(i % 10);
  return idx(2049, {count}, labels);
}

Bytes gzip(const Bytes& bytes) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes packed(deflateBound(&stream, bytes.size()) + 64);
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = packed.data();
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

Bytes first_of(Bytes bytes, std::size_t count) {
  bytes.resize(count);
  return bytes;
}

Bytes with_byte(Bytes bytes, std::size_t at, std::uint8_t value) {
  bytes[at] = value;
  return bytes;
}

Bytes followed_by(Bytes bytes, const Bytes& more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
  return bytes;
}

void write_train(const Folder& folder, const Bytes& images, const Bytes& labels) {
  folder.write("train-images-idx3-ubyte", images);
  folder.write("train-labels-idx1-ubyte", labels);
}

}  // namespace

TEST_CASE("the bundled MNIST files hold what they should", "[data][mnist]") {
  const datasets::MNIST test(kBundled, datasets::MNIST::Mode::kTest);
  CHECK_FALSE(test.is_train());
  CHECK(test.size() == std::optional<std::size_t>(10000));
  CHECK(test.images().sizes() == IntArrayRef({10000, 1, 28, 28}));
  CHECK(test.images().dtype() == kFloat32);
  CHECK(test.images().min().item<float>() == 0);
  CHECK(test.images().max().item<float>() == 1);
  CHECK(test.pixels().dtype() == kUInt8);
  const std::int64_t first[] = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
  for (std::int64_t i = 0; i < 10; ++i) CHECK(test.targets()[i].item<std::int64_t>() == first[i]);
  CHECK(test.images().mean().item<float>() == Catch::Approx(0.13251).epsilon(1e-3));
}

TEST_CASE("the bundled training set has 60,000 images with the usual mean and deviation", "[data][mnist]") {
  const datasets::MNIST train(kBundled);
  CHECK(train.is_train());
  CHECK(train.size() == std::optional<std::size_t>(60000));
  CHECK(train.targets().eq(5).sum().item<std::int64_t>() == 5421);
  CHECK(train.images().mean().item<float>() == Catch::Approx(0.1307).epsilon(1e-3));
  CHECK(train.images().std().item<float>() == Catch::Approx(0.3081).epsilon(1e-3));
}

TEST_CASE("MNIST gives the same numbers one by one, stacked and all at once", "[data][mnist]") {
  const Folder folder("mnist_ways");
  write_train(folder, images_file(12), labels_file(12));
  datasets::MNIST mnist(folder.str());
  const std::vector<std::size_t> wanted{11, 3, 3, 0};
  const Example<> stacked = mnist.get_stacked(wanted);
  CHECK(stacked.data.sizes() == IntArrayRef({4, 1, 28, 28}));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const auto index = static_cast<std::int64_t>(wanted[i]);
    const Example<> one = mnist.get(wanted[i]);
    CHECK(one.data.equal(stacked.data[at]));
    CHECK(one.data.equal(mnist.images()[index]));
    CHECK(one.target.item<std::int64_t>() == stacked.target[at].item<std::int64_t>());
    CHECK(one.target.item<std::int64_t>() == mnist.targets()[index].item<std::int64_t>());
  }
  CHECK(mnist.images()[0][0][0][5].item<float>() == 5 / 255.0f);
  CHECK_THROWS_WITH(mnist.get(12), ContainsSubstring("index 12 is out of range for 12 images"));
}

TEST_CASE("a loader's MNIST batches are the same by the short cut and without it", "[data][mnist]") {
  const Folder folder("mnist_batches");
  write_train(folder, images_file(10), labels_file(10));
  const transforms::Normalize<> normalize(0.1307, 0.3081);
  auto quick = make_data_loader<samplers::SequentialSampler>(
      datasets::MNIST(folder.str()).map(normalize).map(transforms::Stack<>()), 4);
  auto slow =
      make_data_loader<samplers::SequentialSampler>(datasets::MNIST(folder.str())
                                                        .map(transforms::TensorLambda<>([](Tensor x) { return x; }))
                                                        .map(normalize)
                                                        .map(transforms::Stack<>()),
                                                    4);
  auto expected = slow->begin();
  for (const Example<>& batch : *quick) {
    CHECK(batch.data.equal(expected->data));
    CHECK(batch.target.equal(expected->target));
    ++expected;
  }
  CHECK(expected == slow->end());
}

TEST_CASE("files may be gzipped or not, and the plain one comes first", "[data][mnist]") {
  const Folder folder("mnist_spellings");
  folder.write("train-images-idx3-ubyte.gz", gzip(images_file(3)));
  folder.write("train-labels-idx1-ubyte.gz", gzip(labels_file(3)));
  CHECK(datasets::MNIST(folder.str()).size() == std::optional<std::size_t>(3));
  write_train(folder, images_file(2), labels_file(2));
  CHECK(datasets::MNIST(folder.str()).size() == std::optional<std::size_t>(2));
}

TEST_CASE("a missing file is reported with both its spellings", "[data][mnist]") {
  const Folder folder("mnist_missing");
  CHECK_THROWS_WITH(datasets::MNIST(folder.str()), ContainsSubstring(folder.str() + "/train-images-idx3-ubyte nor") &&
                                                       ContainsSubstring("train-images-idx3-ubyte.gz"));
}

TEST_CASE("every kind of damage to a file has its message", "[data][mnist]") {
  struct Row {
    std::string what;
    Bytes images, labels;
    std::string message;
  };
  const Bytes images = images_file(4), labels = labels_file(4), packed = gzip(images);
  const auto row = GENERATE_COPY(values<Row>({
      {"empty", {}, labels, "truncated: 0 bytes, but its header alone has 16"},
      {"header cut", first_of(images, 15), labels, "truncated: 15 bytes"},
      {"data cut", first_of(images, 1000), labels, "truncated: 984 bytes of data, but [4, 28, 28] needs 3136"},
      {"gzip cut", first_of(packed, packed.size() - 9), labels, "truncated: its gzip stream ends"},
      {"gzip header cut", first_of(packed, 5), labels, "truncated: its gzip stream ends"},
      {"gzip damaged", with_byte(packed, packed.size() - 6, 77), labels, "damaged"},
      {"bytes after gzip", followed_by(packed, {1, 2, 3}), labels, "3 bytes follow its gzip stream"},
      {"bytes after data", followed_by(images, {1}), labels, "1 bytes follow the data of [4, 28, 28]"},
      {"labels as images", labels, labels, "truncated: 12 bytes"},
      {"images as labels", images, images, "wrong magic number 2051 where 2049 is expected for labels"},
      {"wrong type", with_byte(images, 2, 9), labels, "wrong magic number 2307 where 2051 is expected for images"},
      {"little-endian", with_byte(with_byte(images, 0, 3), 3, 0), labels, "wrong magic number"},
      {"wrong size", idx(2051, {4, 14, 56}, ramp(4 * 784)), labels, "images are 14 x 56, not 28 x 28"},
      {"no images", idx(2051, {0, 28, 28}, {}), labels, "none may be 0"},
      {"huge", idx(2051, {0xffffffff, 0xffffffff, 0xffffffff}, {}), labels, "truncated"},
      {"counts differ", images, labels_file(5), "has 4 images, but"},
      {"no digit", images, with_byte(labels, 9, 10), "label 1 is 10, not a digit"},
  }));
  INFO(row.what);
  const Folder folder("mnist_damaged");
  write_train(folder, row.images, row.labels);
  CHECK_THROWS_WITH(datasets::MNIST(folder.str()), ContainsSubstring(row.message) && ContainsSubstring(folder.str()));
}

TEST_CASE("a folder in place of a file is an error", "[data][mnist]") {
  const Folder folder("mnist_folder");
  fs::create_directories(folder.str() + "/train-images-idx3-ubyte");
  CHECK_THROWS_AS(datasets::MNIST(folder.str()), Error);
}

TEST_CASE("changed bytes give a tensor or an error, and nothing else", "[data][mnist][fuzz]") {
  std::mt19937 random(1);
  const auto pick = [&](std::size_t count) { return std::uniform_int_distribution<std::size_t>(0, count - 1)(random); };
  const Folder folder("mnist_fuzz");
  const std::vector<Bytes> seeds = {images_file(3), labels_file(40), gzip(images_file(3)), gzip(labels_file(40))};
  int read = 0, refused = 0;
  for (int round = 0; round < 4000; ++round) {
    Bytes bytes = seeds[pick(seeds.size())];
    for (std::size_t change = pick(4); change < 4; ++change) {
      const std::size_t kind = pick(4);
      if (kind == 0) bytes.resize(pick(bytes.size()) + 1);
      if (kind == 1) bytes[pick(bytes.size())] = static_cast<std::uint8_t>(pick(256));
      if (kind == 2) bytes[pick(std::min<std::size_t>(bytes.size(), 24))] ^= static_cast<std::uint8_t>(1 << pick(8));
      if (kind == 3) bytes.push_back(static_cast<std::uint8_t>(pick(256)));
    }
    folder.write("file", bytes);
    try {
      const Tensor values = parse_idx(read_bytes(folder.str() + "/file"), pick(2) == 0 ? 1 : 3, "file");
      CHECK(values.numel() > 0);
      ++read;
    } catch (const Error& e) {
      CHECK(std::string(e.what()).find("file") != std::string::npos);
      ++refused;
    }
  }
  CHECK(read > 50);
  CHECK(refused > 500);
}

TEST_CASE("CIFAR-10 is read from its binary files", "[data][cifar]") {
  const auto record = [](std::uint8_t label) { return followed_by({label}, ramp(3072)); };
  const Folder folder("cifar");
  CHECK_THROWS_WITH(datasets::CIFAR10(folder.str()), ContainsSubstring("/data_batch_1.bin nor"));
  CHECK_THROWS_WITH(datasets::CIFAR10(folder.str(), datasets::CIFAR10::Mode::kTest),
                    ContainsSubstring("/test_batch.bin nor"));
  folder.write("data_batch_1.bin", followed_by(record(3), record(9)));
  folder.write("data_batch_2.bin", record(0));
  folder.write("test_batch.bin", record(7));

  datasets::CIFAR10 train(folder.str());
  CHECK(train.size() == std::optional<std::size_t>(3));
  CHECK(train.images().sizes() == IntArrayRef({3, 3, 32, 32}));
  CHECK(train.targets()[1].item<std::int64_t>() == 9);
  CHECK(train.pixels()[2][1][0][3].item<std::int64_t>() == (1024 + 3) % 251);
  CHECK(train.get_stacked({2, 0}).target[1].item<std::int64_t>() == 3);
  CHECK(datasets::CIFAR10(folder.str(), datasets::CIFAR10::Mode::kTest).targets()[0].item<std::int64_t>() == 7);

  folder.write("data_batch_2.bin", first_of(record(0), 3000));
  CHECK_THROWS_WITH(datasets::CIFAR10(folder.str()), ContainsSubstring("data_batch_2.bin is truncated"));
  folder.write("data_batch_2.bin", record(10));
  CHECK_THROWS_WITH(datasets::CIFAR10(folder.str()), ContainsSubstring("label 0 is 10"));
}
