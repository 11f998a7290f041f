// What Replicas knows of each tensor. Not for users.
#pragma once

#include "nn/parallel/replicas.h"

namespace halftone::nn::parallel {

/// What a copy is a copy of: memory as it was at some time.
struct Origin {
  std::shared_ptr<Storage> storage;  // null: of nothing
  std::int64_t offset = 0;
  std::uint32_t version = 0;
  std::uint64_t replays = 0;  // of graphs, which write without being counted as writers

  static Origin of(const Tensor& t);
  bool operator==(const Origin&) const = default;
};

/// A tensor of the original on one of the devices.
struct Replicas::Copy {
  std::vector<Tensor> handles;  // of the replica; several where its module does not share what the original shares
  Origin source;                // of the bytes
  std::uint32_t version = 0;    // of the bytes when they were copied: the replica may write to them

  Tensor cast;  // in 16 bits
  Origin cast_source;
  Tensor given;  // the cast with its history, for one forward
  bool cast_was_used = false;
  bool was_deferred = false;

  /// The bytes are those of the original as it is now.
  void note_bytes(const Tensor& original);
  /// Whether somebody asked for the bytes that were left behind.
  bool was_read() const;
  /// Whether the forward wrote to the bytes.
  bool was_written() const { return version != handles[0]._version(); }
};

struct Replicas::Source {
  std::string name;
  Tensor tensor;
  bool is_buffer;
  bool may_be_cast;          // guesses until a forward has shown it: products read it,
  bool needs_bytes;          // others do too, or somebody writes to it
  std::vector<Copy> copies;  // by device
};

/// What one tensor of the original is to be copied to before a forward.
struct Replicas::Update {
  Source* source;
  comm::Spread spread;
  std::vector<Copy*> copies;  // that `spread` brings up to date
};

}  // namespace halftone::nn::parallel
