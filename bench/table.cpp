// Reads the JSON lines of the benchmarks and of their PyTorch twins, and prints tables: ratios to PyTorch with the bars
// they should clear (bars.h), what lower precision gains, and how near a GPU's kernels come to the bandwidth of a copy.
//   table --ours halftone.jsonl --torch pytorch.jsonl --json bench/results/today.json --markdown bench/results/today.md
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bench/bars.h"
#include "core/error.h"

namespace {

using namespace bench;
using nlohmann::json;
using Key = std::tuple<std::string, std::string, int>;  // name, dtype, threads

struct Value {
  double value = 0;
  std::string unit;
};
using Values = std::map<Key, Value>;

bool more_is_better(const std::string& unit) { return unit.ends_with("/s"); }

/// How many times better `a` is than `b`.
double times_better(const Value& a, const Value& b) {
  return more_is_better(a.unit) ? a.value / b.value : b.value / a.value;
}

std::optional<double> find_bar(const std::vector<Bar>& bars, const Key& key) {
  const auto& [name, dtype, threads] = key;
  const auto fits = [&](const Bar& bar) {
    const bool named =
        bar.name.ends_with('*') ? name.starts_with(bar.name.substr(0, bar.name.size() - 1)) : name == bar.name;
    return named && (bar.dtype.empty() || bar.dtype == dtype);
  };
  const auto found = std::ranges::find_if(bars, fits);
  return found == bars.end() ? std::nullopt : std::optional(found->limit);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// The median of each benchmark's values. Lines that are no JSON objects are what a program told people.
Values read_values(const std::string& path) {
  std::map<Key, std::vector<double>> all;
  std::map<Key, std::string> units;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const json object = json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains("name") || !object["value"].is_number()) continue;
    const Key key{object["name"], object["dtype"], object["threads"]};
    all[key].push_back(object["value"]);
    units[key] = object["unit"];
  }
  Values medians;
  for (const auto& [key, values] : all) medians[key] = {median(values), units[key]};
  return medians;
}

std::string number(double value) {
  if (value >= 1000) return fmt::format("{:.0f}", value);
  return value >= 10 ? fmt::format("{:.1f}", value) : fmt::format("{:.3g}", value);
}

std::string verdict(std::optional<double> at_least, double value) {
  if (!at_least) return "";
  return fmt::format("at least {:.3g}: {}", *at_least, value >= *at_least ? "met" : "MISSED");
}

std::string verdict_at_most(std::optional<double> at_most, double value) {
  if (!at_most) return "";
  return fmt::format("at most {:.3g}: {}", *at_most, value <= *at_most ? "met" : "MISSED");
}

std::string join(const std::string& a, const std::string& b) { return a.empty() || b.empty() ? a + b : a + ", " + b; }

/// A table of text, printed in columns or as Markdown.
struct Table {
  std::string title;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

// The first two columns are names, the last is a verdict; what is between are numbers.
bool is_text(std::size_t column, std::size_t columns) { return column < 2 || column + 1 == columns; }

void print(const Table& table) {
  if (table.rows.empty()) return;
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < table.header.size(); ++c) {
    widths.push_back(table.header[c].size());
    for (const auto& row : table.rows) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto print_row = [&](const std::vector<std::string>& row) {
    for (std::size_t c = 0; c < row.size(); ++c)
      is_text(c, row.size()) ? fmt::print("{:<{}}  ", row[c], widths[c]) : fmt::print("{:>{}}  ", row[c], widths[c]);
    fmt::print("\n");
  };
  fmt::print("\n{}\n", table.title);
  print_row(table.header);
  for (const auto& row : table.rows) print_row(row);
}

void write_markdown(std::ostream& out, const Table& table) {
  if (table.rows.empty()) return;
  const auto write_row = [&](const std::vector<std::string>& row) {
    for (const std::string& cell : row) out << "| " << cell << ' ';
    out << "|\n";
  };
  out << "\n## " << table.title << "\n\n";
  write_row(table.header);
  for (std::size_t c = 0; c < table.header.size(); ++c) out << (is_text(c, table.header.size()) ? "|---" : "|--:");
  out << "|\n";
  for (const auto& row : table.rows) write_row(row);
}

Table against_torch(const Values& ours, const Values& torch) {
  Table table{"beside PyTorch", {"benchmark", "dtype", "threads", "halftone", "PyTorch", "unit", "times", "bar"}, {}};
  for (const auto& [key, value] : ours) {
    const auto& [name, dtype, threads] = key;
    const auto theirs = torch.find(key);
    const bool has_theirs = theirs != torch.end();
    const double times = has_theirs ? times_better(value, theirs->second) : 0;
    const std::string against = has_theirs ? verdict(find_bar(kTimesTorch, key), times) : "";
    table.rows.push_back({name, dtype, std::to_string(threads), number(value.value),
                          has_theirs ? number(theirs->second.value) : "", value.unit,
                          has_theirs ? fmt::format("{:.2f}", times) : "",
                          join(verdict_at_most(find_bar(kAtMost, key), value.value), against)});
  }
  return table;
}

Table against_float(const Values& ours) {
  Table table{"lower precision against float32", {"benchmark", "dtype", "threads", "times", "bar"}, {}};
  for (const auto& [key, value] : ours) {
    const auto& [name, dtype, threads] = key;
    const auto full = ours.find({name, "float32", threads});
    // Bytes a second say nothing of dtypes: the same bytes are other work.
    if (dtype == "float32" || full == ours.end() || value.unit == "GB/s") continue;
    const double times = times_better(value, full->second);
    table.rows.push_back({name, dtype, std::to_string(threads), fmt::format("{:.2f}", times),
                          verdict(find_bar(kTimesFloat, key), times)});
  }
  return table;
}

Table against_copy(const Values& ours, const Values& torch) {
  Table table{"as a share of the bandwidth of a copy", {"kernel", "dtype", "GB/s", "share", "PyTorch's", "bar"}, {}};
  const auto copy = ours.find({kCopy, "float32", 1});
  if (copy == ours.end()) return table;
  const double ceiling = copy->second.value;
  for (const auto& [key, value] : ours) {
    const auto bar = find_bar(kOfCopy, key);
    if (!bar) continue;
    const auto theirs = torch.find(key);
    table.rows.push_back({std::get<0>(key), std::get<1>(key), number(value.value),
                          fmt::format("{:.2f}", value.value / ceiling),
                          theirs == torch.end() ? "" : fmt::format("{:.2f}", theirs->second.value / ceiling),
                          *bar > 0 ? verdict(bar, value.value / ceiling) : ""});
  }
  return table;
}

json to_json(const Values& values) {
  json list = json::array();
  for (const auto& [key, value] : values) {
    const auto& [name, dtype, threads] = key;
    list.push_back(
        {{"name", name}, {"dtype", dtype}, {"threads", threads}, {"value", value.value}, {"unit", value.unit}});
  }
  return list;
}

void write_json(const std::string& path, const std::string& machine, const Values& ours, const Values& torch) {
  std::ofstream file(path);
  file << json{{"machine", machine}, {"halftone", to_json(ours)}, {"pytorch", to_json(torch)}}.dump(1) << '\n';
  halftone::check(file.good(), "cannot write ", path);
}

void write_markdown(const std::string& path, const std::string& machine, const std::vector<Table>& tables) {
  std::ofstream file(path);
  file << "# " << machine << '\n';
  for (const Table& table : tables) write_markdown(file, table);
  halftone::check(file.good(), "cannot write ", path);
}

}  // namespace

int main(int argc, char** argv) {
  std::string ours_path, torch_path, json_path, markdown_path, machine;
  CLI::App app("Prints the table of benchmarks.");
  app.add_option("--ours", ours_path, "JSON lines of halftone's programs")->required();
  app.add_option("--torch", torch_path, "JSON lines of PyTorch's twins");
  app.add_option("--machine", machine, "what it ran on");
  app.add_option("--json", json_path, "write the medians here");
  app.add_option("--markdown", markdown_path, "write the tables here too");
  CLI11_PARSE(app, argc, argv);
  const Values ours = read_values(ours_path);
  const Values torch = torch_path.empty() ? Values() : read_values(torch_path);
  fmt::print("{}\n", machine);
  const std::vector<Table> tables{against_torch(ours, torch), against_float(ours), against_copy(ours, torch)};
  for (const Table& table : tables) print(table);
  if (torch.empty()) fmt::print("\nPyTorch is not installed: no ratios\n");
  if (!json_path.empty()) write_json(json_path, machine, ours, torch);
  if (!markdown_path.empty()) write_markdown(markdown_path, machine, tables);
}
