// OrderedDict, ExpandingArray, typed constants; AnyModule, Sequential, ModuleList, ModuleDict, Functional.
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

using Strings = std::vector<std::string>;

struct Options {
  TORCH_ARG(int, count) = 3;
  TORCH_ARG(std::string, label);
  TORCH_ARG(ExpandingArray<2>, size) = 1;
};

struct CountImpl : Module {
  explicit CountImpl(int by = 1) : step(by) {}
  int forward(int x) { return x + step; }
  int step;
};
TORCH_MODULE(Count);

struct PairImpl : Module {
  std::tuple<Tensor, Tensor> forward(const Tensor& x) { return {x, -x}; }
};
TORCH_MODULE(Pair);

struct SumImpl : Module {
  Tensor forward(Tensor a, Tensor b, double scale = 1) const { return (a + b) * scale; }
};
TORCH_MODULE(Sum);

}  // namespace

// ------------------------------------------------------------------------------------------------ small types

TEST_CASE("an OrderedDict keeps the order of insertion", "[containers]") {
  OrderedDict<std::string, int> d("Thing");
  d.insert("b", 2);
  d.insert("a", 1);
  d.insert("c", 3);
  CHECK(d.size() == 3);
  CHECK(d.keys() == Strings{"b", "a", "c"});
  CHECK(d.values() == std::vector<int>{2, 1, 3});
  CHECK(d.pairs()[1] == std::pair<std::string, int>("a", 1));
  CHECK(d["a"] == 1);
  CHECK(d[0].key() == "b");
  CHECK(*d[2] == 3);
  CHECK(d.front().value() == 2);
  CHECK(d.back().pair().first == "c");
  CHECK(*d.find("c") == 3);
  CHECK(d.find("z") == nullptr);
  d.erase("b");
  CHECK(d.keys() == Strings{"a", "c"});
  CHECK(d["c"] == 3);
  d.update({{"x", 7}, {"y", 8}});
  CHECK(d[3].key() == "y");
  int sum = 0;
  for (const auto& item : d) sum += item.value();
  CHECK(sum == 19);
  d["a"] = 5;
  CHECK(d.items()[0].value() == 5);
  OrderedDict<std::string, int> copy = d;
  copy["a"] = 6;
  CHECK(d["a"] == 5);
  d.clear();
  CHECK(d.is_empty());
}

TEST_CASE("an OrderedDict says what is wrong in the words of its keys", "[containers]") {
  OrderedDict<std::string, int> d("Thing"), plain;
  d.insert("a", 1);
  CHECK(message_of([&] { d.insert("a", 2); }) == "Thing 'a' already defined");
  CHECK(message_of([&] { d["b"]; }) == "Thing 'b' is not defined");
  CHECK(message_of([&] { std::as_const(d)["b"]; }) == "Thing 'b' is not defined");
  CHECK_THAT(message_of([&] { d[4]; }), ContainsSubstring("Index 4 is out of bounds"));
  CHECK_THAT(message_of([&] { d.erase("z"); }), ContainsSubstring("'z' doesn't exist"));
  CHECK_THAT(message_of([&] { d.update({{"a", 4}}); }), ContainsSubstring("Thing 'a' already defined"));
  CHECK(message_of([&] { plain["k"]; }) == "Key 'k' is not defined");
  CHECK(message_of([&] { plain.front(); }) == "Called front() on an empty OrderedDict");
  CHECK(message_of([&] { plain.back(); }) == "Called back() on an empty OrderedDict");
  CHECK(d["a"] == 1);
}

TEST_CASE("an ExpandingArray takes one value or as many as it has", "[containers]") {
  CHECK(*ExpandingArray<3>(5) == std::array<std::int64_t, 3>{5, 5, 5});
  CHECK(*ExpandingArray<2>({1, 2}) == std::array<std::int64_t, 2>{1, 2});
  CHECK(ExpandingArray<2>(std::vector<std::int64_t>{1, 2}) == ExpandingArray<2>(IntArrayRef{1, 2}));
  CHECK(ExpandingArray<2, double>(3.2)->at(1) == 3.2);
  CHECK(IntArrayRef(ExpandingArray<2>(4)) == IntArrayRef{4, 4});
  CHECK(message_of([] { ExpandingArray<2>({1, 2, 3}); }) == "Expected 2 values, but instead got 3");
  CHECK(message_of([] { ExpandingArray<5>(std::vector<std::int64_t>{1}); }) == "Expected 5 values, but instead got 1");
  CHECK(str(ExpandingArray<1>(3)) == "3");
  CHECK(str(ExpandingArray<2>(3)) == "[3, 3]");
  CHECK(str(ExpandingArrayWithOptionalElem<2>({nullopt, 3})) == "[None, 3]");
  CHECK(str(ExpandingArrayWithOptionalElem<1>(2)) == "2");
}

TEST_CASE("options are built in chains and read by name", "[containers]") {
  Options options = Options().count(5).label("x").size({3, 4});
  CHECK(options.count() == 5);
  CHECK(options.label() == "x");
  CHECK(options.size()->at(1) == 4);
  options.count() = 7;
  CHECK(std::as_const(options).count() == 7);
  CHECK(Options().count() == 3);
}

TEST_CASE("typed constants have names, and ranges count", "[containers]") {
  const std::variant<enumtype::kMean, enumtype::kSum> reduction = kSum;
  CHECK(enumtype::get_enum_name(reduction) == "kSum");
  CHECK(std::holds_alternative<enumtype::kSum>(reduction));
  std::vector<int> seen;
  for (const int i : irange(3)) seen.push_back(i);
  for (const int i : irange(5, 7)) seen.push_back(i);
  for (const int i : irange(-2)) seen.push_back(i);
  for (const int i : irange(4, 2)) seen.push_back(i);
  CHECK(seen == std::vector<int>{0, 1, 2, 5, 6});
}

// ------------------------------------------------------------------------------------------------ AnyModule

TEST_CASE("an AnyModule forwards any types", "[containers]") {
  AnyModule count(Count(3));
  CHECK(count.forward<int>(4) == 7);
  CHECK(count.any_forward(1).get<int>() == 4);
  CHECK(AnyModule(CountImpl(2)).forward<int>(1) == 3);
  CHECK(AnyModule(std::make_shared<CountImpl>(2)).forward<int>(AnyValue(5)) == 7);
  AnyModule linear(Linear(2, 3));
  CHECK(linear.forward(ones({1, 2})).sizes() == IntArrayRef{1, 3});
  const auto [x, y] = AnyModule(Pair{}).forward<std::tuple<Tensor, Tensor>>(ones(1));
  CHECK(equal(x, -y));
}

TEST_CASE("an AnyModule may leave out arguments that have defaults", "[containers]") {
  AnyModule sum(Sum{});
  CHECK(sum.forward(ones(1), ones(1)).item<float>() == 2);
  CHECK(sum.forward(ones(1), ones(1), 2.5).item<float>() == 5);
  CHECK_THAT(message_of([&] { sum.forward(ones(1)); }),
             ContainsSubstring("SumImpl's forward() method expects 3 argument(s), but received 1"));
  CHECK(AnyModule(ConvTranspose2d(1, 1, 1)).forward(ones({1, 1, 2, 2})).dim() == 4);
}

TEST_CASE("an AnyModule names the types that do not match", "[containers]") {
  AnyModule linear(Linear(2, 3));
  CHECK_THAT(message_of([&] { linear.forward(5); }),
             ContainsSubstring(
                 "Expected argument #0 to be of type halftone::Tensor, but received value of type int, in Linear"));
  CHECK_THAT(message_of([&] {
               linear.forward(ones({1, 2}), 1);
             }),
             ContainsSubstring("LinearImpl's forward() method expects 1 argument(s), but received 2"));
  CHECK_THAT(message_of([&] {
               linear.forward<int>(ones({1, 2}));
             }),
             ContainsSubstring("Attempted to cast AnyValue to int, but its actual type is halftone::Tensor"));
  CHECK(message_of([&] { linear.get<Conv2dImpl>(); }) ==
        "Attempted to cast module of type halftone::nn::LinearImpl to type halftone::nn::Conv2dImpl");
  CHECK_THAT(message_of([&] { linear.get<Conv2d>(); }), ContainsSubstring("Attempted to cast module of type"));
  CHECK(message_of([] { AnyValue(5).get<double>(); }) ==
        "Attempted to cast AnyValue to double, but its actual type is int");
}

TEST_CASE("an empty AnyModule refuses all but being asked", "[containers]") {
  AnyModule empty;
  CHECK(empty.is_empty());
  CHECK(empty.clone().is_empty());
  CHECK(message_of([&] { empty.forward(1); }) == "Cannot call forward() on an empty AnyModule");
  CHECK(message_of([&] { empty.get<LinearImpl>(); }) == "Cannot call get() on an empty AnyModule");
  CHECK(message_of([&] { empty.ptr(); }) == "Cannot call ptr() on an empty AnyModule");
  CHECK(message_of([&] { empty.type_info(); }) == "Cannot call type_info() on an empty AnyModule");
  empty = Linear(1, 2).ptr();
  CHECK(empty.get<Linear>()->options.out_features() == 2);
  CHECK(empty.ptr<LinearImpl>() == empty.ptr());
  CHECK(empty.type_info() == typeid(LinearImpl));
  const AnyModule copy = empty, deep = empty.clone();
  CHECK(copy.ptr() == empty.ptr());
  CHECK(deep.ptr() != empty.ptr());
  CHECK(equal(deep.get<LinearImpl>().weight, empty.get<LinearImpl>().weight));
}

// ------------------------------------------------------------------------------------------------ Sequential

TEST_CASE("a Sequential is made of anything that has a forward", "[containers]") {
  Sequential net(Linear(2, 3), std::make_shared<ReLUImpl>(), DropoutImpl(0.0), AnyModule(Identity()),
                 Functional([](Tensor x) { return x * 2; }), Sequential(Linear(3, 1), Tanh()));
  CHECK(net->size() == 6);
  CHECK(net->named_children().keys() == Strings{"0", "1", "2", "3", "4", "5"});
  CHECK(net->forward(ones({4, 2})).sizes() == IntArrayRef{4, 1});
  CHECK(equal(net(ones({4, 2})), net->forward(ones({4, 2}))));
  CHECK(net->named_parameters().keys() == Strings{"0.weight", "0.bias", "5.0.weight", "5.0.bias"});
  CHECK(net->at<LinearImpl>(0).options.out_features() == 3);
  CHECK(net->ptr<ReLUImpl>(1) == net->ptr(1));
  CHECK(net[2]->as<Dropout>() != nullptr);
  std::size_t count = 0;
  for (const AnyModule& module : *net) count += !module.is_empty();
  CHECK(count == 6);
}

TEST_CASE("a Sequential may name its modules", "[containers]") {
  Sequential net({{"fc", Linear(2, 3)}, {"act", ReLU()}, {"plain", IdentityImpl()}, {"ptr", Tanh().ptr()}});
  CHECK(net->named_children().keys() == Strings{"fc", "act", "plain", "ptr"});
  net->push_back("last", Linear(3, 1));
  net->push_back(ReLU());
  CHECK(net->named_children().keys() == Strings{"fc", "act", "plain", "ptr", "last", "5"});
  OrderedDict<std::string, AnyModule> dict;
  dict.insert("a", AnyModule(Linear(1, 1)));
  CHECK(Sequential(std::move(dict))->named_parameters().keys() == Strings{"a.weight", "a.bias"});
  CHECK(str(Sequential({{"a", Linear(1, 2)}, {"b", ReLU()}})) ==
        "torch::nn::Sequential(\n"
        "  (a): torch::nn::Linear(in_features=1, out_features=2, bias=true)\n"
        "  (b): torch::nn::ReLU()\n"
        ")");
  CHECK(str(Sequential()) == "torch::nn::Sequential");
}

TEST_CASE("a Sequential passes on other types than tensors", "[containers]") {
  Sequential count(Count(1), Count(10), CountImpl(100));
  CHECK(count->forward<int>(5) == 116);
  Sequential two{Sum(), ReLU()};
  CHECK(two->forward(ones(1), ones(1)).item<float>() == 2);
  count->extend(*Sequential(Count(1000)));
  CHECK(count->forward<int>(0) == 1111);
}

TEST_CASE("a Sequential's errors name the place", "[containers]") {
  Sequential net;
  CHECK(message_of([&] { net->forward(ones(1)); }) == "Cannot call forward() on an empty Sequential");
  CHECK_THAT(message_of([&] { net->ptr(0); }), ContainsSubstring("Index out of range"));
  net->push_back(Linear(1, 2));
  CHECK_THAT(message_of([&] { net->at<Conv2dImpl>(0); }), ContainsSubstring("Attempted to cast module of type"));
  CHECK_THAT(message_of([&] { net->at<LinearImpl>(7); }), ContainsSubstring("Index out of range: 7 of 1 modules"));
  CHECK(message_of([&] {
          net->forward<int>(ones({1, 1}));
        }) == "The type of the return value is halftone::Tensor, but you asked for type int");
  CHECK(message_of([&] { net->push_back("a.b", ReLU()); }) == "Submodule name must not contain a dot (got 'a.b')");
  CHECK(message_of([&] { net->push_back("0", ReLU()); }) == "Submodule '0' already defined");
  CHECK(net->size() == 1);
  Sequential tuple(Pair(), Linear(1, 1));
  CHECK_THAT(message_of([&] {
               tuple->forward(ones({1, 1}));
             }),
             ContainsSubstring("but received value of type std::tuple<halftone::Tensor, halftone::Tensor>") &&
                 ContainsSubstring("in Linear '1'"));
}

TEST_CASE("a Sequential clones deeply, and inside other modules", "[containers]") {
  struct NetImpl : Cloneable<NetImpl> {
    NetImpl() { NetImpl::reset(); }
    void reset() override { layers = register_module("layers", Sequential(Linear(2, 2), Sequential(Linear(2, 1)))); }
    Sequential layers{nullptr};
  };
  const ModuleHolder<NetImpl> net;
  net->layers->eval();
  const auto copy = std::dynamic_pointer_cast<NetImpl>(net->clone());
  CHECK_FALSE(copy->layers->is_training());
  CHECK(copy->layers->at<LinearImpl>(0).weight.is_same(copy->named_parameters()["layers.0.weight"]));
  const auto a = net->state_dict(), b = copy->state_dict();
  CHECK(a.keys() == b.keys());
  for (const auto& item : a) {
    CHECK(equal(item.value(), b[item.key()]));
    CHECK_FALSE(item.value().is_alias_of(b[item.key()]));
  }
  const Sequential typed = net->layers.clone();
  CHECK(equal(typed->forward(ones({1, 2})), net->layers->forward(ones({1, 2}))));
}

TEST_CASE("a class may derive from SequentialImpl", "[containers]") {
  struct MlpImpl : SequentialImpl {
    MlpImpl() {
      push_back(Linear(2, 4));
      push_back(Functional(halftone::relu));
      push_back(Linear(4, 1));
    }
  };
  const ModuleHolder<MlpImpl> mlp;
  CHECK(mlp(ones({3, 2})).sizes() == IntArrayRef{3, 1});
  CHECK(Sequential(mlp.ptr(), Tanh())->forward(ones({3, 2})).sizes() == IntArrayRef{3, 1});
}

TEST_CASE("Functional binds further arguments", "[containers]") {
  const Tensor x = tensor({-1., 2.});
  CHECK(equal(Functional(halftone::relu)(x), relu(x)));
  CHECK(equal(Functional(halftone::elu, 0.5)(x), elu(x, 0.5)));
  const ExpandingArray<2> stride({2, 2});
  const Tensor image = randn({1, 1, 4, 4});
  CHECK(equal(Functional(halftone::max_pool2d, 2, stride, 0, 1, false)(image), max_pool2d(image, 2)));
  CHECK(Functional(halftone::reshape, std::vector<std::int64_t>{-1})(image).sizes() == IntArrayRef{16});
  CHECK(Functional([](Tensor t, int n) { return t * n; }, 3)(x)[1].item<float>() == 6);
  CHECK_FALSE(Functional(halftone::relu)->is_serializable());
}

// ------------------------------------------------------------------------------------------------ lists and dicts

TEST_CASE("a ModuleList holds modules by position", "[containers]") {
  ModuleList list(Linear(1, 2), std::make_shared<ReLUImpl>(), TanhImpl());
  list->push_back(Linear(3, 4));
  CHECK(list->size() == 4);
  CHECK(list->at<LinearImpl>(3).options.in_features() == 3);
  list->insert(1, Sigmoid());
  CHECK(list[1]->as<Sigmoid>() != nullptr);
  CHECK(list->named_parameters().keys() == Strings{"0.weight", "0.bias", "4.weight", "4.bias"});
  CHECK(list->ptr(4)->path() == "4");
  list->insert(5, Identity());
  list->extend(*ModuleList(ReLU(), ReLU()));
  CHECK(list->size() == 8);
  CHECK(list->ptr<IdentityImpl>(5) != nullptr);
  std::size_t count = 0;
  for (const auto& module : *list) count += module != nullptr;
  CHECK(count == 8);
  CHECK(str(ModuleList(Linear(1, 2), ReLU())) ==
        "torch::nn::ModuleList(\n"
        "  (0): torch::nn::Linear(in_features=1, out_features=2, bias=true)\n"
        "  (1): torch::nn::ReLU()\n"
        ")");
  CHECK_THAT(message_of([&] { list->ptr(9); }), ContainsSubstring("Index out of range: 9 of 8 modules"));
  CHECK_THAT(message_of([&] { list->insert(10, ReLU()); }), ContainsSubstring("Index out of range"));
  CHECK_THAT(message_of([&] { list->at<Conv2dImpl>(0); }), ContainsSubstring("Attempted to cast module of type"));
  ModuleList copy = list.clone();
  CHECK(copy->size() == 8);
  CHECK_FALSE(copy->at<LinearImpl>(0).weight.is_alias_of(list->at<LinearImpl>(0).weight));
}

TEST_CASE("a ModuleDict holds modules by name", "[containers]") {
  ModuleDict dict;
  CHECK(dict->empty());
  dict->insert("b", Linear(1, 2));
  dict->insert("a", ReLU());
  CHECK(dict->keys() == Strings{"b", "a"});
  CHECK(dict->contains("a"));
  CHECK(dict->size() == 2);
  CHECK(dict->at<LinearImpl>("b").options.out_features() == 2);
  CHECK((*dict)["a"]->as<ReLU>() != nullptr);
  dict->insert("a", Tanh());
  CHECK(dict->ptr<TanhImpl>("a") == dict->values()[1]);
  CHECK(dict->items()[0].first == "b");
  dict->update(std::vector<std::pair<std::string, std::shared_ptr<Module>>>{{"c", Sigmoid().ptr()}});
  CHECK(dict->pop("b")->as<Linear>() != nullptr);
  CHECK(dict->keys() == Strings{"a", "c"});
  ModuleDict copy = dict.clone();
  CHECK(copy->keys() == dict->keys());
  CHECK(copy->ptr("a") != dict->ptr("a"));
  CHECK(str(dict) ==
        "torch::nn::ModuleDict(\n"
        "  (a): torch::nn::Tanh()\n"
        "  (c): torch::nn::Sigmoid()\n"
        ")");
  CHECK(message_of([&] { dict->ptr("q"); }) == "Key 'q' is not defined");
  CHECK(message_of([&] { dict->pop("q"); }) == "Key 'q' is not defined");
  CHECK_THAT(message_of([&] { dict->at<LinearImpl>("a"); }), ContainsSubstring("Attempted to cast module of type"));
  OrderedDict<std::string, std::shared_ptr<Module>> modules;
  modules.insert("z", ReLU().ptr());
  CHECK(ModuleDict(modules)->keys() == Strings{"z"});
  dict->clear();
  CHECK(dict->empty());
}
