// What Replicas knows of each tensor. Not for users.
#pragma once

#include "nn/parallel/replicas.h"

namespace halftone::nn::parallel {

/// A tensor of the original on one of the devices.
struct Replicas::Copy {
  std::vector<Tensor> handles;      // of the replica; several where its module does not share what the original shares
  std::shared_ptr<Storage> source;  // what the bytes are a copy of, with its version
  std::uint32_t source_version = 0;
  std::uint32_t version = 0;  // of the bytes when they were copied: the replica may write to them

  Tensor cast;  // in 16 bits, likewise
  std::shared_ptr<Storage> cast_source;
  std::uint32_t cast_version = 0;
  Tensor given;  // the cast with its history, for one forward
  bool cast_was_used = false;
  bool was_deferred = false;

  /// The bytes, or the cast, are those of the original as it is now.
  void note_bytes(const Tensor& original);
  void note_cast(const Tensor& original);
};

struct Replicas::Source {
  std::string name;
  Tensor tensor;
  bool is_buffer;
  bool may_be_cast;                 // a guess until a forward has shown it
  bool was_read_in_region = false;  // in its own dtype
  std::vector<Copy> copies;         // by device
};

/// What one tensor of the original is to be copied to before a forward.
struct Replicas::Update {
  Source* source;
  comm::Spread spread;
  std::vector<Copy*> copies;  // that `spread` brings up to date
};

}  // namespace halftone::nn::parallel
