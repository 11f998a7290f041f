// Module: registration, traversal, conversion, copies, state dictionaries, hooks, printing.
#include "halftone.h"
#include "tests/catch.h"

using namespace halftone;
using namespace halftone::nn;
using Catch::Matchers::ContainsSubstring;

namespace {

template <class Function> std::string message_of(Function f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

struct Bare : Module {
  Bare() : Module("Bare") {}
};

/// Two linear layers, a norm and a buffer of integers.
struct NetImpl : Cloneable<NetImpl> {
  NetImpl() { NetImpl::reset(); }
  void reset() override {
    scale = register_parameter("scale", ones(2));
    fc1 = register_module("fc1", Linear(2, 3));
    norm = register_module("norm", BatchNorm1d(3));
    fc2 = register_module("fc2", Linear(3, 2));
    steps = register_buffer("steps", zeros({}, kInt64));
  }
  Tensor forward(const Tensor& x) { return fc2(norm(fc1(x * scale)).relu()); }

  Tensor scale, steps;
  Linear fc1{nullptr}, fc2{nullptr};
  BatchNorm1d norm{nullptr};
};
TORCH_MODULE(Net);

/// The decoder's weight is the encoder's.
struct TiedImpl : Cloneable<TiedImpl> {
  TiedImpl() { TiedImpl::reset(); }
  void reset() override {
    encoder = register_module("encoder", Linear(LinearOptions(3, 3).bias(false)));
    shared = register_parameter("shared", encoder->weight);
    table = register_buffer("table", ones(2));
    same_table = register_buffer("same_table", table);
  }
  Linear encoder{nullptr};
  Tensor shared, table, same_table;
};
TORCH_MODULE(Tied);

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("names must be new, not empty and without dots", "[module]") {
  Bare m;
  m.register_parameter("p", ones(1));
  m.register_buffer("b", ones(1));
  m.register_module("m", Linear(1, 1));
  const std::vector<std::pair<std::function<void()>, std::string>> rows = {
      {[&] { m.register_parameter("", ones(1)); }, "Parameter name must not be empty"},
      {[&] { m.register_parameter("a.b", ones(1)); }, "Parameter name must not contain a dot (got 'a.b')"},
      {[&] { m.register_parameter("p", ones(1)); }, "Parameter 'p' already defined"},
      {[&] { m.register_parameter("b", ones(1)); }, "Parameter 'b' already defined"},
      {[&] { m.register_parameter("i", ones(1, kInt64)); },
       "Only Tensors of floating point dtype can require gradients, but the parameter 'i' is int64; register it with "
       "requires_grad = false, or as a buffer"},
      {[&] { m.register_buffer("", ones(1)); }, "Buffer name must not be empty"},
      {[&] { m.register_buffer("a.b", ones(1)); }, "Buffer name must not contain a dot (got 'a.b')"},
      {[&] { m.register_buffer("b", ones(1)); }, "Buffer 'b' already defined"},
      {[&] { m.register_module("", Linear(1, 1)); }, "Submodule name must not be empty"},
      {[&] { m.register_module("a.b", Linear(1, 1)); }, "Submodule name must not contain a dot (got 'a.b')"},
      {[&] { m.register_module("m", Linear(1, 1)); }, "Submodule 'm' already defined"},
      {[&] { m.register_module("n", std::shared_ptr<LinearImpl>()); }, "Submodule 'n' is a null pointer"},
      {[&] { m.register_module("n", Linear(nullptr)); }, "Accessing empty ModuleHolder"},
      {[&] { m.unregister_module("zz"); }, "No Module with name `zz` is registered"},
      {[&] { m.replace_module("zz", Linear(1, 1)); }, "Submodule 'zz' is not defined"},
  };
  for (const auto& [act, message] : rows) CHECK(message_of(act) == message);
  CHECK(m.named_parameters().keys() == Strings{"p", "m.weight", "m.bias"});
}

TEST_CASE("undefined tensors may be registered and are passed over", "[module]") {
  static std::string warned;
  const WarningHandler before = set_warning_handler([](const std::string& message) { warned = message; });
  Bare m;
  m.register_parameter("u", {}, false);
  CHECK(warned.empty());
  m.register_parameter("v", {});
  m.register_buffer("w", {});
  m.register_parameter("i", ones(2, kInt32), false);
  set_warning_handler(before);
  CHECK_THAT(warned, ContainsSubstring("An undefined tensor cannot require grad"));
  CHECK(m.named_parameters().keys() == Strings{"i"});
  CHECK(m.buffers().empty());
  m.to(kFloat64);
  CHECK(m.parameters()[0].dtype() == kInt32);
}

TEST_CASE("traversal goes in the order of registration, own entries first", "[module]") {
  Net net;
  CHECK(net->named_parameters().keys() ==
        Strings{"scale", "fc1.weight", "fc1.bias", "norm.weight", "norm.bias", "fc2.weight", "fc2.bias"});
  CHECK(net->named_parameters(false).keys() == Strings{"scale"});
  CHECK(net->parameters().size() == 7);
  CHECK(net->named_buffers().keys() ==
        Strings{"steps", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"});
  CHECK(net->buffers(false).size() == 1);
  CHECK(net->named_modules().keys() == Strings{"", "fc1", "norm", "fc2"});
  CHECK(net->named_modules("top").keys() == Strings{"top", "top.fc1", "top.norm", "top.fc2"});
  CHECK(net->named_modules("", false).keys() == Strings{"fc1", "norm", "fc2"});
  CHECK(net->modules().front() == net.ptr());
  CHECK(net->modules(false).size() == 3);
  CHECK(net->children().size() == 3);
  CHECK(net->named_children().keys() == Strings{"fc1", "norm", "fc2"});
  CHECK(net->named_parameters()["fc1.weight"].is_same(net->fc1->weight));
}

TEST_CASE("a parameter that is registered twice comes once", "[module]") {
  Tied tied;
  CHECK(tied->named_parameters().keys() == Strings{"shared"});
  CHECK(tied->named_buffers().keys() == Strings{"table"});
  CHECK(tied->state_dict().keys() == Strings{"shared", "table", "same_table", "encoder.weight"});
}

TEST_CASE("apply takes every form of function", "[module]") {
  Net net;
  Strings names;
  net->apply([&](Module& m) { names.push_back(m.display_name()); });
  CHECK(names == Strings{"Net", "Linear 'fc1'", "BatchNorm1d 'norm'", "Linear 'fc2'"});
  names.clear();
  net->apply([&](const std::string& name, Module&) { names.push_back(name); }, "net");
  CHECK(names == Strings{"net", "net.fc1", "net.norm", "net.fc2"});
  int count = 0;
  net->apply([&](const std::shared_ptr<Module>& m) { count += m != nullptr; });
  net->apply([&](const std::string&, const std::shared_ptr<Module>& m) { count += m != nullptr; });
  std::as_const(*net).apply([&](const Module&) { ++count; });
  std::as_const(*net).apply([&](const std::string&, const Module&) { ++count; });
  CHECK(count == 16);
}

TEST_CASE("a module on the stack works until someone asks for a pointer to it", "[module]") {
  NetImpl net;
  int count = 0;
  net.apply([&](Module&) { ++count; });
  CHECK(count == 4);
  CHECK(net.modules(false).size() == 3);
  for (const std::string& message : {message_of([&] { net.modules(); }), message_of([&] { net.named_modules(); }),
                                     message_of([&] { net.apply([](std::shared_ptr<Module>) {}); })}) {
    CHECK_THAT(message, ContainsSubstring("is not stored in a shared_ptr. Use std::make_shared<"));
  }
}

TEST_CASE("train and eval reach every submodule", "[module]") {
  Net net;
  CHECK(net->is_training());
  net->eval();
  for (const auto& m : net->modules()) CHECK_FALSE(m->is_training());
  net->train();
  for (const auto& m : net->modules()) CHECK(m->is_training());
}

TEST_CASE("zero_grad drops gradients or fills them with zeros", "[module]") {
  Net net;
  net(randn({4, 2})).sum().backward();
  const Tensor grad = net->fc1->weight.grad();
  net->zero_grad(false);
  CHECK(net->fc1->weight.grad().is_same(grad));
  CHECK(grad.abs().sum().item<float>() == 0);
  net->zero_grad();
  CHECK_FALSE(net->fc1->weight.grad().defined());
  net->requires_grad_(false);
  CHECK_FALSE(net(randn({4, 2})).requires_grad());
}

TEST_CASE("modules have names, paths and display names", "[module]") {
  Net net;
  CHECK_THAT(net->name(), ContainsSubstring("NetImpl"));
  CHECK(Linear(1, 1)->name() == "halftone::nn::LinearImpl");
  CHECK(Bare().name() == "Bare");
  Sequential inner(Linear(1, 1));
  Sequential outer{inner, Identity()};
  CHECK(inner[0]->path() == "0.0");
  Bare top;
  top.register_module("deep", outer);
  CHECK(inner[0]->path() == "deep.0.0");
  inner->push_back(Linear(1, 1));
  CHECK(inner[1]->display_name() == "Linear 'deep.0.1'");
  const auto replaced = top.replace_module("deep", Linear(1, 1));
  CHECK(replaced->path() == "deep");
  top.unregister_module("deep");
  CHECK(replaced->path().empty());
  CHECK(replaced->display_name() == "Linear");
}

TEST_CASE("as gives a pointer to the class asked for", "[module]") {
  std::shared_ptr<Module> m = Linear(1, 2).ptr();
  CHECK(m->as<Linear>() == m.get());
  CHECK(m->as<LinearImpl>()->options.out_features() == 2);
  CHECK(m->as<Conv2d>() == nullptr);
  CHECK(std::as_const(*m).as<Linear>() != nullptr);
}

TEST_CASE("a module prints its tree", "[module]") {
  struct AImpl : Module {
    AImpl() {
      register_module("fc", Linear(2, 3));
      register_module("seq", Sequential(ReLU(), Functional(halftone::relu)));
    }
    void pretty_print(std::ostream& out) const override { out << "A"; }
  };
  CHECK(str(AImpl()) ==
        "A(\n"
        "  (fc): torch::nn::Linear(in_features=2, out_features=3, bias=true)\n"
        "  (seq): torch::nn::Sequential(\n"
        "    (0): torch::nn::ReLU()\n"
        "    (1): torch::nn::Functional()\n"
        "  )\n"
        ")");
  CHECK(str(Bare()) == "Bare");
}

// ------------------------------------------------------------------------------------------------ conversion

TEST_CASE("converting changes floating tensors under live handles", "[module]") {
  Net net;
  const Tensor weight = net->fc1->weight, mean = net->norm->running_mean;
  net(randn({4, 2})).sum().backward();
  const Tensor grad = weight.grad();
  net->half();
  for (const Tensor& p : net->parameters()) {
    CHECK(p.dtype() == kFloat16);
    CHECK(p.grad().dtype() == kFloat16);
    CHECK(p.is_leaf());
    CHECK(p.requires_grad());
  }
  CHECK(net->fc1->weight.is_same(weight));
  CHECK(weight.grad().is_same(grad));
  CHECK(weight.dtype() == kFloat16);
  CHECK(mean.dtype() == kFloat16);
  CHECK(net->norm->num_batches_tracked.dtype() == kInt64);
  CHECK(net->steps.dtype() == kInt64);
  net->bfloat16();
  CHECK(weight.dtype() == kBFloat16);
  net->to(Device("cpu:1"), kFloat64);
  CHECK(weight.dtype() == kFloat64);
  CHECK(weight.device() == Device("cpu:1"));
  CHECK(net->steps.device() == Device("cpu:1"));
  CHECK(net->steps.dtype() == kInt64);
  net->to(kCPU);
  CHECK(weight.is_cpu());
  CHECK(weight.grad().device() == canonical(kCPU));
}

TEST_CASE("to(memory format) lays out kernels and their gradients, and leaves all else", "[module]") {
  Sequential net(Conv2d(3, 4, 2), BatchNorm2d(4), ConvTranspose2d(4, 2, 2), Conv3d(2, 3, 2), Linear(2, 2));
  const Tensor image = net->parameters()[0], volume = net->named_parameters()["3.weight"], flat = net->parameters()[1];
  image.mutable_grad() = randn_like(image);
  const Tensor values = image.detach().clone(), grad = image.grad(), grad_values = grad.clone();
  for (const MemoryFormat format : {MemoryFormat::ChannelsLast, MemoryFormat::Contiguous, MemoryFormat::Preserve}) {
    const MemoryFormat wanted = format == MemoryFormat::Preserve ? MemoryFormat::Contiguous : format;
    net->to(format);
    CHECK(net->parameters()[0].is_same(image));
    CHECK(image.grad().is_same(grad));
    for (const Tensor& t : {image, grad, volume, net->named_parameters()["2.weight"]}) {
      CHECK(t.is_contiguous(wanted));
      CHECK(t.suggest_memory_format() == wanted);
    }
    CHECK(equal(image, values));
    CHECK(equal(grad, grad_values));
    CHECK(image.requires_grad());
    CHECK(flat.is_contiguous());
  }
}

TEST_CASE("a channels-last net trains as another does, and its gradients lie as its kernels", "[module]") {
  manual_seed(0);
  Sequential plain(Conv2d(3, 4, 3), ReLU(), Conv2d(4, 2, 1)), last(Conv2d(3, 4, 3), ReLU(), Conv2d(4, 2, 1));
  last->load_state_dict(plain->state_dict());
  optim::SGD for_plain(plain->parameters(), optim::SGDOptions(0.1).momentum(0.9));
  optim::SGD for_last(last->parameters(), optim::SGDOptions(0.1).momentum(0.9));
  const Tensor x = randn({2, 3, 5, 6});
  for (int i = 0; i < 4; ++i) {
    if (i == 2) last->to(MemoryFormat::ChannelsLast);
    for (auto& [net, optimizer] : {std::tie(plain, for_plain), std::tie(last, for_last)}) {
      optimizer.zero_grad();
      net->forward(x).square().mean().backward();
      optimizer.step();
    }
  }
  const std::vector<Tensor> a = plain->parameters(), b = last->parameters();
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].allclose(b[i], 1e-4, 1e-5));
    CHECK(b[i].grad().strides() == b[i].strides());
  }
  CHECK(b[0].suggest_memory_format() == MemoryFormat::ChannelsLast);
}

TEST_CASE("an optimizer built before a conversion goes on working", "[module]") {
  manual_seed(0);
  Net net;
  optim::SGD sgd(net->parameters(), optim::SGDOptions(0.1).momentum(0.9));
  const Tensor x = randn({8, 2}, kFloat64);
  net->to(kFloat64);
  const double before = net(x).square().mean().item<double>();
  for (int i = 0; i < 20; ++i) {
    sgd.zero_grad();
    net(x).square().mean().backward();
    sgd.step();
  }
  CHECK(net->fc1->weight.dtype() == kFloat64);
  CHECK(net(x).square().mean().item<double>() < before / 2);
}

TEST_CASE("tied parameters and shared buffers stay shared in a conversion", "[module]") {
  Tied tied;
  tied->half();
  CHECK(tied->shared.is_same(tied->encoder->weight));
  CHECK(tied->encoder->weight.dtype() == kFloat16);
  CHECK(tied->table.is_same(tied->same_table));
  tied->table.fill_(5);
  CHECK(tied->named_buffers()["table"][1].item<float>() == 5);
}

TEST_CASE("normalisation layers may stay in float32", "[module]") {
  const bool bf16 = GENERATE(false, true);
  const Dtype low = bf16 ? kBFloat16 : kFloat16;
  Sequential net(Linear(4, 4), BatchNorm1d(4), LayerNorm(LayerNormOptions({4})), GroupNorm(2, 4));
  bf16 ? net->bfloat16(true) : net->half(true);
  const auto dtype_of = [&](const std::string& key) { return net->state_dict()[key].dtype(); };
  CHECK(dtype_of("0.weight") == low);
  for (const char* key : {"1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "3.bias"}) {
    CHECK(dtype_of(key) == kFloat32);
  }
  const Tensor y = net->forward(randn({6, 4}, low));
  CHECK(y.dtype() == low);
  y.sum().backward();
  CHECK(net->named_parameters()["1.weight"].grad().dtype() == kFloat32);
  net->half();
  CHECK(dtype_of("1.running_var") == kFloat16);
}

TEST_CASE("parameters that need gradients do not become integers", "[module]") {
  Net net;
  CHECK_THAT(message_of([&] { net->to(kInt32); }),
             ContainsSubstring("the parameter 'scale' of") && ContainsSubstring("cannot become int32"));
  CHECK(net->fc1->weight.dtype() == kFloat32);
  net->requires_grad_(false);
  net->to(kInt32);
  CHECK(net->fc1->weight.dtype() == kInt32);
}

// ------------------------------------------------------------------------------------------------ copies

TEST_CASE("clone is deep and keeps values, mode and flags", "[module]") {
  Net net;
  net->eval();
  net->steps.fill_(7);
  net->fc1->weight.requires_grad_(false);
  net->half();
  Net copy = net.clone();
  CHECK(copy.ptr() != net.ptr());
  CHECK_FALSE(copy->is_training());
  CHECK_FALSE(copy->norm->is_training());
  const auto a = net->named_parameters(), b = copy->named_parameters();
  CHECK(a.keys() == b.keys());
  for (const auto& item : a) {
    CHECK(equal(item.value(), b[item.key()]));
    CHECK_FALSE(item.value().is_alias_of(b[item.key()]));
    CHECK(item.value().requires_grad() == b[item.key()].requires_grad());
  }
  CHECK(copy->steps.item<int>() == 7);
  CHECK(copy->fc1->weight.is_same(b["fc1.weight"]));
  copy->scale.detach().fill_(3);
  CHECK(net->scale[0].item<float>() == 1);
  Net moved = net.clone(Device("cpu:1"));
  CHECK(moved->fc2->bias.device() == Device("cpu:1"));
  CHECK(moved->steps.device() == Device("cpu:1"));
}

TEST_CASE("clone says what is missing", "[module]") {
  CHECK(
      message_of([] { Bare().clone(); }) ==
      "clone() has not been implemented for Bare. Subclass torch::nn::Cloneable<Bare> instead of torch::nn::Module to "
      "inherit the ability to clone.");
  struct Constructed : Cloneable<Constructed> {
    Constructed() { register_parameter("p", ones(1)); }
    void reset() override {}
  };
  CHECK_THAT(
      message_of([] { Constructed().clone(); }),
      ContainsSubstring("does not have the same number of parameters as the original module after calling reset(). "
                        "Are you sure you called register_parameter() inside reset() and not the constructor?"));
  struct WithBuffer : Cloneable<WithBuffer> {
    WithBuffer() { register_buffer("p", ones(1)); }
    void reset() override {}
  };
  CHECK_THAT(message_of([] { WithBuffer().clone(); }), ContainsSubstring("register_buffer() inside reset()"));
  struct WithChild : Cloneable<WithChild> {
    WithChild() { register_module("p", Linear(1, 1)); }
    void reset() override {}
  };
  CHECK_THAT(message_of([] { WithChild().clone(); }), ContainsSubstring("register_module() inside reset()"));
}

TEST_CASE("holders are made like values and are references", "[module]") {
  Linear empty{nullptr};
  CHECK(empty.is_empty());
  CHECK_FALSE(empty);
  CHECK(message_of([&] { empty->weight; }) == "Accessing empty ModuleHolder");
  CHECK(message_of([&] { empty(ones(1)); }) == "Accessing empty ModuleHolder");
  CHECK(message_of([&] { empty.ptr(); }) == "Accessing empty ModuleHolder");
  Linear a(2, 3), alias = a;
  alias->weight.detach().fill_(1);
  CHECK(a->weight.sum().item<float>() == 6);
  CHECK(a.ptr() == alias.ptr());
  CHECK(a.get() == &*a);
  empty = a.ptr();
  CHECK(empty(ones({1, 2})).sizes() == IntArrayRef{1, 3});
  CHECK(std::is_same_v<Linear::Impl, LinearImpl>);
  CHECK(std::is_same_v<Linear::ContainedType, LinearImpl>);
  CHECK_FALSE(std::is_default_constructible_v<Linear>);
}

// ------------------------------------------------------------------------------------------------ state

TEST_CASE("a state dictionary shares memory and loads back", "[module]") {
  Net net, other;
  const auto state = net->state_dict();
  CHECK(state.keys() == Strings{"scale", "steps", "fc1.weight", "fc1.bias", "norm.weight", "norm.bias",
                                "norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "fc2.weight",
                                "fc2.bias"});
  CHECK(state["fc1.weight"].is_alias_of(net->fc1->weight));
  CHECK_FALSE(state["fc1.weight"].requires_grad());
  const Tensor handle = other->fc1->weight;
  const auto keys = other->load_state_dict(state);
  CHECK(keys.missing_keys.empty());
  CHECK(equal(handle, net->fc1->weight));
  CHECK_FALSE(handle.is_alias_of(net->fc1->weight));
  CHECK(handle.requires_grad());
}

TEST_CASE("loading a state keeps dtypes", "[module]") {
  Net low, full;
  low->half();
  low->load_state_dict(full->state_dict());
  CHECK(low->fc1->weight.dtype() == kFloat16);
  CHECK(equal(low->fc1->weight, full->fc1->weight.to(kFloat16)));
  full->load_state_dict(low->state_dict());
  CHECK(full->fc1->weight.dtype() == kFloat32);
  CHECK(equal(full->fc1->weight, low->fc1->weight.to(kFloat32)));
}

TEST_CASE("a state that does not fit is reported as a whole and changes nothing", "[module]") {
  Net net;
  const Tensor before = net->fc1->weight.detach().clone();
  auto state = Net()->state_dict();
  state.erase("fc2.bias");
  state.erase("norm.bias");
  state.insert("fc3.weight", ones(1));
  state["fc2.weight"] = ones({5, 5});
  CHECK_THAT(message_of([&] { net->load_state_dict(state); }),
             ContainsSubstring("NetImpl, and nothing was loaded:\n"
                               "  size mismatch for 'fc2.weight': the state has [5, 5], the module [2, 3]\n"
                               "  missing: 'norm.bias', 'fc2.bias'\n"
                               "  unexpected: 'fc3.weight'"));
  CHECK_THAT(message_of([&] { net->load_state_dict(state, false); }),
             ContainsSubstring("size mismatch") && !ContainsSubstring("missing"));
  CHECK(equal(net->fc1->weight, before));
  state["fc2.weight"] = ones({2, 3});
  const auto keys = net->load_state_dict(state, false);
  CHECK(keys.missing_keys == Strings{"norm.bias", "fc2.bias"});
  CHECK(keys.unexpected_keys == Strings{"fc3.weight"});
  CHECK(equal(net->fc2->weight, ones({2, 3})));
}

// ------------------------------------------------------------------------------------------------ hooks

TEST_CASE("hooks see and may replace what goes in and comes out", "[module]") {
  Linear fc(2, 2);
  const Tensor x = ones({1, 2});
  const Tensor plain = fc(x), doubled = fc(2 * x);
  int calls = 0;
  const auto watch = fc->register_forward_hook([&](Module& m, const std::vector<Tensor>& inputs, const Tensor& output) {
    CHECK(m.display_name() == "Linear");
    CHECK(inputs.size() == 1);
    CHECK(output.sizes() == IntArrayRef{1, 2});
    ++calls;
  });
  CHECK(equal(fc(x), plain));
  CHECK(equal(fc->forward(x), plain));
  CHECK(calls == 1);
  const auto twice = fc->register_forward_pre_hook(
      [](Module&, const std::vector<Tensor>& inputs) { return std::vector<Tensor>{2 * inputs[0]}; });
  CHECK(equal(fc(x), doubled));
  const auto negate =
      fc->register_forward_hook([](Module&, const std::vector<Tensor>&, const Tensor& output) { return -output; });
  CHECK(equal(fc(x), -doubled));
  CHECK(calls == 3);
  fc->remove_hook(twice);
  fc->remove_hook(negate);
  fc->remove_hook(watch);
  CHECK_FALSE(fc->has_hooks());
  CHECK(equal(fc(x), plain));
  CHECK(message_of([&] { fc->remove_hook(watch); }) == "remove_hook: Linear has no hook 0");
}

TEST_CASE("hooks that do not fit are refused", "[module]") {
  Linear fc(2, 2);
  fc->register_forward_pre_hook([](Module&, const std::vector<Tensor>&) { return std::vector<Tensor>(); });
  CHECK_THAT(message_of([&] {
               fc(ones({1, 2}));
             }),
             ContainsSubstring("a forward pre-hook of Linear returned 0 tensors for 1"));
  struct PairImpl : Module {
    std::pair<Tensor, Tensor> forward(const Tensor& x) { return {x, x}; }
  };
  const ModuleHolder<PairImpl> pair;
  pair->register_forward_hook([](Module&, const std::vector<Tensor>&, const Tensor&) {});
  CHECK_THAT(message_of([&] { pair(ones(1)); }), ContainsSubstring("forward hooks see one Tensor as output"));
}
