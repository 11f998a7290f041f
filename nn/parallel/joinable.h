// What a layer needs to be told of the replicas beside its own.
#pragma once

#include <cstddef>

namespace halftone::nn::parallel {

class Group;

/// A layer whose replicas may compute something together. DataParallel joins them for the time of a forward.
class Joinable {
 public:
  /// A null group ends it.
  void join(Group* group, std::size_t rank) {
    group_ = group;
    rank_ = rank;
  }

 protected:
  Group* group_ = nullptr;
  std::size_t rank_ = 0;
};

}  // namespace halftone::nn::parallel
