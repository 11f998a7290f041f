// The calls of a training step on three GPUs fail in turn, in forward and in backward: the error says where, nothing
// leaks, no tensor of the module is half changed, and the same wrapper goes on training.
#include <array>
#include <atomic>
#include <mutex>
#include <set>

#include "tests/cuda_failures.h"
#include "tests/parallel_nets.h"

#if HALFTONE_SIMULATED_CUDA

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using parallel::Buffers;
using test::close;

namespace {

/// Notes in which replicas forward failed.
struct WatchedImpl : Cloneable<WatchedImpl> {
  WatchedImpl() { reset(); }
  void reset() override {
    in = register_module("in", Linear(2, 3));
    norm = register_module("norm", BatchNorm1d(3));
    out = register_module("out", Linear(3, 2));
  }
  Tensor forward(const Tensor& x) {
    try {
      return out(norm(in(x)));
    } catch (...) {
      const std::scoped_lock lock(mutex);
      failed.insert(x.device().index());
      throw;
    }
  }
  Linear in{nullptr}, out{nullptr};
  BatchNorm1d norm{nullptr};
  static inline std::mutex mutex;
  static inline std::set<int> failed;
};

using State = std::vector<Tensor>;

State copies_of(const State& tensors) {
  State copies;
  for (const Tensor& t : tensors) copies.push_back(on_cpu(t));
  return copies;
}

State gradients_of(const Module& module) {
  State all;
  for (const Tensor& p : module.parameters()) all.push_back(p.grad());
  return all;
}

/// What a step works on.
struct Setting {
  bool with_nccl, in_region;
  Buffers buffers;
  bool persistent = true, accumulates = true;
};

/// A training step, and what its tensors are before and after it.
class Step {
 public:
  explicit Step(const Setting& setting)
      : setting_(setting),
        on_{{kCUDA, 0}, {kCUDA, 1}, {kCUDA, 2}},
        net_(made(on_[0])),
        parallel_(wrapped(setting.buffers)),
        x_(randn({6, 2}, on_[0])),
        initial_(copies_of(net_->buffers())),
        parameters_(copies_of(net_->parameters())) {
    prepare();
    gradients_before_ = copies_if_defined();
    auto first = wrapped(Buffers::First);
    run(first);
    // Until the mean is taken the buffers are those that replica 0 wrote.
    if (setting.buffers == Buffers::Mean) buffer_states_.push_back(copies_of(net_->buffers()));
    prepare();
    run();
    y_ = on_cpu(last_);
    buffers_after_ = copies_of(net_->buffers());
    buffer_states_.insert(buffer_states_.end(), {initial_, buffers_after_});
    gradients_after_ = copies_of(gradients_of(*net_));
  }

  /// As before the step, as if an optimizer had written the parameters since the last one.
  void prepare() {
    const NoGradGuard no_grad;
    last_ = Tensor();
    const auto buffers = net_->buffers();
    for (std::size_t i = 0; i < buffers.size(); ++i) Tensor(buffers[i]).copy_(initial_[i]);
    for (const Tensor& p : net_->parameters()) {
      p.mutable_grad().reset();
      if (setting_.accumulates) p.mutable_grad() = ones_like(p);
    }
    touch_parameters(*net_);
    WatchedImpl::failed.clear();
  }

  void run() { run(parallel_); }

  /// No tensor is half changed.
  void check_state() const {
    check_equal("parameter", copies_of(net_->parameters()), {parameters_});
    check_equal("buffer", copies_of(net_->buffers()), buffer_states_);
    check_equal("gradient", copies_if_defined(), {gradients_before_, gradients_after_});
  }

  void check_result() const {
    CHECK(close(last_, y_, 1e-6));
    check_equal("buffer", copies_of(net_->buffers()), {buffers_after_});
    check_equal("gradient", copies_if_defined(), {gradients_after_});
  }

 private:
  static std::shared_ptr<WatchedImpl> made(Device device) {
    auto net = std::make_shared<WatchedImpl>();
    net->to(device);
    return net;
  }

  DataParallel<WatchedImpl> wrapped(Buffers buffers) const {
    return DataParallel(net_, DataParallelOptions().device_ids(on_).buffers(buffers).persistent(setting_.persistent));
  }

  void run(DataParallel<WatchedImpl>& parallel) {
    {
      const amp::autocast region(kCUDA, kBFloat16, setting_.in_region);
      last_ = parallel(x_);
    }
    last_.to(kFloat32).square().sum().backward();
    last_ = last_.detach();
  }

  State copies_if_defined() const {
    State all;
    for (const Tensor& g : gradients_of(*net_)) all.push_back(g.defined() ? on_cpu(g) : g);
    return all;
  }

  static void check_equal(const char* what, const State& found, const std::vector<State>& allowed) {
    for (std::size_t i = 0; i < found.size(); ++i) {
      INFO(what << ' ' << i);
      CHECK(std::ranges::any_of(allowed, [&](const State& state) {
        if (!found[i].defined() || !state[i].defined()) return found[i].defined() == state[i].defined();
        return close(found[i], state[i], 1e-6);
      }));
    }
  }

  Setting setting_;
  std::vector<Device> on_;
  std::shared_ptr<WatchedImpl> net_;
  DataParallel<WatchedImpl> parallel_;
  Tensor x_, last_, y_;
  State initial_, parameters_, buffers_after_, gradients_before_, gradients_after_;
  std::vector<State> buffer_states_;
};

/// No more than before. A block of pinned memory whose events cannot be asked is passed over, and another one is made
/// that stays.
bool is_no_leak(const Alive& before, const Alive& after) {
  return after.allocations <= before.allocations && after.bytes <= before.bytes &&
         after.streams <= before.streams + 1 && after.pinned <= before.pinned + 1;
}

bool has_memory_of(const Alive& a, const Alive& b) { return a.allocations == b.allocations && a.bytes == b.bytes; }

/// An idle block of pinned memory keeps an event for each GPU, so that their number goes up and down: what leaks with
/// many failures goes beyond that.
bool leaks_events(const Alive& before, const Alive& after) {
  return after.events > before.events + after.pinned * cuda_devices().size();
}

constexpr std::array kKinds{Kind::allocation, Kind::launch, Kind::library, Kind::copy, Kind::any};

/// Here NCCL is among the libraries.
bool is_clear(Kind kind, const std::string& message) {
  const bool may_be_nccl = kind == Kind::library || kind == Kind::any;
  return is_injected(kind, message) || (may_be_nccl && message.find("NCCL: ") != std::string::npos);
}

/// An error that left forward in a replica says in which.
bool names_its_replica(const std::string& message) {
  const std::set<int>& failed = WatchedImpl::failed;
  return failed.empty() || message == "no error" || std::ranges::any_of(failed, [&](int k) {
           return message.find(str("replica ", k, " on cuda:", k, ": ")) == 0;
         });
}

std::uint64_t count_calls(Kind kind, Step& step) {
  step.prepare();
  const std::uint64_t first = cudasim::calls_made(kind);
  step.run();
  return cudasim::calls_made(kind) - first;
}

std::string message_of_failing(Kind kind, std::uint64_t n, Step& step) {
  // An allocation is tried again after idle memory was given back, and each of three replicas may be the first to fail.
  cudasim::fail_call(kind, n, kind == Kind::allocation ? 4 : 1);
  const std::string message = message_of_error([&] { step.run(); });
  cudasim::clear_failures();
  return message;
}

/// One of every kEach calls fails; each setting begins with another, so that together they walk densely what they
/// share.
constexpr std::uint64_t kEach = 11;

void fail_each_call(Kind kind, Step& step, std::uint64_t from) {
  const std::uint64_t calls = count_calls(kind, step);
  step.prepare();
  const Alive before = alive();
  std::uint64_t errors = 0, tries = 0;
  for (std::uint64_t n = from; n <= calls; n += kEach, ++tries) {
    const std::string message = message_of_failing(kind, n, step);
    INFO(name_of(kind) << ' ' << n << " of " << calls << ": " << message);
    errors += message != "no error";
    CHECK(is_clear(kind, message));
    CHECK(names_its_replica(message));
    step.check_state();
    if (message == "no error") step.check_result();
    step.prepare();
    const Alive after = alive();
    INFO("before: " << before << "; after: " << after);
    CHECK(is_no_leak(before, after));
    step.run();
    step.check_result();
    step.prepare();
    const Alive later = alive();
    INFO("later: " << later);
    CHECK(has_memory_of(later, before));
    CHECK(is_no_leak(before, later));
  }
  INFO(name_of(kind) << ": " << errors << " of " << tries << " calls led to an error");
  CHECK((errors > 0 || tries == 0));
}

}  // namespace

TEST_CASE("a training step on several GPUs whose calls fail in turn changes nothing by half, and the next is right",
          "[cuda][nccl][parallel][amp][failures]") {
  need_gpus(3);
  const std::vector<Setting> settings{{false, false, Buffers::Mean},
                                      {false, true, Buffers::Sync},
                                      {true, false, Buffers::Sync},
                                      {true, true, Buffers::Mean},
                                      {false, true, Buffers::Mean, true, false},
                                      {true, false, Buffers::First, false, false}};
  const std::size_t i = GENERATE_REF(range(std::size_t{0}, settings.size()));
  const Setting& setting = settings[i];
  INFO((setting.with_nccl ? "NCCL" : "copies")
       << (setting.in_region ? ", in a region" : ", outside") << (setting.persistent ? "" : ", with new replicas"));
  const AllowNccl allowed(setting.with_nccl);
  manual_seed(1);
  Step step(setting);
  static const Alive first = alive();  // of all settings
  for (const Kind kind : kKinds) fail_each_call(kind, step, i + 1);
  INFO("first: " << first << "; last: " << alive());
  CHECK_FALSE(leaks_events(first, alive()));
}

#endif
