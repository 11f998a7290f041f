// A file that appears under its name only when it is complete.
#pragma once

#include <string>

namespace halftone {

/// Writes go to a temporary file in the same folder; commit() brings them to disk and gives the file its name. Without
/// commit(), or when something fails, the temporary is removed and an older file of that name is left alone. Devices
/// and pipes are written to directly.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t size);
  void commit();

 private:
  [[noreturn]] void fail_with_errno(int error) const;
  void close_file();

  std::string path_;
  std::string temporary_;  // empty when the target is written directly
  int file_ = -1;
};

}  // namespace halftone
