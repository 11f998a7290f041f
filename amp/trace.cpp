#include "amp/trace.h"

#include <iomanip>
#include <map>

#include "amp/autocast.h"

namespace halftone::amp {
namespace {

void print_inputs(std::ostream& out, const TraceRecord& record, bool as_ran) {
  out << '(';
  for (std::size_t i = 0; i < record.inputs.size(); ++i) {
    const TraceRecord::Input& input = record.inputs[i];
    out << (i ? ", " : "") << (as_ran ? input.ran : input.came);
    if (as_ran && input.cached) out << " cached";
  }
  out << ')';
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const TraceRecord& record) {
  out << std::left << std::setw(20) << record.op << ' ' << std::setw(13) << name(record.policy) << ' ';
  print_inputs(out, record, /*as_ran=*/false);
  if (std::ranges::any_of(record.inputs, &TraceRecord::Input::is_cast)) {
    out << " -> ";
    print_inputs(out, record, /*as_ran=*/true);
  }
  return out << " -> " << record.shape;
}

trace::trace() : outer_(context.observer) { context.observer = this; }
trace::trace(std::ostream& out) : trace() { out_ = &out; }
trace::~trace() { context.observer = outer_; }

void trace::observe(const OpInfo& op, std::span<const Tensor> came, std::span<const Tensor> ran, const Tensor& result) {
  TraceRecord record{std::string(op.name), op.precision, {}, result.dtype(), describe(result)};
  const std::uint64_t hits = last_cache_hits();
  for (std::size_t i = 0; i < came.size(); ++i) {
    if (!came[i].defined()) continue;
    const bool cast = came[i].dtype() != ran[i].dtype();
    record.inputs.push_back({came[i].dtype(), ran[i].dtype(), cast && i < 64 && (hits >> i & 1) != 0});
  }
  const std::scoped_lock lock(mutex_);
  if (out_) *out_ << record << '\n';
  records_.push_back(std::move(record));
}

std::vector<TraceRecord> trace::records() const {
  const std::scoped_lock lock(mutex_);
  return records_;
}

std::string trace::summary() const {
  struct Count {
    int calls = 0, casts = 0, hits = 0;
  };
  std::map<std::pair<std::string, std::string_view>, Count> counts;
  for (const TraceRecord& record : records()) {
    const Dtype ran = record.inputs.empty() ? record.result : record.inputs[0].ran;
    Count& count = counts[{record.op, name(ran)}];
    ++count.calls;
    for (const TraceRecord::Input& input : record.inputs)
      ++(input.cached ? count.hits : count.casts) -= !input.is_cast();
  }
  std::ostringstream out;
  out << std::left << std::setw(20) << "op" << ' ' << std::setw(9) << "ran in" << std::right << std::setw(7) << "calls"
      << std::setw(7) << "casts" << std::setw(7) << "cached" << '\n';
  for (const auto& [key, count] : counts) {
    out << std::left << std::setw(20) << key.first << ' ' << std::setw(9) << key.second << std::right << std::setw(7)
        << count.calls << std::setw(7) << count.casts << std::setw(7) << count.hits << '\n';
  }
  return out.str();
}

}  // namespace halftone::amp
