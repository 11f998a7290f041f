#include "data/cifar10.h"

#include <cstring>
#include <fstream>

#include "data/idx.h"

namespace halftone::data::datasets {

namespace {

constexpr std::int64_t kPixels = 3 * 32 * 32;
constexpr std::int64_t kRecord = 1 + kPixels;  // the label, then red, green and blue planes
constexpr int kClasses = 10;
constexpr int kMostFiles = 5;

bool exists(const std::string& path) { return std::ifstream(path).good(); }

// The file's path, plain or gzipped, or nothing.
std::string find_file(const std::string& root, const std::string& name) {
  std::string plain = root + "/" + name;
  if (exists(plain)) return plain;
  return exists(plain + ".gz") ? plain + ".gz" : "";
}

std::vector<std::string> find_files(const std::string& root, bool train) {
  std::vector<std::string> paths;
  if (train) {
    for (int i = 1; i <= kMostFiles; ++i) {
      const std::string path = find_file(root, "data_batch_" + std::to_string(i) + ".bin");
      if (path.empty()) break;
      paths.push_back(path);
    }
  } else if (const std::string path = find_file(root, "test_batch.bin"); !path.empty()) {
    paths.push_back(path);
  }
  const char* const first = train ? "/data_batch_1.bin" : "/test_batch.bin";
  check(!paths.empty(), "CIFAR10: found neither ", root, first, " nor ", root, first, ".gz");
  return paths;
}

std::vector<std::uint8_t> read_records(const std::vector<std::string>& paths) {
  std::vector<std::uint8_t> records;
  for (const std::string& path : paths) {
    const std::vector<std::uint8_t> bytes = read_bytes(path);
    check(!bytes.empty() && bytes.size() % kRecord == 0, path, " is truncated or damaged: ", bytes.size(),
          " bytes are no whole number of images of ", kRecord, " bytes");
    for (std::size_t at = 0; at < bytes.size(); at += kRecord)
      check(bytes[at] < kClasses, path, ": label ", at / kRecord, " is ", int{bytes[at]}, ", not 0 to 9");
    records.insert(records.end(), bytes.begin(), bytes.end());
  }
  return records;
}

LabelledImages load(const std::string& root, bool train) {
  const std::vector<std::uint8_t> records = read_records(find_files(root, train));
  const std::int64_t count = static_cast<std::int64_t>(records.size()) / kRecord;
  const Tensor pixels = empty({count, 3, 32, 32}, TensorOptions(kUInt8).device(kCPU));
  const Tensor labels = empty(count, TensorOptions(kInt64).device(kCPU));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint8_t* const record = records.data() + i * kRecord;
    labels.data_ptr<std::int64_t>()[i] = record[0];
    std::memcpy(pixels.data_ptr<std::uint8_t>() + i * kPixels, record + 1, kPixels);
  }
  return {pixels, labels};
}

}  // namespace

CIFAR10::CIFAR10(const std::string& root, Mode mode) : mode_(mode), data_(load(root, mode == Mode::kTrain)) {}

}  // namespace halftone::data::datasets
