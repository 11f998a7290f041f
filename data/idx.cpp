#include "data/idx.h"

#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

namespace halftone::data {

namespace {

constexpr std::size_t kLargest = std::size_t{1} << 31;  // of a file unpacked: far above any real one

std::vector<std::uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  check(file.good(), "cannot open ", path, ": ", std::strerror(errno));
  const std::streamoff size = file.tellg();
  check(size >= 0 && file.seekg(0).good(), "cannot read ", path, ": it is no ordinary file");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  file.read(reinterpret_cast<char*>(bytes.data()), size);
  check(file.gcount() == size, "cannot read ", path, ": got ", file.gcount(), " of ", size, " bytes");
  return bytes;
}

bool is_gzip(std::span<const std::uint8_t> bytes) { return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b; }

struct InflateEnd {
  void operator()(z_stream* stream) const { inflateEnd(stream); }
};

// A gzip stream ends with the size of what it holds, modulo 2^32: a good first guess, and no more than that.
std::size_t guess_size(std::span<const std::uint8_t> packed) {
  std::size_t size = 0;
  if (packed.size() >= 18)
    for (std::size_t i = 1; i <= 4; ++i) size = size << 8 | packed[packed.size() - i];
  return std::min(size, packed.size() * 1032) + 64;  // deflate packs at most 1032 to 1
}

std::vector<std::uint8_t> gunzip(std::span<const std::uint8_t> packed, const std::string& path) {
  z_stream stream{};
  check(inflateInit2(&stream, MAX_WBITS + 16) == Z_OK, "zlib could not start");  // + 16: gzip alone
  const std::unique_ptr<z_stream, InflateEnd> end(&stream);
  check(packed.size() < kLargest, path, " is too large");
  stream.next_in = const_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  std::vector<std::uint8_t> bytes(guess_size(packed));

  int status = Z_OK;
  while (status == Z_OK) {
    if (stream.total_out == bytes.size()) bytes.resize(2 * bytes.size());
    check(bytes.size() < kLargest, path, " is too large when unpacked");
    stream.next_out = bytes.data() + stream.total_out;
    stream.avail_out = static_cast<uInt>(bytes.size() - stream.total_out);
    status = inflate(&stream, Z_NO_FLUSH);
  }
  check(status != Z_BUF_ERROR, path, " is truncated: its gzip stream ends after ", stream.total_out, " bytes");
  check(status == Z_STREAM_END, path, " is damaged: ", stream.msg ? stream.msg : "not a gzip stream");
  check(stream.avail_in == 0, path, " is damaged: ", stream.avail_in, " bytes follow its gzip stream");
  bytes.resize(stream.total_out);
  return bytes;
}

std::uint32_t big_endian(std::span<const std::uint8_t> bytes, std::size_t at) {
  return std::uint32_t{bytes[at]} << 24 | std::uint32_t{bytes[at + 1]} << 16 | std::uint32_t{bytes[at + 2]} << 8 |
         bytes[at + 3];
}

}  // namespace

std::vector<std::uint8_t> read_bytes(const std::string& path) {
  std::vector<std::uint8_t> bytes = read_file(path);
  return is_gzip(bytes) ? gunzip(bytes, path) : bytes;
}

Tensor parse_idx(std::span<const std::uint8_t> bytes, std::int64_t dims, const std::string& name) {
  const std::size_t header = 4 + 4 * static_cast<std::size_t>(dims);
  check(bytes.size() >= header, name, " is truncated: ", bytes.size(), " bytes, but its header alone has ", header);
  const auto expected = static_cast<std::uint32_t>(0x0800 + dims);  // 8: unsigned bytes
  const std::uint32_t magic = big_endian(bytes, 0);
  check(magic == expected, name, ": wrong magic number ", magic, " where ", expected, " is expected for ",
        dims == 1 ? "labels" : "images");

  Dims sizes;
  std::uint64_t count = 1;
  for (std::int64_t d = 0; d < dims; ++d) {
    const std::uint32_t size = big_endian(bytes, 4 + 4 * static_cast<std::size_t>(d));
    sizes.push_back(size);
    check(size > 0, name, ": wrong dimensions ", sizes, ": none may be 0");
    count = count > kLargest ? count : count * size;  // never overflows
  }
  const std::size_t given = bytes.size() - header;
  check(given >= count, name, " is truncated: ", given, " bytes of data, but ", sizes, " needs ", count);
  check(given == count, name, " is damaged: ", given - count, " bytes follow the data of ", sizes);

  Tensor values = empty(sizes, TensorOptions(kUInt8).device(kCPU));
  std::memcpy(values.data_ptr(), bytes.data() + header, given);
  return values;
}

}  // namespace halftone::data
