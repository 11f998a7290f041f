// The trace: what came, what ran, which policy decided.
#include <sstream>
#include <thread>

#include "amp/amp.h"
#include "autograd/ops.h"
#include "tests/catch.h"
#include "tests/devices.h"

using namespace halftone;
using Catch::Matchers::ContainsSubstring;
using test::kind;

namespace {

using Input = amp::TraceRecord::Input;

}  // namespace

TEST_CASE("a trace tells the dtypes that came and ran, and what came from the cache", "[amp][trace]") {
  const Tensor x = ones({2, 3}), w = ones({3, 4}).requires_grad_();
  const amp::autocast region(kind(), kBFloat16);
  const amp::trace trace;
  const Tensor y = x.matmul(w).matmul(w.t()).matmul(w);
  y.exp();
  const std::vector<amp::TraceRecord> records = trace.records();
  REQUIRE(records.size() == 5);
  CHECK(records[0].op == "matmul");
  CHECK(records[0].policy == Precision::lower);
  CHECK(records[0].shape == std::string(describe(ones({2, 4}, kBFloat16))));
  const auto check = [](const Input& input, Dtype came, Dtype ran, bool cached) {
    CHECK(input.came == came);
    CHECK(input.ran == ran);
    CHECK(input.cached == cached);
  };
  check(records[0].inputs[0], kFloat32, kBFloat16, false);
  check(records[0].inputs[1], kFloat32, kBFloat16, false);
  CHECK(records[1].op == "permute");
  check(records[2].inputs[1], kFloat32, kBFloat16, false);  // a view of the weight is not cached
  check(records[3].inputs[0], kBFloat16, kBFloat16, false);
  check(records[3].inputs[1], kFloat32, kBFloat16, true);
  CHECK(records[4].op == "exp");
  CHECK(records[4].result == kFloat32);
}

TEST_CASE("a trace prints a line an op", "[amp][trace]") {
  std::ostringstream out;
  const Tensor x = ones({2, 3}), w = ones({3, 4}).requires_grad_();
  {
    const amp::autocast region(kind(), kBFloat16);
    const amp::trace trace(out);
    x.matmul(w) + x.matmul(w);
  }
  x.exp();
  const std::string text = out.str();
  CHECK(std::count(text.begin(), text.end(), '\n') == 3);
  CHECK_THAT(text, ContainsSubstring("matmul") && ContainsSubstring("lower") &&
                       ContainsSubstring("(float32, float32) -> (bfloat16, bfloat16) -> bfloat16[2, 4]") &&
                       ContainsSubstring("(float32, float32) -> (bfloat16, bfloat16 cached) -> bfloat16[2, 4]") &&
                       ContainsSubstring("(bfloat16, bfloat16) -> bfloat16[2, 4]"));
}

TEST_CASE("an op made of others is one line, and its casts are not lines of their own", "[amp][trace]") {
  const Tensor x = ones({2, 3}), w = ones({4, 3}).requires_grad_(), b = ones({4}).requires_grad_();
  const amp::autocast region(kind(), kBFloat16);
  const amp::trace trace;
  linear(x, w, b);
  cosine_similarity(x, x);
  const auto records = trace.records();
  REQUIRE(records.size() == 2);
  CHECK(records[0].op == "linear");
  CHECK(records[0].inputs.size() == 3);
  CHECK(records[1].op == "cosine_similarity");
}

TEST_CASE("a summary counts calls, casts and cache hits by op and dtype", "[amp][trace]") {
  const Tensor x = ones({2, 3}), w = ones({3, 4}).requires_grad_();
  const amp::trace trace;
  {
    const amp::autocast region(kind(), kBFloat16);
    for (int i = 0; i < 3; ++i) x.matmul(w);
  }
  x.matmul(w);
  const std::string text = trace.summary();
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  const auto next_row = [&] {
    std::string op, dtype;
    int calls = 0, casts = 0, hits = 0;
    lines >> op >> dtype >> calls >> casts >> hits;
    return str(op, ' ', dtype, ' ', calls, ' ', casts, ' ', hits);
  };
  CHECK(next_row() == "matmul bfloat16 3 4 2");
  CHECK(next_row() == "matmul float32 1 0 0");
}

TEST_CASE("threads that inherit the context are traced too", "[amp][trace][threads]") {
  const amp::autocast region(kind(), kBFloat16);
  const amp::trace trace;
  const Context here = context;
  std::vector<std::thread> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&here] {
      const ContextScope scope(here);
      for (int j = 0; j < 50; ++j) ones({2, 2}).matmul(ones({2, 2}));
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(trace.records().size() == 200);
  CHECK(trace.records()[0].result == kBFloat16);
}
