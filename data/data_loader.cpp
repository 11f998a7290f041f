#include "data/data_loader.h"

namespace halftone::data {

namespace {

std::string message_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

}  // namespace

WorkerException::WorkerException(std::exception_ptr original)
    : Error("Caught exception in DataLoader worker thread. Original message: " + message_of(original)),
      original_exception(std::move(original)) {}

FullDataLoaderOptions::FullDataLoaderOptions(const DataLoaderOptions& options)
    : batch_size(options.batch_size()),
      workers(options.workers()),
      max_jobs(options.max_jobs().value_or(2 * workers)),
      timeout(options.timeout()),
      enforce_ordering(options.enforce_ordering()),
      drop_last(options.drop_last()),
      pin_memory(options.pin_memory() && has_runtime(kCUDA)) {
  check<ValueError>(batch_size > 0, "DataLoader: batch_size must be at least 1");
  check<ValueError>(workers == 0 || max_jobs > 0, "DataLoader: max_jobs must be at least 1 when there are workers");
}

}  // namespace halftone::data
