// Reads the JSON lines of the benchmarks and of their PyTorch twins, and prints two tables: ratios to PyTorch with the
// bars they should clear, and what lower precision gains.
//   table --ours halftone.jsonl --torch pytorch.jsonl --json bench/results/today.json
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

#include "core/error.h"

namespace {

using nlohmann::json;
using Key = std::tuple<std::string, std::string, int>;  // name, dtype, threads

struct Value {
  double value = 0;
  std::string unit;
};
using Values = std::map<Key, Value>;

struct Bar {
  std::string name;   // of the benchmark
  std::string dtype;  // "": each
  double limit;
};

// At least so many times PyTorch's rate, or as many times below its cost.
const std::vector<Bar> kTimesTorch = {
    {"dispatch/no_grad", "", 4},
    {"dispatch/grad", "", 4},
    {"dispatch/forward_backward", "", 4},
    {"train_step/mlp", "", 2},
    {"train_step/cnn_of_cpp_example", "", 2},
    {"train_step/cnn_of_python_example", "", 2},
    {"train_step/resnet20", "", 1.2},
    {"mnist_to_99", "", 4},
};

// At most so much of its unit.
const std::vector<Bar> kAtMost = {
    {"dispatch/no_grad", "", 0.25},        {"dispatch/grad", "", 0.4}, {"dispatch/forward_backward", "", 1.0},
    {"build/include_everything", "", 1.5}, {"build/trainer", "", 3},   {"build/library_size", "", 5},
};

// In this dtype at least so many times as good as in float32.
const std::vector<Bar> kTimesFloat = {
    {"train_step/resnet20", "bfloat16", 1.6},         {"train_step/cnn_of_python_example", "bfloat16", 1.6},
    {"peak_memory/train_step", "bfloat16", 1 / 0.60}, {"inference/batch_1", "bfloat16", 1.0},
    {"inference/batch_64", "bfloat16", 1.9},
};

bool more_is_better(const std::string& unit) { return unit.ends_with("/s"); }

/// How many times better `a` is than `b`.
double times_better(const Value& a, const Value& b) {
  return more_is_better(a.unit) ? a.value / b.value : b.value / a.value;
}

std::optional<double> find_bar(const std::vector<Bar>& bars, const Key& key) {
  for (const Bar& bar : bars)
    if (bar.name == std::get<0>(key) && (bar.dtype.empty() || bar.dtype == std::get<1>(key))) return bar.limit;
  return std::nullopt;
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

void print_against_torch(const Values& ours, const Values& torch) {
  fmt::print("{:<34} {:<9} {:>7} {:>10} {:>10} {:<8} {:>7}  {}\n", "benchmark", "dtype", "threads", "halftone",
             "PyTorch", "unit", "times", "bar");
  for (const auto& [key, value] : ours) {
    const auto& [name, dtype, threads] = key;
    const auto theirs = torch.find(key);
    const bool has_theirs = theirs != torch.end();
    const double times = has_theirs ? times_better(value, theirs->second) : 0;
    const std::string against = has_theirs ? verdict(find_bar(kTimesTorch, key), times) : "";
    fmt::print("{:<34} {:<9} {:>7} {:>10} {:>10} {:<8} {:>7}  {}\n", name, dtype, threads, number(value.value),
               has_theirs ? number(theirs->second.value) : "", value.unit,
               has_theirs ? fmt::format("{:.2f}", times) : "",
               join(verdict_at_most(find_bar(kAtMost, key), value.value), against));
  }
}

void print_against_float(const Values& ours) {
  fmt::print("\nlower precision against float32\n");
  for (const auto& [key, value] : ours) {
    const auto& [name, dtype, threads] = key;
    const auto full = ours.find({name, "float32", threads});
    if (dtype == "float32" || full == ours.end()) continue;
    const double times = times_better(value, full->second);
    fmt::print("{:<34} {:<9} {:>7} {:>7.2f} times  {}\n", name, dtype, threads, times,
               verdict(find_bar(kTimesFloat, key), times));
  }
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

}  // namespace

int main(int argc, char** argv) {
  std::string ours_path, torch_path, json_path, machine;
  CLI::App app("Prints the table of benchmarks.");
  app.add_option("--ours", ours_path, "JSON lines of halftone's programs")->required();
  app.add_option("--torch", torch_path, "JSON lines of PyTorch's twins");
  app.add_option("--machine", machine, "what it ran on");
  app.add_option("--json", json_path, "write the medians here");
  CLI11_PARSE(app, argc, argv);
  const Values ours = read_values(ours_path);
  const Values torch = torch_path.empty() ? Values() : read_values(torch_path);
  fmt::print("{}\n", machine);
  print_against_torch(ours, torch);
  print_against_float(ours);
  if (torch.empty()) fmt::print("\nPyTorch is not installed: no ratios\n");
  if (!json_path.empty()) write_json(json_path, machine, ours, torch);
}
