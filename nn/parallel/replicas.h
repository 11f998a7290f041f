// Replicas: copies of a module on other devices that stay, and are bound to the module's tensors as they are before
// each forward.
//
// A bound tensor of a replica has the bytes of the original and, as its history, a broadcast node: the gradients of all
// replicas meet there, are summed in float32 and go to the original. That node is new for every forward; the bytes are
// copied only when the original was written to since.
//
// In an autocast region a parameter that products use is needed in 16 bits, one that a norm uses in float32, and which
// it is shows only when an op reads it. So the region casts it once, on the original's device; the cast is broadcast
// and handed to the region of each replica; and the float32 bytes stay behind until somebody reads them. Where that
// happened, or where nobody took the cast, the next forward knows.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"
#include "nn/parallel/comm.h"

namespace halftone::nn::parallel {

class Group;

/// What becomes of the buffers that replicas write to, such as running statistics.
enum class Buffers {
  First,  // those of replica 0 are the module's own, so what it writes stays; the others' are lost
  Mean,   // then floating ones get the mean over the replicas
  Sync,   // batch norms compute their statistics over all replicas together, so that all write the same
};

class Replicas {
 public:
  /// Makes a module like the original, with values of its own.
  using Factory = std::function<std::shared_ptr<Module>()>;

  /// Without a factory, replicas are made by clone(). They are made when they are first bound.
  Replicas(std::shared_ptr<Module> original, std::vector<Device> devices, Factory factory = nullptr);
  ~Replicas();

  /// Makes the first `count` replicas the same as the original is now: values, requires_grad, mode and hooks. With
  /// `in_region`, and inside a region, as said above.
  void bind(std::size_t count, bool in_region = true);
  /// In the thread of replica k, whose context is set: gives the region its casts.
  void enter(std::size_t k);
  /// After the forward of `count` replicas, if all went well.
  void finish(std::size_t count, Buffers policy);
  /// After it in any case, in the caller's thread.
  void release();
  /// Lets batch norms of all replicas find each other; null ends it.
  void join(Group* group, std::size_t count);

  const std::shared_ptr<Module>& operator[](std::size_t k) const { return modules_[k]; }
  /// Forgets the replicas, so that the next bind makes new ones.
  void clear();

 private:
  struct Copy;
  struct Source;
  struct Update;

  bool is_current() const;
  void make();
  std::shared_ptr<Module> make_one(Device device) const;
  void pair(Module& original, Module& copy, const std::string& path, std::size_t k);
  void pair_tensors(const Module& original, Module& copy, const std::string& path, std::size_t k);
  void pair_tensor(const std::string& name, const Tensor& original, const Tensor& copy, std::size_t k, bool is_buffer);
  void guess(const Module& module);
  void take_over(std::size_t k, bool has_values);
  static std::vector<const void*> parts_of(const Module& module);
  void follow(std::size_t k);
  void bind_tensors(std::size_t count, bool in_region);
  void forget_casts();
  void bind_values(Source& source, std::size_t k, bool deferred, Update& update);
  void bind_casts(Source& source, std::size_t count, Dtype low, Update& update);
  void bind_edges(std::size_t count);
  void run(std::span<const Update> values, std::span<const Update> casts, std::size_t count);
  void average_buffers(std::size_t count);

  std::shared_ptr<Module> original_;
  std::vector<Device> devices_;
  Factory factory_;
  std::vector<std::shared_ptr<Module>> modules_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<std::vector<std::pair<Module*, Module*>>> pairs_;  // of each replica: original and copy, through the tree
  std::vector<const void*> parts_;                               // of the original when the replicas were made
  std::vector<std::shared_ptr<const void>> kept_;                // so that no address among them is used again
};

}  // namespace halftone::nn::parallel
