#include "core/cuda_library_use.h"

#include <array>
#include <atomic>

namespace halftone::cuda {
namespace {

constexpr std::array kWays = {&LibraryUse::library_products, &LibraryUse::simple_products,
                              &LibraryUse::library_convolutions, &LibraryUse::other_order_convolutions,
                              &LibraryUse::direct_convolutions};
std::array<std::atomic<std::uint64_t>, kWays.size()> counts{};

}  // namespace

LibraryUse library_use() {
  LibraryUse use;
  for (std::size_t i = 0; i < kWays.size(); ++i) use.*kWays[i] = counts[i].load(std::memory_order_relaxed);
  return use;
}

void reset_library_use() {
  for (auto& count : counts) count.store(0, std::memory_order_relaxed);
}

void count_use(std::uint64_t LibraryUse::*way) {
  for (std::size_t i = 0; i < kWays.size(); ++i) {
    if (kWays[i] == way) counts[i].fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace halftone::cuda
