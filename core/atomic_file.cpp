#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace halftone {

namespace {

/// A name that no other thread or process uses for a temporary.
std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> count{0};
  return str(path, ".", getpid(), "-", count++, ".tmp");
}

/// The file that a chain of symbolic links ends in, so that the links stay.
std::string resolve(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_symlink(path, ignored)) return path;
  const auto target = std::filesystem::weakly_canonical(path, ignored);
  return target.empty() ? path : target.string();
}

/// Best effort: the rename itself survives a power cut once the folder is on disk.
void flush_folder(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path();
  const int handle = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return;
  fsync(handle);
  close(handle);
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(resolve(path)) {
  struct stat old {};
  const bool exists = stat(path_.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    file_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file_ < 0) fail_with_errno(errno);
    return;
  }
  temporary_ = temporary_name(path_);
  file_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_ < 0) {
    const int error = errno;
    temporary_.clear();  // there is none to remove
    fail_with_errno(error);
  }
  if (exists) static_cast<void>(fchmod(file_, old.st_mode & 07777));
}

AtomicFile::~AtomicFile() {
  close_file();
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t size) {
  constexpr std::size_t kLargestWrite = std::size_t{1} << 30;  // Linux takes no more than 2 GiB at once
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::write(file_, from, std::min(size, kLargestWrite));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno(errno);
    from += count;
    size -= static_cast<std::size_t>(count);
  }
}

void AtomicFile::commit() {
  if (temporary_.empty()) return close_file();
  if (fsync(file_) != 0) fail_with_errno(errno);
  close_file();
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno(errno);
  temporary_.clear();
  flush_folder(path_);
}

void AtomicFile::fail_with_errno(int error) const {
  fail("save: cannot write \"", path_, "\": ", std::strerror(error));
}

void AtomicFile::close_file() {
  if (file_ >= 0) close(file_);
  file_ = -1;
}

}  // namespace halftone
