// Captured graphs, from a single op to a whole training step in mixed precision.
#include <thread>

#include "halftone.h"
#include "kernels/backend.h"
#include "tests/cuda.h"

using namespace halftone;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Step {
  nn::Sequential net;
  std::unique_ptr<optim::Optimizer> optimizer;
  amp::GradScaler scaler;
  Tensor x, y, loss;
  int limiting;  // how the gradients' norm is limited; 3: not at all

  Step(Device device, bool adam, int way)
      : net(nn::Linear(6, 16), nn::ReLU(), nn::Linear(16, 3)),
        scaler(kCUDA,
               [] {
                 amp::GradScalerOptions options;
                 options.init_scale = 128;
                 options.growth_interval = 3;
                 return options;
               }()),
        limiting(way) {
    net->to(device);
    x = zeros({8, 6}, device);
    y = zeros({8}, TensorOptions(kInt64).device(device));
    if (adam) {
      optimizer = std::make_unique<optim::Adam>(net->parameters(), optim::AdamOptions(0.01));
    } else {
      optimizer = std::make_unique<optim::SGD>(net->parameters(), optim::SGDOptions(0.1).momentum(0.9));
    }
  }

  void run() {
    backward();
    finish();
  }
  void backward() {
    optimizer->zero_grad();
    {
      const amp::autocast region(kCUDA, kFloat16);
      loss = cross_entropy_loss(net->forward(x), y);
    }
    scaler.scale(loss).backward();
  }
  void finish() {
    if (limiting == 2) {
      scaler.step(*optimizer, amp::MaxNorm(0.1));
    } else {
      if (limiting == 1) scaler.unscale_(*optimizer);
      if (limiting < 2) scaler.clip_grad_norm_(*optimizer, 0.1);
      scaler.step(*optimizer);
    }
    scaler.update();
  }
  std::int64_t steps() {
    auto* const adam = dynamic_cast<optim::Adam*>(optimizer.get());
    if (!adam) return 0;
    return static_cast<optim::AdamParamState&>(*adam->state().at(net->parameters()[0].unsafeGetTensorImpl())).step();
  }
  // Another batch each time; the fifth overflows.
  void feed(int i) {
    manual_seed(100 + static_cast<std::uint64_t>(i));
    x.copy_(randn({8, 6}, kCPU) * (i == 5 ? 1e6 : 1.0));
    y.copy_(randint(3, {8}, TensorOptions(kInt64).device(kCPU)));
  }
};

struct Twins {
  std::unique_ptr<Step> eager, captured;

  // Warmed up: state of optimizer and scaler is made.
  explicit Twins(bool adam, int limiting = 3) : eager(make(adam, limiting)), captured(make(adam, limiting)) {
    for (int i = 0; i < 2; ++i) {
      feed(i);
      eager->run();
      captured->run();
    }
  }
  static std::unique_ptr<Step> make(bool adam, int limiting) {
    manual_seed(7);
    return std::make_unique<Step>(Device(kCUDA, 0), adam, limiting);
  }
  void feed(int i) {
    eager->feed(i);
    captured->feed(i);
  }
  void check_agree() {
    CHECK(captured->scaler.get_scale() == eager->scaler.get_scale());
    CHECK(captured->scaler.get_growth_tracker() == eager->scaler.get_growth_tracker());
    CHECK(captured->scaler.skipped_steps() == eager->scaler.skipped_steps());
    CHECK(captured->steps() == eager->steps());
    const auto a = eager->net->parameters(), b = captured->net->parameters();
    for (std::size_t k = 0; k < a.size(); ++k) CHECK(allclose(b[k], a[k], 1e-5, 1e-6));
#if HALFTONE_SIMULATED_CUDA
    CHECK(cudasim::reports().empty());
#endif
  }
};

}  // namespace

TEST_CASE("a captured training step does what the eager one does", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const bool adam = GENERATE(false, true);
  const int limiting = GENERATE(0, 1, 2);
  INFO((adam ? "Adam" : "SGD") << ", way " << limiting);
  const Device device(kCUDA, 0);
  Twins twins(adam, limiting);
  const auto &eager = twins.eager, &captured = twins.captured;
  cuda::Graph graph(device);
  graph.capture([&] { captured->run(); });
  CHECK(graph.nodes() > 10);
  for (int i = 2; i < 12; ++i) {
    INFO("step " << i);
    eager->feed(i), eager->run();
    captured->feed(i), graph.replay();
    CHECK(allclose(captured->loss, eager->loss, 1e-5, 1e-6, /*equal_nan=*/true));
    twins.check_agree();
  }
  CHECK(captured->scaler.skipped_steps() > 0);
}

namespace {

// A step of a small network for images. Its scale is so large at first that gradients overflow.
struct ImageStep {
  nn::Sequential features, rest;
  std::unique_ptr<optim::Optimizer> optimizer;
  amp::GradScaler scaler;
  Tensor x, y, dropped, loss;
  MemoryFormat format;

  ImageStep(Device device, MemoryFormat order)
      : features(nn::Conv2d(nn::Conv2dOptions(3, 8, 3).padding(1).bias(false)), nn::BatchNorm2d(8), nn::ReLU(),
                 nn::MaxPool2d(2)),
        rest(nn::Conv2d(nn::Conv2dOptions(8, 8, 3)), nn::BatchNorm2d(8), nn::ReLU(), nn::Flatten(), nn::Linear(32, 3)),
        scaler(kCUDA, {.init_scale = 0x1p22, .growth_interval = 3}),
        format(order) {
    for (const nn::Sequential& part : {features, rest}) {
      part->to(device);
      part->to(format);
    }
    x = zeros({6, 3, 8, 8}, TensorOptions(kFloat32).device(device).memory_format(format));
    y = zeros({6}, TensorOptions(kInt64).device(device));
    optimizer = std::make_unique<optim::SGD>(parameters(), optim::SGDOptions(0.05).momentum(0.9));
  }

  std::vector<Tensor> parameters() const {
    std::vector<Tensor> all = features->parameters();
    for (const Tensor& p : rest->parameters()) all.push_back(p);
    return all;
  }
  std::vector<Tensor> buffers() const {
    std::vector<Tensor> all = features->buffers();
    for (const Tensor& b : rest->buffers()) all.push_back(b);
    return all;
  }
  void feed(int i) {
    manual_seed(100 + static_cast<std::uint64_t>(i));
    x.copy_(randn({6, 3, 8, 8}, kCPU));
    y.copy_(randint(3, {6}, TensorOptions(kInt64).device(kCPU)));
  }
  // Drops what `mask` drops, or draws a mask of its own.
  void run(const Tensor& mask = {}) {
    optimizer->zero_grad();
    {
      const amp::autocast region(kCUDA, kFloat16);
      const Tensor found = features->forward(x);
      dropped = mask.defined() ? found * mask : dropout(found, 0.5, true);
      loss = cross_entropy_loss(rest->forward(dropped), y);
    }
    scaler.scale(loss).backward();
    scaler.step(*optimizer);
    scaler.update();
  }
  // What the last run multiplied by. A 0 may have been one before; then nothing depends on it.
  Tensor mask() const { return dropped.detach().ne(0).to(dropped.dtype()) * 2; }
};

void check_agree(const ImageStep& a, const ImageStep& b) {
  CHECK(allclose(a.loss, b.loss, 1e-3, 1e-4));
  CHECK(a.scaler.get_scale() == b.scaler.get_scale());
  CHECK(a.scaler.skipped_steps() == b.scaler.skipped_steps());
  const std::vector<Tensor> left = a.parameters(), right = b.parameters();
  for (std::size_t k = 0; k < left.size(); ++k) {
    INFO("parameter " << k);
    CHECK(allclose(left[k], right[k], 1e-3, 1e-4));
  }
  const std::vector<Tensor> seen = a.buffers(), expected = b.buffers();
  for (std::size_t k = 0; k < seen.size(); ++k) {
    INFO("buffer " << k);
    CHECK(allclose(seen[k].to(kFloat32), expected[k].to(kFloat32), 1e-3, 1e-4));
  }
}

}  // namespace

TEST_CASE("a captured step of a network for images does what the eager one does", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, cuda::device_count() > 1 ? 1 : 0);
  const MemoryFormat format = GENERATE(MemoryFormat::Contiguous, MemoryFormat::ChannelsLast);
  INFO(device << (format == MemoryFormat::ChannelsLast ? ", channels-last" : ""));
  manual_seed(7);
  ImageStep captured(device, format);
  manual_seed(7);
  ImageStep eager(device, format);
  for (int i = 0; i < 2; ++i) {
    captured.feed(i), captured.run();
    eager.feed(i), eager.run(captured.mask());
  }
  check_agree(captured, eager);
  cuda::Graph graph(device);
  graph.capture([&] { captured.run(); });
  std::vector<Tensor> masks;
  for (int i = 2; i < 12; ++i) {
    INFO("step " << i);
    captured.feed(i), graph.replay();
    masks.push_back(captured.mask());
    eager.feed(i), eager.run(masks.back());
    check_agree(captured, eager);
  }
  for (std::size_t i = 1; i < masks.size(); ++i) CHECK_FALSE(equal(masks[i], masks[i - 1]));
  CHECK(eager.dropped.suggest_memory_format() == format);
  CHECK(captured.scaler.skipped_steps() > 2);
  CHECK(captured.scaler.skipped_steps() < 10);
#if HALFTONE_SIMULATED_CUDA
  CHECK(cudasim::reports().empty());
#endif
}

TEST_CASE("a graph of the backward pass alone scales by what the updates outside of it made of the scale",
          "[cuda][graph]") {
  if (!cuda::is_available()) return;
  Twins twins(GENERATE(false, true));
  for (const auto& twin : {twins.eager.get(), twins.captured.get()}) twin->scaler.set_growth_interval(1);
  cuda::Graph graph(Device(kCUDA, 0));
  graph.capture([&] { twins.captured->backward(); });
  for (int i = 2; i < 8; ++i) {
    INFO("step " << i);
    twins.feed(i);
    twins.eager->run();
    graph.replay();
    twins.captured->finish();
    twins.check_agree();
  }
  CHECK(twins.captured->scaler.history()[4].scale == twins.eager->scaler.history()[4].scale);
}

TEST_CASE("a captured step goes on after steps, scales and states from outside of it", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  Twins twins(GENERATE(false, true));
  cuda::Graph graph(Device(kCUDA, 0));
  graph.capture([&] { twins.captured->run(); });
  int i = 2;
  const auto replay = [&] {
    INFO("step " << i);
    twins.feed(i++);
    twins.eager->run();
    graph.replay();
    twins.check_agree();
  };
  replay();
  twins.feed(i++);
  twins.eager->run();
  twins.captured->run();
  twins.check_agree();
  replay();
  for (const auto& twin : {twins.eager.get(), twins.captured.get()}) twin->scaler.update(64.0);
  replay();
  for (const auto& twin : {twins.eager.get(), twins.captured.get()})
    twin->scaler.update(full({}, 256.0, TensorOptions(kFloat32).device(kCUDA)));
  replay();
  StateDict saved = twins.eager->scaler.state_dict();
  saved.set("scale", 32.0);
  for (const auto& twin : {twins.eager.get(), twins.captured.get()}) twin->scaler.load_state_dict(saved);
  replay();
  replay();
}

TEST_CASE("saving an optimizer between replays does not disturb them", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  Twins twins(true);
  cuda::Graph graph(Device(kCUDA, 0));
  graph.capture([&] { twins.captured->run(); });
  for (int i = 2; i < 8; ++i) {  // with a skipped one
    INFO("step " << i);
    twins.feed(i);
    twins.eager->run();
    graph.replay();
    const StateDict saved = twins.captured->optimizer->state_dict();
    CHECK(saved.values.at("state.0.step") == twins.eager->optimizer->state_dict().values.at("state.0.step"));
    twins.check_agree();
  }
}

TEST_CASE("what a graph makes for itself is not used outside of it", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const Tensor w = ones({4}, Device(kCUDA, 0)).requires_grad_();
  optim::SGD sgd({w}, 1.0);
  amp::GradScaler scaler(kCUDA, {.init_scale = 8});
  const auto step = [&] {
    sgd.zero_grad();
    scaler.scale(w.sum()).backward();
    scaler.step(sgd);
    scaler.update();
  };
  cuda::Graph graph(Device(kCUDA, 0));
  CHECK_THROWS_AS(graph.capture(step), Error);  // a scaler cannot begin in it
  scaler.scale(w.sum());
  graph.capture(step);
  step();  // before any replay
  CHECK(w.sum().item<float>() == 0);
  graph.replay();
  CHECK(w.sum().item<float>() == -4);
  CHECK(scaler.get_growth_tracker() == 2);
}

TEST_CASE("a replay reads its inputs anew and writes the same outputs", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const Device device = cuda_devices().back();
  const Tensor x = ones({5}, device);
  Tensor y;
  cuda::Graph graph(device);
  graph.capture([&] {
    CHECK(cuda::is_capturing(device));
    y = x * 2 + 1;
  });
  CHECK_FALSE(cuda::is_capturing(device));
  graph.replay();
  CHECK(y.sum().item<float>() == 15);
  const void* const place = y.data_ptr();
  x.fill_(10);
  graph.replay();
  CHECK(y.sum().item<float>() == 105);
  CHECK(y.data_ptr() == place);

  graph.capture([&] { y = x - 1; });  // instead of what it held
  graph.replay();
  CHECK(y.sum().item<float>() == 45);
  graph.reset();
  CHECK(y.sum().item<float>() == 45);  // a tensor of the graph outlives it
  CHECK_THAT(message_of_error([&] { graph.replay(); }), ContainsSubstring("cuda::Graph: replay of an empty graph"));
}

TEST_CASE("random numbers of a graph differ from replay to replay", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  const Tensor x = ones({256}, device).requires_grad_();
  Tensor dropped, uniform, gradient;
  cuda::Graph graph(device);
  graph.capture([&] {
    x.mutable_grad().reset();
    dropped = dropout(x, 0.5, true);
    dropped.sum().backward();
    gradient = x.grad();
    uniform = rand({256}, device);
  });
  graph.replay();
  const Tensor first = dropped.cpu(), first_uniform = uniform.cpu();
  CHECK(equal(gradient.cpu(), first));  // backward saw the same mask
  graph.replay();
  CHECK_FALSE(equal(dropped.cpu(), first));
  CHECK_FALSE(equal(uniform.cpu(), first_uniform));
  CHECK(equal(gradient.cpu(), dropped.cpu()));
}

TEST_CASE("what cannot be captured says so and leaves the device as it was", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  const Tensor x = ones({4}, device), host = ones({4}, kCPU);
  cuda::Graph graph(device);
  struct Row {
    const char* name;
    std::function<void()> work;
    const char* message;
  };
  const Row rows[] = {
      {"item", [&] { (x + 1).sum().item(); }, "a copy between ordinary host memory and cuda:0 cannot be captured"},
      {"to the host", [&] { x.cpu(); }, "a copy between ordinary host memory and cuda:0 cannot be captured"},
      {"from the host", [&] { host.to(device); }, "a copy between ordinary host memory and cuda:0 cannot be captured"},
      {"nonzero", [&] { x.nonzero(); }, "a copy between ordinary host memory and cuda:0 cannot be captured"},
      {"masked_select", [&] { x.masked_select(x.gt(0)); },
       "a copy between ordinary host memory and cuda:0 cannot be captured"},
      {"synchronize", [&] { cuda::synchronize(0); }, "waiting for cuda:0 cannot be captured"},
      {"nested", [&] { cuda::Graph(device).capture_begin(); }, "another graph is being captured on cuda:0"},
      {"own error", [&] { fail("mine"); }, "mine"},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK_THAT(message_of_error([&] { graph.capture(row.work); }), ContainsSubstring(row.message));
    CHECK_FALSE(cuda::is_capturing(device));
    CHECK(x.sum().item<float>() == 4);
    CHECK_THROWS_AS(graph.replay(), Error);
  }
  CHECK_THAT(message_of_error([&] { graph.capture_end(); }), ContainsSubstring("capture_end without capture_begin"));
}

TEST_CASE("work of another device cannot be captured", "[cuda][graph]") {
  if (cuda::device_count() < 2) return;
  const Device here(kCUDA, 0), there(kCUDA, 1);
  const Tensor x = ones({4}, here), y = ones({4}, there), square = ones({4, 4}, there);
  Tensor product = empty({4, 4}, there), copied = empty({4}, there);
  cuda::Graph graph(here), other(there);
  other.capture([&] { copied = y * 2; });
  struct Row {
    const char* name;
    std::function<void()> work;
    const char* message;
  };
  const char* const refused =
      "work on cuda:1 cannot be captured: a graph holds one device's work, this one that of cuda:0";
  const Row rows[] = {
      {"made there", [&] { ones({4}, there); }, refused},
      {"kernel", [&] { y.add_(1); }, refused},
      {"product", [&] { backend(square).gemm(square, square, {}, Activation::none, false, product); }, refused},
      {"copy within", [&] { copied.copy_(y); }, refused},
      {"from there to the host", [&] { y.cpu(); }, refused},
      {"from here to there", [&] { x.to(there); }, refused},
      {"into memory there", [&] { copied.copy_(x); }, refused},
      {"from there to here", [&] { x.copy_(y); }, "a copy from cuda:1 to cuda:0 cannot be captured"},
      {"a graph of its own", [&] { cuda::Graph(there).capture_begin(); }, refused},
      {"a replay", [&] { other.replay(); }, refused},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK_THAT(message_of_error([&] { graph.capture(row.work); }), ContainsSubstring(row.message));
    CHECK_FALSE(cuda::is_capturing(here));
    CHECK((x + 1).sum().item<float>() == 8);
    CHECK((y + 1).sum().item<float>() == 8);
  }
}

TEST_CASE("what other threads do is left out of a graph", "[cuda][graph]") {
  if (cuda::device_count() < 2) return;
  const Device here(kCUDA, 0), there(kCUDA, 1);
  const Tensor x = ones({4}, here), y = ones({4}, there);
  Tensor z = x + 1, result;
  const auto in_thread = [](const std::function<void()>& work) {
    std::string message;
    std::thread([&] { message = message_of_error(work); }).join();
    return message;
  };
  cuda::Graph graph(here);
  graph.capture_begin();
  result = x * 3;
  const char* const refused = "a graph is being captured on cuda:0 by another thread";
  CHECK_THAT(in_thread([&] { x + 1; }), ContainsSubstring(refused));
  CHECK_THAT(in_thread([&] { x.add_(1); }), ContainsSubstring(refused));
  CHECK_THAT(in_thread([&] { x.cpu(); }), ContainsSubstring(refused));
  CHECK(in_thread([&] { z.reset(); }) == "no error");
  CHECK(in_thread([&] { (y + 1).cpu(); }) == "no error");
  graph.capture_end();
  graph.replay();
  CHECK(result.sum().item<float>() == 12);
  CHECK(in_thread([&] { (x + 1).cpu(); }) == "no error");
}

TEST_CASE("pinned memory that a graph copies from stays the graph's", "[cuda][graph][pinned]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  const auto pinned = [](double value) {
    return full({1000}, value, TensorOptions(kFloat32).device(kCPU)).pin_memory();
  };
  const Tensor there = zeros({1000}, device);
  cuda::Graph graph(device);
  const void* place = nullptr;
  graph.capture([&] {
    const Tensor host = pinned(7);
    place = host.data_ptr();
    there.copy_(host, /*non_blocking=*/true);
  });
  for (int round = 0; round < 3; ++round) {
    const Tensor other = pinned(-1);
    CHECK(other.data_ptr() != place);
    there.zero_();
    graph.replay();
    CHECK(there.eq(7).all().item<bool>());
  }
  graph.replay();
  graph.reset();
  CHECK(there.eq(7).all().item<bool>());
  std::vector<Tensor> all;  // the memory is used again
  bool found = false;
  for (int i = 0; i < 8; ++i) all.push_back(pinned(i)), found = found || all.back().data_ptr() == place;
  CHECK(found);
}

TEST_CASE("an optimizer without state cannot begin inside a graph", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const Tensor w = ones({4}, kCUDA).requires_grad_();
  w.sum().backward();
  optim::Adam adam({w}, optim::AdamOptions(0.1));
  cuda::Graph graph;
  CHECK_THAT(message_of_error([&] { graph.capture([&] { adam.step(); }); }),
             ContainsSubstring("take one step before it is captured"));
  adam.step();
  CHECK_THAT(message_of_error([&] { graph.capture([&] { adam.step(); }); }), ContainsSubstring("capturable(true)"));
}

TEST_CASE("a graph's memory goes with its last tensor", "[cuda][graph]") {
  if (!cuda::is_available()) return;
  const Device device(kCUDA, 0);
  const std::int64_t before = memory_stats(device).current;
  {
    Tensor y;
    {
      cuda::Graph graph(device);
      const Tensor x = ones({1000}, device);
      graph.capture([&] { y = (x + 1) * 2; });
      graph.replay();
    }
    CHECK(y.sum().item<float>() == 4000);
  }
  CHECK(memory_stats(device).current == before);
}
