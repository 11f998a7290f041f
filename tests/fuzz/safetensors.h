// A fuzz target for the reader of safetensors files, in libFuzzer's form. test_serialize.cpp runs it over mutated
// files; with -DHALFTONE_LIBFUZZER and clang's -fsanitize=fuzzer a file that includes this one is a fuzzer of its own.
#pragma once

#include "core/serialize.h"

namespace halftone::fuzz {

/// Any bytes must load or throw Error. What loads must come out the same when it is saved and loaded again.
inline int safetensors(const std::uint8_t* data, std::size_t size) {
  serialize::InputArchive archive;
  try {
    archive.load_from(reinterpret_cast<const char*>(data), size);
  } catch (const Error&) {
    return 0;
  }
  serialize::OutputArchive copy;
  for (const auto& item : archive.content().tensors) {
    if (!item.key().empty()) copy.write(item.key(), item.value());
  }
  std::string bytes;
  copy.save_to([&](const void* part, std::size_t count) {
    bytes.append(static_cast<const char*>(part), count);
    return count;
  });
  serialize::InputArchive again;
  again.load_from(bytes.data(), bytes.size());
  check(again.content().tensors.size() == copy.content().tensors.size(), "a tensor was lost");
  return 0;
}

}  // namespace halftone::fuzz

#ifdef HALFTONE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return halftone::fuzz::safetensors(data, size);
}
#endif
