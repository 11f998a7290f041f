// Reads the JSON lines of the benchmarks and of their PyTorch twins, and prints tables: ratios to PyTorch with the bars
// they should clear (bars.h), what lower precision gains, and how near a GPU's kernels come to the bandwidth of a copy.
//   table --ours halftone.jsonl --torch pytorch.jsonl --json bench/results/today.json --markdown bench/results/today.md
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
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

/// What is known of one side: halftone or PyTorch.
struct Measured {
  Values values;
  std::vector<std::pair<std::string, std::string>> missing;  // what was not measured, and why
};

bool more_is_better(const std::string& unit) { return unit.ends_with("/s") || unit == "x"; }

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

/// The median of each benchmark's values. Lines that are no JSON objects are what a program told people; the last can
/// be half a line, when its program was stopped.
Measured read_lines(const std::string& path) {
  std::map<Key, std::vector<double>> all;
  std::map<Key, std::string> units;
  Measured measured;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const json object = json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains("name")) continue;
    if (object.contains("failed")) measured.missing.emplace_back(object["name"], object["failed"]);
    if (!object.contains("value") || !object["value"].is_number()) continue;
    const Key key{object["name"], object["dtype"], object["threads"]};
    all[key].push_back(object["value"]);
    units[key] = object["unit"];
  }
  for (const auto& [key, values] : all) measured.values[key] = {median(values), units[key]};
  return measured;
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
    // Bytes a second and speed-ups say nothing of dtypes.
    if (dtype == "float32" || full == ours.end() || value.unit == "GB/s" || value.unit == "x") continue;
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

Table against_threads(const Values& ours) {
  Table table{"speed-up as a share of the devices", {"benchmark", "dtype", "devices", "times", "share", "bar"}, {}};
  for (const auto& [key, value] : ours) {
    const auto bar = find_bar(kOfDevices, key);
    if (!bar) continue;
    const auto& [name, dtype, devices] = key;
    const double share = value.value / devices;
    table.rows.push_back({name, dtype, std::to_string(devices), fmt::format("{:.2f}", value.value),
                          fmt::format("{:.2f}", share), verdict(bar, share)});
  }
  return table;
}

Table not_measured(const Measured& ours, const Measured& torch) {
  Table table{"not measured", {"benchmark", "whose", "why"}, {}};
  for (const auto& [name, why] : ours.missing) table.rows.push_back({name, "halftone's", why});
  for (const auto& [name, why] : torch.missing) table.rows.push_back({name, "PyTorch's", why});
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

json to_json(const Measured& measured) {
  json list = json::array();
  for (const auto& [name, why] : measured.missing) list.push_back({{"name", name}, {"why", why}});
  return list;
}

/// What it was measured on, and when.
struct Circumstances {
  std::string machine;
  std::vector<std::string> software;  // "cuDNN=9.13.0"

  std::map<std::string, std::string> versions() const {
    std::map<std::string, std::string> all;
    for (const std::string& one : software)
      if (const auto at = one.find('='); at != one.npos) all[one.substr(0, at)] = one.substr(at + 1);
    return all;
  }
};

/// Writes a file as a whole or not at all: who is stopped meanwhile leaves the one before.
template <class F> void write_whole(const std::string& path, F write) {
  std::ofstream file(path + ".partial");
  write(file);
  file.close();
  halftone::check(file.good() && std::rename((path + ".partial").c_str(), path.c_str()) == 0, "cannot write ", path);
}

void write_json(const std::string& path, const Circumstances& where, const Measured& ours, const Measured& torch) {
  const json all{{"machine", where.machine},
                 {"software", where.versions()},
                 {"halftone", to_json(ours.values)},
                 {"pytorch", to_json(torch.values)},
                 {"not_measured", {{"halftone", to_json(ours)}, {"pytorch", to_json(torch)}}}};
  write_whole(path,
              [&](std::ostream& file) { file << all.dump(1, ' ', false, json::error_handler_t::replace) << '\n'; });
}

void write_markdown(const std::string& path, const Circumstances& where, const std::vector<Table>& tables) {
  write_whole(path, [&](std::ostream& file) {
    file << "# " << where.machine << "\n\n";
    for (const auto& [library, version] : where.versions()) file << "- " << library << ' ' << version << '\n';
    for (const Table& table : tables) write_markdown(file, table);
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::string ours_path, torch_path, json_path, markdown_path;
  Circumstances where;
  CLI::App app("Prints the table of benchmarks.");
  app.add_option("--ours", ours_path, "JSON lines of halftone's programs")->required();
  app.add_option("--torch", torch_path, "JSON lines of PyTorch's twins");
  app.add_option("--machine", where.machine, "what it ran on, and when");
  app.add_option("--software", where.software, "a library and its version: cuDNN=9.13.0");
  app.add_option("--json", json_path, "write the medians here");
  app.add_option("--markdown", markdown_path, "write the tables here too");
  CLI11_PARSE(app, argc, argv);
  const Measured ours = read_lines(ours_path);
  const Measured torch = torch_path.empty() ? Measured() : read_lines(torch_path);
  fmt::print("{}\n", where.machine);
  const std::vector<Table> tables{against_torch(ours.values, torch.values), against_float(ours.values),
                                  against_copy(ours.values, torch.values), against_threads(ours.values),
                                  not_measured(ours, torch)};
  for (const Table& table : tables) print(table);
  if (torch.values.empty()) fmt::print("\nno figures of PyTorch: no ratios\n");
  if (!json_path.empty()) write_json(json_path, where, ours, torch);
  if (!markdown_path.empty()) write_markdown(markdown_path, where, tables);
}
