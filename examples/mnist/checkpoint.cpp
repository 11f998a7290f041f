#include "examples/mnist/checkpoint.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace mnist {

void save_checkpoint(const Training& training, const std::string& path) {
  ht::serialize::OutputArchive archive;
  archive.write("model_name", training.model_name);
  archive.write("epochs_done", training.epochs_done);
  archive.write("model", *training.net);
  archive.write("optimizer", training.optimizer);
  archive.write("scheduler", training.scheduler);
  archive.write("scaler", training.scaler);
  archive.write("random", ht::default_generator(ht::kCPU).get_state());
  if (training.device.is_cuda()) archive.write("random_cuda", ht::default_generator(training.device).get_state());
  archive.save_to(path);
}

namespace {

void read_parts(Training& training, ht::serialize::InputArchive& archive) {
  archive.read("model", *training.net);
  archive.read("optimizer", training.optimizer);
  archive.read("scheduler", training.scheduler);
  // Another precision may have been chosen: a scaler that was off left nothing, one that is off needs nothing.
  if (training.scaler.is_enabled() && archive.contains("scaler")) archive.read("scaler", training.scaler);
  archive.read("epochs_done", training.epochs_done);
  ht::Tensor random;
  archive.read("random", random);
  ht::default_generator(ht::kCPU).set_state(random);
  ht::Tensor random_cuda;
  if (training.device.is_cuda() && archive.try_read("random_cuda", random_cuda))
    ht::default_generator(training.device).set_state(random_cuda);
}

}  // namespace

void load_checkpoint(Training& training, const std::string& path) {
  ht::serialize::InputArchive archive;
  archive.load_from(path);
  std::string model_name;
  ht::check(archive.try_read("model_name", model_name) && archive.contains("epochs_done"), path,
            ": this is no checkpoint of this program");
  ht::check(model_name == training.model_name, path, ": this is a checkpoint of the model ", model_name, ", not of ",
            training.model_name);
  archive.all_or_nothing([&] { read_parts(training, archive); });
}

void check_can_save(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::absolute(path).parent_path();
  ht::check(access(parent.c_str(), W_OK) == 0, "cannot write ", path, ": ", std::strerror(errno));
  ht::check(!std::filesystem::is_directory(path), "cannot write ", path, ": it is a folder");
}

}  // namespace mnist
