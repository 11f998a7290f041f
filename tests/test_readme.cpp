// README shows only what runs: its C++ is a part of an example that CTest runs, its commands are commands of ./ht.
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/catch.h"

namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream file(path);
  REQUIRE(file);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string trimmed(const std::string& line) {
  const auto first = line.find_first_not_of(" \t"), last = line.find_last_not_of(" \t\r");
  return first == std::string::npos ? "" : line.substr(first, last - first + 1);
}

// Lines without their indentation, joined again.
std::string without_indentation(const std::string& text) {
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) out += trimmed(line) + "\n";
  return out;
}

// The fenced blocks of a Markdown text in one language.
std::vector<std::string> blocks(const std::string& markdown, const std::string& language) {
  std::vector<std::string> found;
  const std::string fence = "```" + language + "\n";
  for (std::size_t at = markdown.find(fence); at != std::string::npos; at = markdown.find(fence, at)) {
    at += fence.size();
    const std::size_t end = markdown.find("```", at);
    REQUIRE(end != std::string::npos);
    found.push_back(markdown.substr(at, end - at));
    at = end;
  }
  return found;
}

const fs::path kRoot = HALFTONE_SOURCE_DIR;

}  // namespace

TEST_CASE("README's C++ is part of an example", "[readme]") {
  std::string examples;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / "examples")) {
    if (entry.path().extension() == ".cpp") examples += without_indentation(read(entry.path()));
  }
  const auto shown = blocks(read(kRoot / "README.md"), "cpp");
  CHECK(!shown.empty());
  for (const std::string& block : shown) {
    INFO(block);
    CHECK(examples.find(without_indentation(block)) != std::string::npos);
  }
}

TEST_CASE("README's commands are commands of ./ht", "[readme]") {
  const std::string script = read(kRoot / "ht");
  std::size_t commands = 0;
  for (const std::string& block : blocks(read(kRoot / "README.md"), "sh")) {
    std::istringstream lines(block);
    for (std::string line; std::getline(lines, line);) {
      if (line.rfind("./ht ", 0) != 0) continue;
      const std::string command = line.substr(5, line.find(' ', 5) - 5);
      INFO(line);
      CHECK((script.find(command + ")") != std::string::npos || script.find(command + " |") != std::string::npos));
      ++commands;
    }
  }
  CHECK(commands >= 2);
}

TEST_CASE("README's links lead somewhere", "[readme]") {
  const std::string text = read(kRoot / "README.md");
  for (std::size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
    const std::string target = text.substr(at + 2, text.find(')', at) - at - 2);
    if (target.rfind("http", 0) == 0 || target.rfind('#', 0) == 0) continue;
    INFO(target);
    CHECK(fs::exists(kRoot / target.substr(0, target.find('#'))));
  }
}
