#include "nn/embedding.h"

#include "autograd/ops.h"
#include "nn/init.h"

namespace halftone::nn {

namespace {

/// Counted from the front; -1 when there is none.
std::int64_t padding_row(optional<std::int64_t> padding_idx, std::int64_t rows) {
  if (!padding_idx) return -1;
  check<ValueError>(*padding_idx >= -rows && *padding_idx < rows,
                    "Padding_idx must be within num_embeddings: ", *padding_idx, " is not in [", -rows, ", ", rows,
                    ")");
  return *padding_idx < 0 ? *padding_idx + rows : *padding_idx;
}

/// What brings rows to at most this norm.
Tensor limiting_factors(const Tensor& rows, double max_norm, double norm_type) {
  const Tensor norms = rows.norm(norm_type, 1, true);
  return where(norms > max_norm, max_norm / (norms + 1e-7), ones_like(norms));
}

/// Shortens the rows that will be looked up.
void limit_norm(const Tensor& weight, const Tensor& indices, double max_norm, double norm_type) {
  const NoGradGuard no_grad;
  const Tensor at = indices.reshape(-1);
  if (weight.is_cpu()) {
    const Tensor rows = weight.index_select(0, at);
    weight.detach().index_put_({at}, rows * limiting_factors(rows, max_norm, norm_type));
    return;
  }
  // A row that is looked up twice would be written by two threads at once: here all rows are multiplied, most by 1.
  const Tensor chosen = zeros({weight.size(0)}, weight.options().dtype(kInt32)).scatter_(0, at, 1) > 0;
  const Tensor factors = limiting_factors(weight.detach(), max_norm, norm_type);
  weight.detach().mul_(where(chosen.unsqueeze(1), factors, ones_like(factors)));
}

}  // namespace

EmbeddingImpl::EmbeddingImpl(EmbeddingOptions embedding_options) : options(std::move(embedding_options)) {
  EmbeddingImpl::reset();
}

void EmbeddingImpl::reset() {
  const std::int64_t row = padding_row(options.padding_idx(), options.num_embeddings());
  if (row >= 0) options.padding_idx(row);
  const Tensor& given = options._weight();
  const Dims sizes{options.num_embeddings(), options.embedding_dim()};
  check<ValueError>(!given.defined() || given.sizes() == sizes,
                    "Shape of _weight does not match num_embeddings and embedding_dim: ",
                    given.defined() ? given.sizes() : IntArrayRef(), " is not ", sizes);
  weight = register_parameter("weight", given.defined() ? given : empty(sizes));
  if (!given.defined()) reset_parameters();
}

void EmbeddingImpl::reset_parameters() {
  init::normal_(weight);
  if (options.padding_idx()) init::zeros_(weight.select(0, *options.padding_idx()));
}

void EmbeddingImpl::pretty_print(std::ostream& out) const {
  out << kPrintPrefix << "Embedding(num_embeddings=" << options.num_embeddings()
      << ", embedding_dim=" << options.embedding_dim();
  if (options.padding_idx()) out << ", padding_idx=" << *options.padding_idx();
  if (options.max_norm()) out << ", max_norm=" << *options.max_norm();
  if (options.norm_type() != 2) out << ", norm_type=" << options.norm_type();
  if (options.scale_grad_by_freq()) out << ", scale_grad_by_freq=true";
  if (options.sparse()) out << ", sparse=true";
  out << ')';
}

Tensor EmbeddingImpl::forward(const Tensor& indices) {
  return functional::embedding(indices, weight,
                               functional::EmbeddingFuncOptions()
                                   .padding_idx(options.padding_idx())
                                   .max_norm(options.max_norm())
                                   .norm_type(options.norm_type())
                                   .scale_grad_by_freq(options.scale_grad_by_freq())
                                   .sparse(options.sparse()));
}

Embedding Embedding::from_pretrained(const Tensor& embeddings, const EmbeddingFromPretrainedOptions& options) {
  check<ValueError>(embeddings.dim() == 2, "Embeddings parameter is expected to be 2-dimensional, got ",
                    embeddings.sizes());
  Embedding embedding(EmbeddingOptions(embeddings.size(0), embeddings.size(1))
                          ._weight(embeddings)
                          .padding_idx(options.padding_idx())
                          .max_norm(options.max_norm())
                          .norm_type(options.norm_type())
                          .scale_grad_by_freq(options.scale_grad_by_freq())
                          .sparse(options.sparse()));
  embedding->weight.requires_grad_(!options.freeze());
  return embedding;
}

namespace functional {

Tensor embedding(const Tensor& indices, const Tensor& weight, const EmbeddingFuncOptions& options) {
  const std::int64_t row = padding_row(options.padding_idx(), weight.size(0));
  if (options.max_norm()) limit_norm(weight, indices, *options.max_norm(), options.norm_type());
  return halftone::embedding(weight, indices, row, options.scale_grad_by_freq(), options.sparse());
}

Tensor one_hot(const Tensor& labels, std::int64_t num_classes) { return halftone::one_hot(labels, num_classes); }

}  // namespace functional
template class Cloneable<EmbeddingImpl>;

}  // namespace halftone::nn
