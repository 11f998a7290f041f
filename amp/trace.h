// trace: what every op was given, in which dtypes it ran, and which policy decided. The first thing to look at when a
// dtype surprises.
//
//   amp::trace trace(std::cout);    // until the end of the scope
//
//   matmul   lower  (float32, float32) -> (bfloat16, bfloat16 cached) -> bfloat16[64, 10]
#pragma once

#include <mutex>
#include <ostream>
#include <string>
#include <vector>

#include "autograd/context.h"

namespace halftone::amp {

/// One op.
struct TraceRecord {
  struct Input {
    Dtype came, ran;
    bool cached;  // the cast of a weight, made for an earlier use
    bool is_cast() const { return came != ran; }
  };
  std::string op;
  Precision policy;
  std::vector<Input> inputs;  // those that are defined
  Dtype result;
  std::string shape;  // of the result: "bfloat16[64, 10]"
};
std::ostream& operator<<(std::ostream& out, const TraceRecord& record);

/// Observes the ops of this thread, and of threads that inherit its context, until the end of the scope.
class trace final : public Observer {
 public:
  /// Collects records.
  [[nodiscard]] trace();
  /// Prints them, and collects them too.
  [[nodiscard]] explicit trace(std::ostream& out);
  ~trace() override;
  trace(const trace&) = delete;
  trace& operator=(const trace&) = delete;

  std::vector<TraceRecord> records() const;
  /// A table: for each op and dtype it ran in, how often, and with how many casts and cache hits.
  std::string summary() const;

  void observe(const OpInfo& op, std::span<const Tensor> came, std::span<const Tensor> ran,
               const Tensor& result) override;

 private:
  std::ostream* out_ = nullptr;
  Observer* outer_;
  mutable std::mutex mutex_;
  std::vector<TraceRecord> records_;
};

}  // namespace halftone::amp
