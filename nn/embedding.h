// Embedding: a table of vectors, looked up by integers.
#pragma once

#include "core/arg.h"
#include "nn/cloneable.h"

namespace halftone::nn {

struct EmbeddingOptions {
  EmbeddingOptions(std::int64_t num_embeddings, std::int64_t embedding_dim)
      : num_embeddings_(num_embeddings), embedding_dim_(embedding_dim) {}
  TORCH_ARG(std::int64_t, num_embeddings);
  TORCH_ARG(std::int64_t, embedding_dim);
  /// This row starts as zeros and gets no gradient. Negative ones count from the end.
  TORCH_ARG(optional<std::int64_t>, padding_idx) = nullopt;
  /// Rows longer than this are shortened, in the table, when they are looked up.
  TORCH_ARG(optional<double>, max_norm) = nullopt;
  TORCH_ARG(double, norm_type) = 2;
  /// Divides a row's gradient by how often it was looked up.
  TORCH_ARG(bool, scale_grad_by_freq) = false;
  TORCH_ARG(bool, sparse) = false;
  /// The table to begin with, instead of normal numbers.
  TORCH_ARG(Tensor, _weight);
};

struct EmbeddingFromPretrainedOptions {
  TORCH_ARG(bool, freeze) = true;
  TORCH_ARG(optional<std::int64_t>, padding_idx) = nullopt;
  TORCH_ARG(optional<double>, max_norm) = nullopt;
  TORCH_ARG(double, norm_type) = 2;
  TORCH_ARG(bool, scale_grad_by_freq) = false;
  TORCH_ARG(bool, sparse) = false;
};

/// Indices [...] to [..., embedding_dim].
class EmbeddingImpl : public Cloneable<EmbeddingImpl> {
 public:
  EmbeddingImpl(std::int64_t num_embeddings, std::int64_t embedding_dim)
      : EmbeddingImpl(EmbeddingOptions(num_embeddings, embedding_dim)) {}
  explicit EmbeddingImpl(EmbeddingOptions embedding_options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& out) const override;
  bool products_read_parameters() const override { return false; }
  Tensor forward(const Tensor& indices);

  EmbeddingOptions options;
  Tensor weight;  // [num_embeddings, embedding_dim]
};

class Embedding : public ModuleHolder<EmbeddingImpl> {
 public:
  using ModuleHolder<EmbeddingImpl>::ModuleHolder;
  using Impl = EmbeddingImpl;

  /// Looks up rows of a table [num_embeddings, embedding_dim] that was trained before.
  static Embedding from_pretrained(const Tensor& embeddings, const EmbeddingFromPretrainedOptions& options = {});
  template <int = 0> Embedding clone(const optional<Device>& device = nullopt) const {
    return Embedding(std::dynamic_pointer_cast<EmbeddingImpl>(get()->clone(device)));
  }
};

extern template class Cloneable<EmbeddingImpl>;

namespace functional {

struct EmbeddingFuncOptions {
  TORCH_ARG(optional<std::int64_t>, padding_idx) = nullopt;
  TORCH_ARG(optional<double>, max_norm) = nullopt;
  TORCH_ARG(double, norm_type) = 2;
  TORCH_ARG(bool, scale_grad_by_freq) = false;
  TORCH_ARG(bool, sparse) = false;
};

/// Note the order: the free function halftone::embedding has the weight first.
Tensor embedding(const Tensor& indices, const Tensor& weight, const EmbeddingFuncOptions& options = {});
/// 1 at the class of each int64 label; num_classes -1 takes the largest label.
Tensor one_hot(const Tensor& labels, std::int64_t num_classes = -1);

}  // namespace functional
}  // namespace halftone::nn
