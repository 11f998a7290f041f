#include "regions.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace cudasim::detail {
namespace {
struct Range {
  std::uintptr_t start;
  std::size_t bytes;
};

std::vector<Range>& constants() {
  static std::vector<Range>& ranges = *new std::vector<Range>;
  return ranges;
}

struct HostRegions {
  std::vector<SharedRegion> shared;
  bool is_known = false;
};

HostRegions& host_regions() {
  static thread_local HostRegions regions;
  return regions;
}

int note_image(dl_phdr_info* info, std::size_t, void* data) {
  auto& shared = *static_cast<std::vector<SharedRegion>*>(data);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    const bool is_constant = header.p_type == PT_LOAD && (header.p_flags & PF_W) == 0;
    // Tables of pointers: written by the loader only.
    if (is_constant || header.p_type == PT_GNU_RELRO) {
      constants().push_back({info->dlpi_addr + header.p_vaddr, header.p_memsz});
    }
    if (header.p_type == PT_TLS && info->dlpi_tls_data != nullptr) {
      const auto start = reinterpret_cast<std::uintptr_t>(info->dlpi_tls_data);
      const bool known =
          std::any_of(shared.begin(), shared.end(), [&](const SharedRegion& region) { return region.start == start; });
      if (known) continue;
      const std::size_t cells = header.p_memsz / 4 + 2;
      void* memory = mmap(nullptr, cells * sizeof(SharedCell), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      shared.push_back({start, header.p_memsz, static_cast<SharedCell*>(memory),
                        info->dlpi_name[0] != 0 ? info->dlpi_name : "/proc/self/exe"});
    }
  }
  return 0;
}
}  // namespace

const std::vector<SharedRegion>& shared_regions() {
  if (!host_regions().is_known) find_regions_again();
  return host_regions().shared;
}

void find_regions_again() {
  host_regions().is_known = true;
  constants().clear();
  dl_iterate_phdr(note_image, &host_regions().shared);
}

bool is_constant_data(std::uintptr_t address) {
  return std::any_of(constants().begin(), constants().end(),
                     [&](const Range& range) { return address - range.start < range.bytes; });
}
}  // namespace cudasim::detail
