// What data parallelism is made of: scatter, gather, replicate, parallel_apply, and the devices.
#include <map>

#include "tests/gradcheck.h"
#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using parallel::Split;
using test::close;

namespace {

using Lengths = std::vector<std::int64_t>;
using Doubles = std::vector<double>;

}  // namespace

TEST_CASE("share_lengths: pieces of the rounded-up mean, or balanced", "[parallel]") {
  struct Row {
    std::int64_t n;
    std::size_t devices;
    Lengths chunks, balanced;
  };
  const auto row = GENERATE(values<Row>({{10, 4, {3, 3, 3, 1}, {3, 3, 2, 2}},
                                         {5, 4, {2, 2, 1}, {2, 1, 1, 1}},
                                         {9, 4, {3, 3, 3}, {3, 2, 2, 2}},
                                         {8, 4, {2, 2, 2, 2}, {2, 2, 2, 2}},
                                         {1, 4, {1}, {1}},
                                         {0, 3, {0, 0, 0}, {0, 0, 0}},
                                         {7, 1, {7}, {7}}}));
  CHECK(parallel::share_lengths(row.n, row.devices, Split::Chunks) == row.chunks);
  CHECK(parallel::share_lengths(row.n, row.devices, Split::Balanced) == row.balanced);
}

TEST_CASE("test_scatter_cpu, test_scatter_gpu: values, devices and derivatives along any dimension", "[parallel]") {
  const auto on = devices(3);
  for (const Device from : {devices(1)[0], on[2], Device(kCPU)}) {
    for (const std::int64_t dim : {0, 1, -1}) {
      const Tensor x = randn({5, 4}, TensorOptions(from)).requires_grad_();
      const auto pieces = parallel::scatter(x, on, dim);
      Tensor sum = zeros({}, on[0]);
      std::int64_t start = 0;
      for (std::size_t k = 0; k < pieces.size(); ++k) {
        CHECK(pieces[k].device() == on[k]);
        CHECK(close(pieces[k], x.narrow(dim, start, pieces[k].size(dim))));
        start += pieces[k].size(dim);
        sum = sum + (pieces[k] * pieces[k]).sum().to(TensorOptions(on[0])) * static_cast<double>(k + 1);
      }
      CHECK(start == x.size(dim));
      const Tensor g = autograd::grad({sum}, {x}, {}, nullopt, /*create_graph=*/true)[0];
      CHECK(g.device() == x.device());
      g.sum().backward();  // second derivative: 2 (k + 1)
      CHECK(values(x.grad().narrow(dim, 0, 1))[0] == 2);
      CHECK(values(x.grad().narrow(dim, x.size(dim) - 1, 1))[0] == 2. * static_cast<double>(pieces.size()));
    }
  }
}

TEST_CASE("scatter: an unused piece counts as zero, integers have no history", "[parallel]") {
  const auto on = devices(2);
  const Tensor x = ones({4}).requires_grad_();
  parallel::scatter(x, on)[1].sum().backward();
  CHECK(values(x.grad()) == Doubles{0, 0, 1, 1});
  const auto labels = parallel::scatter(arange(4, kInt64), on);
  CHECK(labels[1].dtype() == kInt64);
  CHECK(values(labels[1]) == Doubles{2, 3});
  CHECK_FALSE(labels[1].requires_grad());
}

TEST_CASE("nothing to scatter to, null modules and dimensions that do not exist are refused", "[parallel][errors]") {
  const auto on = devices(2);
  const Tensor x = ones({4, 2}, on[0]);
  namespace comm = parallel::comm;
  CHECK_THROWS_WITH(parallel::scatter(x, {}), ContainsSubstring("scatter: there are no devices"));
  CHECK_THROWS_WITH(parallel::share_lengths(3, 0, Split::Chunks), ContainsSubstring("cannot be divided among 0"));
  const std::shared_ptr<LinearImpl> null;
  CHECK_THROWS_WITH(parallel::data_parallel(null, x, on), ContainsSubstring("the module is a null pointer"));
  CHECK_THROWS_WITH(parallel::replicate(null, on), ContainsSubstring("replicate: the module is a null pointer"));
  CHECK_THROWS_WITH(parallel::parallel_apply(std::vector{null, null}, std::vector{x, x}, on),
                    ContainsSubstring("parallel_apply: a module is a null pointer"));
  const std::vector<std::int64_t> halves{2, 2}, three{2, 1};
  CHECK_THROWS_AS(comm::scatter(x, halves, on, 2), ValueError);
  CHECK_THROWS_WITH(comm::scatter(x, halves, on, -3), ContainsSubstring("has no dimension -3"));
  CHECK_THROWS_WITH(comm::scatter(x, three, on, 0), ContainsSubstring("pieces of [2, 1] do not make up float32[4, 2]"));
  CHECK_THROWS_WITH(comm::scatter(x, three, comm::Devices(on).first(1), 0), ContainsSubstring("2 lengths for 1"));
  CHECK(comm::scatter(x.t(), halves, on, -1)[1].device() == on[1]);
  CHECK_THROWS_WITH(comm::scatter(Tensor(), halves, on, 0), ContainsSubstring("tensor 0 is undefined"));
  CHECK_THROWS_WITH(comm::gather({}, on[0], 0), ContainsSubstring("comm::gather: there are no tensors"));
  CHECK_THROWS_WITH(comm::gather(x, on[0], 2), ContainsSubstring("has no dimension 2"));
  CHECK_THROWS_WITH(comm::gather(std::vector{x, ones({4, 3}, on[1])}, on[0], 0), ContainsSubstring("does not go with"));
  CHECK_THROWS_WITH(comm::reduce_add(std::vector{x, ones({4}, on[1])}, on[0]), ContainsSubstring("does not go with"));
  CHECK_THROWS_WITH(comm::all_reduce({}, {}), ContainsSubstring("there are no tensors"));
  CHECK_THROWS_WITH(comm::copy_elements(x, ones({4})), ContainsSubstring("does not fit into"));
}

namespace {

/// Says what it holds; nothing else of a struct is seen.
struct Sample {
  Tensor image;
  std::string name;
  std::vector<Tensor> boxes;
  template <class Self> static auto fields(Self& self) { return std::tie(self.image, self.name, self.boxes); }
};
struct HiddenTensor {
  int n;
  Tensor x;
};
struct HiddenList {
  std::string name;
  std::vector<Tensor> list;
};
struct NoTensors {
  int n;
  std::string name;
  std::vector<int> list;
};
static_assert(parallel::nested::hides_tensors<HiddenTensor>());
static_assert(parallel::nested::hides_tensors<HiddenList>());
static_assert(!parallel::nested::hides_tensors<NoTensors>());
static_assert(!parallel::nested::hides_tensors<Sample>());

}  // namespace

TEST_CASE("scatter and gather: arrays, structs with fields(), maps of what is to go whole", "[parallel]") {
  const auto on = devices(2);
  const Tensor x = randn({4, 2}, on[0]), scale = ones({1, 2}, on[0]);
  const auto arrays = parallel::scatter(std::array<Tensor, 2>{x, x * 2}, on);
  CHECK(arrays[1][1].device() == on[1]);
  CHECK(close(parallel::gather(arrays, on[0])[1], x * 2));

  const auto samples = parallel::scatter(Sample{x, "both", {x * 3}}, on);
  CHECK(samples[1].boxes[0].device() == on[1]);
  const Sample joined = parallel::gather(samples, on[0]);
  CHECK(close(joined.image, x));
  CHECK(joined.name == "both");
  CHECK(close(joined.boxes[0], x * 3));

  const std::map<std::string, parallel::Broadcast<Tensor>> whole{{"scale", parallel::broadcast(scale)}};
  const auto maps = parallel::scatter(std::tuple(x, whole), on);
  static_assert(std::is_same_v<std::tuple_element_t<1, decltype(maps)::value_type>, std::map<std::string, Tensor>>);
  CHECK(std::get<1>(maps[1]).at("scale").device() == on[1]);
}

TEST_CASE("scatter: every dtype and layout", "[parallel]") {
  const auto on = devices(2);
  for (const Dtype dtype : {kBool, kUInt8, kInt8, kInt16, kInt32, kInt64, kFloat16, kBFloat16, kFloat32, kFloat64}) {
    const Tensor x = arange(12, kFloat32).to(dtype).reshape({4, 3});
    for (const Tensor& t : {x, x.t().contiguous().t(), x.slice(1, 0, 3, 2)}) {
      const auto pieces = parallel::scatter(t, on);
      CHECK(pieces[0].dtype() == dtype);
      CHECK(values(parallel::gather(pieces, on[1])) == values(t));
    }
  }
  const Tensor images = randn({4, 3, 2, 2}).contiguous(MemoryFormat::ChannelsLast);
  const Tensor joined = parallel::gather(parallel::scatter(images, on), on[0]);
  CHECK(joined.is_contiguous(MemoryFormat::ChannelsLast));
  CHECK(close(joined, images));
}

TEST_CASE("P3: tensors that disagree in length are refused, by their places", "[parallel][errors]") {
  const auto on = devices(2);
  const Tensor eight = ones({8, 2}), one = ones({1, 2});
  CHECK_THROWS_WITH(parallel::scatter(std::tuple(eight, one), on),
                    ContainsSubstring("argument 0[1] is float32[1, 2]") &&
                        ContainsSubstring("with 1 along dimension 0") &&
                        ContainsSubstring("argument 0[0] is float32[8, 2]") && ContainsSubstring("with 8") &&
                        ContainsSubstring("nn::parallel::broadcast(x)"));
  const std::map<std::string, Tensor> named{{"image", eight}, {"mask", one}};
  CHECK_THROWS_WITH(parallel::scatter(named, on), ContainsSubstring("argument 0['mask']"));
  CHECK_THROWS_AS(parallel::scatter(std::vector<Tensor>{eight, one}, on), ValueError);
  CHECK_THROWS_WITH(parallel::scatter(ones({}), on), ContainsSubstring("has no dimension 0"));
  CHECK_THROWS_WITH(parallel::scatter(eight, on, 2), ContainsSubstring("has no dimension 2"));
}

TEST_CASE("broadcast: an argument that every replica gets whole", "[parallel]") {
  const auto on = devices(3);
  const Tensor x = randn({6, 2}), scale = full({1, 2}, 3.0).requires_grad_();
  DataParallel parallel(Functional([](const Tensor& t) { return t; }), on);
  struct Scaled : Cloneable<Scaled> {
    void reset() override {}
    Tensor forward(const Tensor& t, const Tensor& by) { return t * by; }
  };
  DataParallel scaled(std::make_shared<Scaled>(), on);
  const Tensor y = scaled(x, parallel::broadcast(scale));
  CHECK(close(y, x * 3));
  y.sum().backward();
  CHECK(close(scale.grad(), x.sum(0, true)));

  const auto shares = parallel::scatter(std::tuple(x, parallel::broadcast(std::vector<Tensor>{scale})), on);
  static_assert(std::is_same_v<decltype(shares)::value_type, std::tuple<Tensor, std::vector<Tensor>>>);
  CHECK(std::get<1>(shares[2])[0].device() == on[2]);
}

TEST_CASE("scatter: numbers, texts, pointers and undefined tensors go to every device", "[parallel]") {
  const auto on = devices(2);
  const auto object = std::make_shared<int>(5);
  const auto shares = parallel::scatter(std::tuple(ones({4}), 3, std::string("text"), object, Tensor(), nullopt), on);
  REQUIRE(shares.size() == 2);
  CHECK(std::get<1>(shares[1]) == 3);
  CHECK(std::get<2>(shares[1]) == "text");
  CHECK(std::get<3>(shares[1]) == object);
  CHECK_FALSE(std::get<4>(shares[1]).defined());
}

TEST_CASE("test_gather_cpu, test_gather_gpu: values, device, derivatives of both orders, mixed dtypes", "[parallel]") {
  const auto on = devices(3);
  for (const std::int64_t dim : {0, 1, -1}) {
    std::vector<Tensor> parts;
    for (std::size_t k = 0; k < 3; ++k) {
      const auto n = static_cast<std::int64_t>(k + 1);
      parts.push_back(randn(dim == 0 ? Dims{n, 2} : Dims{2, n}, on[k]).requires_grad_());
    }
    for (const Device to : {on[0], on[2], Device(kCPU)}) {
      const Tensor y = parallel::gather(parts, to, dim);
      CHECK(y.device() == to);
      CHECK(y.size(dim) == 6);
      CHECK(close(y.narrow(dim, 3, 3), parts[2]));
      const auto g = autograd::grad({(y * y * y).sum()}, parts, {}, nullopt, /*create_graph=*/true);
      CHECK(g[1].device() == on[1]);
      CHECK(close(g[1], parts[1] * parts[1] * 3));
      CHECK(close(autograd::grad({g[1].sum()}, {parts[1]})[0], parts[1] * 6));
    }
  }
  const std::vector<Tensor> mixed{ones({1}, on[0]).to(kFloat16).requires_grad_(), ones({1}, on[1]).requires_grad_()};
  const Tensor y = parallel::gather(mixed, on[0]);
  CHECK(y.dtype() == kFloat32);
  y.sum().backward();
  CHECK(mixed[0].grad().dtype() == kFloat16);
}

TEST_CASE("test_gather_different_len_dicts: those and other disagreements are refused, by their places",
          "[parallel][errors]") {
  const auto on = devices(2);
  using Map = std::map<std::string, Tensor>;
  const Tensor a = ones({2}, on[0]), b = ones({2}, on[1]);
  CHECK_THROWS_AS(parallel::gather(std::vector<Map>{{{"a", a}}, {{"a", b}, {"b", b}}}, on[0]), ValueError);
  CHECK_THROWS_WITH(parallel::gather(std::vector<Map>{{{"a", a}}, {{"a", b}, {"b", b}}}, on[0]),
                    ContainsSubstring("the output has 2 keys in replica 1 but 1 in replica 0"));
  CHECK_THROWS_WITH(parallel::gather(std::vector<Map>{{{"a", a}}, {{"b", b}}}, on[0]),
                    ContainsSubstring("the output['a'] of replica 0 is missing in replica 1"));
  CHECK_THROWS_WITH(parallel::gather(std::vector<std::vector<Tensor>>{{a}, {b, b}}, on[0]),
                    ContainsSubstring("2 elements in replica 1"));
  CHECK_THROWS_WITH(parallel::gather(std::vector<optional<Tensor>>{a, nullopt}, on[0]),
                    ContainsSubstring("is there in some replicas and not in others"));
  CHECK_THROWS_WITH(parallel::gather(std::vector<Tensor>{a, Tensor()}, on[0]), ContainsSubstring("not in others"));
  CHECK_THROWS_WITH(parallel::gather(std::vector<Tensor>{ones({2, 3}, on[0]), ones({2, 4}, on[1])}, on[0]),
                    ContainsSubstring("of replica 1 is float32[2, 4]") && ContainsSubstring("dimension 0 only"));
  CHECK_THROWS_WITH(parallel::gather(std::vector<Tensor>{ones({}, on[0]), ones({}, on[1])}, on[0], 1),
                    ContainsSubstring("cannot be joined along dimension 1"));
  CHECK_THROWS_WITH(parallel::gather(std::vector<Tensor>{}, on[0]), ContainsSubstring("nothing to gather"));
  CHECK_FALSE(parallel::gather(std::vector<optional<Tensor>>(2), on[0]).has_value());
  CHECK_FALSE(parallel::gather(std::vector<Tensor>(2), on[0]).defined());
}

TEST_CASE("test_replicate: parameters and buffers on the right devices, the first shared, gradients to the module",
          "[parallel]") {
  const auto on = devices(3);
  Sequential net(Linear(4, 3), BatchNorm1d(3));
  const auto replicas = parallel::replicate(net, on);
  REQUIRE(replicas.size() == 3);
  for (std::size_t k = 0; k < 3; ++k) {
    for (const Tensor& t : replicas[k]->parameters()) CHECK(t.device() == on[k]);
    CHECK(replicas[k]->buffers().size() == 3);
    for (const Tensor& t : replicas[k]->buffers()) CHECK(t.device() == on[k]);
    const Tensor weight = replicas[k]->parameters()[0];
    CHECK(weight.is_alias_of(net->parameters()[0]) == (k == 0));
    CHECK_FALSE(weight.is_leaf());
    CHECK(close(weight, net->parameters()[0]));
  }
  (replicas[0]->parameters()[0].sum().to(TensorOptions(on[0])) +
   replicas[2]->parameters()[0].sum().to(TensorOptions(on[0])))
      .backward();
  CHECK(values(net->parameters()[0].grad()) == Doubles(12, 2.0));
  CHECK(parallel::replicate(net, {}).empty());
  CHECK_THROWS_WITH(parallel::replicate(net, {on[1], on[0]}), ContainsSubstring("must have its parameters"));
}

TEST_CASE("test_replicate_buffers: what replica 0 writes stays, what others write does not", "[parallel]") {
  const auto on = devices(2);
  BatchNorm1d norm(2);
  const auto replicas = parallel::replicate(norm, on);
  replicas[1]->forward(full({4, 2}, 7.0, on[1]));
  CHECK(values(norm->running_mean) == Doubles{0, 0});
  replicas[0]->forward(full({4, 2}, 7.0, on[0]));
  CHECK(values(norm->running_mean)[0] == Catch::Approx(0.7));
  CHECK(values(norm->num_batches_tracked) == Doubles{1});
}

TEST_CASE("test_zero_grad: on a replica it warns and does nothing", "[parallel]") {
  Linear net(2, 2);
  const auto replicas = parallel::replicate(net, devices(2));
  const Warnings warnings;
  replicas[1]->zero_grad();
  net->zero_grad();
  REQUIRE(warnings.texts().size() == 1);
  CHECK_THAT(warnings.texts()[0], ContainsSubstring("Linear is a replica") && ContainsSubstring("no effect"));
}

TEST_CASE("test_save_replica_module: a replica has a state like any module", "[parallel]") {
  TwoLayers net;
  const auto replica = parallel::replicate(net, devices(2))[1];
  TwoLayers other;
  other->load_state_dict(replica->state_dict());
  CHECK(close(other->first->weight, net->first->weight));
  std::stringstream stream;
  save(replica, stream);
  TwoLayers loaded;
  load(loaded, stream);
  CHECK(close(loaded->second->weight, net->second->weight));
}

TEST_CASE("test_parallel_apply: a sole argument or a tuple of them; devices given or found", "[parallel][threads]") {
  const auto on = devices(2);
  Linear a(3, 2), b(3, 2);
  b->to(on[1]);
  const std::vector<Linear> modules{a, b};
  const std::vector<Tensor> inputs{randn({2, 3}, on[0]), randn({4, 3}, on[1])};
  for (const auto& where : {optional<std::vector<Device>>(on), optional<std::vector<Device>>()}) {
    const auto out = parallel::parallel_apply(modules, inputs, where);
    CHECK(close(out[1], b(inputs[1])));
    const auto same = parallel::parallel_apply(
        modules, std::vector<std::tuple<Tensor>>{std::tuple(inputs[0]), std::tuple(inputs[1])}, where);
    CHECK(close(same[0], a(inputs[0])));
    CHECK(same[1].device() == on[1]);
  }
  CHECK_THROWS_WITH(parallel::parallel_apply(modules, std::vector<Tensor>{inputs[0]}),
                    ContainsSubstring("2 modules, 1 inputs"));
  struct Numbers : Cloneable<Numbers> {
    void reset() override {}
    int forward(int n) { return n + 1; }
  };
  const std::vector<std::shared_ptr<Numbers>> plain{std::make_shared<Numbers>()};
  CHECK_THROWS_WITH(parallel::parallel_apply(plain, std::vector<int>{1}), ContainsSubstring("says where to run"));
  CHECK(parallel::parallel_apply(plain, std::vector<int>{1}, std::vector<Device>{on[0]}) == std::vector<int>{2});
}

TEST_CASE("an imbalance of devices is found and named", "[parallel]") {
  const std::vector<Device> two{Device(kCUDA, 0), Device(kCUDA, 1)};
  const auto text = [&](DeviceProperties a, DeviceProperties b) {
    return parallel::imbalance(two, std::vector<DeviceProperties>{a, b});
  };
  CHECK(text({"a", 100, 10}, {"b", 100, 10}) == "");
  CHECK(text({"a", 100, 10}, {"b", 76, 8}) == "");
  CHECK_THAT(text({"a", 100, 10}, {"b", 74, 10}), ContainsSubstring("cuda:1 has 74 bytes of memory, cuda:0 has 100"));
  CHECK_THAT(text({"a", 100, 7}, {"b", 100, 10}), ContainsSubstring("cuda:0 has 7 multiprocessors, cuda:1 has 10"));
  CHECK(text({}, {}) == "");  // unknown
  CHECK(parallel::imbalance({}, {}) == "");
}

#if HALFTONE_SIMULATED_CUDA

TEST_CASE("a wrapper over GPUs of different size warns, one over equal ones does not", "[cuda][parallel]") {
  need_gpus(3);
  const auto on = cuda_devices();
  const auto before = static_cast<int>(runtime(kCUDA).properties(on[2]).multiprocessors);
  const Warnings warnings;
  cudasim::set_multiprocessors(2, 2 * before);
  const DataParallel equal(Linear(2, 2), {on[0], on[1]});
  const DataParallel unequal(Linear(2, 2), {on[0], on[1], on[2]});
  cudasim::set_multiprocessors(2, before);
  CHECK(warnings.texts() ==
        std::vector<std::string>{str("DataParallel: there is an imbalance between the devices: cuda:0 has ", before,
                                     " multiprocessors, cuda:2 has ", 2 * before,
                                     ". The fast ones wait for the slow one; leave it out of device_ids if that does "
                                     "not pay")});
}

#endif

TEST_CASE("modules without clone() need a factory, which must make the same module", "[parallel][errors]") {
  struct Plain : Module {
    Plain() { fc = register_module("fc", Linear(2, 2)); }
    Tensor forward(const Tensor& x) { return fc(x); }
    Linear fc{nullptr};
  };
  const auto on = devices(2);
  auto net = std::make_shared<Plain>();
  const Tensor x = randn({4, 2});
  const auto with = [&](parallel::Replicas::Factory factory) {
    return DataParallel(net, DataParallelOptions().device_ids(on).replica_factory(std::move(factory)));
  };
  CHECK_THROWS_AS(DataParallel(net, on)->forward(x), NotImplementedError);
  CHECK_THROWS_WITH(DataParallel(net, on)->forward(x),
                    ContainsSubstring("DataParallel cannot make a replica") && ContainsSubstring("replica_factory"));
  CHECK(close(with([] { return std::make_shared<Plain>(); })(x), net->forward(x)));
  CHECK_THROWS_WITH(with([&] { return net; })(x), ContainsSubstring("the module itself"));
  CHECK_THROWS_WITH(with([] { return std::shared_ptr<Module>(); })(x), ContainsSubstring("null pointer"));
  CHECK_THROWS_WITH(with([] { return Linear(2, 2).ptr(); })(x), ContainsSubstring("in the replica a"));
  CHECK_THROWS_WITH(with([] {
                      auto other = std::make_shared<Plain>();
                      other->unregister_module("fc");
                      return other;
                    })(x),
                    ContainsSubstring("1 submodules but 0"));
  CHECK_THROWS_WITH(with([&] {
                      auto other = std::make_shared<Plain>();
                      other->replace_module("fc", net->fc);
                      return other;
                    })(x),
                    ContainsSubstring("shares 'fc.weight' with the module"));
}
