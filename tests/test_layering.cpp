// The rules of docs and headers that no compiler checks: who may include whom, and which macros a header may define.
// The checker is a pure function of a path and a text, so that it is itself tested on bad input.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/catch.h"

namespace {

struct Layer {
  std::string_view folder;
  std::string_view may_include;  // folders, each between spaces
};

constexpr std::string_view kEverything = " core kernels autograd nn optim data amp examples tests bench ";
constexpr Layer kLayers[] = {
    {"core", " core "},
    {"kernels", " core kernels "},
    {"autograd", " core kernels autograd "},
    {"nn", " core autograd nn "},
    {"optim", " core kernels autograd optim "},
    {"data", " core autograd data "},
    {"amp", " core kernels autograd optim amp "},
    {"examples", kEverything},
    {"tests", kEverything},
    {"bench", kEverything},
};

const Layer* layer_of(std::string_view path) {
  const std::string_view folder = path.substr(0, path.find('/'));
  const auto found = std::ranges::find(kLayers, folder, &Layer::folder);
  return found == std::end(kLayers) ? nullptr : found;
}

bool is_library(const Layer& layer) { return layer.may_include != kEverything; }

bool in_cuda_folder(std::string_view path) {
  return path.starts_with("core/cuda/") || path.starts_with("kernels/cuda/");
}

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
}

// What follows `#<directive>` on this line, if the line is one: `#  include "x"` gives `"x"`.
std::optional<std::string_view> argument_of(std::string_view line, std::string_view directive) {
  line = trim(line);
  if (!line.starts_with('#')) return std::nullopt;
  line = trim(line.substr(1));
  if (!line.starts_with(directive)) return std::nullopt;
  return trim(line.substr(directive.size()));
}

std::string complain_about_include(std::string_view file, std::string_view argument) {
  if (argument.size() < 2) return {};
  const bool quoted = argument.front() == '"';
  const std::string_view path = argument.substr(1, argument.find_first_of("\">", 1) - 1);
  const Layer* const from = layer_of(file);
  const Layer* const to = layer_of(path);
  const bool from_library = from != nullptr && is_library(*from);

  if (path == "halftone.h")
    return from_library ? "the umbrella halftone.h is for users, a layer includes what it uses" : "";
  if (to == nullptr) return quoted ? std::string(path) + " is not a path from the root of the repository" : "";
  if (in_cuda_folder(path) && !in_cuda_folder(file)) return std::string(path) + " is for the cuda folders alone";
  if (from == nullptr) return {};
  if (from->may_include.find(" " + std::string(to->folder) + " ") != std::string_view::npos) return {};
  return std::string(from->folder) + " may not include " + std::string(to->folder) + " (" + std::string(path) + ")";
}

std::string complain_about_macro(std::string_view argument) {
  const std::string name(argument.substr(0, argument.find_first_of(" \t(")));
  constexpr std::array<std::string_view, 3> kPrefixes = {"HALFTONE_", "TORCH_", "AT_"};
  const bool ours = std::ranges::any_of(kPrefixes, [&](std::string_view prefix) { return name.starts_with(prefix); });
  return ours || name == "HD" ? "" : "macro " + name + " of a header needs the prefix HALFTONE_, TORCH_ or AT_";
}

// One line a complaint: file:line: reason.
std::vector<std::string> complaints(const std::string& file, const std::string& text) {
  const Layer* const layer = layer_of(file);
  const bool is_header = file.ends_with(".h");
  const bool is_public = is_header && (layer == nullptr || is_library(*layer));
  std::vector<std::string> found;
  int number = 0;
  int guards = 0;
  const auto complain = [&](int line, const std::string& reason) {
    if (!reason.empty()) found.push_back(file + ":" + std::to_string(line) + ": " + reason);
  };

  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (const auto path = argument_of(line, "include")) complain(number, complain_about_include(file, *path));
    if (const auto macro = argument_of(line, "define"); macro && is_public)
      complain(number, complain_about_macro(*macro));
    if (const auto pragma = argument_of(line, "pragma"); pragma && *pragma == "once") ++guards;
  }
  if (is_header && guards != 1)
    complain(1, "a header says #pragma once exactly once, this one " + std::to_string(guards));
  return found;
}

bool is_source(const std::filesystem::path& path) {
  constexpr std::array<std::string_view, 4> kEndings = {".h", ".cpp", ".cu", ".cuh"};
  return std::ranges::find(kEndings, path.extension().string()) != kEndings.end();
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// All C++ files of the repository, as paths from its root.
std::vector<std::string> source_files(const std::filesystem::path& root) {
  std::vector<std::string> files;
  if (std::filesystem::exists(root / "halftone.h")) files.emplace_back("halftone.h");
  for (const Layer& layer : kLayers) {
    if (!std::filesystem::exists(root / layer.folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / layer.folder)) {
      if (is_source(entry.path())) files.push_back(entry.path().lexically_relative(root).generic_string());
    }
  }
  return files;
}

}  // namespace

TEST_CASE("every include follows the table of layers", "[layering]") {
  const std::filesystem::path root = HALFTONE_SOURCE_DIR;
  const std::vector<std::string> files = source_files(root);
  CHECK(files.size() > 1);
  for (const std::string& file : files) {
    for (const std::string& complaint : complaints(file, read(root / file))) FAIL_CHECK(complaint);
  }
}

TEST_CASE("the layering check sees what it should", "[layering]") {
  struct Row {
    std::string file, text, complaint;  // an empty complaint: nothing is wrong
  };
  const auto row = GENERATE(values<Row>({
      {"core/tensor.cpp", "#include \"core/tensor.h\"\n#include <vector>\n", ""},
      {"core/tensor.cpp", "\n#include \"autograd/ops.h\"\n", "core/tensor.cpp:2: core may not include autograd"},
      {"nn/linear.cpp", "#include \"kernels/backend.h\"", "nn/linear.cpp:1: nn may not include kernels"},
      {"data/mnist.cpp", "#include \"nn/module.h\"", "data/mnist.cpp:1: data may not include nn"},
      {"optim/sgd.cpp", "  #  include   \"amp/autocast.h\"  // why", "optim/sgd.cpp:1: optim may not include amp"},
      {"nn/linear.cpp", "#include <amp/autocast.h>", "nn/linear.cpp:1: nn may not include amp"},
      {"amp/autocast.cpp", "#include \"optim/optimizer.h\"\n#include \"kernels/backend.h\"\n", ""},
      {"amp/autocast.cpp", "#include \"halftone.h\"", "amp/autocast.cpp:1: the umbrella"},
      {"amp/autocast.cpp", "#include \"policy.h\"", "policy.h is not a path from the root"},
      {"nn/linear.cpp", "#include \"../core/tensor.h\"", "../core/tensor.h is not a path from the root"},
      {"kernels/loop.cpp", "#include \"core/cuda/stream.h\"", "core/cuda/stream.h is for the cuda folders alone"},
      {"tests/test_stream.cpp", "#include \"core/cuda/stream.h\"", "core/cuda/stream.h is for the cuda folders alone"},
      {"kernels/cuda/gemm.cpp", "#include \"core/cuda/stream.h\"", ""},
      {"tests/test_nn.cpp", "#include \"halftone.h\"\n#include \"amp/autocast.h\"\n#define SHORT 1\n", ""},
      {"core/error.h", "#pragma once\n#define TORCH_CHECK(x) x\n#define HD\n#define AT_ASSERT 1\n", ""},
      {"core/error.h", "#pragma once\n#define CHECK(x) x\n", "core/error.h:2: macro CHECK of a header"},
      {"core/error.h", "#pragma once\n# define HDR\n", "core/error.h:2: macro HDR of a header"},
      {"core/error.h", "int x;\n", "core/error.h:1: a header says #pragma once exactly once"},
      {"core/error.h", "#pragma once\n#pragma once\n", "exactly once, this one 2"},
      {"core/notes.cpp", "// #include \"amp/autocast.h\" in a comment\n", ""},
  }));
  INFO(row.file << ": " << row.text);
  const std::vector<std::string> found = complaints(row.file, row.text);
  if (row.complaint.empty()) {
    CHECK(found.empty());
  } else {
    REQUIRE(found.size() == 1);
    CHECK_THAT(found[0], Catch::Matchers::ContainsSubstring(row.complaint));
  }
}
