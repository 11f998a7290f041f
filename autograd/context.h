// All thread state that changes what a call does, in one struct. Scopes change it; worker threads inherit it on purpose
// by copying it.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "autograd/op_table.h"
#include "core/tensor.h"

namespace halftone {

class Node;

/// Sees the inputs of every op before it runs and may replace them: this is how autocast casts.
class InputFilter {
 public:
  virtual ~InputFilter() = default;
  virtual void operator()(const OpInfo& op, std::span<Tensor> inputs) = 0;
  /// The result dtype for an op whose precision is full_if_unset and whose caller named none; nothing to leave it.
  virtual std::optional<Dtype> output_dtype(const OpInfo& op, const Tensor& first) = 0;
  /// x as an op of lower precision would get it, kept for later ops where the filter keeps casts; undefined when such
  /// an op would take x as it is.
  virtual Tensor lower(const Tensor& x) = 0;
  /// Makes `cast` the answer of lower(x) until x is written to. `used`, if given, is set when an op gets it.
  virtual void provide(const Tensor& x, const Tensor& cast, bool* used = nullptr) = 0;
  /// A filter that does the same in another thread: a filter serves one thread alone.
  virtual std::unique_ptr<InputFilter> for_another_thread() const = 0;
};

/// Sees every op: its inputs as they came, as they ran, and its result.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void observe(const OpInfo& op, std::span<const Tensor> came, std::span<const Tensor> ran,
                       const Tensor& out) = 0;
};

struct Context {
  bool record = true;             // false inside NoGradGuard
  bool anomaly = false;           // inside DetectAnomalyGuard: nodes remember their inputs, backward looks for NaN
  InputFilter* filter = nullptr;  // set inside amp::autocast
  Observer* observer = nullptr;   // set while tracing
  Node* running = nullptr;        // the node whose backward runs
};

inline constinit thread_local Context context;

/// Changes the thread's context and restores it: `ContextScope scope([](Context& c) { c.record = false; });`
class ContextScope {
 public:
  template <class Change> explicit ContextScope(Change change) : saved_(context) { change(context); }
  /// Installs a context taken from another thread, which must not leave the scopes it was taken in before this ends.
  explicit ContextScope(const Context& inherited)
      : saved_(context), filter_(inherited.filter ? inherited.filter->for_another_thread() : nullptr) {
    context = inherited;
    context.filter = filter_.get();
  }
  ~ContextScope() { context = saved_; }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  Context saved_;
  std::unique_ptr<InputFilter> filter_;
};

struct GradMode {
  static bool is_enabled() { return context.record; }
  static void set_enabled(bool on) { context.record = on; }
};

/// Recording of ops on or off while it lives; guards nest.
class AutoGradMode {
 public:
  explicit AutoGradMode(bool on) : before_(context.record) { context.record = on; }
  ~AutoGradMode() { context.record = before_; }
  AutoGradMode(const AutoGradMode&) = delete;
  AutoGradMode& operator=(const AutoGradMode&) = delete;

 private:
  bool before_;
};

/// No op is recorded while it lives: for inference and for updates of parameters.
class NoGradGuard : public AutoGradMode {
 public:
  NoGradGuard() : AutoGradMode(false) {}
};

/// Backward names the op, and the inputs it was called with, whose gradient first becomes NaN.
class DetectAnomalyGuard {
 public:
  explicit DetectAnomalyGuard(bool on = true) : before_(context.anomaly) { context.anomaly = on; }
  ~DetectAnomalyGuard() { context.anomaly = before_; }
  DetectAnomalyGuard(const DetectAnomalyGuard&) = delete;
  DetectAnomalyGuard& operator=(const DetectAnomalyGuard&) = delete;

 private:
  bool before_;
};

}  // namespace halftone
