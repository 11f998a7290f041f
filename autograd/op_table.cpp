#include "autograd/op_table.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <string>

#include "core/error.h"

namespace halftone {
namespace {

// Rows of the user's ops. A row never moves and never dies: nodes and callers point to it.
struct Registry {
  struct Row {
    std::string name, meaning;
    OpInfo info;
  };
  std::mutex mutex;
  std::deque<Row> rows;

  Row* find(std::string_view name) {
    const auto row = std::ranges::find(rows, name, &Row::name);
    return row == rows.end() ? nullptr : &*row;
  }
};

Registry& registry() {
  static Registry the_one;
  return the_one;
}

const OpInfo* find_built_in(std::string_view name) {
  const auto* row = std::ranges::find(kOps, name, &OpInfo::name);
  return row == std::end(kOps) ? nullptr : row;
}

}  // namespace

const OpInfo* find_op(std::string_view name) {
  if (const OpInfo* row = find_built_in(name)) return row;
  Registry& all = registry();
  const std::scoped_lock lock(all.mutex);
  const Registry::Row* row = all.find(name);
  return row ? &row->info : nullptr;
}

const OpInfo& register_op(std::string_view name, Precision precision, std::string_view meaning) {
  check<ValueError>(!name.empty(), "register_op: an op needs a name");
  check<ValueError>(find_built_in(name) == nullptr, "register_op: ", name,
                    " is an op of halftone, whose row stays as it is");
  Registry& all = registry();
  const std::scoped_lock lock(all.mutex);
  if (Registry::Row* row = all.find(name)) {
    row->info.precision = precision;
    return row->info;
  }
  Registry::Row& row = all.rows.emplace_back();
  row.name = name;
  row.meaning = meaning;
  row.info = {row.name, precision, row.meaning};
  return row.info;
}

std::string_view name(Precision precision) {
  switch (precision) {
    case Precision::lower: return "lower";
    case Precision::full: return "full";
    case Precision::full_if_unset: return "full_if_unset";
    case Precision::promote: return "promote";
    case Precision::any: return "any";
    case Precision::banned: return "banned";
  }
  return "unknown";
}

}  // namespace halftone
