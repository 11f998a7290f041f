// The command line of examples/mnist: what it prints, what it writes, and one line and a status for everything that can
// go wrong. Runs the program of this build; without it there is nothing to test.
#include <unistd.h>

#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "examples/mnist/batches.h"
#include "tests/cuda.h"

using namespace halftone;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

const fs::path kData = fs::path(HALFTONE_SOURCE_DIR) / "examples/data/mnist";

fs::path program() { return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "examples/mnist"; }

struct Outcome {
  int status = 0;
  std::string out, error;
};

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("halftone_mnist_program" + std::to_string(getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  std::string text(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

// On the CPU unless `arguments` choose. `before` is shell code, such as a limit, that holds for the program alone.
Outcome run(const Folder& folder, const std::string& arguments, const std::string& before = "") {
  const std::string device = arguments.find("--device") == std::string::npos ? " --device cpu " : " ";
  const std::string command = before + " exec " + program().string() + " --threads 1" + device + arguments + " >" +
                              folder.text("out") + " 2>" + folder.text("error");
  const int status = std::system(("bash -c '" + command + "'").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(folder / "out"), read(folder / "error")};
}

std::size_t lines(const std::string& text) { return static_cast<std::size_t>(std::ranges::count(text, '\n')); }

bool is_built() {
  if (fs::exists(program())) return true;
  WARN("examples/mnist is not in this build");
  return false;
}

// What each epoch's line says.
std::vector<double> losses_in(const std::string& out) {
  const std::string word = "loss ";
  std::vector<double> losses;
  for (auto at = out.find(word); at != std::string::npos; at = out.find(word, at + 1))
    losses.push_back(std::stod(out.substr(at + word.size())));
  return losses;
}

void copy_data(const Folder& folder, const std::string& damaged, std::uintmax_t size) {
  fs::copy(kData, folder / "data", fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  fs::permissions(folder / ("data/" + damaged), fs::perms::owner_all);
  fs::resize_file(folder / ("data/" + damaged), size);
}

}  // namespace

TEST_CASE("mnist trains and tests in every precision and model", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const std::string precision = GENERATE("fp32", "bf16", "fp16");
  const std::string model = GENERATE("mlp", "cnn");
  const Outcome outcome = run(folder, "--smoke --precision " + precision + " --model " + model);
  INFO(outcome.error);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, ContainsSubstring(model + " on cpu in " + precision));
  CHECK_THAT(outcome.out, ContainsSubstring("epoch 1/1  loss "));
  CHECK_THAT(outcome.out, ContainsSubstring("test accuracy ") && ContainsSubstring(" images/s, peak memory "));
  CHECK_THAT(outcome.out, !ContainsSubstring("\x1b"));
  CHECK((precision == "fp16") == (outcome.out.find("scale ") != std::string::npos));
}

TEST_CASE("mnist trains and tests on the GPU", "[mnist][program]") {
  if (!is_built() || !cuda::is_available()) return;
  const Folder folder;
  const std::string model = GENERATE("mlp", "cnn");
  const std::string common = "--images 32 --batch-size 16 --model " + model, saved = folder.text("saved");
  const Outcome gpu = run(folder, common + " --epochs 2 --device cuda:0 --save " + saved);
  INFO(gpu.error);
  CHECK(gpu.status == 0);
  CHECK_THAT(gpu.out, ContainsSubstring(model + " on cuda:0 in fp16") && ContainsSubstring("scale 65536  skipped 0") &&
                          ContainsSubstring("test accuracy "));
  const std::vector<double> losses = losses_in(gpu.out);
  REQUIRE(losses.size() == 2);
  CHECK(losses[1] < losses[0]);
  const Outcome cpu = run(folder, common + " --epochs 3 --device cpu --precision fp16 --resume " + saved);
  INFO(cpu.error);
  CHECK(cpu.status == 0);
  CHECK_THAT(cpu.out, !ContainsSubstring("epoch 2/3") && ContainsSubstring("epoch 3/3"));
}

#if HALFTONE_SIMULATED_CUDA

// The program is a process of its own, whose calls nobody here can count: this is its loop, with its batches.
TEST_CASE("mnist's data goes to the GPU once, and its steps copy nothing from the host", "[mnist]") {
  test::need_gpus(1);
  const Device device(kCUDA, 0);
  mnist::Batches batches(data::datasets::MNIST(kData.string()), device, 32, 16, /*shuffled=*/true);
  nn::Sequential net(nn::Flatten(), nn::Linear(784, 16), nn::ReLU(), nn::Linear(16, 10));
  net->to(device);
  optim::AdamW optimizer(net->parameters(), optim::AdamWOptions(0.004));
  optim::OneCycleLR scheduler(optimizer, 0.004, 8);
  amp::GradScaler scaler(kCUDA);
  std::vector<double> losses;
  for (int epoch = 0; epoch < 4; ++epoch) {
    Tensor sum = zeros({}, device);
    cudasim::reset_counters();
    for (const auto& batch : batches) {
      const Tensor images = batch.data.to(device), labels = batch.target.to(device);
      Tensor loss;
      {
        const amp::autocast region(kCUDA, kFloat16);
        loss = cross_entropy_loss(net->forward(images), labels);
      }
      optimizer.zero_grad();
      scaler.scale(loss).backward();
      scaler.step(optimizer);
      scaler.update();
      scheduler.step();
      sum.add_(loss.detach());
    }
    if (epoch > 0) {  // the first one makes the scale and the optimizer's state
      for (const cudasim::Counters& gpu : cudasim::counters()) {
        CHECK(gpu.host_to_device == 0);
        CHECK(gpu.device_to_host == 0);
        CHECK(gpu.host_waits == 0);
      }
    }
    losses.push_back(sum.item<double>());
  }
  CHECK(losses.back() < 0.9 * losses.front());
}

#endif

TEST_CASE("mnist --compare prints both precisions", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const Outcome outcome = run(folder, "--smoke --compare --precision bf16");
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out,
             ContainsSubstring("\nfp32 ") && ContainsSubstring("\nbf16 ") && ContainsSubstring("bf16 against fp32: "));
}

TEST_CASE("mnist --trace prints a line an op of the first step", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const Outcome outcome = run(folder, "--smoke --trace --precision bf16 --model cnn");
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, ContainsSubstring("conv2d") && ContainsSubstring("lower") &&
                              ContainsSubstring("cross_entropy_loss") && ContainsSubstring("full"));
}

TEST_CASE("mnist --help says what there is", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const Outcome outcome = run(folder, "--help");
  CHECK(outcome.status == 0);
  for (const char* const option :
       {"--precision", "--model", "--epochs", "--batch-size", "--images", "--lr", "--threads", "--seed", "--device",
        "--data", "--save", "--resume", "--trace", "--no-scaler", "--loss-factor", "--compare", "--smoke"})
    CHECK_THAT(outcome.out, ContainsSubstring(option));
}

TEST_CASE("mnist answers a wrong command line with one line", "[mnist][program]") {
  if (!is_built()) return;
  struct Row {
    std::string arguments, message;
  };
  const auto row = GENERATE(values<Row>({
      {"--nonsense", "--nonsense"},
      {"stray", "stray"},
      {"--precision fp8", "--precision"},
      {"--model resnet", "--model"},
      {"--epochs 0", "--epochs"},
      {"--epochs many", "--epochs"},
      {"--batch-size -1", "--batch-size"},
      {"--lr 0", "--lr"},
      {"--lr inf", "--lr"},
      {"--loss-factor nan", "--loss-factor"},
      {"--device tpu", "--device"},
      {"--device cuda:7", "cuda:7"},
      {"--seed", "--seed"},
      {"--compare --save x", "--compare and --save"},
  }));
  INFO(row.arguments);
  const Folder folder;
  const Outcome outcome = run(folder, row.arguments);
  INFO(outcome.error);
  CHECK(outcome.status == 2);
  CHECK(lines(outcome.error) == 1);
  CHECK_THAT(outcome.error, ContainsSubstring("mnist: ") && ContainsSubstring(row.message));
}

TEST_CASE("mnist answers missing or damaged data with one line", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const Outcome missing = run(folder, "--smoke --data " + folder.text("nowhere"));
  CHECK(missing.status == 1);
  CHECK(lines(missing.error) == 1);
  CHECK_THAT(missing.error, ContainsSubstring("train-images-idx3-ubyte") && ContainsSubstring(".gz"));

  const std::string damaged = GENERATE("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz");
  copy_data(folder, damaged, 3000);
  const Outcome truncated = run(folder, "--smoke --data " + folder.text("data"));
  CHECK(truncated.status == 1);
  CHECK(lines(truncated.error) == 1);
  CHECK_THAT(truncated.error, ContainsSubstring(damaged) && ContainsSubstring("truncated"));
}

TEST_CASE("mnist goes on from a checkpoint as if it had never stopped", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const std::string precision = GENERATE("fp32", "fp16");
  const std::string common = "--smoke --epochs 3 --precision " + precision;
  const std::string whole = " --save " + folder.text("whole"), part = " --save " + folder.text("part");
  CHECK(run(folder, common + whole).status == 0);
  CHECK(run(folder, common + part + " --stop-after 1").status == 0);
  CHECK(read(folder / "part") != read(folder / "whole"));
  const Outcome resumed = run(folder, common + part + " --resume " + folder.text("part"));
  INFO(resumed.error);
  CHECK(resumed.status == 0);
  CHECK_THAT(resumed.out, !ContainsSubstring("epoch 1/3") && ContainsSubstring("epoch 2/3"));
  CHECK(read(folder / "part") == read(folder / "whole"));
}

TEST_CASE("mnist answers an unusable checkpoint with one line", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const std::string path = folder.text("checkpoint");
  REQUIRE(run(folder, "--smoke --model mlp --save " + path).status == 0);

  const Outcome other_model = run(folder, "--smoke --model cnn --resume " + path);
  CHECK(other_model.status == 1);
  CHECK(lines(other_model.error) == 1);
  CHECK_THAT(other_model.error, ContainsSubstring("checkpoint of the model mlp, not of cnn"));

  fs::resize_file(path, fs::file_size(path) / 2);
  for (const std::string& bad : {path, folder.text("nothing"), (kData / "README.md").string()}) {
    const Outcome outcome = run(folder, "--smoke --model mlp --resume " + bad);
    INFO(outcome.error);
    CHECK(outcome.status == 1);
    CHECK(lines(outcome.error) == 1);
    CHECK_THAT(outcome.error, ContainsSubstring(bad));
  }
}

TEST_CASE("a checkpoint that cannot be written leaves the older one alone", "[mnist][program]") {
  if (!is_built()) return;
  const Folder folder;
  const std::string path = folder.text("checkpoint");
  REQUIRE(run(folder, "--smoke --save " + path).status == 0);
  const std::string before = read(path);

  const Outcome outcome = run(folder, "--smoke --seed 1 --save " + path, "trap \"\" XFSZ; ulimit -f 64;");
  INFO(outcome.error);
  CHECK(outcome.status == 1);
  CHECK(lines(outcome.error) == 1);
  CHECK_THAT(outcome.error, ContainsSubstring(path));
  CHECK(read(path) == before);
  CHECK(std::distance(fs::directory_iterator(fs::path(path).parent_path()), {}) == 3);  // and out, error

  const Outcome full = run(folder, "--smoke --save /dev/full");
  CHECK(full.status == 1);
  CHECK_THAT(full.error, ContainsSubstring("/dev/full"));
  const Outcome nowhere = run(folder, "--save " + folder.text("no/such/folder"));
  CHECK(nowhere.status == 1);
  CHECK(lines(nowhere.error) == 1);
}
