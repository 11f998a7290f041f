// Saving and loading: round trips, Python's files, archives, checkpoints; damaged files, full disks and mutated bytes.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "halftone.h"
#include "tests/catch.h"
#include "tests/fuzz/safetensors.h"

using namespace halftone;
using namespace halftone::nn;
using Catch::Matchers::ContainsSubstring;
using serialize::InputArchive;
using serialize::OutputArchive;

namespace {

const std::string kPythonFile =
#include "tests/golden/safetensors.inc"
    ;

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

template <class Function> std::string message_of(Function f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

/// A folder that is gone when the test is over.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("halftone_serialize_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class T> std::string saved_bytes(const T& value) {
  std::ostringstream out;
  save(value, out);
  return out.str();
}

/// A file with this header and data.
std::string file_of(const std::string& header, const std::string& data = {}) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

using Strings = std::vector<std::string>;

struct NetImpl : Cloneable<NetImpl> {
  NetImpl() { NetImpl::reset(); }
  void reset() override {
    fc1 = register_module("fc1", Linear(2, 3));
    act = register_module("act", Functional(halftone::relu));
    norm = register_module("norm", BatchNorm1d(3));
    fc2 = register_module("fc2", Linear(LinearOptions(3, 2).bias(false)));
  }
  Tensor forward(const Tensor& x) { return fc2(norm(act(fc1(x)))); }

  Linear fc1{nullptr}, fc2{nullptr};
  BatchNorm1d norm{nullptr};
  Functional act{nullptr};
};
TORCH_MODULE(Net);

bool same_state(const Module& a, const Module& b) {
  const auto x = a.state_dict(), y = b.state_dict();
  if (x.keys() != y.keys()) return false;
  for (const auto& item : x) {
    if (!equal(item.value(), y[item.key()])) return false;
  }
  return true;
}

}  // namespace

// ------------------------------------------------------------------------------------------------ round trips

TEST_CASE("a tensor comes back the same from everywhere", "[serialize]") {
  const Folder folder;
  for (const Dtype dtype : kDtypes) {
    for (const Dims& shape : {Dims{}, Dims{5}, Dims{2, 3}, Dims{0, 4}, Dims{1, 2, 3, 4, 1, 1, 1, 2}}) {
      INFO(name(dtype) << " " << shape);
      const Tensor t = randint(2, shape, kInt64).to(dtype);
      save(t, folder / "t");
      const std::string bytes = saved_bytes(t);
      CHECK(read_file(folder / "t") == bytes);
      std::istringstream stream(bytes);
      Tensor a, b, c, d, e = ones(3);
      load(a, folder / "t");
      load(b, stream);
      load(c, bytes.data(), bytes.size());
      load(
          d, [&](std::uint64_t at, void* to, std::size_t n) { return bytes.copy(static_cast<char*>(to), n, at); },
          [&] { return bytes.size(); });
      load(e, folder / "t", Device("cpu:1"));
      for (const Tensor& loaded : {a, b, c, d, e.cpu()}) {
        CHECK(loaded.dtype() == dtype);
        CHECK(equal(loaded, t.cpu()));
      }
      CHECK(e.device() == Device("cpu:1"));
    }
  }
}

TEST_CASE("views, transposed tensors and parameters are saved as what they show", "[serialize]") {
  const Tensor base = arange(24.).view({4, 6});
  for (const Tensor& t : {base.t(), base.slice(1, 1, 6, 2), base[2], base[0][0].expand({3, 2}), Linear(3, 2)->weight,
                          base.to(Device("cpu:1"))}) {
    std::stringstream stream;
    save(t, stream);
    Tensor loaded;
    load(loaded, stream);
    CHECK(equal(loaded, t.cpu()));
    CHECK_FALSE(loaded.requires_grad());
  }
}

TEST_CASE("lists and dicts come back in their order", "[serialize]") {
  const Folder folder;
  std::vector<Tensor> list;
  for (int i = 0; i < 12; ++i) list.push_back(full({i}, i));
  save(list, folder / "list");
  std::vector<Tensor> loaded = {ones(1)};
  load(loaded, folder / "list");
  REQUIRE(loaded.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) CHECK(equal(loaded[i], list[i].cpu()));
  OrderedDict<std::string, Tensor> dict, back;
  dict.insert("z.w", ones(2));
  dict.insert("a", zeros({2, 2}));
  save(dict, folder / "dict", {{"origin", "a test"}});
  load(back, folder / "dict");
  CHECK(back.keys() == Strings{"z.w", "a"});
  CHECK(equal(back["a"], dict["a"].cpu()));
  InputArchive archive;
  archive.load_from(folder / "dict");
  CHECK(archive.metadata() == serialize::Metadata{{"origin", "a test"}});
}

TEST_CASE("a stream may hold several archives one after the other", "[serialize]") {
  std::stringstream stream;
  save(ones(3), stream);
  save(zeros({2, 2}), stream);
  Tensor a, b;
  load(a, stream);
  load(b, stream);
  CHECK(equal(a, ones(3, kCPU)));
  CHECK(equal(b, zeros({2, 2}, kCPU)));
}

TEST_CASE("the bytes are exactly those of the format", "[serialize]") {
  OrderedDict<std::string, Tensor> dict;
  dict.insert("b", tensor({1}, kUInt8));
  dict.insert("w", tensor({1.5}, kFloat32));
  const std::string header = R"({"w":{"data_offsets":[0,4],"dtype":"F32","shape":[1]},)"
                             R"("b":{"data_offsets":[4,5],"dtype":"U8","shape":[1]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  CHECK(saved_bytes(dict) == file_of(header + padding, std::string("\0\0\xC0\x3F\x01", 5)));
}

TEST_CASE("a file of Python's safetensors is read", "[serialize]") {
  const std::string bytes = from_hex(kPythonFile);
  InputArchive archive;
  archive.load_from(bytes.data(), bytes.size());
  CHECK(archive.metadata().at("format") == "pt");
  CHECK(archive.metadata().at("note") == "caf\xC3\xA9 \"quoted\"");
  const Strings names = {"kBool",  "kUInt8",   "kInt8",     "kInt16",   "kInt32",
                         "kInt64", "kFloat16", "kBFloat16", "kFloat32", "kFloat64"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    Tensor t;
    archive.read(names[i], t);
    CHECK(t.dtype() == kDtypes[i]);
    CHECK(equal(t.to(kInt64), arange(6, kCPU).view({2, 3}) % (i == 0 ? 2 : 7)));
  }
  Tensor scalar, none;
  archive.read("layer.0-dim", scalar);
  archive.read("layer.empty", none);
  CHECK(scalar.dim() == 0);
  CHECK(scalar.item<double>() == 2.5);
  CHECK(none.sizes() == IntArrayRef{0, 4});
}

// ------------------------------------------------------------------------------------------------ modules

TEST_CASE("modules come back, whole or as a state dictionary", "[serialize]") {
  const Folder folder;
  Net net;
  net(randn({4, 2}));
  save(net, folder / "net");
  CHECK(read_file(folder / "net") == saved_bytes(net->state_dict()));
  Net holder;
  NetImpl on_stack;
  const std::shared_ptr<NetImpl> pointer = std::make_shared<NetImpl>();
  load(holder, folder / "net");
  load(on_stack, folder / "net");
  load(pointer, folder / "net");
  for (const Module* m :
       {static_cast<Module*>(holder.get()), static_cast<Module*>(&on_stack), static_cast<Module*>(pointer.get())}) {
    CHECK(same_state(*m, *net));
  }
  CHECK(holder->fc1->weight.requires_grad());
  CHECK(holder->norm->num_batches_tracked.item<int>() == 1);
  OrderedDict<std::string, Tensor> state;
  load(state, folder / "net");
  Net by_state;
  by_state->load_state_dict(state);
  CHECK(same_state(*by_state, *net));
}

TEST_CASE("a Sequential loads into another one", "[serialize]") {
  Sequential a(Linear(2, 3), ReLU(), Linear(3, 1)), b(Linear(2, 3), ReLU(), Linear(3, 1));
  std::stringstream stream;
  save(a, stream);
  load(b, stream);
  CHECK(equal(a->forward(ones({1, 2})), b->forward(ones({1, 2}))));
}

TEST_CASE("a file's values take the dtype and device of the model", "[serialize]") {
  Net low, full, other;
  low->half();
  std::stringstream stream;
  save(low, stream);
  const Tensor handle = full->fc1->weight;
  load(full, stream);
  CHECK(full->fc1->weight.is_same(handle));
  CHECK(handle.dtype() == kFloat32);
  CHECK(equal(handle, low->fc1->weight.to(kFloat32)));
  std::stringstream back;
  save(full, back);
  other->to(Device("cpu:1"), kBFloat16);
  load(other, back);
  CHECK(other->fc1->weight.dtype() == kBFloat16);
  CHECK(other->fc1->weight.device() == Device("cpu:1"));
}

TEST_CASE("a file that does not fit leaves the model as it was", "[serialize]") {
  const Folder folder;
  Net net;
  const auto copy = std::dynamic_pointer_cast<NetImpl>(net->clone());
  auto state = Net()->state_dict();
  SECTION("a tensor is missing") {
    state.erase("fc2.weight");
    save(state, folder / "f");
    CHECK_THAT(message_of([&] { load(net, folder / "f"); }),
               ContainsSubstring("No such serialized tensor 'fc2.weight' in \"" + (folder / "f") +
                                 "\"; there are: norm.num_batches_tracked, fc1.weight, fc1.bias"));
  }
  SECTION("a tensor has another shape") {
    state["fc2.weight"] = ones({2, 4});
    save(state, folder / "f");
    CHECK_THAT(message_of([&] { load(net, folder / "f"); }), ContainsSubstring("size mismatch for 'fc2.weight'") &&
                                                                 ContainsSubstring("has [2, 4], but [2, 3] is wanted"));
  }
  CHECK(same_state(*net, *copy));
}

TEST_CASE("modules may save and load values of their own", "[serialize]") {
  struct CountingImpl : Module {
    CountingImpl() { fc = register_module("fc", Linear(1, 1)); }
    void save(OutputArchive& archive) const override {
      Module::save(archive);
      archive.write("calls", calls);
    }
    void load(InputArchive& archive) override {
      Module::load(archive);
      archive.read("calls", calls);
    }
    Linear fc{nullptr};
    int calls = 0;
  };
  struct OuterImpl : Module {
    OuterImpl() { inner = register_module("inner", std::make_shared<CountingImpl>()); }
    std::shared_ptr<CountingImpl> inner;
  };
  OuterImpl a, b;
  a.inner->calls = 42;
  std::stringstream stream;
  save(a, stream);
  load(b, stream);
  CHECK(b.inner->calls == 42);
  CHECK(same_state(a, b));
  CountingImpl part;
  OutputArchive whole;
  whole.write("a", *a.inner);
  std::stringstream nested;
  whole.save_to(nested);
  InputArchive archive;
  archive.load_from(nested);
  archive.read("a", part);
  CHECK(part.calls == 42);
  // The value is read last; when it is missing the tensors read before get their old values back.
  OuterImpl c;
  const Tensor before = c.inner->fc->weight.detach().clone();
  std::stringstream without(saved_bytes(a.state_dict()));
  CHECK_THAT(message_of([&] { load(c, without); }), ContainsSubstring("No such serialized value 'inner.calls'"));
  CHECK(equal(c.inner->fc->weight, before));
  std::stringstream again(saved_bytes(a.state_dict()));
  archive.load_from(again);
  CHECK_THAT(message_of([&] { archive.read("inner", *c.inner); }), ContainsSubstring("'inner.calls'"));
  CHECK(equal(c.inner->fc->weight, before));
}

// ------------------------------------------------------------------------------------------------ archives

TEST_CASE("archives hold small values and nested archives", "[serialize]") {
  OutputArchive inner, out;
  inner.write("lr", 0.1);
  inner.write("infinite", std::numeric_limits<double>::infinity());
  inner.write("negative", -std::numeric_limits<float>::infinity());
  inner.write("nan", std::nan(""));
  inner.write("whole", 3.0);
  inner.write("smallest", 5e-324);
  out.write("inner", inner);
  out.write("big", std::numeric_limits<std::int64_t>::min());
  out.write("flag", true);
  out.write("text", "quote \" and caf\xC3\xA9");
  out.write("w", ones(2), true);
  std::stringstream stream;
  out.save_to(stream);

  InputArchive in, part;
  in.load_from(stream);
  CHECK(in.keys() == Strings{"w", "big", "flag", "inner", "text"});
  in.read("inner", part);
  CHECK(part.keys().size() == 6);
  double real = 0;
  part.read("lr", real);
  CHECK(real == 0.1);
  part.read("infinite", real);
  CHECK(real == std::numeric_limits<double>::infinity());
  part.read("negative", real);
  CHECK(real == -std::numeric_limits<double>::infinity());
  part.read("nan", real);
  CHECK(std::isnan(real));
  part.read("smallest", real);
  CHECK(real == 5e-324);
  in.read("inner.whole", real);
  CHECK(real == 3);
  std::int64_t big = 0;
  in.read("big", big);
  CHECK(big == std::numeric_limits<std::int64_t>::min());
  in.read("big", real);
  CHECK(real < 0);
  bool flag = false;
  in.read("flag", flag);
  CHECK(flag);
  std::string text;
  in.read("text", text);
  CHECK(text == "quote \" and caf\xC3\xA9");
  CHECK_FALSE(in.try_read("nothing", text));
  CHECK(in.try_read("flag", flag));
  Tensor w;
  CHECK(in.try_read("w", w, true));
  CHECK_FALSE(in.try_read("v", w, true));
  CHECK_FALSE(in.try_read("other", part));
  CHECK(in.contains("inner"));
  CHECK_FALSE(in.contains("inn"));

  CHECK_THAT(message_of([&] { in.read("flag", real); }),
             ContainsSubstring("the value 'flag' in the stream is a bool, not a floating number"));
  CHECK_THAT(message_of([&] { in.read("text", big); }), ContainsSubstring("is a string, not an integer"));
  int small = 0;
  CHECK_THAT(message_of([&] { in.read("big", small); }),
             ContainsSubstring("'big' = -9223372036854775808 is too large"));
  CHECK_THAT(message_of([&] { part.read("gone", real); }), ContainsSubstring("No such serialized value 'inner.gone'"));
  CHECK_THAT(message_of([&] { part.read("gone", w); }), ContainsSubstring("No such serialized tensor 'inner.gone'"));
  CHECK_THAT(message_of([&] { in.read("other", part); }),
             ContainsSubstring("No such serialized submodule: 'other' in the stream; there are: w, big, flag"));
}

TEST_CASE("archives refuse keys and texts that a file cannot hold", "[serialize]") {
  OutputArchive archive;
  archive.write("w", ones(1));
  archive.write("v", 1);
  CHECK(message_of([&] { archive.write("w", ones(1)); }) == "Tensor 'w' already defined");
  CHECK(message_of([&] { archive.write("v", 2); }) == "Value 'v' already defined");
  CHECK(message_of([&] { archive.write("", ones(1)); }) == "an archive's key must not be empty");
  CHECK(message_of([&] { archive.write("__metadata__", ones(1)); }) == "an archive's key must not be '__metadata__'");
  CHECK(message_of([&] { archive.write("u", Tensor()); }) == "an archive cannot hold the undefined tensor 'u'");
  archive.metadata()["halftone.values"] = "x";
  std::ostringstream out;
  CHECK_THAT(message_of([&] { archive.save_to(out); }), ContainsSubstring("'halftone.values' is reserved"));
  archive.metadata() = {{"bad", "\xFF"}};
  CHECK_THAT(message_of([&] { archive.save_to(out); }), ContainsSubstring("is not UTF-8"));
  archive.metadata().clear();
  CHECK_THAT(message_of([&] { archive.save_to([](const void*, std::size_t n) { return n / 2; }); }),
             ContainsSubstring("save: the writer took 4 of 8 bytes"));
  Net empty{nullptr};
  CHECK_THAT(message_of([&] { save(std::shared_ptr<NetImpl>(), out); }), ContainsSubstring("the pointer is null"));
  CHECK_THAT(message_of([&] { save(empty, out); }), ContainsSubstring("the pointer is null"));
}

TEST_CASE("a checkpoint keeps model, optimizer, scaler and epoch in one file", "[serialize]") {
  const Folder folder;
  manual_seed(0);
  const Tensor x = randn({8, 2});
  const auto train = [&](Net& net, optim::Adam& adam) {
    adam.zero_grad();
    net(x).square().mean().backward();
    adam.step();
  };
  Net net, other;
  optim::Adam adam(net->parameters(), optim::AdamOptions(0.01)),
      other_adam(other->parameters(), optim::AdamOptions(0.5));
  const DeviceType type = get_default_device().type();
  amp::GradScaler scaler(type), other_scaler(type), off(type, {.enabled = false});
  train(net, adam);
  OutputArchive checkpoint;
  checkpoint.write("model", net);
  checkpoint.write("optimizer", adam);
  checkpoint.write("scaler", scaler);
  checkpoint.write("disabled", off);
  checkpoint.write("epoch", 7);
  checkpoint.save_to(folder / "checkpoint");

  InputArchive loaded;
  loaded.load_from(folder / "checkpoint");
  int epoch = 0;
  loaded.read("model", other);
  loaded.read("optimizer", other_adam);
  loaded.read("scaler", other_scaler);
  loaded.read("disabled", off);
  loaded.read("epoch", epoch);
  CHECK(epoch == 7);
  CHECK(other_scaler.get_scale() == scaler.get_scale());
  train(net, adam);
  train(other, other_adam);
  CHECK(same_state(*net, *other));

  std::stringstream stream;
  save(adam, stream);
  load(other_adam, stream);
  train(net, adam);
  train(other, other_adam);
  CHECK(same_state(*net, *other));
}

TEST_CASE("a checkpoint of one device goes on on another", "[serialize]") {
  const Device here = get_default_device(), other = here.is_cpu() ? Device("cpu:1") : Device(kCPU);
  const auto [from, to] = GENERATE_REF(values<std::pair<Device, Device>>({{here, other}, {other, here}}));
  const optional<Device> through = GENERATE(as<optional<Device>>(), nullopt, Device("cpu:2"), get_default_device());
  INFO(from << " to " << to);
  struct Run {
    explicit Run(Device place) : device(place), scaler(place.type()) {
      net->to(device);
      adam.emplace(net->parameters(), optim::AdamOptions(0.01).eps(1e-3));  // a larger one keeps rounding errors small
    }
    void train() {
      const Tensor x = arange(16, kFloat32).view({8, 2}).sin().to(device);
      adam->zero_grad();
      scaler.scale(net(x).square().mean()).backward();
      scaler.step(*adam);
      scaler.update();
    }
    Device device;
    Net net;
    optional<optim::Adam> adam;
    amp::GradScaler scaler;
  };
  Run first(from), second(to);
  first.train();
  OutputArchive checkpoint;
  checkpoint.write("model", first.net);
  checkpoint.write("optimizer", *first.adam);
  checkpoint.write("scaler", first.scaler);
  std::stringstream stream;
  checkpoint.save_to(stream);
  InputArchive loaded;
  loaded.load_from(stream, through);
  loaded.read("model", second.net);
  loaded.read("optimizer", *second.adam);
  loaded.read("scaler", second.scaler);
  first.train();
  second.train();
  CHECK(second.scaler.get_scale() == first.scaler.get_scale());
  const auto a = first.net->state_dict(), b = second.net->state_dict();
  for (const auto& item : a) {
    CHECK(b[item.key()].device() == canonical(to));
    CHECK(allclose(b[item.key()].cpu(), item.value().cpu(), 1e-5, 1e-6));
  }
}

// ------------------------------------------------------------------------------------------------ damaged files

TEST_CASE("a damaged file is refused with its name and the reason", "[serialize]") {
  const Folder folder;
  const std::string good = saved_bytes(ones({2, 3}));
  const std::string entry = R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string data(8, '\0');
  const auto with = [&](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return file_of(R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", data);
  };
  struct Row {
    std::string bytes;
    std::string reason;
  };
  const std::vector<Row> rows = {
      {"", "it has 0 bytes, too few for a safetensors file"},
      {"abc", "it has 3 bytes, too few"},
      {good.substr(0, good.size() - 1), "it is cut off: its tensors take 24 bytes, but 23 are there"},
      {good.substr(0, 40), "its header is said to take"},
      {good + "x", "1 bytes follow after its last tensor"},
      {std::string(64, '\xFF'), "its header is said to take 18446744073709551615 bytes, but 56 follow"},
      {"PK\x03\x04 a zip archive of another program", "or no safetensors file"},
      {file_of("[1, 2]"), "its header is not a JSON object"},
      {file_of("{\"w\": "), "its header is not JSON"},
      {file_of(std::string(5000, '[')), "its header is not JSON"},
      {file_of("{" + entry + "," + entry + "}", data), "its header has the key 'w' twice"},
      {file_of(R"({"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", data),
       "the key 'dtype' twice"},
      {file_of(R"({"w":3})"), "its header says of the tensor 'w' no dtype, shape and data_offsets"},
      {with(R"("F8_E5M2")", "[2]", "[0,8]"), "the tensor 'w' has the dtype \"F8_E5M2\", which halftone does not know"},
      {with("7", "[2]", "[0,8]"), "the tensor 'w' has no dtype"},
      {with(R"("F32")", "2", "[0,8]"), "the tensor 'w' has no shape"},
      {with(R"("F32")", "[-2]", "[0,8]"), "the tensor 'w' has a shape that is no list of natural numbers"},
      {with(R"("F32")", "[2.0]", "[0,8]"), "the tensor 'w' has a shape that is no list of natural numbers"},
      {with(R"("F32")", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), "the tensor 'w' has 9 dimensions; at most 8 are possible"},
      {with(R"("F32")", "[9223372036854775807]", "[0,8]"), "the tensor 'w' has the size 9223372036854775807"},
      {with(R"("F32")", "[4294967296,4294967296,2]", "[0,8]"), "does not take the 8 bytes it is given"},
      {with(R"("F32")", "[3]", "[0,8]"), "of shape [3] and dtype float32 does not take the 8 bytes it is given"},
      {with(R"("F32")", "[2]", "[8,0]"), "the tensor 'w' ends at byte 0, before it begins at 8"},
      {with(R"("F32")", "[2]", "[0]"), "the tensor 'w' has no data_offsets [begin, end]"},
      {with(R"("F32")", "[2]", "[0,-8]"), "data_offsets that is no list of natural numbers"},
      {with(R"("F32")", "[2]", "[4,12]"), "bytes 0 to 4, before the tensor 'w', belong to no tensor"},
      {with(R"("F32")", "[250]", "[0,1000]"), "it is cut off: its tensors take 1000 bytes, but 8 are there"},
      {file_of(R"({"m":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\x02"),
       "the bool tensor 'm' has an element that is neither 0 nor 1"},
      {file_of("{" + entry + R"(,"v":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", std::string(12, '\0')),
       "the tensors 'w' and 'v' overlap"},
      {file_of(R"({"__metadata__":3})"), "its __metadata__ is not an object"},
      {file_of(R"({"__metadata__":{"a":1}})"), "the metadata 'a' is not a string"},
      {file_of(R"({"__metadata__":{"halftone.values":"[]"}})"), "its halftone.values are not an object"},
      {file_of(R"({"__metadata__":{"halftone.values":"{\"a\":9223372036854775808}"}})"),
       "the value 'a' = 9223372036854775808 does not fit 64 bits"},
      {file_of(R"({"__metadata__":{"halftone.values":"{\"a\":[1]}"}})"), "the value 'a' is of no known type"},
      {file_of(R"({"__metadata__":{"halftone.values":"{\"a\":{\"float\":3}}"}})"), "the value 'a' is of no known type"},
  };
  for (const Row& row : rows) {
    INFO(row.reason);
    std::ofstream(folder / "f", std::ios::binary) << row.bytes;
    OrderedDict<std::string, Tensor> target;
    target.insert("kept", ones(1));
    const std::string message = message_of([&] { load(target, folder / "f"); });
    CHECK_THAT(message, ContainsSubstring(row.reason));
    CHECK_THAT(message, ContainsSubstring("load: \"" + (folder / "f") + "\" cannot be read: "));
    CHECK(target.keys() == Strings{"kept"});
  }
  Tensor t;
  CHECK_THAT(message_of([&] { load(t, folder / "none"); }),
             ContainsSubstring("load: cannot open \"" + (folder / "none") + "\": No such file or directory"));
  CHECK_THAT(message_of([&] { load(t, folder / ""); }), ContainsSubstring("load: cannot open"));
  CHECK_THAT(message_of([&] { load(t, "abc", 3); }), ContainsSubstring("load: the buffer cannot be read"));
  std::istringstream failed("abc");
  failed.setstate(std::ios::failbit);
  CHECK_THAT(message_of([&] { load(t, failed); }), ContainsSubstring("load: the stream is in a failed state"));
  CHECK_THAT(message_of([&] {
               load(
                   t, [](std::uint64_t, void*, std::size_t) { return std::size_t{2}; }, [] { return std::size_t{9}; });
             }),
             ContainsSubstring("load: the reader gave 2 of 9 bytes"));
  CHECK_FALSE(t.defined());
}

TEST_CASE("no mutation of a file gets past the reader", "[serialize][fuzz]") {
  OutputArchive archive;
  archive.write("layer.weight", arange(6.).view({2, 3}));
  archive.write("mask", tensor({true, false}));
  archive.write("lr", 0.5);
  std::ostringstream out;
  archive.save_to(out);
  const Strings corpus = {out.str(), from_hex(kPythonFile), saved_bytes(ones({})), file_of("{}")};
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  const std::string interesting = "\"{}[],:0129-.eE\\ \x00\x01\xFF";
  for (int i = 0; i < 6000; ++i) {
    std::string bytes = corpus[below(corpus.size())];
    for (std::size_t changes = 1 + below(4); changes > 0 && !bytes.empty(); --changes) {
      const std::size_t at = below(bytes.size());
      switch (below(6)) {
        case 0: bytes[at] = static_cast<char>(below(256)); break;
        case 1: bytes[at] = interesting[below(interesting.size())]; break;
        case 2: bytes.resize(at); break;
        case 3: bytes.insert(at, bytes.substr(below(bytes.size()), below(20))); break;
        case 4: bytes.erase(at, below(20)); break;
        default: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8))); break;
      }
    }
    fuzz::safetensors(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  SUCCEED("every one of them loaded or threw Error");
}

// ------------------------------------------------------------------------------------------------ writing

TEST_CASE("a full disk is reported", "[serialize]") {
  CHECK_THAT(message_of([] { save(ones(100000), "/dev/full"); }),
             ContainsSubstring("save: cannot write \"/dev/full\": No space left on device"));
  CHECK(std::filesystem::is_character_file("/dev/full"));
}

TEST_CASE("a write that fails half-way leaves the old file and no other", "[serialize]") {
  const Folder folder;
  save(ones(3), folder / "f");
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  rlimit tiny = old_limit;
  tiny.rlim_cur = 4096;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &tiny) == 0);
  const std::string message = message_of([&] { save(ones(100000), folder / "f"); });
  REQUIRE(setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  signal(SIGXFSZ, old_handler);
  CHECK_THAT(message, ContainsSubstring("save: cannot write \"" + (folder / "f") + "\": File too large"));
  CHECK(folder.files() == Strings{"f"});
  Tensor t;
  load(t, folder / "f");
  CHECK(equal(t, ones(3, kCPU)));
}

TEST_CASE("saving replaces files, keeps their mode and follows links", "[serialize]") {
  const Folder folder;
  save(ones(3), folder / "f");
  chmod((folder / "f").c_str(), 0640);
  std::filesystem::create_symlink("f", folder / "link");
  save(zeros(2), folder / "link");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  struct stat now {};
  stat((folder / "f").c_str(), &now);
  CHECK((now.st_mode & 07777) == 0640);
  Tensor t;
  load(t, folder / "f");
  CHECK(equal(t, zeros(2, kCPU)));
  CHECK(folder.files() == Strings{"f", "link"});
  CHECK_THAT(message_of([&] { save(t, folder / "no/such/folder"); }), ContainsSubstring("No such file or directory"));
  CHECK_THAT(message_of([&] { save(t, folder / ""); }), ContainsSubstring("Is a directory"));
  std::ostringstream bad;
  bad.setstate(std::ios::badbit);
  CHECK_THAT(message_of([&] { save(t, bad); }), ContainsSubstring("save: writing 8 bytes to the stream failed"));
}
