// Batch normalisation by the statistics of all replicas' batches together.
#pragma once

#include "nn/parallel/group.h"

namespace halftone::nn::parallel {

struct SyncBatchNorm {
  Group& group;
  std::size_t rank;
  double eps;
  double step;  // how far the running statistics move

  /// x is [N, C, ...], the rest [C] or undefined. As batch_norm in training of all replicas' x joined along N, whose
  /// part for this replica is returned, in x's dtype; the arithmetic is float32's at least. Running statistics are
  /// written. Written in ops, so that backward crosses the replicas too, any number of times.
  Tensor operator()(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                    const Tensor& running_var) const;

 private:
  void update(const Tensor& running, const Tensor& value, const Tensor& usable) const;
};

}  // namespace halftone::nn::parallel
