#include <cstring>
#include <thread>

#include "core/block_cache.h"
#include "core/runtime.h"
#include "core/tensor.h"
#include "tests/catch.h"

using namespace halftone;

extern "C" [[gnu::weak]] void __asan_init();

namespace {

const Device kDevice("cpu:6");  // used by no other test, so that the numbers are exact

/// Under AddressSanitizer every block is fresh.
bool memory_is_reused() { return __asan_init == nullptr; }

/// Blocks that give themselves back.
class Block {
 public:
  explicit Block(std::size_t bytes, Device device = kDevice)
      : bytes_(bytes), device_(device), data_(runtime(kCPU).allocate(device, bytes)) {}
  Block(Block&& other) noexcept
      : bytes_(other.bytes_), device_(other.device_), data_(std::exchange(other.data_, nullptr)) {}
  Block& operator=(Block&&) = delete;
  ~Block() { runtime(kCPU).free(device_, data_, bytes_); }
  char* data() const { return static_cast<char*>(data_); }
  std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }

 private:
  std::size_t bytes_;
  Device device_;
  void* data_;
};

/// A lower limit on what the system is asked for, for one scope.
class LimitScope {
 public:
  explicit LimitScope(std::int64_t bytes) { block_cache::set_limit(bytes); }
  ~LimitScope() { block_cache::set_limit(before_); }
  LimitScope(const LimitScope&) = delete;
  LimitScope& operator=(const LimitScope&) = delete;

 private:
  std::int64_t before_ = block_cache::limit();
};

}  // namespace

TEST_CASE("block sizes grow by a quarter at most", "[memory]") {
  using namespace block_cache;
  for (int i = 0; i + 1 < kClasses; ++i) {
    const std::size_t bytes = block_bytes(i);
    CHECK(size_class(bytes) == i);
    CHECK(size_class(bytes + 1) == i + 1);
    CHECK(bytes % kAlignment == 0);
    if (i >= 3) CHECK(block_bytes(i + 1) <= bytes + bytes / 4);
  }
  CHECK(size_class(0) == 0);
  CHECK(size_class(1) == 0);
  CHECK(block_bytes(size_class(1000)) == 1024);
  CHECK(block_bytes(size_class(1025)) == 1280);
}

TEST_CASE("every block is aligned, writable to its end, and its own", "[memory]") {
  std::vector<Block> blocks;
  std::vector<std::size_t> sizes;
  for (std::size_t bytes = 1; bytes < 3'000'000; bytes = bytes * 3 / 2 + 1) sizes.push_back(bytes);
  for (const std::size_t bytes : sizes) {
    blocks.emplace_back(bytes);
    CHECK(blocks.back().address() % block_cache::kAlignment == 0);
    std::memset(blocks.back().data(), static_cast<int>(blocks.size()), bytes);
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    CHECK(blocks[i].data()[0] == static_cast<char>(i + 1));
    CHECK(blocks[i].data()[sizes[i] - 1] == static_cast<char>(i + 1));
  }
}

TEST_CASE("statistics follow what tensors hold", "[memory]") {
  const MemoryStats before = memory_stats(kDevice);
  reset_peak_memory_stats(kDevice);
  {
    const Tensor a = empty({1000}, kDevice);
    CHECK(memory_stats(kDevice).current == before.current + 4000);
    {
      const Tensor b = empty({1000}, TensorOptions(kFloat16).device(kDevice));
      CHECK(memory_stats(kDevice).current == before.current + 6000);
    }
    const Tensor view = alias(a, {10}, {1}, 5);
    CHECK(memory_stats(kDevice).current == before.current + 4000);
    CHECK(memory_stats(kDevice).peak == before.current + 6000);
    CHECK(memory_stats(kDevice).reserved >= 4000);
    reset_peak_memory_stats(kDevice);
    CHECK(memory_stats(kDevice).peak == before.current + 4000);
  }
  const MemoryStats after = memory_stats(kDevice);
  CHECK(after.current == before.current);
  CHECK(after.allocations == before.allocations + 2);
}

TEST_CASE("each CPU device counts for itself", "[memory]") {
  const std::int64_t before = memory_stats("cpu:5").current;
  const Tensor t = empty({100}, kDevice);
  CHECK(memory_stats("cpu:5").current == before);
  CHECK(memory_stats(kCPU).current == memory_stats("cpu:0").current);
}

TEST_CASE("a tensor without elements takes no memory", "[memory]") {
  const MemoryStats before = memory_stats(kDevice);
  const Tensor none = empty({0, 4}, kDevice);
  CHECK(memory_stats(kDevice).allocations == before.allocations);
}

TEST_CASE("memory given back is handed out again", "[memory]") {
  if (!memory_is_reused()) return;
  for (const std::size_t bytes : {64u, 3000u, 60'000u, 100'000u, 5'000'000u}) {
    const auto first = Block(bytes).address();
    CHECK(Block(bytes).address() == first);
    CHECK(Block(bytes - bytes / 100).address() == first);  // of the same class
  }
}

TEST_CASE("a loop that allocates the same sizes holds no more after its first round", "[memory]") {
  const auto round = [] {
    std::vector<Block> blocks;
    for (std::size_t i = 1; i <= 300; ++i) blocks.emplace_back(i * 977);
  };
  round();
  const std::int64_t held = block_cache::bytes_held();
  for (int i = 0; i < 20; ++i) round();
  CHECK(block_cache::bytes_held() == held);
}

TEST_CASE("sizes that are no longer asked for do not pile up", "[memory]") {
  if (!memory_is_reused()) return;
  empty_cache(kDevice);
  const std::int64_t before = block_cache::bytes_held();
  constexpr std::int64_t mebibyte = 1 << 20;
  for (std::int64_t i = 1; i < 400; ++i) Block(static_cast<std::size_t>(i * mebibyte));
  CHECK(block_cache::bytes_held() - before < 2 * 512 * mebibyte);
  empty_cache(kDevice);
}

TEST_CASE("empty_cache gives idle memory back", "[memory]") {
  empty_cache(kDevice);
  const std::int64_t before = memory_stats(kDevice).reserved;
  { const Block small(1000), large(50'000'000); }
  if (memory_is_reused()) CHECK(memory_stats(kDevice).reserved > before);
  empty_cache(kDevice);
  CHECK(memory_stats(kDevice).reserved == before);
}

TEST_CASE("blocks may be given back by another thread", "[memory][threads]") {
  const std::int64_t before = memory_stats(kDevice).current;
  for (const std::size_t bytes : {100u, 10'000u, 1'000'000u}) {
    std::vector<Block> blocks;
    std::thread maker([&] {
      for (int i = 0; i < 400; ++i) blocks.emplace_back(bytes);
    });
    maker.join();
    for (const Block& b : blocks) std::memset(b.data(), 1, bytes);
    std::thread([&] { blocks.clear(); }).join();
  }
  CHECK(memory_stats(kDevice).current == before);
}

TEST_CASE("a thread's idle blocks go to the others when it ends", "[memory][threads]") {
  if (!memory_is_reused()) return;
  empty_cache(kDevice);
  constexpr std::size_t bytes = 40'000;
  std::uintptr_t first = 0;
  std::thread([&] { first = Block(bytes).address(); }).join();
  CHECK(Block(bytes).address() == first);
}

TEST_CASE("threads allocate at the same time", "[memory][threads]") {
  const std::int64_t before = memory_stats(kDevice).current;
  const auto work = [](std::size_t seed) {
    for (std::size_t i = 0; i < 2000; ++i) {
      const Block a(1 + (i * seed) % 5000), b(1 + (i * seed) % 200'000);
      a.data()[0] = b.data()[0] = static_cast<char>(i);
      if (a.data()[0] != b.data()[0]) std::abort();
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) threads.emplace_back(work, 7919 + t * 104'729);
  for (std::thread& t : threads) t.join();
  CHECK(memory_stats(kDevice).current == before);
}

TEST_CASE("a failed allocation names the size, the device and what is in use", "[memory]") {
  const Tensor held = empty({250}, kDevice);
  empty_cache(kDevice);
  const std::string in_use = str(memory_stats(kDevice).current), all = str(memory_stats(kDevice).reserved);
  const LimitScope limit(memory_stats(kDevice).reserved + 1'000'000);
  const std::string wanted =
      "cpu:6: out of memory: cannot allocate 8000000 bytes; " + in_use + " bytes are in use on cpu:6, " + all +
      " bytes are held by all CPU devices, and the limit is " + str(block_cache::limit()) + " bytes";
  try {
    empty({2'000'000}, kDevice);
    FAIL("it was granted");
  } catch (const Error& e) {
    CHECK(e.what() == wanted);
  }
  CHECK(memory_stats(kDevice).current == std::stoll(in_use));
  CHECK_NOTHROW(empty({1000}, kDevice));
}

TEST_CASE("an absurd size is refused, not passed on", "[memory]") {
  CHECK_THROWS_AS(empty({std::int64_t{1} << 50}, kDevice), Error);
}

TEST_CASE("idle memory is given up before an allocation fails", "[memory]") {
  empty_cache(kDevice);
  { const Block idle(8'000'000); }
  const LimitScope limit(block_cache::bytes_held() + 1'000'000);
  if (memory_is_reused()) CHECK_NOTHROW(Block(4'000'000));
}

TEST_CASE("memory of the caller is wrapped, and its deleter runs once, with the last tensor", "[memory]") {
  float values[6] = {0, 1, 2, 3, 4, 5};
  int deleted = 0;
  {
    Tensor view;
    {
      const Tensor t = from_blob(values, {2, 3}, [&](void* p) { deleted += p == values; });
      view = alias(t, {3}, {1}, 3);
    }
    CHECK(deleted == 0);
    CHECK(view.accessor<float, 1>()[2] == 5);
  }
  CHECK(deleted == 1);
}
