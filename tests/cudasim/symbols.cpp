#include "tests/cudasim/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

#include "tests/cudasim/faults.h"

namespace cudasim::detail {
namespace {
struct Symbol {
  std::uintptr_t start;
  std::size_t bytes;
  std::string name;
};

// A program or shared library as it is loaded.
struct Image {
  std::string path;
  std::uintptr_t shift = 0;
  std::vector<Symbol> symbols, shared;
  bool is_read = false;
};

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file.tellg();
  std::vector<char> bytes(static_cast<std::size_t>(std::max<std::streamoff>(size, 0)));
  file.seekg(0);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

void read_symbols(Image& image) {
  image.is_read = true;
  const std::vector<char> file = read_file(image.path);
  if (file.size() < sizeof(ElfW(Ehdr))) return;
  const auto& header = *reinterpret_cast<const ElfW(Ehdr)*>(file.data());
  if (header.e_shoff + std::size_t{header.e_shnum} * sizeof(ElfW(Shdr)) > file.size()) return;
  const auto* sections = reinterpret_cast<const ElfW(Shdr)*>(file.data() + header.e_shoff);
  for (int i = 0; i < header.e_shnum; ++i) {
    const auto& table = sections[i];
    if (table.sh_type != SHT_SYMTAB && table.sh_type != SHT_DYNSYM) continue;
    const char* names = file.data() + sections[table.sh_link].sh_offset;
    const auto* entries = reinterpret_cast<const ElfW(Sym)*>(file.data() + table.sh_offset);
    for (std::size_t k = 0; k < table.sh_size / sizeof(ElfW(Sym)); ++k) {
      const auto& entry = entries[k];
      const int type = ELF64_ST_TYPE(entry.st_info);
      if (entry.st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_TLS)) continue;
      (type == STT_FUNC ? image.symbols : image.shared)
          .push_back({entry.st_value, entry.st_size, names + entry.st_name});
    }
  }
  for (auto* list : {&image.symbols, &image.shared}) {
    std::sort(list->begin(), list->end(), [](const Symbol& a, const Symbol& b) { return a.start < b.start; });
  }
}

struct Search {
  std::uintptr_t address;
  std::string path;
  std::uintptr_t shift;
  bool is_found;
};

int visit(dl_phdr_info* info, std::size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD || search.address - info->dlpi_addr - header.p_vaddr >= header.p_memsz) continue;
    search.path = info->dlpi_name[0] != 0 ? info->dlpi_name : "/proc/self/exe";
    search.shift = info->dlpi_addr;
    search.is_found = true;
    return 1;
  }
  return 0;
}

Image& image_at(const std::string& path) {
  static std::map<std::string, Image>& images = *new std::map<std::string, Image>;
  Image& image = images[path];
  image.path = path;
  if (!image.is_read) read_symbols(image);
  return image;
}

const Symbol* find(const std::vector<Symbol>& symbols, std::uintptr_t place) {
  const auto after = std::upper_bound(symbols.begin(), symbols.end(), place,
                                      [](std::uintptr_t value, const Symbol& symbol) { return value < symbol.start; });
  if (after == symbols.begin()) return nullptr;
  const Symbol& symbol = *std::prev(after);
  return place - symbol.start < std::max<std::size_t>(symbol.bytes, 1) ? &symbol : nullptr;
}

Image* image_of(std::uintptr_t address) {
  Search search{address, {}, 0, false};
  dl_iterate_phdr(visit, &search);
  if (!search.is_found) return nullptr;
  Image& image = image_at(search.path);
  image.shift = search.shift;
  return &image;
}

std::string demangle(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 ? text.get() : name;
}

std::string look_up(std::uintptr_t address) {
  const Image* image = image_of(address);
  const Symbol* symbol = image ? find(image->symbols, address - image->shift) : nullptr;
  return symbol ? demangle(symbol->name) : hexadecimal(address);
}
}  // namespace

const std::string& symbol_at(std::uintptr_t address) {
  static std::map<std::uintptr_t, std::string>& known = *new std::map<std::uintptr_t, std::string>;
  const auto found = known.find(address);
  return found != known.end() ? found->second : known.emplace(address, look_up(address)).first->second;
}

std::string shared_variable(const std::string& image, std::uintptr_t offset) {
  const Symbol* symbol = find(image_at(image).shared, offset);
  if (!symbol) return "byte " + std::to_string(offset);
  return "`" + demangle(symbol->name) + "` + " + std::to_string(offset - symbol->start) + " bytes";
}

std::string line_command(std::uintptr_t address) {
  const Image* image = image_of(address);
  if (!image) return {};
  return "addr2line -Cfe " + (image->path == "/proc/self/exe" ? std::string("PROGRAM") : image->path) + " " +
         hexadecimal(address - image->shift);
}
}  // namespace cudasim::detail
