// nn::DataParallel against the plain module: the same results, the same gradients, whatever goes in and comes out.
#include <algorithm>
#include <map>

#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using test::close;

namespace {

/// `run(net, on, x)` against the module alone: results, gradients and their dtypes.
template <class Run> void check_against_plain(const std::vector<Device>& on, std::int64_t rows, Run run) {
  manual_seed(1);
  TwoLayers net;
  net->to(on[0]);
  const TwoLayers plain = net.clone();
  const Tensor x = randn({rows, 4}, on[0]).requires_grad_();
  const Tensor same = x.detach().clone().requires_grad_();

  const Tensor y = run(net, on, x);
  const Tensor expected = plain(same);
  CHECK(y.device() == on[0]);
  CHECK(close(y, expected));
  (y * y).sum().backward();
  (expected * expected).sum().backward();
  CHECK(gradient_difference(*net, *plain) < 1e-4);
  CHECK(close(x.grad(), same.grad()));
  for (const Tensor& p : net->parameters()) CHECK(p.grad().dtype() == p.dtype());
}

/// The same on one device or many, in both orders.
template <class Run> void check_against_plain(Run run) {
  const auto all = devices(std::min(4, device_count()));
  for (const auto& list : std::vector<std::vector<std::size_t>>{{0}, {0, 1}, {1, 0}, {0, 1, 2}, {0, 1, 2, 3}}) {
    if (std::ranges::max(list) >= all.size()) continue;
    std::vector<Device> on;
    for (const std::size_t i : list) on.push_back(all[i]);
    for (const std::int64_t rows : {1, 2, 5, 8, 9}) {
      INFO(on.size() << " devices, " << rows << " rows");
      check_against_plain(on, rows, run);
    }
  }
}

}  // namespace

TEST_CASE("test_data_parallel: the function gives the results and gradients of the plain module",
          "[parallel][threads]") {
  check_against_plain([](const TwoLayers& net, const std::vector<Device>& on, const Tensor& x) {
    return parallel::data_parallel(net, x, on);
  });
}

TEST_CASE("test_data_parallel_module: the wrapper gives the results and gradients of the plain module",
          "[parallel][threads]") {
  for (const auto split : {parallel::Split::Chunks, parallel::Split::Balanced}) {
    check_against_plain([split](const TwoLayers& net, const std::vector<Device>& on, const Tensor& x) {
      return DataParallel(net, DataParallelOptions().device_ids(on).split(split))->forward(x);
    });
  }
}

TEST_CASE("test_data_parallel_small_back: a loss of a part of the result", "[parallel]") {
  const auto on = devices(2);
  TwoLayers net;
  const TwoLayers plain = net.clone();
  DataParallel parallel(net, on);
  const Tensor x = randn({6, 4});
  parallel(x)[0].sum().backward();  // rows of replica 0 alone
  plain(x)[0].sum().backward();
  CHECK(gradient_difference(*net, *plain) < 1e-5);
}

TEST_CASE("without a device list and without GPUs the module itself is called", "[parallel]") {
  if (cuda::is_available()) return;
  TwoLayers net;
  DataParallel parallel(net);
  CHECK(parallel->devices().empty());
  const Tensor x = randn({3, 4});
  CHECK(close(parallel(x), net(x)));
  CHECK(close(parallel::data_parallel(net, x), net(x)));
}

TEST_CASE("without a device list all GPUs take part", "[parallel][cuda]") {
  if (!cuda::is_available()) return;
  TwoLayers net;
  net->to(Device(kCUDA, 0));
  DataParallel parallel(net);
  CHECK(parallel->devices() == cuda_devices());
  const Tensor x = randn({9, 4}, Device(kCUDA, 0));
  CHECK(close(parallel(x), net(x)));
  CHECK(close(parallel::data_parallel(net, x), net(x)));
}

TEST_CASE("test_data_parallel_sparse: embeddings, whose rows gather gradients from all replicas",
          "[parallel][threads]") {
  const auto on = devices(3);
  Embedding table(EmbeddingOptions(7, 3));
  const Embedding plain = table.clone();
  DataParallel parallel(table, on);
  const Tensor words = randint(7, {9, 2}, kInt64).to(on[0]);
  (parallel(words) * 2).sum().backward();
  (plain(words) * 2).sum().backward();
  CHECK(gradient_difference(*table, *plain) < 1e-5);
}

namespace {

/// Several tensors, a number and something optional.
struct ManyInputsImpl : Cloneable<ManyInputsImpl> {
  ManyInputsImpl() { reset(); }
  void reset() override { fc = register_module("fc", Linear(4, 2)); }
  Tensor forward(const Tensor& x, const Tensor& y, double factor, const optional<Tensor>& more = nullopt) {
    Tensor out = fc(x) * factor + y;
    return more ? out + *more : out;
  }
  Linear fc{nullptr};
};
TORCH_MODULE(ManyInputs);

}  // namespace

TEST_CASE("test_data_parallel_multiple_input: tensors, a number and an optional, module and function", "[parallel]") {
  const auto on = devices(2);
  ManyInputs net;
  const Tensor x = randn({5, 4}), y = randn({5, 2});
  const optional<Tensor> more = randn({5, 2});
  for (const int count : {1, 2}) {
    const auto used = devices(count);
    DataParallel parallel(net, used);
    CHECK(close(parallel(x, y, 3.0), net(x, y, 3.0)));
    CHECK(close(parallel(x, y, 3.0, more), net(x, y, 3.0, more)));
    CHECK(close(parallel::data_parallel(net, std::tuple(x, y, 3.0, more), used), net(x, y, 3.0, more)));
  }
  CHECK_THROWS_WITH(DataParallel(net, on)->forward(x, randn({4, 2}), 1.0),
                    ContainsSubstring("argument 1 is float32[4, 2]") &&
                        ContainsSubstring("argument 0 is float32[5, 4]") && ContainsSubstring("broadcast"));
}

namespace {

using Nested = std::tuple<Tensor, std::tuple<std::vector<Tensor>, int>>;
using Everything = std::tuple<Tensor, std::vector<Tensor>, std::map<std::string, Tensor>,
                              OrderedDict<std::string, Tensor>, optional<Tensor>, std::pair<Tensor, std::string>>;

struct NestedImpl : Cloneable<NestedImpl> {
  void reset() override {}
  Everything forward(const Nested& in) {
    const auto& [x, rest] = in;
    const auto& [list, n] = rest;
    OrderedDict<std::string, Tensor> dict("Result");
    dict.insert("z", x);
    dict.insert("a", list[0]);
    return {x * n, list, {{"two", x * 2}, {"one", x}}, dict, x + 1, {x * 5, "tag"}};
  }
};

}  // namespace

TEST_CASE("test_data_parallel_nested_input, test_data_parallel_nested_output: types are rebuilt, order is kept",
          "[parallel][threads]") {
  const auto on = devices(3);
  auto net = std::make_shared<NestedImpl>();
  DataParallel parallel(net, on);
  const Tensor x = randn({7, 2}), a = randn({7, 3}), b = randn({7});
  const Nested in{x, {{a, b}, 3}};
  const auto [scaled, list, map, dict, maybe, pair] = parallel(in);
  CHECK(close(scaled, x * 3));
  CHECK(close(list[0], a));
  CHECK(close(list[1], b));
  CHECK(close(map.at("two"), x * 2));
  CHECK(dict.keys() == std::vector<std::string>{"z", "a"});
  CHECK(dict.key_description() == "Result");
  CHECK(close(*maybe, x + 1));
  CHECK(pair.second == "tag");
}

namespace {

struct CountsImpl : Cloneable<CountsImpl> {
  void reset() override {}
  Tensor forward(const std::map<std::string, Tensor>& named, const std::vector<Tensor>& list, const std::tuple<>&) {
    return full({1, 2}, static_cast<double>(10 * named.size() + list.size()), default_device_);
  }
  TensorOptions default_device_ = devices(1)[0];
};

struct NothingImpl : Cloneable<NothingImpl> {
  void reset() override {}
  Tensor forward() { return ones({1}); }
};

}  // namespace

TEST_CASE("test_data_parallel_module_kwargs_only: maps alone; no arguments at all", "[parallel]") {
  const auto on = devices(2);
  DataParallel parallel(std::make_shared<CountsImpl>(), on);
  const std::map<std::string, Tensor> empty_map;
  const std::vector<Tensor> empty_list;
  CHECK(values(parallel(empty_map, empty_list, std::tuple<>())) == std::vector<double>{0, 0, 0, 0});  // every device
  const std::map<std::string, Tensor> named{{"a", ones({1, 2})}};
  CHECK(values(parallel(named, empty_list, std::tuple<>())) == std::vector<double>{10, 10});
  CHECK(values(DataParallel(std::make_shared<NothingImpl>(), on)->forward()) == std::vector<double>{1});
}

namespace {

bool is_empty(const std::tuple<>&) { return true; }
template <class Container> bool is_empty(const Container& container) { return container.empty(); }

/// A tensor by its name, and beside it what is empty.
template <class Empty> struct BesideImpl : Cloneable<BesideImpl<Empty>> {
  BesideImpl() { reset(); }
  void reset() override { fc = this->register_module("fc", Linear(4, 2)); }
  Tensor forward(const std::map<std::string, Tensor>& named, const Empty& empty) {
    check(is_empty(empty), "there is something in it");
    return fc(named.at("data"));
  }
  Linear fc{nullptr};
};

template <class Empty> void check_that_empty_ones_survive() {
  const auto on = devices(2);
  auto net = std::make_shared<BesideImpl<Empty>>();
  const std::map<std::string, Tensor> named{{"data", randn({5, 4})}};
  CHECK(close(DataParallel(net, on)->forward(named, Empty()), net->fc(named.at("data"))));
  CHECK(close(parallel::data_parallel(net, std::tuple(named, Empty()), on), net->fc(named.at("data"))));
}

}  // namespace

TEST_CASE("test_data_parallel_module_kwargs_only_empty_list: every replica gets it", "[parallel]") {
  check_that_empty_ones_survive<std::vector<Tensor>>();
}

TEST_CASE("test_data_parallel_module_kwargs_only_empty_dict: every replica gets it", "[parallel]") {
  check_that_empty_ones_survive<std::map<std::string, Tensor>>();
}

TEST_CASE("test_data_parallel_module_kwargs_only_empty_tuple: every replica gets it", "[parallel]") {
  check_that_empty_ones_survive<std::tuple<>>();
}

TEST_CASE("test_data_parallel_model_device: a module in the wrong place is refused at each call", "[parallel]") {
  const auto on = devices(3);
  TwoLayers net;
  DataParallel parallel(net, {on[1], on[2]});
  CHECK_THROWS_WITH(parallel(randn({2, 4})),
                    ContainsSubstring("must have its parameters and buffers on " + on[1].str()) &&
                        ContainsSubstring("the parameter 'first.weight' is on " + on[0].str()));
  net->to(on[1]);
  CHECK(parallel(randn({2, 4}, on[1])).device() == on[1]);
  net->second->to(on[2]);
  CHECK_THROWS_WITH(parallel(randn({2, 4})), ContainsSubstring("'second.weight' is on " + on[2].str()));

  BatchNorm1d norm(4);
  DataParallel with_buffers(norm, on);
  norm->running_var.set_data(ones({4}, on[1]));
  CHECK_THROWS_WITH(with_buffers(randn({8, 4})), ContainsSubstring("the buffer 'running_var' is on"));
}

TEST_CASE("test_data_parallel_device_args: indices, devices, names; output_device; dim", "[parallel]") {
  const auto on = devices(3);
  TwoLayers net;
  const Tensor x = randn({4, 4});
  const auto index = [&](std::size_t k) { return std::max<int>(on[k].index(), 0); };
  CHECK(DataParallel(net, {index(0), index(1)})->devices() == std::vector<Device>{on[0], on[1]});
  CHECK(DataParallel(net, std::vector<int>{index(0), index(2)})->devices() == std::vector<Device>{on[0], on[2]});
  CHECK(DataParallel(net, on, index(1))->forward(x).device() == on[1]);
  CHECK(DataParallel(net, on, on[2])->forward(x).device() == on[2]);
  CHECK(DataParallel(net, {on[0]}, on[2])->forward(x).device() == on[2]);
  CHECK(parallel::data_parallel(net, x, on, on[1]).device() == on[1]);

  DataParallel columns(Functional([](const Tensor& t) { return t * 2; }), DataParallelOptions().device_ids(on).dim(1));
  CHECK(close(columns(x), x * 2));
  DataParallel last(Functional([](const Tensor& t) { return t * 2; }), DataParallelOptions().device_ids(on).dim(-1));
  CHECK(close(last(x), x * 2));

  CHECK_THROWS_WITH(DataParallel(net, {on[0], on[0]}), ContainsSubstring("given twice"));
  CHECK_THROWS_WITH(DataParallel(net, {0, 99}), ContainsSubstring("99 does not exist"));
  CHECK_THROWS_WITH(DataParallel(std::shared_ptr<TwoLayersImpl>()), ContainsSubstring("null pointer"));
}

TEST_CASE("one device: the module is moved there and called itself", "[parallel]") {
  const auto on = devices(2);
  TwoLayers net;
  DataParallel parallel(net, {on[1]});
  CHECK(net->first->weight.device() == on[1]);
  const Tensor y = parallel(randn({3, 4}, on[0]));
  CHECK(y.device() == on[1]);
  CHECK(y.grad_fn() != nullptr);
}

TEST_CASE("parameters are the module's, under the prefix 'module.'", "[parallel]") {
  TwoLayers net;
  DataParallel parallel(net, devices(2));
  CHECK(parallel->named_parameters().keys()[0] == "module.first.weight");
  CHECK(parallel->parameters().size() == 4);
  parallel(randn({4, 4})).sum().backward();
  CHECK(parallel->parameters().size() == 4);  // replicas do not count
  CHECK(parallel->state_dict().contains("module.second.bias"));
  CHECK(parallel->module == net.ptr());
}

TEST_CASE("a DataParallel is a layer like any other", "[parallel]") {
  TwoLayers net;
  Sequential model(DataParallel(net, devices(2)), ReLU());
  const Tensor x = randn({4, 4});
  CHECK(close(model->forward(x), net(x).relu()));
  CHECK(str(*model).find("DataParallel") != std::string::npos);
}
